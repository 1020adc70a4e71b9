"""Footprints of many processes, read again and again at little cost to them.

Reading PSS stalls the process (9 ms at 500 MB), reading RSS does not. So a footprint is read again only when the RSS
in the process table has changed, and every few seconds anyway: pages that become shared, or private, change PSS
alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import msgspec

from oomless.model import Footprint, ProcessInfo
from oomless.processes.ids import ProcessId

#: A footprint holds while RSS stays within this share of its value then, and for at most so many seconds.
WITHIN, SECONDS = 0.05, 10.0


class _FootprintReading(msgspec.Struct, frozen=True, kw_only=True):
    footprint: Footprint
    rss: int
    at: float


class FootprintCache:
    """``read`` returns the footprint of one pid, None if its process is gone."""

    def __init__(self, read: Callable[[int], Footprint | None]) -> None:
        self._read = read
        self._last: dict[ProcessId, _FootprintReading] = {}

    def read_all(
        self, processes: Iterable[ProcessInfo], now: float, tick: Callable[[], None]
    ) -> dict[int, Footprint]:
        """By pid, of the processes that live; ``now`` in seconds on any steady clock. ``tick`` is called after each
        reading. A process that is not asked for is forgotten."""
        readings: dict[ProcessId, _FootprintReading] = {}
        for process in processes:
            process_id = ProcessId.of(process)
            last = self._last.get(process_id)
            if last is not None and not _is_stale(last, process.rss_bytes, now):
                readings[process_id] = last
                continue
            footprint = self._read(process.pid)
            if footprint is not None:
                readings[process_id] = _FootprintReading(footprint=footprint, rss=process.rss_bytes, at=now)
            tick()
        self._last = readings
        return {process_id.pid: reading.footprint for process_id, reading in readings.items()}


def _is_stale(last: _FootprintReading, rss: int, now: float) -> bool:
    return abs(rss - last.rss) > WITHIN * last.rss or now - last.at >= SECONDS
