"""Who in a tool shell's tree has detached on purpose, and is spared when its session ends.

A person who writes ``nohup setsid npm run dev`` wants the server to outlive the session; a command that was merely
left in the background does not. The signs: a process session of its own, SIGHUP ignored, being a terminal
multiplexer, or having been moved to a group outside of the tree (a service's); and what descends from such a one
is spared with it. In doubt it is spared: the caller reports it as left running. Standard library only.
"""

from __future__ import annotations

import signal
import sys

assert sys.platform == "linux"

from oomless.contain import lineage
from oomless.platform import proc

#: By the kernel's name of the process, 15 characters at most.
MULTIPLEXERS = ("tmux: server", "tmux", "screen", "SCREEN", "zellij", "dtach", "abduco")

Who = tuple[int, int]


def spared(members: list[Who], sid: int, table: dict[int, proc.Stat]) -> dict[Who, str]:
    """Pid and start of each that is spared, with the reason. ``sid``: the process session of the tool shell."""
    found: dict[Who, str] = {}
    for pid, start in members:
        stat = table.get(pid)
        if stat is None or stat.start != start:
            continue
        why = detached(stat, sid, ignores_hangup(pid))
        if why:
            found[(pid, start)] = why
            for below in lineage.descendants(table, pid):
                found.setdefault((below.pid, below.start), f"started by {pid}, which is left running")
    return found


def detached(stat: proc.Stat, sid: int, hangup_ignored: bool) -> str:
    """Why it counts as detached on purpose, or ""."""
    if stat.comm in MULTIPLEXERS:
        return "it is a terminal multiplexer"
    if stat.sid != sid:
        return "it started a process session of its own (setsid)"
    return "it ignores SIGHUP (nohup)" if hangup_ignored else ""


def ignores_hangup(pid: int) -> bool:
    for line in (proc.read_file(f"/proc/{pid}/status") or b"").splitlines():
        if line.startswith(b"SigIgn:"):
            return bool(int(line.split()[1], 16) >> (signal.SIGHUP - 1) & 1)
    return False
