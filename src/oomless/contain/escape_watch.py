"""The escape watch: processes that descend from the shim and are not in its tree's groups any more.

Nobody leaves a group by forking, but a process may write itself into another one, and hosts do that to a scope that
they were started in; its limits are void then. Looked at once a second, by descent: an escaped process is moved back,
but not more than three times. One that cannot be, or is a container's, is named to the daemon (so that a sweep
reaches it) and in the record, and is killed with the tree all the same. Memory that was taken outside stays charged
there. Standard library only.
"""

from __future__ import annotations

import os
import sys
import time

assert sys.platform == "linux"

from oomless.contain import ending
from oomless.platform import cgroup, proc
from oomless.processes import descendants, ours
from oomless.processes.ids import ProcessId

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oomless.contain.rungs.base import Rung

EVERY = 1.0
#: A look costs 14 us a process (measured with 50 and with 500); it may not take more than this share of a core.
SHARE = 0.005
TRIES = 3
#: So many are named in a record.
NAMED = 50
CONTAINER = "it runs in a container's namespaces, which its own manager looks after"
AGAIN = f"it moved out again, after it had been moved back {TRIES} times"


class Escape:
    """One escaped process. ``to``: the group that it was found in. ``why``: what keeps us from moving it back, "" if
    it was."""

    def __init__(self, process: ProcessId, command: str, to: str) -> None:
        self.process, self.command, self.to = process, command, to
        self.tries = 0
        self.why = ""

    def row(self) -> dict[str, object]:
        """The fields of ``model.EscapedProcess``."""
        return {
            "pid": self.process.pid,
            "start": self.process.start,
            "command": self.command,
            "to": self.to,
            "back": not self.why,
            "why": self.why,
        }


class EscapeWatch:
    """``own``: the shim's pid, ``paths`` the tree's folders by controller, ``strangers`` the processes below the shim
    that are not of the tree; the daemon is added to them when it is met. ``outside``: those that are out now."""

    def __init__(self, own: int, paths: dict[str, str], strangers: set[ProcessId], state: str, began: float) -> None:
        self._own = own
        self._paths = paths
        self._strangers = strangers
        self._state = state
        self._leaf = os.path.basename(next(iter(paths.values()), ""))
        self._at = began + EVERY
        self._seen: dict[ProcessId, Escape] = {}
        self.outside: list[ProcessId] = []

    def due(self, rung: Rung) -> list[float]:
        """When ``look`` is to be called next (monotonic); nothing on rungs without groups."""
        return [self._at] if self._paths and rung.reachable else []

    def rows(self) -> list[dict[str, object]]:
        return [escape.row() for escape in list(self._seen.values())[:NAMED]]

    def look(self, rung: Rung, now: float) -> dict[str, object] | None:
        """Moves back those that left. Returns what the daemon is to know (a ``usage`` message) while any are out, and
        once when none are any more; else None."""
        if not self.due(rung) or now < self._at:
            return None
        before, began = self.outside, time.thread_time()
        away = self._find_away()
        if away:
            self._strangers |= ending.daemon_below(self._state, self._own)
        self.outside = [
            ProcessId.of(stat) for stat in away if self._is_member(stat) and not self._is_inside(stat, rung)
        ]
        message = self._message(rung) if self.outside or before else None
        # Not by the clock: a write to cgroup.procs waits for all processors, which may take 20 ms and costs nothing.
        self._at = now + max(EVERY, (time.thread_time() - began) / SHARE)
        return message

    def _message(self, rung: Rung) -> dict[str, object]:
        named = [self._seen[process].row() for process in self.outside[:NAMED]]
        return {"op": "usage", "used": rung.usage(), "members": self.outside, "escaped": named}

    def _find_away(self) -> list[proc.Stat]:
        inside = [set(cgroup.pids_in(path)) for path in self._paths.values()]
        below = descendants.walk(self._own, self._strangers)
        # One that was born into a group between both readings is in it: so it is asked itself.
        return [
            stat for stat in below if any(stat.pid not in pids for pids in inside) and self._groups_outside(stat.pid)
        ]

    def _groups_outside(self, pid: int) -> dict[str, str]:
        """Where it is instead, by controller; nothing if it is inside or gone."""
        groups = proc.cgroups(pid)
        own = {name: groups[name] for name in self._paths if name in groups}
        return {name: path for name, path in own.items() if not self._is_tree(path)}

    def _is_tree(self, path: str) -> bool:
        """Ours, or that of a tree in the tree, whose groups may be beside ours (``choose.RungChooser``)."""
        parts = path.split("/")
        return self._leaf in parts or any(part.startswith("oomless-") and part.count("-") == 2 for part in parts)

    def _is_member(self, stat: proc.Stat) -> bool:
        """A daemon that a command in the tree started leaves the groups by itself, before anybody can know it, and so
        does the process that holds its scope."""
        if ProcessId.of(stat) in self._strangers:
            return False
        for process in (stat, *descendants.ancestors(stat.pid)):
            if process.pid in (1, self._own):
                break
            if ours.is_daemon(proc.cmdline(process.pid)):
                return False
        return True

    def _is_inside(self, stat: proc.Stat, rung: Rung) -> bool:
        """Whether it is inside (again); moves it."""
        groups = self._groups_outside(stat.pid)
        if not groups:
            return True
        process = ProcessId.of(stat)
        escape = self._seen.get(process)
        if escape is None:
            command = ending.masked_command(stat.pid) or stat.comm
            escape = self._seen[process] = Escape(process, command, next(iter(groups.values())))
        if escape.why == AGAIN or escape.tries == TRIES:
            escape.why = AGAIN
        elif is_containerized(stat.pid):
            escape.why = CONTAINER
        else:
            escape.tries += 1
            escape.why = _move_back(process, groups, rung)
        return not escape.why


def _move_back(process: ProcessId, groups: dict[str, str], rung: Rung) -> str:
    """Why it could not be done, or "". The kernel takes a number here: the pidfd proves, before and after, that it
    was this process's."""
    fd = proc.open_verified(*process)
    if fd is None:
        return "it ended"
    try:
        for controller in groups:
            rung.join(process.pid, controller)
    except ProcessLookupError:
        return "it ended"
    except OSError as error:
        return f"it cannot be moved back: {error.strerror}"
    finally:
        os.close(fd)
    return ""


def is_containerized(pid: int) -> bool:
    """Whether it has namespaces of its own, as containers have."""
    return any(proc.namespace(pid, kind) not in ("", proc.namespace("self", kind)) for kind in ("pid", "cgroup"))
