"""Two real sessions of Claude Code with the same servers, the older one killed: what scan and reap make of it.

    python two_sessions.py SPEC      inside of a pid namespace of its own; prints a ``Story`` as JSON

Nothing of ours is in the hosts' settings. From the first session's Bash come a tmux server with an editor in it, an
editor below ``script``, and a build daemon. What must be true of the story is said in ``test_two_sessions.py``.
"""

from __future__ import annotations

import json
import os
import shlex
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

import msgspec

from helpers import alive, run_oomless, wait_for
from oomless.demo.model import Call, ModelProcess, Rule, Script, Turn, WaitFile, read_log
from oomless.paths import Paths
from oomless.platform import proc
from oomless.protocol.client import Client
from realparts import claude_environment

assert sys.platform == "linux"

Who = tuple[int, int]
Rows = dict[Who, dict[str, Any]]
#: The servers that are in the middle of a call when their session is killed, and a word of their command lines.
BUSY, BUSY_WORD = ("everything", "everything-npx"), "server-everything"
LONGEST = 60.0
HERE = Path(__file__).parent


class Spec(msgspec.Struct, frozen=True, kw_only=True):
    """``calls``: a cheap one to each server. ``servers``: how many there are."""

    claude: str
    mcp: str
    home: str
    editor: str
    servers: int
    calls: tuple[Call, ...]
    daemon: bool


class Row(msgspec.Struct, frozen=True, kw_only=True):
    command: str
    verdict: str
    evidence: tuple[str, ...] = ()


class Story(msgspec.Struct, frozen=True, kw_only=True):
    """``before`` the kill: verdicts on the servers of both. ``theirs``: the dead session's by pid, ``left`` who of
    them lived until they were reaped, as the scan before that says. ``watched``: seconds from SIGKILL to the end of
    the first look that called all of those orphans, of a ``scan --watch`` that was running; ``scanned``: the same of
    a ``scan`` started after the kill, None if it did not call them so. ``kept``: all verdicts that the other's
    servers had since. ``dry``, ``proposed``, ``ended`` and ``survived`` are pids. ``others``: verdicts on who was
    started from the Bash, and ``stayed`` those that live at the end. ``lost``: of the other session's servers.
    ``answers``: what its calls after all that came back with."""

    before: dict[str, list[str]]
    theirs: list[int]
    left: dict[int, Row]
    watched: float
    scanned: float | None
    kept: list[str]
    dry: list[int]
    held: list[str]
    proposed: list[int]
    ended: list[int]
    survived: list[int]
    freed: int
    codes: list[int]
    others: dict[str, Row | None]
    stayed: list[str]
    lost: list[str]
    answers: list[tuple[str, bool, str]]
    exit_code: int
    daemon_before: bool


def main(spec: Spec) -> Story:
    with ModelProcess(script(spec), spec.home) as model:
        return Play(spec, model).run()


def script(spec: Spec) -> Script:
    """The first is in tool calls of two minutes when it is killed; the second goes on once all is over."""
    long = tuple(
        Call(name=f"mcp__{name}__trigger-long-running-operation", input={"duration": 120, "steps": 1})
        for name in BUSY
    )
    first = (Turn(calls=(_bash(spec),)), Turn(calls=long, wait_file=_until(spec, "go")))
    echo = Call(name="mcp__everything__echo", input={"message": "before"})
    second = (Turn(calls=(echo,)), Turn(calls=spec.calls, wait_file=_until(spec, "more")), Turn(text="bye"))
    return Script(
        rules=(
            Rule(kind="main", marker="AGENT=first", turns=first),
            Rule(kind="main", marker="AGENT=second", turns=second),
        )
    )


def _until(spec: Spec, name: str) -> WaitFile:
    return WaitFile(path=f"{spec.home}/{name}", seconds=2 * LONGEST)


def _bash(spec: Spec) -> Call:
    home = spec.home
    editor = f"{spec.editor} -u NONE -n"
    build = shlex.join([sys.executable, "-I", "-S", str(HERE / "build_daemon.py"), f"{home}/build"])
    lines = (
        f"tmux -S {home}/tmux -f /dev/null new-session -d '{editor} {home}/in-tmux.txt'",
        build,
        f"script -qfc '{editor} {home}/in-script.txt' /dev/null < /dev/null > /dev/null 2>&1 &",
        f"while [ ! -e {home}/seen ]; do sleep 0.05; done",
    )
    return Call(name="Bash", input={"command": "\n".join(lines), "description": "x"})


class Play:
    def __init__(self, spec: Spec, model: ModelProcess) -> None:
        self.spec, self.model = spec, model
        self.home = Path(spec.home)

    def run(self) -> Story:
        if self.spec.daemon:
            assert run_oomless("daemon", "start").returncode == 0
        first = self.session("first")
        others = self.others()
        second = self.session("second")
        self.look()
        (self.home / "seen").touch()
        self.reached(0, 1)
        self.reached(1, 1)
        theirs, ours = members(first.pid), members(second.pid)
        before = rows()
        self.calls_in_flight(first.pid)
        daemon_before = os.path.exists(Paths().daemon_file)
        with Looks() as looks:
            looks.next()
            began = time.monotonic()
            first.kill()
            first.wait(LONGEST)
            fresh = Fresh(began, theirs)
            watched, kept = looks.until_orphans(theirs, ours, began)
            fresh.join(LONGEST)
        after = rows()
        dry = reap("--json")
        left = [who for who in theirs if alive(*who)]
        wet = reap("--yes", "--json")
        lost = [command for who, command in ours.items() if not alive(*who)]
        stayed = [name for name, who in others.items() if alive(*who) and self.works(name)]
        (self.home / "more").touch()
        code = second.wait(LONGEST)
        return Story(
            before={name: _verdicts(before, group) for name, group in (("first", theirs), ("second", ours))},
            theirs=sorted(pid for pid, _ in theirs),
            left={who[0]: _row(after, who) for who in left},
            watched=watched,
            scanned=fresh.seconds,
            kept=sorted(kept | set(_verdicts(after, ours))),
            dry=_pids(dry[1]["proposed"]),
            held=[one["why"] for _, found in (dry, wet) for one in found["held_back"]],
            proposed=_pids(wet[1]["proposed"]),
            ended=_pids(wet[1]["ended"]),
            survived=[who[0] for who in theirs if alive(*who)],
            freed=wet[1]["bytes_freed"],
            codes=[dry[0], wet[0]],
            others={name: _row(after, who) if who in after else None for name, who in others.items()},
            stayed=stayed,
            lost=lost,
            answers=self.answers(),
            exit_code=code,
            daemon_before=daemon_before,
        )

    # -- the sessions ---------------------------------------------------------------------------------------

    def session(self, name: str) -> subprocess.Popen[bytes]:
        """Once all of its servers run."""
        spec = self.spec
        options = ("--permission-mode", "bypassPermissions", "--strict-mcp-config", "--mcp-config", spec.mcp)
        with (self.home / f"{name}.out").open("wb") as out:
            session = subprocess.Popen(
                [spec.claude, "-p", f"AGENT={name} go", *options],
                cwd=self.home / "work",
                env=claude_environment(self.home, self.model.url),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        assert wait_for(lambda: len(servers(session.pid)) == spec.servers, LONGEST), servers(session.pid)
        return session

    def reached(self, rule: int, turn: int, event: str = "asked") -> None:
        def has() -> bool:
            return any((one.rule, one.turn, one.event) == (rule, turn, event) for one in read_log(self.model.log))

        assert wait_for(has, LONGEST), read_log(self.model.log)

    def calls_in_flight(self, session: int) -> None:
        """The servers have read what they were asked."""
        commands = ((pid, proc.cmdline(pid)) for pid, _ in members(session))
        busy = [pid for pid, argv in commands if BUSY_WORD in " ".join(argv) and os.path.basename(argv[0]) == "node"]
        assert len(busy) == len(BUSY)
        already = {pid: bytes_read(pid) for pid in busy}
        (self.home / "go").touch()
        self.reached(0, 1, "answered")
        assert wait_for(lambda: all(bytes_read(pid) > read + 100 for pid, read in already.items()), LONGEST), already

    def answers(self) -> list[tuple[str, bool, str]]:
        asked = (one for one in read_log(self.model.log) if (one.rule, one.turn, one.event) == (1, 2, "asked"))
        return [(result.tool, result.error, result.text[:200]) for one in asked for result in one.results]

    # -- what the first one started from its Bash -----------------------------------------------------------

    def others(self) -> dict[str, Who]:
        build = self.home / "build"
        assert wait_for(build.exists, LONGEST), "no build daemon"
        pid, start, _ = map(int, build.read_text().split())
        found = {"build daemon": (pid, start)}
        for name, file in (("editor in tmux", "in-tmux.txt"), ("editor", "in-script.txt")):
            found[name] = self.find(self.spec.editor, file)
        found["script"] = self.find("script", "in-script.txt")
        found["tmux"] = self.find("tmux", "in-tmux.txt")
        return found

    def find(self, program: str, word: str) -> Who:
        """The only process of that program with that word in its arguments."""

        def those() -> list[Who]:
            found = ((stat, proc.cmdline(pid)) for pid, stat in proc.table().items() if stat.alive)
            return [
                (stat.pid, stat.start)
                for stat, argv in found
                if argv and os.path.basename(argv[0]).startswith(os.path.basename(program)) and word in " ".join(argv)
            ]

        assert wait_for(lambda: len(those()) == 1, LONGEST), f"{program} {word}: {those()}"
        return those()[0]

    def works(self, name: str) -> bool:
        if name == "tmux":
            asked = ["tmux", "-S", str(self.home / "tmux"), "list-sessions"]
            return subprocess.run(asked, capture_output=True, check=False, timeout=LONGEST).returncode == 0
        if name == "build daemon":
            port = int((self.home / "build").read_text().split()[2])
            with socket.create_connection(("127.0.0.1", port), LONGEST) as line:
                return line.recv(16) == b"idle\n"
        return True

    def look(self) -> None:
        """Has the daemon look at who is there, where there is one."""
        if self.spec.daemon:
            assert Client(Paths(), start=False).status().pid is not None


def servers(session: int) -> dict[int, str]:
    """What the host started as such: they are in its own process group."""
    table = proc.table()
    found = (stat for stat in table.values() if stat.ppid == session and stat.pgid == session and stat.alive)
    return {stat.pid: " ".join(proc.cmdline(stat.pid)) for stat in found}


def members(session: int) -> dict[Who, str]:
    """The servers and all below them."""
    table, todo = proc.table(), list(servers(session))
    found = {}
    while todo:
        pid = todo.pop()
        if pid in table and table[pid].alive:
            found[(pid, table[pid].start)] = " ".join(proc.cmdline(pid))
        todo += [stat.pid for stat in table.values() if stat.ppid == pid]
    return found


def bytes_read(pid: int) -> int:
    for line in Path(f"/proc/{pid}/io").read_text().splitlines():
        if line.startswith("rchar:"):
            return int(line.split()[1])
    raise AssertionError("no rchar")


# Looking


def rows() -> Rows:
    done = run_oomless("scan", "--json")
    assert done.returncode == 0, done.stderr
    return by_who(done.stdout)


def by_who(line: str) -> Rows:
    return {(row["pid"], row["start"]): row for row in json.loads(line)["processes"]}


def reap(*options: str) -> tuple[int, dict[str, Any]]:
    done = run_oomless("reap", *options)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def all_orphans(found: Rows, those: Iterable[Who]) -> bool:
    """Whoever of them still lives has been called one."""
    living = [who for who in those if alive(*who)]
    return bool(living) and all(who in found and found[who]["verdict"] == "orphan" for who in living)


class Fresh(threading.Thread):
    """A scan that is started now. ``seconds`` until it was done, if it called them all orphans."""

    def __init__(self, began: float, those: Iterable[Who]) -> None:
        super().__init__(daemon=True)
        self.seconds: float | None = None
        self._began, self._those = began, tuple(those)
        self.start()

    def run(self) -> None:
        found = rows()
        took = time.monotonic() - self._began
        if all_orphans(found, self._those):
            self.seconds = took


class Looks:
    """A scan that looks ten times a second; a context."""

    def __init__(self) -> None:
        command = [sys.executable, "-m", "oomless", "scan", "--watch", "--json", "--interval", "0.1s"]
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)

    def next(self) -> Rows:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the scan has ended"
        return by_who(line.decode())

    def until_orphans(self, those: Collection[Who], kept: Collection[Who], began: float) -> tuple[float, set[str]]:
        """Seconds since ``began``, and the verdicts meanwhile on those that must be kept."""
        verdicts: set[str] = set()
        while time.monotonic() - began < LONGEST:
            found = self.next()
            took = time.monotonic() - began
            verdicts |= set(_verdicts(found, kept))
            if all_orphans(found, those):
                return took, verdicts
        raise AssertionError(f"no orphans after {LONGEST} s: {[_row(found, who) for who in those if who in found]}")

    def __enter__(self) -> Looks:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()


def _verdicts(found: Rows, those: Iterable[Who]) -> list[str]:
    return sorted({found[who]["verdict"] if who in found else "unlisted" for who in those})


def _pids(found: Iterable[dict[str, Any]]) -> list[int]:
    return sorted(one["pid"] for one in found)


def _row(found: Rows, who: Who) -> Row:
    row = found[who]
    return Row(command=row["command"], verdict=row["verdict"], evidence=tuple(row["evidence"]))


if __name__ == "__main__":
    told = main(msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=Spec))
    sys.stdout.write(msgspec.json.encode(told).decode())
