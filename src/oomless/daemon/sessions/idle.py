"""Since when the servers of hosts' sessions have used next to no CPU time: remembered from look to look.

What a session started that is no tool shell (``descent/left.py``) is watched, process by process, on the process
table that is read anyway. A minute in which a process used more than ``PER_MINUTE``, or started another one, was no
idle one. Calls are not seen, only what they cost. Not here: which of these processes are a server, and from when on
that is called idle (``census/verdicts.py``).
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Container, Iterable, Mapping

assert sys.platform == "linux"

from oomless.model import IdleProcess
from oomless.platform.proc import Stat
from oomless.processes.descent import Memory, Who

MINUTE = 60.0
#: In clock ticks (10 ms each on every Linux). Eleven real servers that nobody called took 0 to 5 ms a minute, a call
#: 5 to 15 ms; V8's collection of garbage minutes after one, or after the start, 30 to 110 ms: that ends an idle time.
PER_MINUTE = 2
_TICK = 1 / os.sysconf("SC_CLK_TCK")


class _Calm:
    """One process: CPU ticks at the beginning of the idle time, and of its present minute."""

    __slots__ = ("at_minute", "at_since", "minute", "since", "ticks")

    def __init__(self, now: float, ticks: int) -> None:
        self.begin(now, ticks)

    def begin(self, now: float, ticks: int) -> None:
        self.since = self.minute = now
        self.ticks = self.at_since = self.at_minute = ticks

    def look(self, now: float, ticks: int) -> None:
        self.ticks = ticks
        if ticks - self.at_minute > PER_MINUTE:
            self.begin(now, ticks)
        elif now - self.minute >= MINUTE:
            self.minute, self.at_minute = now, ticks


class IdleWatch:
    """An eye of the lookout's, to be asked after those that remember lineage; ``memories`` are those of the sessions
    that live. ``clock`` stands still while the machine is suspended (CLOCK_MONOTONIC does)."""

    def __init__(self, memories: Callable[[], Iterable[Memory]], clock: Callable[[], float] = time.monotonic) -> None:
        self._memories = memories
        self._clock = clock
        self._known: dict[Who, _Calm] = {}

    def __bool__(self) -> bool:
        """No reason to look: there is something to watch only if there is a session."""
        return False

    def look(
        self,
        table: Mapping[int, Stat],
        ours: set[Who],
        lines: Mapping[int, tuple[int, ...]],
        executed: Container[int] = (),
    ) -> None:
        now, before = self._clock(), self._known
        working: set[Who] = set()
        self._known = known = {}
        for memory in self._memories():
            for who, trace in memory.traces.items():
                stat = table.get(who[0]) if trace.shell_sid is None and who not in known else None
                if stat is None or stat.start != who[1] or not stat.alive:
                    continue
                one = before.get(who)
                if one is None:
                    one = _Calm(now, stat.cpu_ticks)
                    working.update(trace.above[-1:])
                else:
                    one.look(now, stat.cpu_ticks)
                known[who] = one
        for who in working & known.keys():
            known[who].begin(now, known[who].ticks)

    def views(self) -> tuple[IdleProcess, ...]:
        now = self._clock()
        return tuple(
            IdleProcess(
                pid=who[0],
                start=who[1],
                seconds=round(now - one.since, 3),
                cpu_seconds=round((one.ticks - one.at_since) * _TICK, 3),
            )
            for who, one in self._known.items()
        )
