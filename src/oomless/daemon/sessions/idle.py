"""Since when the servers of hosts' sessions have used next to no CPU time.

What a session started that is no tool shell is watched, process by process, on the sampled process table. A minute in
which a process used more than ``PER_MINUTE``, or started another one, was not idle. Calls are not seen, only what
they cost.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterable

assert sys.platform == "linux"

from oomless.daemon.sessions.sampling import ProcessSample
from oomless.model import IdleProcess
from oomless.processes.descendants import alive
from oomless.processes.descent import Descendants
from oomless.processes.ids import ProcessId

MINUTE = 60.0
#: In clock ticks (10 ms each on every Linux). Eleven real servers that nobody called took 0 to 5 ms a minute, a call
#: 5 to 15 ms; V8's collection of garbage minutes after one, or after the start, 30 to 110 ms: that ends an idle time.
PER_MINUTE = 2
_TICK = 1 / os.sysconf("SC_CLK_TCK")


class _IdleTime:
    """One process: CPU ticks at the beginning of its idle time, and of the current minute."""

    __slots__ = ("at_minute", "at_since", "minute", "since", "ticks")

    def __init__(self, now: float, ticks: int) -> None:
        self.restart(now, ticks)

    def restart(self, now: float, ticks: int) -> None:
        self.since = self.minute = now
        self.ticks = self.at_since = self.at_minute = ticks

    def update(self, now: float, ticks: int) -> None:
        self.ticks = ticks
        if ticks - self.at_minute > PER_MINUTE:
            self.restart(now, ticks)
        elif now - self.minute >= MINUTE:
            self.minute, self.at_minute = now, ticks


class IdleTracker:
    """An observer of the sampler's, after those that remember descendants; ``descendants`` are those of each living
    session. ``clock`` stands still while the machine is suspended (CLOCK_MONOTONIC does)."""

    def __init__(
        self, descendants: Callable[[], Iterable[Descendants]], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._descendants = descendants
        self._clock = clock
        self._idle_times: dict[ProcessId, _IdleTime] = {}

    def __bool__(self) -> bool:
        """No reason for frequent samples: where there is something to watch, there is a session."""
        return False

    def observe(self, sample: ProcessSample) -> None:
        now, before = self._clock(), self._idle_times
        forking: set[ProcessId] = set()
        self._idle_times = idle_times = {}
        for descendants in self._descendants():
            for process, descent in descendants.descents.items():
                if descent.shell_sid is not None or process in idle_times or not alive(process, sample.table):
                    continue
                ticks = sample.table[process.pid].cpu_ticks
                idle_time = before.get(process)
                if idle_time is None:
                    idle_time = _IdleTime(now, ticks)
                    forking.update(descent.above[-1:])
                else:
                    idle_time.update(now, ticks)
                idle_times[process] = idle_time
        for process in forking & idle_times.keys():
            idle_times[process].restart(now, idle_times[process].ticks)

    def views(self) -> tuple[IdleProcess, ...]:
        now = self._clock()
        return tuple(
            IdleProcess(
                pid=process.pid,
                start=process.start,
                seconds=round(now - idle_time.since, 3),
                cpu_seconds=round((idle_time.ticks - idle_time.at_since) * _TICK, 3),
            )
            for process, idle_time in self._idle_times.items()
        )
