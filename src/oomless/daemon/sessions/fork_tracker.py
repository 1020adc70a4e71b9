"""Listens to the kernel's process events while a host runs, as long as they are few.

Above 500 events a second (a build) listening costs more than it tells: it stops, and looks at the table have to do
for a minute. Where events were lost, what they told is forgotten and the table is looked at. Not here: the events
(``platform/fork_events.py``) and the lines that they give (``processes/forks.py``).
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Mapping

assert sys.platform == "linux"

from oomless.platform.fork_events import ProcEvents
from oomless.processes.forks import Births

MOST_A_SECOND = 500
AGAIN_AFTER = 60.0


class BirthWatch:
    """``resync`` is called when events were lost."""

    def __init__(self, resync: Callable[[], None], source: Callable[[], ProcEvents | None] = ProcEvents.open) -> None:
        self._resync = resync
        self._source = source
        self._events: ProcEvents | None = None
        self._not_before = 0.0
        self._second, self._heard = 0.0, 0
        self._births = Births()
        self._executed: set[int] = set()

    @property
    def listening(self) -> bool:
        return self._events is not None

    def want(self, wanted: bool) -> None:
        if not wanted:
            self._close()
        elif self._events is None and time.monotonic() >= self._not_before:
            self._events = self._source()
            if self._events is None:
                self._not_before = time.monotonic() + AGAIN_AFTER
            else:
                asyncio.get_running_loop().add_reader(self._events.fileno(), self._take)

    def drain(self) -> tuple[Mapping[int, tuple[int, ...]], set[int]]:
        """To be called right before the table is read for: lines by pid, and who has executed something."""
        self._take(resync=False)
        return self._births.lines(), self._executed

    def looked(self) -> None:
        self._births.looked()
        self._executed = set()

    def _take(self, resync: bool = True) -> None:
        if self._events is None:
            return
        events, lost = self._events.read()
        if lost:
            self._births.clear()
        for event in events:
            if event.kind == "fork":
                self._births.forked(event.parent, event.pid)
            elif event.kind == "exec":
                self._executed.add(event.pid)
        if self._too_many(len(events)):
            self._close()
            self._not_before = time.monotonic() + AGAIN_AFTER
        if lost and resync:
            self._resync()

    def _too_many(self, count: int) -> bool:
        now = time.monotonic()
        if now - self._second >= 1.0:
            self._second, self._heard = now, 0
        self._heard += count
        return self._heard > MOST_A_SECOND

    def _close(self) -> None:
        if self._events is not None:
            asyncio.get_running_loop().remove_reader(self._events.fileno())
            self._events.close()
            self._events = None
            self._births.clear()
            self._executed = set()

    def close(self) -> None:
        self._close()
