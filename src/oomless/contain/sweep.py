"""Ends what is left of a tree whose shim is gone: the daemon's work, after a shim's death and at its own start.

Who belongs to the tree is known, in this order, by its cgroups, by the members that the shim last told of, by
the mark that all of them inherited (with our installation's random id in it, so that another daemon's trees are
never touched), and by descent from any of those. Each is signalled by its verified identity. What none of that
reaches is said in the answer (``gap``), not passed over.

One call of ``step`` is one round and takes a few milliseconds; the caller waits between rounds.
"""

from __future__ import annotations

import os
import sys

assert sys.platform == "linux"

from oomless.contain.rungs.cgroup1 import kill_listed
from oomless.contain.rungs.choose import SUBREAPER_GAP
from oomless.contain.rungs.members import own_groups
from oomless.contain.shells import detached
from oomless.model import Survivor
from oomless.platform import files, proc
from oomless.platform.pss import proportional_sum
from oomless.processes import descendants
from oomless.redact import command_line

QUIET_ROUNDS = 3
ROUND_EVERY, LONG_EVERY = 0.01, 0.5
SWEEP_FOR, DYING_FOR = 5.0, 60.0
MARK = b"OOMLESS_TREE="


class Sweep:
    """``marker``: the value ``<install>:<tree>[/<nested>]`` of the tree; ``since``: start ticks before which
    nobody can be a member; ``never``: identities not to be touched (the daemon itself). ``shell_sid``: for a
    tool shell, the process session that it leads; who detached from that on purpose is spared and let go
    (``left_running``)."""

    def __init__(
        self,
        marker: str,
        cgroups: dict[str, str],
        members: set[tuple[int, int]],
        since: int,
        never: frozenset[tuple[int, int]] = frozenset(),
        shell_sid: int | None = None,
    ) -> None:
        self._install, _, path = marker.partition(":")
        self._tree = path.rsplit("/", 1)[-1]
        self._cgroups = cgroups
        self._known = set(members)
        self._since = since
        self._never = never
        self._sid = shell_sid
        self._detached: dict[tuple[int, int], str] = {}
        self._attended: list[tuple[int, int]] = []
        self._quiet = 0
        self._ended: set[tuple[int, int]] = set()
        self.bytes_freed = 0
        self.gap = "" if cgroups else SUBREAPER_GAP

    @property
    def ended(self) -> int:
        return len(self._ended)

    def step(self) -> bool:
        """One round of KILL; True once nobody has been found for three rounds and the cgroups are gone."""
        if self._sid is None:
            self._kill_cgroups()
        living = self._living()
        if not self._ended and living:
            self.bytes_freed = proportional_sum(living)
        for stat in living:
            self._ended.add((stat.pid, stat.start))
            proc.kill(stat.pid, stat.start)
        self._quiet = 0 if living or self._attended else self._quiet + 1
        if self._quiet < QUIET_ROUNDS:
            return False
        files.release(self._cgroups, [pid for pid, _ in self._detached], own_groups())
        removed = [files.remove_cgroup(path) for path in self._cgroups.values()]
        return all(removed)

    def anybody(self) -> bool:
        """Whether anyone of the tree lives. Ends nobody."""
        return bool(self._members(proc.table()))

    def pause(self, took: float) -> float | None:
        """How long to wait for the next round, or None if ``took`` seconds are enough. Those that have been killed
        and are only long in dying are waited for longer, and looked at less often."""
        if took < SWEEP_FOR:
            return ROUND_EVERY
        living = self._living()
        return LONG_EVERY if took < DYING_FOR and living and all(map(proc.dying, living)) else None

    def left(self) -> tuple[Survivor, ...]:
        """Who is still there, when the caller gives up."""
        return tuple(
            named(stat, "uninterruptible" if stat.state == "D" else "may not be signalled") for stat in self._living()
        )

    def left_running(self) -> tuple[Survivor, ...]:
        """Who was spared and lives."""
        spared = dict.fromkeys(self._attended, detached.GOES_ON) | self._detached
        stats = ((proc.read_stat(pid), start, why) for (pid, start), why in spared.items())
        return tuple(named(stat, why) for stat, start, why in stats if stat and stat.start == start and stat.alive)

    def _kill_cgroups(self) -> None:
        for controller, path in self._cgroups.items():
            if controller == "":
                files.try_write(f"{path}/cgroup.kill", "1")
            else:
                if controller == "pids":
                    files.try_write(f"{path}/pids.max", "0")
                kill_listed(path, controller)

    def _living(self) -> list[proc.Stat]:
        table = proc.table()
        living = self._members(table)
        return living if self._sid is None else self._to_be_ended(living, table, self._sid)

    def _members(self, table: dict[int, proc.Stat]) -> list[proc.Stat]:
        """Who lives now, each once; remembers them, so that their children are found when they are gone."""
        grouped = {pid for path in self._cgroups.values() for pid in files.procs(path)}
        found = {
            stat.pid: stat
            for stat in table.values()
            if (stat.pid, stat.start) in self._known or stat.pid in grouped or self._marked(stat)
        }
        found |= {stat.pid: stat for stat in descendants.descendants(table, *found)}
        living = [s for s in found.values() if s.alive and (s.pid, s.start) not in self._never]
        self._known.update((stat.pid, stat.start) for stat in living)
        return living

    def _to_be_ended(self, living: list[proc.Stat], table: dict[int, proc.Stat], sid: int) -> list[proc.Stat]:
        """Of a tool shell. The tree of a shim that is ended here is swept by itself."""
        found = detached.sort([(s.pid, s.start) for s in living], sid, table, self._detached)
        self._detached, self._attended = found.spared, found.attended
        condemned = {*found.condemned, *detached.shims(found.attended, sid)}
        return [s for s in living if (s.pid, s.start) in condemned]

    def _marked(self, stat: proc.Stat) -> bool:
        if stat.start < self._since or not stat.alive or stat.pid == os.getpid():
            return False
        return carries(proc.environ(stat.pid), self._install, self._tree)


def named(stat: proc.Stat, why: str) -> Survivor:
    command = command_line(tuple(proc.cmdline(stat.pid))) or stat.comm
    return Survivor(pid=stat.pid, start=stat.start, command=command[:200], why=why)


def carries(environ: bytes, install: str, tree: str) -> bool:
    """Whether an environment block has the mark of this tree, or of one nested in it."""
    start = 0 if environ.startswith(MARK) else environ.find(b"\0" + MARK) + 1
    if start == 0 and not environ.startswith(MARK):
        return False
    value = environ[start + len(MARK) :].split(b"\0", 1)[0].decode("utf-8", "replace")
    found, _, path = value.partition(":")
    return found == install and tree in path.split("/")
