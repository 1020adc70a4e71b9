"""Which processes belong to an act, their memory, and the survivors: measured alike for all five acts.

A process belongs to an act if it carries the act's random environment mark, or descends from one that does. It is
remembered by its id, so that orphans and processes that wiped their environment stay counted. Processes from before
the act, the demo itself and oomless' own (daemon, shims, batch, prefix) never belong. What oomless takes is summed
apart; one of its own that carries the mark and is still there at the end is a survivor too. A child that wiped its
environment and lost its parent between two samples is not seen.

A sample reads each member's PSS, which holds that process for a moment (9 ms at 500 MB): hence a few a second only.
"""

from __future__ import annotations

import os
import select
import sys
from collections.abc import Callable, Collection, Iterable, Sequence

assert sys.platform == "linux"

from oomless.demo.agents import AGENT
from oomless.demo.record import Member, Point, RoleShare, sum_by_role
from oomless.errors import OomlessError
from oomless.model import FootprintSource
from oomless.platform import proc
from oomless.platform.base import Platform
from oomless.platform.proc import Stat
from oomless.processes import ours
from oomless.processes.ids import ProcessId

MARK = "OOMLESS_DEMO_ACT"
AGENT_ROLE, OTHER, OURS = "agent", "other", "oomless"


class ActSampler:
    """One act's processes, from before its first one until the last is gone. ``role_of`` gives a process's role by
    its command line. ``agent_peak`` and ``at_peak`` are over all samples so far."""

    def __init__(self, mark: str, role_of: Callable[[Sequence[str]], str], platform: Platform) -> None:
        self._entry = f"{MARK}={mark}".encode()
        self._role_of = role_of
        self._platform = platform
        self._before = {_id_of(stat) for stat in proc.table().values()}
        #: The agent that a member belongs to; its role once that is sure; the role of what it descends from.
        self._agents: dict[ProcessId, str] = {}
        self._roles: dict[ProcessId, str] = {}
        self._inherited: dict[ProcessId, str] = {}
        self.source: FootprintSource = "pss"
        self.points: list[Point] = []
        self.agent_peak = 0
        self.at_peak: tuple[RoleShare, ...] = ()

    def sample(self, seconds: float, overhead: Collection[int] = ()) -> tuple[Member, ...]:
        """Adds a point. ``overhead``: more processes of oomless."""
        table = proc.table()
        everybody = self._members(table)
        members = tuple(member for member in everybody if member.role != OURS)
        unmarked = self._unmarked_shims(table, members) | set(overhead)
        sizes: dict[str, int] = {}
        for member in members:
            sizes[member.agent] = sizes.get(member.agent, 0) + member.bytes
        if sum(sizes.values()) > max((point.bytes for point in self.points), default=0):
            self.at_peak = sum_by_role(members)
        self.agent_peak = max(self.agent_peak, *(size for agent, size in sizes.items() if agent), 0)
        self.points.append(
            Point(
                seconds=seconds,
                bytes=sum(sizes.values()),
                agents=len({member.agent for member in members if member.role == AGENT_ROLE}),
                processes=len(members),
                overhead_bytes=sum(member.bytes for member in everybody if member.role == OURS)
                + sum(self._measure(pid) for pid in unmarked),
            )
        )
        return members

    def survivors(self) -> tuple[Member, ...]:
        return self._members(proc.table())

    def agents(self) -> list[tuple[str, ProcessId]]:
        """The roots of the agents that live now, each with its agent's name."""
        table = proc.table()
        roots = [_id_of(stat) for stat in self._living(table) if self._role(stat, table) == AGENT_ROLE]
        return [(self._agents[root], root) for root in roots]

    def kill_survivors(self) -> int:
        """Kills all that is left and returns how many processes that were; raises if any lives on."""
        killed: set[ProcessId] = set()
        for _ in range(10):
            members = self.survivors()
            if not members:
                return len(killed)
            ids = [ProcessId(member.pid, member.start) for member in members]
            killed.update(process for process in ids if proc.kill(*process) == proc.SENT)
            _wait_gone(ids)
        names = ", ".join(f"{member.pid} ({member.role})" for member in members)
        raise OomlessError("the demo could not end its processes", f"{names} live on", "end them by hand")

    def _living(self, table: dict[int, Stat]) -> list[Stat]:
        self._find_members(table)
        stats = [stat for stat in table.values() if stat.alive and _id_of(stat) in self._agents]
        return sorted(stats, key=lambda stat: (stat.start, stat.pid))

    def _members(self, table: dict[int, Stat]) -> tuple[Member, ...]:
        return tuple(
            Member(
                pid=stat.pid,
                start=stat.start,
                role=self._role(stat, table),
                agent=self._agents[_id_of(stat)],
                bytes=self._measure(stat.pid),
            )
            for stat in self._living(table)
        )

    def _find_members(self, table: dict[int, Stat]) -> None:
        """A stranger is asked again each time: before its exec, a fork shows its parent's environment."""
        known = self._before | self._agents.keys()
        strangers = [stat for stat in table.values() if stat.alive and _id_of(stat) not in known]
        named = f"{AGENT}=".encode()
        for stat in strangers:
            entries = proc.environ(stat.pid).split(b"\0")
            if self._entry in entries:
                names = [entry.removeprefix(named) for entry in entries if entry.startswith(named)]
                self._agents[_id_of(stat)] = names[0].decode("utf-8", "replace") if names else ""
        while True:
            strangers = [stat for stat in strangers if _id_of(stat) not in self._agents]
            parents = [(stat, table.get(stat.ppid)) for stat in strangers]
            born = [(stat, _id_of(parent)) for stat, parent in parents if parent and _id_of(parent) in self._agents]
            # A daemon that starts inside belongs to no agent.
            born = [(stat, parent) for stat, parent in born if not ours.is_daemon(proc.cmdline(stat.pid))]
            if not born:
                return
            self._agents.update({_id_of(stat): self._agents[parent] for stat, parent in born})

    def _role(self, stat: Stat, table: dict[int, Stat]) -> str:
        """Remembered once it is sure, for a program may give itself another title later. Not sure: a fork before its
        exec, which looks like its parent. What shows no role has that of its parent."""
        process = _id_of(stat)
        if process in self._roles:
            return self._roles[process]
        command = proc.cmdline(stat.pid)
        if ours.is_ours(command):
            return OURS
        role = self._role_of(command)
        parent = table.get(stat.ppid)
        above = self._roles.get(_id_of(parent)) or self._inherited.get(_id_of(parent)) if parent else None
        if above and parent and command == proc.cmdline(parent.pid):
            return OTHER if role == AGENT_ROLE else role
        if role != OTHER:
            self._roles[process] = role
            return role
        if above and above != AGENT_ROLE:
            self._inherited[process] = above
        return self._inherited.get(process, OTHER)

    def _unmarked_shims(self, table: dict[int, Stat], members: Iterable[Member]) -> set[int]:
        """Parents of members that came with the act and do not belong to it."""
        parents = {table[member.pid].ppid for member in members} & table.keys()
        known = self._before | self._agents.keys()
        return {pid for pid in parents if _id_of(table[pid]) not in known}

    def _measure(self, pid: int) -> int:
        footprint = self._platform.footprint(pid)
        if footprint is None:
            return 0
        if footprint.source != "pss":
            self.source = footprint.source
        return footprint.bytes


def _id_of(stat: Stat) -> ProcessId:
    return ProcessId(stat.pid, stat.start)


def _wait_gone(processes: Iterable[ProcessId]) -> None:
    for process in processes:
        fd = proc.open_verified(*process)
        if fd is not None:
            poll = select.poll()
            poll.register(fd, select.POLLIN)
            poll.poll(1000)
            os.close(fd)
