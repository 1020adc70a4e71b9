"""Process tables of sessions, and a stand-in for Claude Code that registers itself through its hooks."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import uuid
from pathlib import Path

import fake_claude
from contained import read_roster
from helpers import wait_for, wait_gone
from hosting import Host
from oomless.model import Leftover
from oomless.platform import proc
from oomless.platform.proc import Stat
from oomless.processes.detach import OWN_SESSION
from oomless.processes.ids import ProcessId


def stat(pid: int, ppid: int, sid: int, start: int = 0, state: str = "S") -> Stat:
    """Start times are pids unless said: children are younger."""
    fields = ["0"] * 22
    fields[0], fields[1], fields[2], fields[3], fields[19] = state, str(ppid), str(sid), str(sid), str(start or pid)
    return Stat(f"{pid} (x) {' '.join(fields)}".encode())


def table(*stats: Stat) -> dict[int, Stat]:
    return {one.pid: one for one in stats}


CLAUDE = stat(10, 1, 5)


SERVER = stat(20, 10, 5)


SHELL = stat(30, 10, 30)


CHILD = stat(31, 30, 30)


ROOT = ProcessId(10, 10)


HOOK = f"exec {shlex.quote(sys.executable)} -m oomless hook claude-code session-start"


ENDED = ("server", "launcher", "launched", "background", "double-fork", "foreground", "ignores-term", "own-group",
         "own-session-helper", "own-session-helper-below")  # fmt: skip


SPARED = {
    "nohup": "it ignores SIGHUP (nohup)",
    "dev-server": OWN_SESSION,
    "dev-server-below": OWN_SESSION,
    "listening": "it listens on a port",
    "listening-server": "it listens on a port",
    "wrapper": "{wrapped-listening} below it listens on a port",
    "wrapped-listening": "it listens on a port",
}


KINDS = tuple(
    kind for kind in (*fake_claude.SERVERS, *fake_claude.SHELLS) if kind not in ("daemonizing", "tmux", "brief")
)


BELOW_OF = {
    fake_claude.INNER: "server",
    "launcher": "launched",
    "dev-server": "dev-server-below",
    "own-session-helper": "own-session-helper-below",
    "wrapper": "wrapped-listening",
}


class NoTrees:
    """``GovernedTrees`` where nothing is governed."""

    def any_open(self) -> bool:
        return False

    def holds(self, pid: int) -> bool:
        return False

    def innermost(self, pid: int) -> str | None:
        return None

    def roots(self) -> set[ProcessId]:
        return set()


class FakeClaude:
    """One session of the fake host, its kinds all there and registered. ``who`` are its processes by kind. Its id is
    nobody else's: also other runs of these tests look for its mark."""

    def __init__(
        self,
        folder: Path,
        session: str,
        kinds: tuple[str, ...],
        script: str = fake_claude.__file__,
        hook: str = HOOK,
    ) -> None:
        self.session = session = f"{session}-{uuid.uuid4()}"
        self.roster = folder / f"{session}.roster"
        environ = {**os.environ, "CLAUDE_CODE_SESSION_ID": session, "TMUX_TMPDIR": os.environ["XDG_RUNTIME_DIR"]}
        self.process = subprocess.Popen(
            [sys.executable, "-I", "-S", script, str(self.roster), hook, session, *kinds],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environ,
            start_new_session=True,
        )
        self._answer()
        expected = {*kinds, *(below for kind, below in BELOW_OF.items() if kind in kinds)}
        assert wait_for(lambda: expected <= set(self.who), 30), expected - set(self.who)

    @property
    def who(self) -> dict[str, ProcessId]:
        return {kind: ProcessId(*pair) for kind, pair in read_roster(self.roster).items()}

    def _answer(self) -> None:
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "done\n"

    def do(self, word: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(word + "\n")
        self.process.stdin.flush()
        self._answer()

    def end(self, number: int) -> None:
        """By that signal, or (0) normally."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        if number:
            self.process.send_signal(number)
        self.process.stdin.close()
        self.process.wait(20)
        self.process.stdout.close()

    def clean(self) -> None:
        if self.process.poll() is None:
            self.end(signal.SIGKILL)
        for pid, start in self.who.values():
            proc.kill(pid, start)
            wait_gone(pid, start, 10)


def told(host: Host, one: FakeClaude) -> dict[ProcessId, Leftover]:
    """What the daemon lists as left of that session."""
    return {ProcessId.of(left): left for left in host.status().leftovers if left.root == one.process.pid}
