"""ProcessId in a tool shell's tree has detached on purpose, and is spared when its session ends.

A person who writes ``nohup setsid npm run dev`` wants the server to outlive the session; a command that was merely
left in the background does not. The signs: a process session of its own, SIGHUP ignored, being a terminal
multiplexer, or having been moved to a group outside of the tree (a service's); and what descends from such a one
is spared with it. In doubt it is spared: the caller reports it as left running. Standard library only.
"""

from __future__ import annotations

import sys

assert sys.platform == "linux"

from oomless.platform import proc
from oomless.processes import descendants, ours
from oomless.processes.ids import ProcessId

#: By the kernel's name of the process, 15 characters at most.
MULTIPLEXERS = ("tmux: server", "tmux", "screen", "SCREEN", "zellij", "dtach", "abduco")

MOVED = "it was moved to a group outside of the tree"
GOES_ON = "it belongs to a session or a run that goes on"
RUN_SHIM, PREFIX_SHIM = "shim", "prefix"

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container


class Sorted:
    """The members of a tree at its session's end: ``spared`` with the reason, ``attended`` by a shim of their own
    (``oomless run``, or the session of another host, started in this shell), the others ``condemned``."""

    __slots__ = ("attended", "condemned", "spared")

    def __init__(self, spared: dict[ProcessId, str]) -> None:
        self.spared = spared
        self.attended: list[ProcessId] = []
        self.condemned: list[ProcessId] = []


def sort(
    members: list[ProcessId],
    sid: int,
    table: dict[int, proc.Stat],
    before: dict[ProcessId, str],
    moved: Container[ProcessId] = (),
) -> Sorted:
    """``sid``: the process session of the tool shell. ``before``: who was spared earlier, and stays so though it may
    have lost the parent that it was spared for. ``moved``: members by descent that are in other groups than the
    tree's. ``table`` is read after ``members``."""
    stats = [stat for pid, start in members if (stat := table.get(pid)) and stat.start == start]
    kinds = {ProcessId.of(stat): shim_kind(stat.pid) for stat in stats}
    found = Sorted(dict(before))
    inside: set[ProcessId] = set()
    for stat in stats:  # what a shim has forked: the shim's sessions are not the shell's doing
        who = ProcessId.of(stat)
        if kinds[who] == PREFIX_SHIM or (kinds[who] == RUN_SHIM and not _why(stat, sid)):
            inside |= {who, *(ProcessId.of(below) for below in descendants.descendants(table, stat.pid))}
    for stat in stats:
        who = ProcessId.of(stat)
        why = "" if who in inside else _why(stat, sid) or (MOVED if who in moved else "")
        if why:
            found.spared.setdefault(who, why)
    for pid, _ in list(found.spared):
        for below in descendants.descendants(table, pid):
            found.spared.setdefault(ProcessId.of(below), f"started by {pid}, which is detached")
    for stat in stats:
        who = ProcessId.of(stat)
        if who not in found.spared:
            (found.attended if who in inside else found.condemned).append(who)
    return found


def shims(attended: list[ProcessId], sid: int) -> list[ProcessId]:
    """Those of them that end their trees when they are told to; the others know by themselves when to."""
    return [who for who in attended if shim_kind(who.pid) == RUN_SHIM and _sid(who.pid) == sid]


def shim_kind(pid: int) -> str:
    """``RUN_SHIM``, ``PREFIX_SHIM`` or ""."""
    role = ours.role(proc.cmdline(pid))
    return role if role in (RUN_SHIM, PREFIX_SHIM) else ""


def _sid(pid: int) -> int | None:
    stat = proc.read_stat(pid)
    return stat.sid if stat else None


def _why(stat: proc.Stat, sid: int) -> str:
    return detached(stat, sid, proc.ignores_hangup(stat.pid))


def detached(stat: proc.Stat, sid: int, hangup_ignored: bool) -> str:
    """Why it counts as detached on purpose, or ""."""
    if stat.comm in MULTIPLEXERS:
        return "it is a terminal multiplexer"
    if stat.sid != sid:
        return "it started a process session of its own (setsid)"
    return "it ignores SIGHUP (nohup)" if hangup_ignored else ""
