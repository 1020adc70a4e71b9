"""Kills the survivors of a tree whose shim is gone.

The members of the tree are known, in this order, by its cgroups, by what the shim last reported, by the mark that all
of them inherited (with our installation's random id in it, so that another daemon's trees are never touched), and by
descent from any of those. Each is signalled by its verified identity. What none of that reaches is said in the answer
(``gap``), not passed over.

One call of ``step`` is one round and takes a few milliseconds; the caller waits between rounds.
"""

from __future__ import annotations

import os
import sys

assert sys.platform == "linux"

from oomless.contain.rungs.base import SUBREAPER_GAP
from oomless.contain.shells import detached
from oomless.model import Survivor
from oomless.platform import cgroup, proc
from oomless.platform.pss import sum_pss
from oomless.processes import descendants
from oomless.processes.ids import ProcessId
from oomless.processes.kill_times import KillTimes
from oomless.redact import command_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

#: Between two rounds, once all that are left have been killed and are only slow in dying.
LONG_EVERY = 0.5
MARK = b"OOMLESS_TREE="


class Sweep:
    """``marker``: the value ``<install>:<tree>[/<nested>]`` of the tree; ``since``: start ticks before which no
    process can be a member; ``never``: processes not to be touched (the daemon itself). ``shell_sid``: for a tool
    shell, the process session that it leads; what detached from that on purpose is spared and released
    (``detached``)."""

    def __init__(
        self,
        marker: str,
        cgroups: dict[str, str],
        members: Iterable[ProcessId],
        since: int,
        never: Iterable[ProcessId] = (),
        shell_sid: int | None = None,
        times: KillTimes | None = None,
    ) -> None:
        self.times = KillTimes() if times is None else times
        self._install, _, path = marker.partition(":")
        self._tree = path.rsplit("/", 1)[-1]
        self._cgroups = cgroups
        self._known = set(members)
        self._since = since
        self._never = frozenset(never)
        self._sid = shell_sid
        self._detached: dict[ProcessId, str] = {}
        self._attended: list[ProcessId] = []
        self._quiet = 0
        self._ended: set[ProcessId] = set()
        self.bytes_freed = 0
        self.gap = "" if cgroups else SUBREAPER_GAP

    @property
    def ended(self) -> int:
        return len(self._ended)

    def step(self) -> bool:
        """One round of KILL; True once ``quiet_rounds`` have found none and the cgroups are gone."""
        if self._sid is None:
            cgroup.kill_members(self._cgroups)
        living = self._living()
        if not self._ended and living:
            self.bytes_freed = sum_pss(living)
        for stat in living:
            self._ended.add(ProcessId.of(stat))
            proc.kill(stat.pid, stat.start)
        self._quiet = 0 if living or self._attended else self._quiet + 1
        if self._quiet < self.times.quiet_rounds:
            return False
        cgroup.release(self._cgroups, [process.pid for process in self._detached])
        removed = [cgroup.remove(path) for path in self._cgroups.values()]
        return all(removed)

    def has_members(self) -> bool:
        """Whether any process of the tree lives. Kills none."""
        return bool(self._members(proc.table()))

    def pause(self, took: float) -> float | None:
        """How long to wait for the next round, or None if ``took`` seconds are enough. Those that have been killed
        and are only long in dying are waited for longer, and looked at less often."""
        if took < self.times.give_up_after:
            return self.times.round_every
        living = self._living()
        return LONG_EVERY if took < self.times.dying_for and living and all(map(proc.dying, living)) else None

    def left(self) -> tuple[Survivor, ...]:
        """Those that are still there, when the caller gives up."""
        return tuple(
            _survivor(stat, "uninterruptible" if stat.state == "D" else "may not be signalled")
            for stat in self._living()
        )

    def detached(self) -> tuple[Survivor, ...]:
        """The living among those that were spared."""
        spared = dict.fromkeys(self._attended, detached.GOES_ON) | self._detached
        stats = ((descendants.find_living(process), why) for process, why in spared.items())
        return tuple(_survivor(stat, why) for stat, why in stats if stat is not None)

    def _living(self) -> list[proc.Stat]:
        table = proc.table()
        living = self._members(table)
        return living if self._sid is None else self._condemned(living, table, self._sid)

    def _members(self, table: dict[int, proc.Stat]) -> list[proc.Stat]:
        """The living members, each once; remembers them, so that their children are found when they are gone."""
        grouped = {pid for path in self._cgroups.values() for pid in cgroup.pids_in(path)}
        members = {
            stat.pid: stat
            for stat in table.values()
            if ProcessId.of(stat) in self._known or stat.pid in grouped or self._is_marked(stat)
        }
        members |= {stat.pid: stat for stat in descendants.descendants(table, *members)}
        living = [stat for stat in members.values() if stat.alive and ProcessId.of(stat) not in self._never]
        self._known.update(map(ProcessId.of, living))
        return living

    def _condemned(self, living: list[proc.Stat], table: dict[int, proc.Stat], sid: int) -> list[proc.Stat]:
        """Of a tool shell. The tree of a shim that is killed here is swept by itself."""
        members = detached.classify_members([ProcessId.of(stat) for stat in living], sid, table, self._detached)
        self._detached, self._attended = members.detached, members.attended
        condemned = {*members.leftovers, *detached.find_run_shims(members.attended, sid)}
        return [stat for stat in living if ProcessId.of(stat) in condemned]

    def _is_marked(self, stat: proc.Stat) -> bool:
        if stat.start < self._since or not stat.alive or stat.pid == os.getpid():
            return False
        return carries_mark(proc.environ(stat.pid), self._install, self._tree)


def _survivor(stat: proc.Stat, why: str) -> Survivor:
    command = command_line(tuple(proc.cmdline(stat.pid))) or stat.comm
    return Survivor(pid=stat.pid, start=stat.start, command=command[:200], why=why)


def carries_mark(environ: bytes, install: str, tree: str) -> bool:
    """Whether an environment block has the mark of this tree, or of one nested in it."""
    start = 0 if environ.startswith(MARK) else environ.find(b"\0" + MARK) + 1
    if start == 0 and not environ.startswith(MARK):
        return False
    value = environ[start + len(MARK) :].split(b"\0", 1)[0].decode("utf-8", "replace")
    found, _, path = value.partition(":")
    return found == install and tree in path.split("/")
