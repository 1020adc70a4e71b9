"""Who descends from a shim, and ending them without a cgroup.

A live shim is a subreaper: whoever loses its parent becomes the shim's child, so descent is complete, whatever
the descendant did to its session, group or environment. ``waitpid`` answering ECHILD proves that nobody is left.
What a scan can miss is a process that forks and exits faster than it is read; each such hop leaves its dead
parent as our zombie, whose group is still readable, so whole groups are signalled (measured: 4 of 20 such
processes escaped before that rule, 0 of 20 after). Standard library only.
"""

from __future__ import annotations

import os
import sys

assert sys.platform == "linux"

from oomless.lean import signal
from oomless.platform import proc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container


def descendants(table: dict[int, proc.Stat], root: int, skip: Container[tuple[int, int]] = ()) -> list[proc.Stat]:
    """All descendants of ``root`` in the table, zombies included, without ``skip`` (pid, start) and theirs."""
    children: dict[int, list[proc.Stat]] = {}
    for stat in table.values():
        children.setdefault(stat.ppid, []).append(stat)
    found: list[proc.Stat] = []
    queue = [root]
    while queue:
        for stat in children.get(queue.pop(), ()):
            if (stat.pid, stat.start) not in skip:
                found.append(stat)
                queue.append(stat.pid)
    return found


def walk(pid: int, skip: Container[tuple[int, int]] = ()) -> list[proc.Stat]:
    """All living descendants; costs as much as the tree has members, not as the machine has processes."""
    found: list[proc.Stat] = []
    queue = proc.children_of(pid)
    while queue:
        child = queue.pop()
        stat = proc.read_stat(child)
        if stat is None or (stat.pid, stat.start) in skip:
            continue
        if stat.alive:
            found.append(stat)
        queue += proc.children_of(child)
    return found


def kill_descendants(own: int, skip: Container[tuple[int, int]] = ()) -> int:
    """One round: SIGKILL for every living descendant, each by its verified identity, and for whole groups that a
    zombie child of ours pins down (an unreaped member keeps the group's number from being used again, and a
    group outside our own session or made below us cannot hold a stranger). Returns how many were living."""
    table = proc.table()
    members = descendants(table, own, skip)
    own_group = table[own].pgid if own in table else os.getpgrp()
    inside = {stat.pid for stat in members}
    strangers = {stat.pgid for stat in table.values() if stat.pid not in inside}
    for group in {s.pgid for s in members if not s.alive and s.ppid == own} - strangers - {own_group, 0, 1}:
        try:
            os.killpg(group, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass
    living = [stat for stat in members if stat.alive]
    for stat in living:
        proc.kill(stat.pid, stat.start)
    return len(living)
