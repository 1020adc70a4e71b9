"""Sessions of the real Claude Code on a stage: offline, against a model with a script, with the servers that it is
given, and every way to end one.

``Session`` runs ``claude -p``; with ``talk`` it takes messages and control requests on its stdin, as editors and the
SDK use it. The roles: NAME is the session's process and whatever it runs in tool shells, NAME:SERVER a server and all
that is below it.
"""

from __future__ import annotations

import json
import os
import pty
import shlex
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import msgspec

from helpers import wait_gone
from oomless.demo.model import Call, ModelProcess, Rule, Script, Turn, WaitFile, read_log
from oomless.platform import proc
from oomless.processes.ids import ProcessId
from realparts import claude_environment

from . import stage_settings as settings
from .stage import LIFE, ROLE, Stage, StageFailed
from .stage_parts import VERSIONS, Server, claude

assert sys.platform == "linux"

OWNED = "the session that started it lives"
#: How roles begin, behind the session's name: what is to outlive it; multiplexers and editors; what is in those.
KEEP, MUX, MINE = "keep-", "mux-", "mine-"


def bash(command: str, **fields: Any) -> Turn:
    """One call of the Bash tool."""
    return Turn(calls=(Call(name="Bash", input={"command": command, "description": "run it", **fields}),))


def left_in_background(role: str, command: str, then: str = "") -> Turn:
    """A command with ``&``: the tool shell ends, at once or after ``then``, and the command stays in the shell's
    process session."""
    return bash(f"{ROLE}={role} {command} > /dev/null 2>&1 & {then}".rstrip())


class Session:
    """``turns``: what the model has it do first; then the last answer is held back, so that it stays as it is.
    ``rules`` go before that: for its subagents. ``project``: where it works, if its servers are in settings that it
    finds by itself (``stage_typed.py``); else they are given by ``--mcp-config``."""

    def __init__(
        self,
        stage: Stage,
        name: str,
        servers: Sequence[Server] = (),
        turns: Sequence[Turn] = (),
        *,
        talk: bool = False,
        launch: bool = True,
        project: Path | None = None,
        rules: Sequence[Rule] = (),
    ) -> None:
        self.stage, self.name, self.servers, self.turns = stage, name, tuple(servers), tuple(turns)
        if turns:
            self.turns = (msgspec.structs.replace(turns[0], delay=stage.notice()), *turns[1:])
        self.project = project
        self.folder = stage.folder / name
        (self.folder / "tmp").mkdir(parents=True)
        self.out = self.folder / "out"
        rule = Rule(kind="main", turns=(*self.turns, *([] if talk else self._last())))
        self.model = ModelProcess(Script(rules=(*rules, rule)), str(self.folder))
        stage.kept.append(self)
        stage.own(self.model.pid, "the scripted model, in the place of the service")
        stage.uses(VERSIONS["claude"], *(server.program for server in servers))
        self._alive()
        self._talk, self._requests, self._stuck = talk, 0, 0
        self.process: subprocess.Popen[bytes] | None = None
        if launch:
            self._launch()

    # -- starting ---------------------------------------------------------------------------------------------------

    def _last(self) -> list[Turn]:
        return [Turn(text="done", wait_file=WaitFile(path=str(self.folder / "go"), seconds=LIFE))]

    def command(self) -> list[str]:
        given = ["--input-format", "stream-json"] if self._talk else ["go"]
        plain = [claude(), "-p", *given, "--output-format", "stream-json", "--verbose"]
        mode = ["--permission-mode", "bypassPermissions"]
        if self.project is not None:
            return [*plain, *mode]
        file = self.folder / "mcp.json"
        settings.given(self.stage, file, self.servers, self.name)
        return [*plain, *mode, "--strict-mcp-config", "--mcp-config", str(file)]

    def environment(self) -> dict[str, str]:
        ours = {name: value for name, value in os.environ.items() if name.startswith("XDG_")}
        env = claude_environment(self.stage.home, self.model.url)
        if self.project is not None:
            env.pop("CLAUDE_CONFIG_DIR")  # the settings are at home
        return {**env, **ours, "TMPDIR": str(self.folder / "tmp"), "SHELL": "/bin/bash", ROLE: self.name}

    def _launch(self) -> None:
        with self.out.open("wb") as out:
            self.process = subprocess.Popen(
                self.command(), cwd=self.project or self.stage.work, env=self.environment(), start_new_session=True,
                stdin=subprocess.PIPE if self._talk else subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT,
            )  # fmt: skip
        if self._talk:
            self._write({"type": "user", "message": {"role": "user", "content": "go"}})

    def line(self) -> str:
        """What a shell is told to start it; a terminal takes no line as long as the command is."""
        env = " ".join(f"{name}={shlex.quote(value)}" for name, value in self.environment().items())
        file = self.folder / "run"
        file.write_text(self.script(f"{env} {shlex.join(self.command())}"))
        return f". {file}"

    def script(self, command: str) -> str:
        return f"{command} > {shlex.quote(str(self.out))} 2>&1\n"

    def _alive(self) -> None:
        say, name = self.stage.say, self.name
        say(name, "owned", OWNED)
        say(f"{name}:*", "owned", OWNED)
        self._spared()

    def _over(self) -> None:
        """What is true of everything once it has ended. KEEP and MUX are the roles of what is to outlive it."""
        say, name = self.stage.say, self.name
        say(name, "orphan", "a tool shell's command in the background, and its session is gone")
        say(f"{name}:*", "orphan", "its session is gone, and it was only to serve that")
        say(f"{name}:{KEEP}*", "detached", "its session is gone, and it was started to go on without")
        self._spared()

    def _spared(self) -> None:
        say, name = self.stage.say, self.name
        say(f"{name}:{MUX}*", "protected", "a terminal multiplexer or an editor")
        say(f"{name}:{MINE}*", "unknown", "in a terminal multiplexer, where people work")

    # -- how far it is ----------------------------------------------------------------------------------------------

    def ready(self, stuck: int = 0) -> Self:
        """Once its servers serve, and all turns are played but so many, whose calls do not return."""
        self._stuck = stuck
        self.stage.wait(self._has_played, 90, f"the session {self.name} has played {self.said()[-600:]}")
        self.stage.wait(lambda: all(map(self.serves, self.servers)), 60, f"the servers of {self.name} serve")
        self.stage.await_quiet()
        self.stage.heard()
        return self

    def serves(self, server: Server) -> bool:
        return len(self.stage.those(f"{self.name}:{server.name}")) >= server.processes

    def _has_played(self) -> bool:
        if self._talk:
            return '"type":"result"' in self.said()
        return self.asked() >= len(self.turns) - self._stuck

    def asked(self) -> int:
        """How many answers the newest request of the main agent came after."""
        path = Path(self.model.log)
        entries = read_log(str(path)) if path.exists() else []
        return max((e.turn for e in entries if e.agent == "main" and not e.side and e.event == "asked"), default=-1)

    def said(self) -> str:
        return self.out.read_text(errors="replace") if self.out.exists() else ""

    @property
    def process_id(self) -> ProcessId:
        """Its process; the oldest one of its role, if a shell started it."""
        if self.process is None:
            return self.stage.one(self.name, claude())
        start = proc.start_of(self.process.pid)
        if start is None:
            raise StageFailed(f"the session {self.name} is gone: {self.said()[-600:]}")
        return ProcessId(self.process.pid, start)

    # -- asking it --------------------------------------------------------------------------------------------------

    def _write(self, message: dict[str, Any]) -> None:
        assert self.process is not None
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(message).encode() + b"\n")
        self.process.stdin.flush()

    def control(self, subtype: str, **fields: Any) -> None:
        """As the SDK asks; returns when it has answered, with whatever."""
        self._requests += 1
        id = f"request-{self._requests}"
        self._write({"type": "control_request", "request_id": id, "request": {"subtype": subtype, **fields}})
        self.stage.wait(lambda: f'"request_id":"{id}"' in self.said(), 60, f"{subtype} is answered")

    def reconnect(self, server: Server, wait: bool = True) -> set[ProcessId]:
        """What ``/mcp`` does on request: ends the server's process and starts another. The older generation's
        processes, whether they live or not."""
        role = f"{self.name}:{server.name}"
        before = {ProcessId(*older) for older in self.stage.those(role).items()}
        self._ask_again(server)
        younger = lambda: len(set(self.stage.those(role).items()) - before) >= server.processes  # noqa: E731
        self.stage.wait(younger, 60, f"{role} runs again")
        if wait:
            self.stage.await_quiet()
        return before

    def _ask_again(self, server: Server) -> None:
        self.control("mcp_reconnect", serverName=server.name)

    # -- its end ----------------------------------------------------------------------------------------------------

    def end(self, number: int) -> None:
        who = self.process_id
        proc.send(*who, number)
        self.gone(who)

    def killed(self) -> None:
        self.end(signal.SIGKILL)

    def close_input(self) -> None:
        assert self.process is not None
        assert self.process.stdin is not None
        who = self.process_id
        self.process.stdin.close()
        self.gone(who)

    def finish(self) -> None:
        """Its last answer comes."""
        who = self.process_id
        (self.folder / "go").touch()
        self.gone(who)

    def gone(self, who: ProcessId) -> None:
        if not wait_gone(*who, 60):
            raise StageFailed(f"the session {self.name} does not end: {self.said()[-600:]}")
        if self.process is not None:
            self.process.wait(10)
        self._over()
        self.stage.await_quiet()


class Terminal:
    """A terminal of its own with a shell in it; ``hang_up`` closes it."""

    def __init__(self, stage: Stage, role: str, *argv: str) -> None:
        self.stage, self.role = stage, role
        self.pid, self._fd = pty.fork()
        if self.pid == 0:
            env = {**stage.environment(role), "TERM": "xterm", "PS1": "$ "}
            os.chdir(stage.work)
            os.execve(argv[0], list(argv), env)
        os.set_inheritable(self._fd, False)  # else the next terminal's shell keeps this one open
        stage.say(role, "unknown", "a shell in the user's own terminal, and what runs there")

    def type(self, line: str, end: str = "\n") -> None:
        os.write(self._fd, f"{line}{end}".encode())

    def hang_up(self) -> None:
        os.close(self._fd)
        os.waitpid(self.pid, 0)


def shell_in_terminal(stage: Stage, role: str = "terminal") -> Terminal:
    return Terminal(stage, role, "/bin/bash", "--norc", "--noprofile", "-i")
