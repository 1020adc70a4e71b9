"""The kill protocol on named processes: TERM, a second's grace, KILL, and proof that none of them is left.

Each signal goes through a pidfd that was opened first and whose process was then verified by its start time, so that
a number that is used again is never signalled. Killed are those that were named, and those that they start
meanwhile; what they had started before and is not named stays. Whether a process may be killed at all is the caller's
decision. Standard library only.

One call of ``step`` is one round and takes a few milliseconds; the caller waits between rounds.
"""

from __future__ import annotations

import sys

assert sys.platform == "linux"

from oomless.lean import signal
from oomless.platform import proc
from oomless.platform.pss import measure_pss
from oomless.processes.ids import ProcessId
from oomless.processes.kill_times import KillTimes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

TERMED, KILLED, BY_ITSELF = "ended by SIGTERM", "ended by SIGKILL", "had ended by itself"


class KillRounds:
    """``spare`` says of a process that was started meanwhile whether to let it be. ``how`` is how each ended (see the
    constants); ``born`` are those that were not named; ``bytes_before`` what each used."""

    def __init__(
        self, named: Iterable[tuple[int, int]], spare: Callable[[proc.Stat], bool], times: KillTimes | None = None
    ) -> None:
        self.times = KillTimes(round_every=0.02) if times is None else times
        self.how: dict[ProcessId, str] = {}
        self.born: set[ProcessId] = set()
        self.bytes_before: dict[ProcessId, int] = {}
        self.source = "pss"
        self._spare = spare
        self._doomed = {ProcessId(*process) for process in named}
        table = proc.table()
        self._before = {ProcessId.of(stat) for stat in table.values()}
        self._groups = self._own_groups(table)
        self._quiet = 0
        for stat in self._living(table):
            self._measure(stat)

    def step(self, *, hard: bool) -> bool:
        """TERM to those that have not had it, KILL if ``hard``; True once ``quiet_rounds`` have found none."""
        table = proc.table()
        self._note_births(table)
        living = self._living(table)
        for stat in living:
            self._signal(ProcessId.of(stat), hard=hard)
        self._groups &= {stat.pgid for stat in living}
        self._quiet = 0 if living else self._quiet + 1
        return self._quiet >= self.times.quiet_rounds

    def left(self) -> list[proc.Stat]:
        """Those that are still there, when the caller gives up; none, once ``step`` was true."""
        return self._living(proc.table())

    def ended(self) -> dict[ProcessId, str]:
        """How each ended of those that are not there any more."""
        left = {ProcessId.of(stat) for stat in self.left()}
        return {process: self.how.get(process, BY_ITSELF) for process in sorted(self._doomed - left)}

    def bytes_freed(self) -> int:
        """What those used that were killed, before that: their share of memory as the kernel counts it."""
        return sum(self.bytes_before.get(process, 0) for process, how in self.ended().items() if how != BY_ITSELF)

    def _living(self, table: dict[int, proc.Stat]) -> list[proc.Stat]:
        stats = (table.get(pid) for pid, _ in self._doomed)
        return [stat for stat in stats if stat and stat.alive and (stat.pid, stat.start) in self._doomed]

    def _signal(self, process: ProcessId, *, hard: bool) -> None:
        if hard:
            if proc.kill(*process) == proc.SENT:
                self.how[process] = KILLED
        elif process not in self.how and proc.send(*process, signal.SIGTERM) == proc.SENT:
            self.how[process] = TERMED

    def _own_groups(self, table: dict[int, proc.Stat]) -> set[int]:
        """Process groups all of whose members are to be killed: what appears in one later was born there, even if its
        parent has died since. The number of a group is not used again while it has a member."""
        own: set[int] = set()
        others: set[int] = set()
        for stat in table.values():
            if stat.alive:
                (own if (stat.pid, stat.start) in self._doomed else others).add(stat.pgid)
        return own - others

    def _note_births(self, table: dict[int, proc.Stat]) -> None:
        """A process that has set up a process session of its own has detached on purpose."""
        for stat in sorted(table.values(), key=lambda stat: stat.start):
            process = ProcessId.of(stat)
            if process in self._before or process in self._doomed or not stat.alive or stat.pid == stat.sid:
                continue
            parent = table.get(stat.ppid)
            below = parent is not None and ProcessId.of(parent) in self._doomed
            if (below or self._in_own_group(stat, table)) and not self._spare(stat):
                self._doomed.add(process)
                self.born.add(process)
                self._measure(stat)

    def _in_own_group(self, stat: proc.Stat, table: dict[int, proc.Stat]) -> bool:
        """A leader that was not there before leads another group, under a number that is used again."""
        leader = table.get(stat.pgid)
        same = leader is None or any(ProcessId.of(leader) in known for known in (self._before, self.born))
        return same and stat.pgid in self._groups and stat.pgid != stat.pid

    def _measure(self, stat: proc.Stat) -> None:
        used, source = measure_pss([stat])
        self.bytes_before[ProcessId.of(stat)] = used
        if source != "pss":
            self.source = source
