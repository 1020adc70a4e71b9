"""Questions to the process table, live or as it was read: life and descent of processes; and rounds of SIGKILL
for the descendants of a shim.

A live shim is a subreaper: a process that loses its parent becomes the shim's child, so descent is complete, whatever
the descendant did to its session, group or environment. ``waitpid`` answering ECHILD proves that none is left.
What a scan can miss is a process that forks and exits faster than it is read; each such hop leaves its dead
parent as our zombie, whose group is still readable, so whole groups are signalled (measured: 4 of 20 such
processes escaped before that rule, 0 of 20 after). Standard library only.
"""

from __future__ import annotations

import os
import sys

from oomless.lean import signal

if sys.platform == "darwin":
    from oomless.platform import darwin_system as proc
else:
    from oomless.platform import proc

from oomless.processes.ids import ProcessId

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Container, Iterator, Mapping


def find_living(process: ProcessId, table: Mapping[int, proc.Stat] | None = None) -> proc.Stat | None:
    """That very process in the table, read now unless one is given; None if it is gone, a zombie, or its number is in
    use again."""
    stat = proc.read_stat(process.pid) if table is None else table.get(process.pid)
    return stat if stat is not None and stat.start == process.start and stat.alive else None


def alive(process: ProcessId, table: Mapping[int, proc.Stat] | None = None) -> bool:
    return find_living(process, table) is not None


def ancestors(pid: int) -> Iterator[proc.Stat]:
    """From the parent up to init, zombies included; ends early where one of them has gone meanwhile."""
    stat = proc.read_stat(pid)
    while stat is not None and stat.ppid > 0:
        stat = proc.read_stat(stat.ppid)
        if stat is not None:
            yield stat


def is_below(pid: int, top: int) -> bool:
    """Whether ``pid`` is ``top`` or descends from it now."""
    return pid == top or any(stat.pid == top for stat in ancestors(pid))


def descendants(
    table: Mapping[int, proc.Stat], *roots: int, skip: Container[tuple[int, int]] = ()
) -> list[proc.Stat]:
    """All descendants of ``roots`` in the table, each once, zombies included, without ``skip`` and theirs."""
    children: dict[int, list[proc.Stat]] = {}
    for stat in table.values():
        children.setdefault(stat.ppid, []).append(stat)
    below: list[proc.Stat] = []
    queue = list(roots)
    while queue:
        for stat in children.pop(queue.pop(), ()):
            if (stat.pid, stat.start) not in skip:
                below.append(stat)
                queue.append(stat.pid)
    return below


def children(pid: int) -> Iterator[proc.Stat]:
    """Direct children, zombies included. Of our own none is missed: only this process can take one out of the
    kernel's list while we read it."""
    return (stat for child in proc.children_of(pid) if (stat := proc.read_stat(child)))


def walk(pid: int, skip: Container[tuple[int, int]] = (), enough: int | None = None) -> list[proc.Stat]:
    """All living descendants, or the first ``enough``; costs as much as the tree has members, not as the machine has
    processes."""
    below: list[proc.Stat] = []
    queue = proc.children_of(pid)
    while queue and (enough is None or len(below) < enough):
        child = queue.pop()
        stat = proc.read_stat(child)
        if stat is None or (stat.pid, stat.start) in skip:
            continue
        if stat.alive:
            below.append(stat)
        queue += proc.children_of(child)
    return below


class DescentKiller:
    """Rounds of SIGKILL for all that descend from ``own``, but for ``skip`` and theirs.

    A round costs as much as the tree has members, not as the machine has processes. The first goes through the whole
    tree; later ones through our children alone, for a process that loses its parent becomes one, and only each fifth
    through all. Each is signalled by its verified identity. Whole groups are signalled too, where that can meet no
    stranger: a child of ours pins its group's number while it is not reaped, if it is dead or leads it, and a group
    of a session that was made below us is all below us. Only for a group of a session that we were in ourselves (a
    terminal's) is the table read."""

    DEEP_EACH = 5

    def __init__(self, own: int, skip: Collection[ProcessId] = ()) -> None:
        self._own = own
        self._skip = skip
        self._rounds = 0
        self._sessions = {os.getsid(0)}
        self._groups = {0, 1, os.getpgrp()}

    def round(self) -> None:
        deep = self._rounds % self.DEEP_EACH == 0
        self._rounds += 1
        below = [stat for stat in children(self._own) if (stat.pid, stat.start) not in self._skip]
        for group in self._whole_groups(below):
            try:
                os.killpg(group, signal.SIGKILL)
            except (ProcessLookupError, PermissionError):
                pass
        for stat in walk(self._own, self._skip) if deep else below:
            if stat.alive:
                proc.kill(stat.pid, stat.start)

    def _whole_groups(self, below: list[proc.Stat]) -> set[int]:
        """Groups all of whose members are of the tree."""
        sessions = {*self._sessions, os.getsid(0)}
        pinned = [stat for stat in below if stat.pgid == stat.pid or not stat.alive]
        apart = {stat.pgid for stat in pinned if stat.sid not in sessions}
        own = {*self._groups, os.getpgrp()}
        among = {stat.pgid for stat in pinned if stat.sid in sessions} - own
        if among:
            table = proc.table()
            inside = {stat.pid for stat in descendants(table, self._own, skip=self._skip)}
            among -= {stat.pgid for stat in table.values() if stat.pid not in inside}
        spared = {
            stat.pgid
            for skipped in self._skip
            if (stat := proc.read_stat(skipped.pid)) and stat.start == skipped.start
        }
        return (apart | among) - spared - own
