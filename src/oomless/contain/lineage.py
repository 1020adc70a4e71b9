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


def children_of(pid: int) -> list[int]:
    """Direct children by the kernel's own list, or by the table where it keeps none (CONFIG_PROC_CHILDREN)."""
    try:
        tasks = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return []
    found: list[int] = []
    for task in tasks:
        raw = proc.read_file(f"/proc/{pid}/task/{task}/children")
        if raw is None and not os.path.exists("/proc/self/task/self/children"):
            return [stat.pid for stat in proc.table().values() if stat.ppid == pid]
        found += [int(child) for child in (raw or b"").split()]
    return found


def walk(pid: int, skip: Container[tuple[int, int]] = (), enough: int | None = None) -> list[proc.Stat]:
    """All living descendants, or the first ``enough``; costs as much as the tree has members, not as the machine has
    processes."""
    found: list[proc.Stat] = []
    queue = children_of(pid)
    while queue and (enough is None or len(found) < enough):
        child = queue.pop()
        stat = proc.read_stat(child)
        if stat is None or (stat.pid, stat.start) in skip:
            continue
        if stat.alive:
            found.append(stat)
        queue += children_of(child)
    return found


def kill_descendants(own: int, skip: Container[tuple[int, int]] = ()) -> int:
    """One round: SIGKILL for every living descendant, each by its verified identity, and before that for whole groups
    that a child of ours pins down: a zombie, or the leader of a process session (which cannot change its group). An
    unreaped member keeps the group's number from being used again, and a group made below us cannot hold a stranger.
    A group is ended between two forks, which is what ends a fork bomb. Returns how many were living."""
    table = proc.table()
    members = descendants(table, own, skip)
    own_group = table[own].pgid if own in table else os.getpgrp()
    inside = {stat.pid for stat in members}
    strangers = {stat.pgid for stat in table.values() if stat.pid not in inside}
    pinned = {s.pgid for s in members if s.ppid == own and (not s.alive or s.pid == s.sid == s.pgid)}
    for group in pinned - strangers - {own_group, 0, 1}:
        try:
            os.killpg(group, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass
    living = [stat for stat in members if stat.alive]
    for stat in living:
        proc.kill(stat.pid, stat.start)
    return len(living)
