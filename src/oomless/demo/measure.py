"""Who belongs to an act, what it takes, and who is left of it: measured the same way for all five acts.

A process belongs to an act if it carries the act's random environment mark, or descends from one that does; whoever
was seen once is remembered by identity (pid and start time), so that orphans and processes that wiped their
environment stay counted. Processes from before the act, the demo itself and oomless' own (daemon, shims, batch,
prefix) never belong; what oomless takes is summed apart, and one of its own that carries the mark and is still there
at the end is left over as well. Not seen: a child that wiped its environment and lost its parent between two samples.

A sample reads each member's PSS, which holds that process for a moment (9 ms at 500 MB): hence a few a second only.
What is computed from samples: ``samples.py``.
"""

from __future__ import annotations

import os
import select
import sys
import time
from collections.abc import Callable, Collection, Iterable, Sequence

assert sys.platform == "linux"

import msgspec

import oomless
from oomless.contain.launch import BOOT
from oomless.demo.agents import AGENT
from oomless.demo.record import Left
from oomless.demo.samples import Sample, Used
from oomless.errors import OomlessError
from oomless.model import FootprintSource
from oomless.platform import proc
from oomless.platform.base import Platform
from oomless.platform.proc import Stat

MARK = "OOMLESS_DEMO_ACT"
AGENT_ROLE, OTHER, OURS = "agent", "other", "oomless"
Key = tuple[int, int]
RoleOf = Callable[[Sequence[str]], tuple[str, str]]
#: What runs our shims: those of jobs, and those that the prefix puts before servers and tool shells.
_CLI = os.path.join(os.path.dirname(oomless.__file__), "cli")
_BOOTS = frozenset({BOOT, f"{_CLI}/boot_prefix.py", f"{_CLI}/boot_hook.py"})
_MODULES = ("oomless", "oomless.daemon")


class Member(msgspec.Struct, frozen=True, kw_only=True):
    """``role``: ``agent`` for an agent's root, ``oomless`` for what is ours, ``other`` for what does not show.
    ``agent``: the name of the agent it belongs to, empty if that is not known."""

    pid: int
    start: int
    role: str
    agent: str = ""


class Watch:
    """One act's processes, from before its first one until the last is gone. ``role_of`` tells by the command line
    what a process is."""

    def __init__(self, mark: str, role_of: RoleOf, platform: Platform) -> None:
        self._entry = f"{MARK}={mark}".encode()
        self._role_of = role_of
        self._platform = platform
        self._before = {(stat.pid, stat.start) for stat in proc.table().values()}
        self._known: dict[Key, str] = {}
        self._roles: dict[Key, str] = {}
        self._below: dict[Key, str] = {}
        self.source: FootprintSource = "pss"

    def sample(self, seconds: float, overhead: Collection[int] = ()) -> Sample:
        table = proc.table()
        members = self._alive(table)
        ours = {member.pid for member in members if member.role == OURS} | self._parents(table, members)
        return Sample(
            seconds=seconds,
            at=time.clock_gettime(time.CLOCK_BOOTTIME),
            used=tuple(
                Used(pid=m.pid, start=m.start, role=m.role, agent=m.agent, bytes=self._bytes(m.pid))
                for m in members
                if m.role != OURS
            ),
            overhead_bytes=sum(self._bytes(pid) for pid in ours | set(overhead)),
        )

    def agents(self) -> list[Member]:
        """The roots of the agents that live now."""
        return [member for member in self._alive(proc.table()) if member.role == AGENT_ROLE]

    def left(self) -> tuple[Left, ...]:
        return tuple(
            Left(pid=m.pid, start=m.start, role=m.role, agent=m.agent, bytes=self._bytes(m.pid))
            for m in self._alive(proc.table())
        )

    def end_left(self) -> int:
        """Ends all that is left, each by its identity, and returns how many; raises if any lives on."""
        ended: set[Key] = set()
        for _ in range(10):
            members = self._alive(proc.table())
            if not members:
                return len(ended)
            ended.update((m.pid, m.start) for m in members if proc.kill(m.pid, m.start) == proc.SENT)
            _wait_gone(members)
        names = ", ".join(f"{m.pid} ({m.role})" for m in members)
        raise OomlessError("the demo could not end its processes", f"{names} live on", "end them by hand")

    def _alive(self, table: dict[int, Stat]) -> list[Member]:
        self._recognise(table)
        stats = [stat for stat in table.values() if stat.alive and (stat.pid, stat.start) in self._known]
        return [self._member(stat, table) for stat in sorted(stats, key=lambda stat: (stat.start, stat.pid))]

    def _recognise(self, table: dict[int, Stat]) -> None:
        """Strangers are looked at again each time: before its exec, a fork shows its parent's environment."""
        strangers = {
            (stat.pid, stat.start): stat
            for stat in table.values()
            if stat.alive and (stat.pid, stat.start) not in self._before and (stat.pid, stat.start) not in self._known
        }
        found = {key: self._marked(stat, table) for key, stat in strangers.items()}
        while found := {key: agent for key, agent in found.items() if agent is not None}:
            self._known.update(found)
            strangers = {key: stat for key, stat in strangers.items() if key not in self._known}
            found = {key: self._inherited(stat, table) for key, stat in strangers.items()}

    def _marked(self, stat: Stat, table: dict[int, Stat]) -> str | None:
        """Whose it is, None if it does not belong to the act."""
        entries = proc.environ(stat.pid).split(b"\0")
        if self._entry not in entries:
            return self._inherited(stat, table)
        named = f"{AGENT}=".encode()
        return next((part[len(named) :].decode("utf-8", "replace") for part in entries if part.startswith(named)), "")

    def _inherited(self, stat: Stat, table: dict[int, Stat]) -> str | None:
        """A daemon that is born inside belongs to nobody."""
        parent = table.get(stat.ppid)
        agent = self._known.get((parent.pid, parent.start)) if parent is not None else None
        return None if agent is None or "oomless.daemon" in proc.cmdline(stat.pid) else agent

    def _member(self, stat: Stat, table: dict[int, Stat]) -> Member:
        return Member(
            pid=stat.pid,
            start=stat.start,
            role=self._role(stat, table),
            agent=self._known[(stat.pid, stat.start)],
        )

    def _role(self, stat: Stat, table: dict[int, Stat]) -> str:
        """Remembered once it is sure, for a program may give itself another title later. Not sure: a fork before its
        exec, which looks like its parent. What does not show (yet) is what its parent is, or was."""
        key = (stat.pid, stat.start)
        if key in self._roles:
            return self._roles[key]
        command = proc.cmdline(stat.pid)
        if is_ours(command):
            return OURS
        role = self._role_of(command)[0]
        parent = table.get(stat.ppid)
        above = self._above(parent)
        if above is not None and parent is not None and command == proc.cmdline(parent.pid):
            return OTHER if role == AGENT_ROLE else role
        if role != OTHER:
            self._roles[key] = role
            return role
        if above is not None and above != AGENT_ROLE:
            self._below[key] = above
        return self._below.get(key, OTHER)

    def _above(self, parent: Stat | None) -> str | None:
        key = (parent.pid, parent.start) if parent is not None else (0, 0)
        return self._roles.get(key) or self._below.get(key)

    def _parents(self, table: dict[int, Stat], members: Iterable[Member]) -> set[int]:
        """The shims that do not carry the mark: parents of members that came with the act and do not belong to it."""
        parents = {table[member.pid].ppid for member in members}
        stats = [table[pid] for pid in parents if pid in table]
        return {s.pid for s in stats if (s.pid, s.start) not in self._known and (s.pid, s.start) not in self._before}

    def _bytes(self, pid: int) -> int:
        found = self._platform.footprint(pid)
        if found is None:
            return 0
        if found.source != "pss":
            self.source = found.source
        return found.bytes


def is_ours(command: Sequence[str]) -> bool:
    """A shim, a command of ours, or the prefix script before it becomes one."""
    if any(part in _BOOTS for part in command[:6]):
        return True
    if command[:1] == ["/bin/sh"] and len(command) > 1 and command[1].endswith("/oomless/prefix"):
        return True
    return any(command[at] == "-m" and command[at + 1] in _MODULES for at in range(1, min(len(command) - 1, 4)))


def _wait_gone(members: Iterable[Member]) -> None:
    for member in members:
        fd = proc.open_verified(member.pid, member.start)
        if fd is None:
            continue
        try:
            poll = select.poll()
            poll.register(fd, select.POLLIN)
            poll.poll(1000)
        finally:
            os.close(fd)
