"""The kill protocol on named identities: TERM, a second's grace, KILL, and proof that nobody of them is left.

Each signal goes through a pidfd that was opened first and whose process was then verified by its start time, so that
a number that is used again is never signalled. Ended are those that were named, and whom they start while they are
being ended; who they had started before and is not named stays. Whether somebody may be ended at all is decided by
who calls (``daemon/reaping.py``). Standard library only.

One call of ``step`` is one round and takes a few milliseconds; the caller waits between rounds.
"""

from __future__ import annotations

import sys

assert sys.platform == "linux"

from oomless.lean import signal
from oomless.platform import proc
from oomless.platform.pss import measured

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

GRACE = 1.0
#: After so long, whoever is left (uninterruptible, another user's) is named and left.
GIVE_UP_AFTER = 5.0
ROUND_EVERY = 0.02
QUIET_ROUNDS = 3
TERMED, KILLED, BY_ITSELF = "ended by SIGTERM", "ended by SIGKILL", "had ended by itself"

#: Pid and start time.
Who = tuple[int, int]


class Reap:
    """``spare`` says of somebody who was started meanwhile whether to let it be. ``how`` is, by identity, how each
    ended (see the constants); ``born`` are those that nobody had named; ``bytes_before`` what each used."""

    def __init__(self, named: Iterable[Who], spare: Callable[[proc.Stat], bool]) -> None:
        self.how: dict[Who, str] = {}
        self.born: set[Who] = set()
        self.bytes_before: dict[Who, int] = {}
        self.source = "pss"
        self._spare = spare
        self._doomed = set(named)
        table = proc.table()
        self._before = {(stat.pid, stat.start) for stat in table.values()}
        self._groups = self._own_groups(table)
        self._quiet = 0
        for stat in self._living(table):
            self._measure(stat)

    def step(self, *, hard: bool) -> bool:
        """TERM to whoever has not had it, KILL if ``hard``; True once nobody has been found for three rounds."""
        table = proc.table()
        self._note_births(table)
        living = self._living(table)
        for stat in living:
            self._signal((stat.pid, stat.start), hard=hard)
        self._groups &= {stat.pgid for stat in living}
        self._quiet = 0 if living else self._quiet + 1
        return self._quiet >= QUIET_ROUNDS

    def left(self) -> list[proc.Stat]:
        """Who is still there, when the caller gives up; nobody, once ``step`` was true."""
        return self._living(proc.table())

    def ended(self) -> dict[Who, str]:
        """How everybody ended that is not there any more."""
        still = {(stat.pid, stat.start) for stat in self.left()}
        return {who: self.how.get(who, BY_ITSELF) for who in sorted(self._doomed - still)}

    def bytes_freed(self) -> int:
        """What those used that were ended here, before that: their share of memory as the kernel counts it."""
        return sum(self.bytes_before.get(who, 0) for who, how in self.ended().items() if how != BY_ITSELF)

    def _living(self, table: dict[int, proc.Stat]) -> list[proc.Stat]:
        found = (table.get(pid) for pid, _ in self._doomed)
        return [stat for stat in found if stat and stat.alive and (stat.pid, stat.start) in self._doomed]

    def _signal(self, who: Who, *, hard: bool) -> None:
        if hard:
            if proc.kill(*who) == proc.SENT:
                self.how[who] = KILLED
        elif who not in self.how and proc.send(*who, signal.SIGTERM) == proc.SENT:
            self.how[who] = TERMED

    def _own_groups(self, table: dict[int, proc.Stat]) -> set[int]:
        """Process groups in which everybody is to be ended: who appears in one later was born there, even if its
        parent has died since. Nobody uses the number of a group again while somebody is in it."""
        mine: set[int] = set()
        others: set[int] = set()
        for stat in table.values():
            if stat.alive:
                (mine if (stat.pid, stat.start) in self._doomed else others).add(stat.pgid)
        return mine - others

    def _note_births(self, table: dict[int, proc.Stat]) -> None:
        """Who has set up a process session of its own has detached on purpose."""
        for stat in sorted(table.values(), key=lambda stat: stat.start):
            who = (stat.pid, stat.start)
            if who in self._before or who in self._doomed or not stat.alive or stat.pid == stat.sid:
                continue
            parent = table.get(stat.ppid)
            below = parent is not None and (parent.pid, parent.start) in self._doomed
            if (below or self._in_own_group(stat, table)) and not self._spare(stat):
                self._doomed.add(who)
                self.born.add(who)
                self._measure(stat)

    def _in_own_group(self, stat: proc.Stat, table: dict[int, proc.Stat]) -> bool:
        """A leader that was not there before leads another group, under a number that is used again."""
        leader = table.get(stat.pgid)
        same = leader is None or (leader.pid, leader.start) in self._before or (leader.pid, leader.start) in self.born
        return same and stat.pgid in self._groups and stat.pgid != stat.pid

    def _measure(self, stat: proc.Stat) -> None:
        used, source = measured([stat])
        self.bytes_before[(stat.pid, stat.start)] = used
        if source != "pss":
            self.source = source
