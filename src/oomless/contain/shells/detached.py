"""Which processes of a tool shell's tree detached on purpose, and outlive its session.

A person who writes ``nohup setsid npm run dev`` wants the server to outlive the session; a command that was merely
left in the background does not. The signs: a process session of its own, SIGHUP ignored, being a terminal
multiplexer, or having been moved to a cgroup outside of the tree (a service's); and whatever descends from such a
process. In doubt a process counts as detached: it is not killed, and the caller reports it. Standard library only.
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

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container


class Members:
    """The members of a tree at its session's end: ``detached`` with the reason, ``attended`` by a shim of their own
    (``oomless run``, or the session of another host, started in this shell), and ``leftovers``, the others."""

    __slots__ = ("attended", "detached", "leftovers")

    def __init__(self, detached: dict[ProcessId, str]) -> None:
        self.detached = detached
        self.attended: list[ProcessId] = []
        self.leftovers: list[ProcessId] = []


def classify_members(
    members: list[ProcessId],
    sid: int,
    table: dict[int, proc.Stat],
    before: dict[ProcessId, str],
    moved: Container[ProcessId] = (),
) -> Members:
    """``sid``: the process session of the tool shell. ``before``: processes that were detached earlier, and stay so
    though they may have lost the parent that was the reason. ``moved``: members by descent that are in other cgroups
    than the tree's. ``table`` is read after ``members``."""
    stats = [stat for pid, start in members if (stat := table.get(pid)) and stat.start == start]
    classified = Members(dict(before))
    attended = _find_attended(stats, sid, table)
    for stat in stats:
        process = ProcessId.of(stat)
        reason = "" if process in attended else _detach_reason(stat, sid) or (MOVED if process in moved else "")
        if reason:
            classified.detached.setdefault(process, reason)
    for pid, _ in list(classified.detached):
        for below in descendants.descendants(table, pid):
            classified.detached.setdefault(ProcessId.of(below), f"started by {pid}, which is detached")
    for process in map(ProcessId.of, stats):
        if process not in classified.detached:
            (classified.attended if process in attended else classified.leftovers).append(process)
    return classified


def _find_attended(stats: list[proc.Stat], sid: int, table: dict[int, proc.Stat]) -> set[ProcessId]:
    """Shims in the tree and what they have forked, whose process sessions are not the shell's doing."""
    attended: set[ProcessId] = set()
    for stat in stats:
        role = shim_role(stat.pid)
        if role == "prefix" or (role == "shim" and not _detach_reason(stat, sid)):
            below = descendants.descendants(table, stat.pid)
            attended |= {ProcessId.of(stat), *map(ProcessId.of, below)}
    return attended


def find_run_shims(attended: list[ProcessId], sid: int) -> list[ProcessId]:
    """Shims that kill their trees when they are terminated; the others know by themselves when their sessions end."""
    return [process for process in attended if shim_role(process.pid) == "shim" and _read_sid(process.pid) == sid]


def shim_role(pid: int) -> str:
    """``shim``, ``prefix`` or something else, as ``ours.role`` has it."""
    return ours.role(proc.cmdline(pid))


def _read_sid(pid: int) -> int | None:
    stat = proc.read_stat(pid)
    return stat.sid if stat else None


def _detach_reason(stat: proc.Stat, sid: int) -> str:
    """The reason, or "" if the process did not detach."""
    if stat.comm in MULTIPLEXERS:
        return "it is a terminal multiplexer"
    if stat.sid != sid:
        return "it started a process session of its own (setsid)"
    return "it ignores SIGHUP (nohup)" if proc.ignores_hangup(stat.pid) else ""
