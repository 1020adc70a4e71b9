"""The escape watch: whoever descends from the shim and is not in its tree's groups any more.

Nobody leaves a group by forking, but a process may write itself into another one, and hosts do that to a scope that
they were started in; its limits are void then. Looked at once a second, by descent: who has moved is moved back, but
not more than three times. Whoever cannot be, or is a container's, is named to the daemon (so that a sweep reaches it)
and in the record, and is ended with the tree all the same. Memory that was taken outside stays charged there. Not for
a tool shell's tree, of which whoever has moved has detached on purpose (``shells/spare.py``), and nothing to do on
rungs without groups. Standard library only.
"""

from __future__ import annotations

import os
import sys
import time

assert sys.platform == "linux"

from oomless.contain import ending
from oomless.platform import files, proc
from oomless.processes import descendants

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oomless.contain.shim import Shim

EVERY = 1.0
#: A look costs 14 us a process (measured with 50 and with 500); it may not take more than this share of a core.
SHARE = 0.005
TRIES = 3
#: So many are named in a record.
NAMED = 50
CONTAINER = "it runs in a container's namespaces, which its own manager looks after"
AGAIN = f"it moved out again, after it had been moved back {TRIES} times"


class Escape:
    """``to``: the group that it was found in. ``why``: what keeps us from moving it back, "" if it was."""

    def __init__(self, pid: int, start: int, command: str, to: str) -> None:
        self.pid, self.start, self.command, self.to = pid, start, command, to
        self.tries = 0
        self.why = ""

    def row(self) -> dict[str, object]:
        """The fields of ``model.EscapedProcess``."""
        return {
            "pid": self.pid,
            "start": self.start,
            "command": self.command,
            "to": self.to,
            "back": not self.why,
            "why": self.why,
        }


class Escapes:
    """``outside``: pid and start of those who are out at the moment."""

    def __init__(self, shim: Shim) -> None:
        self._shim = shim
        self._paths: dict[str, str] = shim.granted["cgroups"]
        self._leaf = os.path.basename(next(iter(self._paths.values()), ""))
        self._at = shim.began + EVERY
        self._seen: dict[tuple[int, int], Escape] = {}
        self.outside: list[tuple[int, int]] = []

    def due(self) -> list[float]:
        watched = self._paths and self._shim.rung.reachable and self._shim.final()
        return [self._at] if watched else []

    def everybody(self) -> list[tuple[int, int]]:
        """The members of the tree, wherever they are."""
        return [*self._shim.rung.members(), *self.outside]

    def rows(self) -> list[dict[str, object]]:
        return [escape.row() for escape in list(self._seen.values())[:NAMED]]

    def look(self, now: float) -> None:
        if not self.due() or now < self._at:
            return
        shim, before, began = self._shim, self.outside, time.thread_time()
        found = self._away()
        if found:
            shim.strangers |= ending.daemon_below(shim.spec["state"], shim.pid)
        self.outside = [(stat.pid, stat.start) for stat in found if self._is_ours(stat) and not self._inside(stat)]
        if self.outside or before:
            named = [self._seen[who].row() for who in self.outside[:NAMED]]
            usage = {"used": shim.rung.usage(), "members": self.outside, "escaped": named}
            shim.link.send({"op": "usage", **usage}, now)
        # Not by the clock: a write to cgroup.procs waits for all processors, which may take 20 ms and costs nothing.
        self._at = now + max(EVERY, (time.thread_time() - began) / SHARE)

    def _away(self) -> list[proc.Stat]:
        inside = [set(files.procs(path)) for path in self._paths.values()]
        below = descendants.walk(self._shim.pid, self._shim.strangers)
        # One that was born into a group between both readings is in it: so it is asked itself.
        return [stat for stat in below if any(stat.pid not in pids for pids in inside) and self._groups(stat.pid)]

    def _groups(self, pid: int) -> dict[str, str]:
        """Where it is instead, by controller; nothing if it is inside or gone."""
        found = proc.cgroups(pid)
        away = {name: found[name] for name in self._paths if name in found}
        return {name: path for name, path in away.items() if not self._of_a_tree(path)}

    def _of_a_tree(self, path: str) -> bool:
        """Ours, or that of a tree in the tree, whose groups may be beside ours (``ladder.Ladder``)."""
        parts = path.split("/")
        return self._leaf in parts or any(part.startswith("oomless-") and part.count("-") == 2 for part in parts)

    def _is_ours(self, stat: proc.Stat) -> bool:
        """A daemon that a command in the tree started leaves the groups by itself, before anybody can know it, and so
        does whoever keeps its scope."""
        if (stat.pid, stat.start) in self._shim.strangers:
            return False
        above: proc.Stat | None = stat
        while above is not None and above.pid not in (1, self._shim.pid):
            if ending.DAEMON in proc.cmdline(above.pid):
                return False
            above = proc.read_stat(above.ppid)
        return True

    def _inside(self, stat: proc.Stat) -> bool:
        """Whether it is inside (again); moves it."""
        groups = self._groups(stat.pid)
        if not groups:
            return True
        who = (stat.pid, stat.start)
        escape = self._seen.get(who)
        if escape is None:
            escape = self._seen[who] = Escape(*who, ending.shown(stat.pid) or stat.comm, next(iter(groups.values())))
        if escape.why == AGAIN or escape.tries == TRIES:
            escape.why = AGAIN
        elif contained(stat.pid):
            escape.why = CONTAINER
        else:
            escape.tries += 1
            escape.why = self._move_back(stat, groups)
        return not escape.why

    def _move_back(self, stat: proc.Stat, groups: dict[str, str]) -> str:
        """Why it could not be done. The kernel takes a number here: the pidfd proves, before and after, that it was
        this process's."""
        fd = proc.open_verified(stat.pid, stat.start)
        if fd is None:
            return "it ended"
        try:
            for controller in groups:
                self._join(self._paths[controller], stat.pid)
        except ProcessLookupError:
            return "it ended"
        except OSError as error:
            return f"it cannot be moved back: {error.strerror}"
        finally:
            os.close(fd)
        return ""

    def _join(self, path: str, pid: int) -> None:
        if self._shim.rung.name == "cgroup2+systemd":  # there only systemd may move an ordinary user's process
            from oomless.contain.rungs.systemd_scope import join

            join(path, pid)
        else:
            files.write(f"{path}/cgroup.procs", str(pid))


def contained(pid: int) -> bool:
    return any(_namespace(pid, kind) not in ("", _namespace("self", kind)) for kind in ("pid", "cgroup"))


def _namespace(pid: int | str, kind: str) -> str:
    """ "" if it is gone, or not ours to look at."""
    try:
        return os.readlink(f"/proc/{pid}/ns/{kind}")
    except OSError:
        return ""
