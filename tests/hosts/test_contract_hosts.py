"""What every host must do, for Claude Code and for a made-up one that has nothing in common with it."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

import made_up_host
from helpers import wait_for, wait_gone
from hosting import Asked, Host, began, finished, settings, wanted
from made_up_host.host import COMMAND
from oomless import hosts
from oomless.census.snapshot import Marks, parse_marks, take_snapshot
from oomless.hosts import base
from oomless.hosts.base import HostFacts
from oomless.hosts.installation import HookTarget
from oomless.hosts.mcp_configs import McpConfigReader
from oomless.paths import Paths
from oomless.platform import current, proc
from oomless.protocol import spawn
from oomless.protocol.client import Client
from oomless.protocol.views import StatusView

assert sys.platform == "linux"

pytestmark = pytest.mark.as_user
#: An oomless that knows the made-up host, too.
OOMLESS = (sys.executable, COMMAND, "oomless")


class Session:
    """A session's process: a shell that runs its host's hooks, and names itself in their environment."""

    def __init__(self, facts: HostFacts, id: str) -> None:
        self.facts, self.id = facts, id
        self.process = subprocess.Popen(
            ["/bin/sh"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
        )

    def run_hook(self, command: list[str], event: Mapping[str, object], **environ: str) -> tuple[int, str]:
        """Returns exit status and standard output."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        marks = {self.facts.session_mark: self.id, **environ}
        words = shlex.join(["env", *(f"{name}={value}" for name, value in marks.items()), *command])
        quoted = shlex.quote(json.dumps(event))
        line = f"printf %s {quoted} | {self.facts.pid_mark}=$$ {words}; echo; echo end $?\n"
        # The status is of ``echo`` unless it is kept.
        line = line.replace("; echo; echo end $?", "; status=$?; echo; echo end $status")
        self.process.stdin.write(line)
        self.process.stdin.flush()
        output = ""
        while not (read := self.process.stdout.readline()).startswith("end "):
            assert read, "the session has ended"
            output += read
        return int(read.split()[1]), output.strip()

    def end(self) -> None:
        self.process.kill()
        self.process.communicate(timeout=10)


class Bench:
    """A host in a test, with its settings in folders of the test's own."""

    name: str
    #: What a subagent of it is expected to add.
    subagent_bytes: int

    def __init__(self, home: Path) -> None:
        self.home = home
        self.facts = self.host.facts
        self.sessions: list[Session] = []

    @property
    def host(self) -> base.Host:
        host = hosts.find(self.name)
        assert host is not None
        return host

    @property
    def settings(self) -> Path:
        raise NotImplementedError

    def server_marks(self, session: str) -> dict[str, str]:
        raise NotImplementedError

    def start_event(self, session: str) -> dict[str, object]:
        raise NotImplementedError

    def start_command(self) -> list[str]:
        """The hook of a session's start, as it is in the settings."""
        raise NotImplementedError

    def ask(self, session: str, request: str, agent_type: str) -> Question:
        raise NotImplementedError

    def tell_started(self, session: str, agent: str, agent_type: str) -> None:
        raise NotImplementedError

    def tell_stopped(self, session: str, agent: str, agent_type: str) -> None:
        raise NotImplementedError

    def shell_marks(self, session: str, pid: int) -> dict[str, str]:
        return {self.facts.session_mark: session, self.facts.pid_mark: str(pid), self.facts.project_mark: "/p"}

    def start_session(self, id: str) -> Session:
        session = Session(self.facts, id)
        self.sessions.append(session)
        return session

    def status(self) -> StatusView:
        return Client(Paths(), start=False).status()

    def oomless(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*OOMLESS, *words], capture_output=True, text=True, timeout=60, check=False)

    def install(self) -> None:
        done = self.oomless("install", self.name, "--yes")
        assert done.returncode == 0, done.stderr

    def clean(self) -> None:
        for session in self.sessions:
            session.end()


class Question:
    """A subagent's request on its way. ``reason`` is what the host would show of a refusal."""

    @property
    def waits(self) -> bool:
        raise NotImplementedError

    def answer(self) -> str:
        """Returns "" if it may start, else the reason why not."""
        raise NotImplementedError


class HttpQuestion(Question):
    def __init__(self, host: Host, event: dict[str, Any]) -> None:
        self._asked: Asked = host.ask(event)

    @property
    def waits(self) -> bool:
        return self._asked.waits

    def answer(self) -> str:
        found = self._asked.answer()
        assert found.status == 200
        assert (found.decision == "deny") == bool(found.reason)
        return str(found.reason)


class CommandQuestion(Question):
    """The hook's process lives as long as the question."""

    def __init__(self, event: Mapping[str, object]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, COMMAND, "tell"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._output = ""
        self._thread = threading.Thread(target=self._communicate, args=(json.dumps(event),), daemon=True)
        self._thread.start()

    def _communicate(self, event: str) -> None:
        self._output = self._process.communicate(event, timeout=60)[0]

    @property
    def waits(self) -> bool:
        return self._thread.is_alive()

    def answer(self) -> str:
        self._thread.join(60)
        assert self._process.returncode == 0
        said = json.loads(self._output)
        return "" if said["go"] else str(said["say"])


class ClaudeBench(Bench):
    name = "claude-code"
    subagent_bytes = 40 * 10**6

    @property
    def settings(self) -> Path:
        return self.home / ".claude" / "settings.json"

    def server_marks(self, session: str) -> dict[str, str]:
        server = {"CLAUDE_CODE_LAUNCHED_BY_SESSION_IDS": session}
        return {"CLAUDE_CODE_SESSION_ID": session, "CLAUDE_PROJECT_DIR": "/p", **server}

    def start_event(self, session: str) -> dict[str, object]:
        return {"hook_event_name": "SessionStart", "session_id": session, "cwd": "/work", "source": "startup"}

    def start_command(self) -> list[str]:
        (group,) = json.loads(self.settings.read_text())["hooks"]["SessionStart"]
        return shlex.split(group["hooks"][0]["command"])

    def ask(self, session: str, request: str, agent_type: str) -> Question:
        return HttpQuestion(Host(), wanted(session, request, agent_type))

    def tell_started(self, session: str, agent: str, agent_type: str) -> None:
        assert Host().tell(began(session, agent, agent_type)).body == {}

    def tell_stopped(self, session: str, agent: str, agent_type: str) -> None:
        assert Host().tell(finished(session, agent, agent_type)).body == {}


class MadeUpBench(Bench):
    name = "made-up"
    subagent_bytes = 30 * 10**6

    @property
    def settings(self) -> Path:
        return self.home / "settings.json"

    def server_marks(self, session: str) -> dict[str, str]:
        return {"MADEUP_RUN": session, "MADEUP_ROOT": "/p"}

    def start_event(self, session: str) -> dict[str, object]:
        return {"run": session, "folder": "/work"}

    def start_command(self) -> list[str]:
        command = json.loads(self.settings.read_text())["on"]["session-start"]
        assert isinstance(command, list)
        return command

    def ask(self, session: str, request: str, agent_type: str) -> Question:
        event = {"what": "ask", "run": session, "task": request, "role": agent_type, "folder": "/"}
        return CommandQuestion(event)

    def tell_started(self, session: str, agent: str, agent_type: str) -> None:
        self._tell({"what": "runs", "run": session, "worker": agent, "role": agent_type})

    def tell_stopped(self, session: str, agent: str, agent_type: str) -> None:
        self._tell({"what": "done", "run": session, "worker": agent})

    def _tell(self, event: Mapping[str, object]) -> None:
        done = subprocess.run(
            [sys.executable, COMMAND, "tell"], input=json.dumps(event), capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stdout) == (0, "{}"), done.stderr


@pytest.fixture(params=[ClaudeBench, MadeUpBench], ids=["claude-code", "made-up"])
def bench(request: pytest.FixtureRequest, house: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    home = house / "home"
    (home / ".claude").mkdir()
    monkeypatch.delenv("CLAUDE_CONFIG_DIR", raising=False)
    monkeypatch.setenv("MADEUP_HOME", str(home))
    monkeypatch.setattr(hosts, "PACKAGES", (*hosts.PACKAGES, made_up_host.PACKAGE))
    made: Bench = request.param(home)
    yield made
    made.clean()


@pytest.fixture
def daemon(bench: Bench) -> None:
    """One that knows both hosts."""
    done = subprocess.run(
        [sys.executable, COMMAND, "daemon"], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 0, done.stderr
    assert spawn.running(Paths()) is not None


# Facts


def test_its_marks_are_recognised(bench: Bench) -> None:
    name = bench.facts.name
    assert parse_marks(bench.server_marks("s")) == Marks(host=name, session="s", project=True)
    assert parse_marks(bench.shell_marks("s", 17)) == Marks(host=name, session="s", host_pid=17, project=True)
    assert parse_marks({bench.facts.pid_mark: "x"}) == Marks(host=name)
    assert parse_marks({"HOME": "/root", "OTHER_PID": "17"}) == Marks()


def test_its_marks_are_read_of_a_real_process(bench: Bench) -> None:
    with subprocess.Popen(["sleep", "60"], env={**os.environ, **bench.shell_marks("s", 17)}) as process:
        try:
            assert wait_for(lambda: b"sleep" in (proc.read_file(f"/proc/{process.pid}/cmdline") or b""), 5)
            seen = take_snapshot(current())
            found = {one.pid: marks for one, marks in zip(seen.processes, seen.marks, strict=True)}
            assert (found[process.pid].host, found[process.pid].session) == (bench.name, "s")
        finally:
            process.kill()


def test_its_sessions_can_be_resumed(bench: Bench) -> None:
    assert hosts.resume_command(bench.name, "s-1").endswith(" s-1")
    assert hosts.resume_command("another", "s-1") == ""


def test_its_servers_are_read_from_its_configuration(bench: Bench) -> None:
    file = bench.facts.mcp_config(str(bench.home), os.environ)
    assert file is not None
    Path(file).write_text(json.dumps({"mcpServers": {"notes": {"command": "node", "args": ["notes.js"]}}}))
    (entry,) = McpConfigReader().read()
    assert (entry.name, entry.command) == ("notes", ("node", "notes.js"))


# Sessions and subagents


def test_a_session_registers_by_its_hook(bench: Bench, daemon: None) -> None:
    bench.install()
    session = bench.start_session("s-1")
    assert session.run_hook(bench.start_command(), bench.start_event("s-1")) == (0, "")
    (view,) = bench.status().sessions
    assert (view.host, view.sessions, view.pid, view.cwd) == (bench.name, ("s-1",), session.process.pid, "/work")
    session.end()
    assert wait_for(lambda: bench.status().sessions == (), 10)


def test_a_hook_of_another_process_is_not_believed(bench: Bench, daemon: None) -> None:
    bench.install()
    stranger, session = bench.start_session("s-0"), bench.start_session("s-1")
    pid = {bench.facts.pid_mark: str(stranger.process.pid)}
    assert session.run_hook(["env", *(f"{k}={v}" for k, v in pid.items()), *bench.start_command()],
                            bench.start_event("s-1")) == (0, "")  # fmt: skip
    assert bench.status().sessions == ()


def test_a_subagents_question_is_asked_and_answered(bench: Bench, daemon: None) -> None:
    settings("max_parallel_subagents = 1\n")
    assert bench.ask("s", "r1", "Plan").answer() == ""
    bench.tell_started("s", "a1", "Plan")
    (view,) = [tree for tree in bench.status().trees if tree.kind == "subagent"]
    assert (view.owner, view.class_name, view.agent_type) == (f"{bench.name} s", "subagent", "Plan")
    assert view.reserved_bytes == bench.subagent_bytes
    second = bench.ask("s", "r2", "Explore")
    assert wait_for(lambda: [tree.state for tree in bench.status().trees] == ["running", "waiting"], 10)
    assert second.waits
    bench.tell_stopped("s", "a1", "Plan")
    assert second.answer() == ""


def test_a_refusal_gives_the_reason(bench: Bench, daemon: None) -> None:
    settings('max_parallel_subagents = 1\nwait = "0"\n')
    assert bench.ask("s", "r1", "Plan").answer() == ""
    reason = bench.ask("s", "r2", "Plan").answer()
    assert "Agent:Plan" in reason


def test_limits_of_one_type_of_agent_name_its_host(bench: Bench, daemon: None) -> None:
    settings(f'[classes."{bench.name}/Plan"]\nexpect = "90MB"\n')
    for request, agent_type in (("r1", "Plan"), ("r2", "Explore")):
        assert bench.ask("s", request, agent_type).answer() == ""
    reserved = {tree.agent_type: tree.reserved_bytes for tree in bench.status().trees}
    assert reserved == {"Plan": 90 * 10**6, "Explore": bench.subagent_bytes}


def test_the_end_of_a_session_ends_its_subagents(bench: Bench, daemon: None) -> None:
    bench.install()
    session = bench.start_session("s")
    session.run_hook(bench.start_command(), bench.start_event("s"))
    assert bench.ask("s", "r1", "Plan").answer() == ""
    session.end()
    assert wait_for(lambda: bench.status().trees == (), 10)


# Installing


@pytest.mark.parametrize(
    "text",
    [
        None,
        "{}",
        "{}\n",
        '{"theme": "dark"}\n',
        '{\r\n\t"theme": "d\\u00e4rk",\r\n\t"list": [1,2 , 3]\r\n}',
        '{\n    "on": {},\n    "hooks": {},\n    "env": {}\n}\n',
        '{\n  "hooks": {"Stop": [{"hooks": [{"type": "command", "command": "x"}]}]},\n  "on": {"end": ["x"]}\n}\n',
    ],
)
def test_uninstall_gives_the_file_back(bench: Bench, daemon: None, text: str | None) -> None:
    if text is not None:
        bench.settings.write_bytes(text.encode())
    bench.install()
    installed = bench.settings.read_bytes()
    assert installed != (text or "").encode()
    assert json.loads(bench.oomless("install", bench.name, "--yes", "--json").stdout)["changed"] is False
    assert bench.settings.read_bytes() == installed
    done = bench.oomless("uninstall", bench.name, "--yes")
    assert done.returncode == 0, done.stderr
    assert bench.settings.read_bytes() == (text if text is not None else "{}\n").encode()


def test_it_is_checked(bench: Bench, daemon: None) -> None:
    assert bench.host.check(Paths(), os.environ, "/", HookTarget()).hooks == "none"
    bench.install()
    view = bench.host.check(Paths(), os.environ, "/", HookTarget())
    assert (view.host, view.hooks, view.problems) == (bench.name, "installed", ())


# Without a daemon


def test_without_a_daemon_its_hooks_fail_open(bench: Bench, daemon: None, house: Path) -> None:
    bench.install()
    session = bench.start_session("s")
    running = spawn.running(Paths())
    assert running is not None
    proc.send(running.pid, running.start, signal.SIGTERM)
    assert wait_gone(running.pid, running.start, 10)
    nowhere = house / "file"
    nowhere.write_text("")
    environ = {"XDG_STATE_HOME": str(nowhere)}
    assert session.run_hook(bench.start_command(), bench.start_event("s"), **environ) == (0, "")
    for event in set(bench.facts.hook_events) - {"session-start"}:
        command = [*bench.start_command()[:-1], event]
        assert session.run_hook(command, {"what": "ask", "run": "s"}, **environ) == (0, "")
