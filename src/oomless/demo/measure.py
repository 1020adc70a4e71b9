"""Who belongs to an act, what it takes, and who is left of it: measured the same way for all five acts.

A process belongs to an act if it carries the act's random environment mark, or descends from one that does; whoever
was seen once is remembered by identity (pid and start time), so that orphans and processes that wiped their
environment stay counted. Processes from before the act, the demo itself and oomless' own (daemon, shims, batch)
never belong; what oomless takes is summed apart. Not seen: a child that wiped its environment and lost its parent
between two samples.

A sample reads each member's PSS, which holds that process for a moment (9 ms at 500 MB): hence ten a second only.
"""

from __future__ import annotations

import os
import select
import sys
from collections.abc import Collection, Iterable

assert sys.platform == "linux"

import msgspec

from oomless.contain.launch import BOOT
from oomless.demo import agent
from oomless.demo.record import Left, Point
from oomless.errors import OomlessError
from oomless.model import FootprintSource
from oomless.platform import proc
from oomless.platform.base import Platform
from oomless.platform.proc import Stat

MARK = "OOMLESS_DEMO_ACT"
AGENT_FILE = os.path.abspath(agent.__file__)
Key = tuple[int, int]


class Member(msgspec.Struct, frozen=True, kw_only=True):
    """``role``: ``agent`` for an agent's root (then ``name`` is its name), the child's role, or ``other``."""

    pid: int
    start: int
    role: str
    name: str = ""


class Watch:
    """One act's processes, from before its first one until the last is gone."""

    def __init__(self, mark: str, platform: Platform) -> None:
        self._entry = f"{MARK}={mark}".encode()
        self._platform = platform
        self._before = {(stat.pid, stat.start) for stat in proc.table().values()}
        self._known: set[Key] = set()
        self._members: dict[Key, Member] = {}
        self.source: FootprintSource = "pss"

    def sample(self, seconds: float, overhead: Collection[int] = ()) -> Point:
        table = proc.table()
        members = self._alive(table)
        return Point(
            seconds=seconds,
            bytes=sum(self._bytes(member.pid) for member in members),
            agents=len({member.name for member in members if member.role == "agent"}),
            processes=len(members),
            overhead_bytes=sum(self._bytes(pid) for pid in self._overhead(table, members) | set(overhead)),
        )

    def agents(self) -> list[Member]:
        """The roots of the agents that live now."""
        return [member for member in self._alive(proc.table()) if member.role == "agent"]

    def left(self) -> tuple[Left, ...]:
        return tuple(
            Left(pid=member.pid, start=member.start, role=member.role, bytes=self._bytes(member.pid))
            for member in self._alive(proc.table())
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
        return [self._member(stat, table) for stat in stats]

    def _recognise(self, table: dict[int, Stat]) -> None:
        """Strangers are looked at again each time: before its exec, a fork shows its parent's environment."""
        seen = self._before | self._known
        strangers = [stat for stat in table.values() if stat.alive and (stat.pid, stat.start) not in seen]
        found = [s for s in strangers if self._marked(s.pid) or self._parent_known(s, table)]
        while found:
            self._known.update((stat.pid, stat.start) for stat in found)
            strangers = [stat for stat in strangers if (stat.pid, stat.start) not in self._known]
            found = [stat for stat in strangers if self._parent_known(stat, table)]

    def _marked(self, pid: int) -> bool:
        return self._entry in proc.environ(pid).split(b"\0") and BOOT not in proc.cmdline(pid)

    def _parent_known(self, stat: Stat, table: dict[int, Stat]) -> bool:
        parent = table.get(stat.ppid)
        return parent is not None and (parent.pid, parent.start) in self._known

    def _member(self, stat: Stat, table: dict[int, Stat]) -> Member:
        """Remembered once its role is sure: between fork and exec a child looks like its parent."""
        key = (stat.pid, stat.start)
        if key in self._members:
            return self._members[key]
        role, name = _role(proc.cmdline(stat.pid))
        if role == "agent" and self._parent_known(stat, table):
            return Member(pid=stat.pid, start=stat.start, role="other")
        member = Member(pid=stat.pid, start=stat.start, role=role, name=name)
        if role != "other":
            self._members[key] = member
        return member

    def _overhead(self, table: dict[int, Stat], members: Iterable[Member]) -> set[int]:
        """The shims: parents of members that came with the act and do not belong to it."""
        parents = {table[member.pid].ppid for member in members}
        stats = [table[pid] for pid in parents if pid in table]
        return {s.pid for s in stats if (s.pid, s.start) not in self._known | self._before}

    def _bytes(self, pid: int) -> int:
        found = self._platform.footprint(pid)
        if found is None:
            return 0
        if found.source != "pss":
            self.source = found.source
        return found.bytes


def _role(command: list[str]) -> tuple[str, str]:
    if AGENT_FILE not in command:
        return "other", ""
    rest = command[command.index(AGENT_FILE) + 1 :]
    role = rest[0] if rest else "other"
    return role, rest[1] if role == "agent" and len(rest) > 1 else ""


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
