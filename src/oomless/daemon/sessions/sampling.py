"""The samples of the process table: one reading for all observers, once a second while there is a reason.

A reason is a host's session, what a dead session left, or a governed tree. Otherwise a sample every five seconds is
enough to notice a host. Who needs to know at once (a registration, a death, a view) asks for a sample.

Between samples the kernel's fork events name the parents that came and went (``ForkTracker``).
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Collection, Mapping
from types import MappingProxyType
from typing import NamedTuple, Protocol

assert sys.platform == "linux"

from oomless.daemon.governed_trees import GovernedTrees
from oomless.platform import system
from oomless.platform.system import ForkEvents, Stat, TableReader
from oomless.processes.forks import ForkLines
from oomless.processes.ids import ProcessId

SAMPLE_EVERY = 1.0
SAMPLE_IDLE_EVERY = 5.0
#: Samples that readers ask for are no closer together.
REFRESH_EVERY = 0.05
#: Seconds within which a forked process has executed what it is to be.
SETTLED_AFTER = 0.5
#: Fork events per second. Beyond that (a build) listening costs more than it tells.
MAX_EVENTS_PER_SECOND = 500
LISTEN_AGAIN_AFTER = 60.0


class ProcessSample(NamedTuple):
    """``governed`` are shims and requesters of governed trees. ``lines`` are the ancestors of each process born since
    the last sample, by pid, the nearest last. ``executed`` are the pids that called exec since."""

    table: Mapping[int, Stat]
    governed: Collection[ProcessId] = ()
    lines: Mapping[int, tuple[int, ...]] = MappingProxyType({})
    executed: Collection[int] = ()


class Observer(Protocol):
    """``bool``: it has a reason for frequent samples."""

    def __bool__(self) -> bool: ...

    def observe(self, sample: ProcessSample) -> None: ...


class ProcessSampler:
    def __init__(self, trees: GovernedTrees) -> None:
        self._trees = trees
        self._observers: tuple[Observer, ...] = ()
        self._reader = TableReader()
        self._forks = ForkTracker(self._sample_soon)
        self._timer: asyncio.TimerHandle | None = None
        self._open = self._sampling = False
        self._sampled_at, self._last_pid, self._all_settled = 0.0, 0, False
        self._refresh: asyncio.Task[None] | None = None

    def start(self, *observers: Observer) -> None:
        """Each sample goes to the observers in this order."""
        self._observers = observers
        self._open = True
        self.sample()

    def sample(self) -> None:
        """Samples now. Does nothing when an observer asks for it in the middle of a sample."""
        if not self._open or self._sampling:
            return
        self._cancel_timer()
        self._sampling = True
        try:
            # Events first: what they name has been born before the table is read.
            lines, executed = self._forks.drain()
            # Before the reading: a process that is born meanwhile makes the next reader ask again.
            self._sampled_at, self._last_pid = time.monotonic(), system.last_pid()
            sample = ProcessSample(self._reader.read(), self._trees.roots(), lines, executed)
            for observer in self._observers:
                observer.observe(sample)
            self._forks.mark_sampled()
            settled = system.start_of_age(SETTLED_AFTER)
            self._all_settled = all(stat.start < settled for stat in sample.table.values())
        finally:
            self._sampling = False
        watching = any(self._observers)
        self._forks.listen(watching)
        every = SAMPLE_EVERY if watching or self._trees.any_open() else SAMPLE_IDLE_EVERY
        self._timer = asyncio.get_running_loop().call_later(every, self.sample)

    async def refresh(self) -> None:
        """Returns when the observers know every process that was born before the call.

        Readers that come together share a sample, and where nothing was born since the last one there is none."""
        if self._is_current():
            return
        if self._refresh is None or self._refresh.done():
            self._refresh = asyncio.get_running_loop().create_task(self._sample_when_due())
        await asyncio.shield(self._refresh)

    def _is_current(self) -> bool:
        """A process that was born shortly before the sample may have become another program since."""
        fresh = time.monotonic() - self._sampled_at < SAMPLE_EVERY
        return fresh and self._all_settled and system.last_pid() == self._last_pid

    async def _sample_when_due(self) -> None:
        # Always at least one turn of the loop: requests that have arrived already are in time for this sample.
        await asyncio.sleep(max(0.0, self._sampled_at + REFRESH_EVERY - time.monotonic()))
        self._refresh = None  # who asks from here on needs another one
        self.sample()

    def _sample_soon(self) -> None:
        if self._open:
            self._cancel_timer()
            self._timer = asyncio.get_running_loop().call_later(0, self.sample)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def stop(self) -> None:
        self._open = False
        self._cancel_timer()
        self._forks.close()
        self._reader.close()


class ForkTracker:
    """Listens to the kernel's process events while a host runs, as long as they are few.

    ``resync`` is called when events were lost: what was heard until then is forgotten, and the table has to be read.
    """

    def __init__(self, resync: Callable[[], None], source: Callable[[], ForkEvents | None] = ForkEvents.open) -> None:
        self._resync = resync
        self._source = source
        self._events: ForkEvents | None = None
        self._not_before = 0.0
        self._second, self._events_in_second = 0.0, 0
        self._lines = ForkLines()
        self._executed: set[int] = set()

    @property
    def listening(self) -> bool:
        return self._events is not None

    def listen(self, wanted: bool) -> None:
        """Starts or stops listening; after too many events or a refusal it starts again a minute later."""
        if not wanted:
            self.close()
        elif self._events is None and time.monotonic() >= self._not_before:
            self._events = self._source()
            if self._events is None:
                self._not_before = time.monotonic() + LISTEN_AGAIN_AFTER
            else:
                asyncio.get_running_loop().add_reader(self._events.fileno(), self._read_events)

    def drain(self) -> tuple[Mapping[int, tuple[int, ...]], set[int]]:
        """Returns lines of ancestors by pid, and the pids that called exec. To be called right before the table is
        read."""
        self._read_events(resync=False)
        return self._lines.lines(), self._executed

    def mark_sampled(self) -> None:
        self._lines.mark_read()
        self._executed = set()

    def _read_events(self, resync: bool = True) -> None:
        if self._events is None:
            return
        events, lost = self._events.read()
        if lost:
            self._lines.clear()
        for event in events:
            if event.kind == "fork":
                self._lines.add_fork(event.parent, event.pid)
            elif event.kind == "exec":
                self._executed.add(event.pid)
        if self._exceeds_rate(len(events)):
            self.close()
            self._not_before = time.monotonic() + LISTEN_AGAIN_AFTER
        if lost and resync:
            self._resync()

    def _exceeds_rate(self, count: int) -> bool:
        now = time.monotonic()
        if now - self._second >= 1.0:
            self._second, self._events_in_second = now, 0
        self._events_in_second += count
        return self._events_in_second > MAX_EVENTS_PER_SECOND

    def close(self) -> None:
        if self._events is not None:
            asyncio.get_running_loop().remove_reader(self._events.fileno())
            self._events.close()
            self._events = None
            self._lines.clear()
            self._executed = set()
