"""Footprints of many processes again and again, at little cost to them.

Reading PSS stalls its target (9 ms at 500 MB), reading RSS does not. So a footprint is read anew only when the RSS
that came with the process table has moved since, and now and then anyway: pages that become shared, or no longer,
change PSS alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import msgspec

from oomless.model import Footprint, ProcessInfo

#: A footprint holds as long as RSS stays within this share of what it was then, and at most so many seconds.
WITHIN, SECONDS = 0.05, 10.0

Key = tuple[int, int]


class _Read(msgspec.Struct, frozen=True, kw_only=True):
    footprint: Footprint
    rss: int
    at: float


class Footprints:
    """``read`` is asked for one process and answers None if that is gone."""

    def __init__(self, read: Callable[[int], Footprint | None]) -> None:
        self._read = read
        self._last: dict[Key, _Read] = {}

    def of(self, processes: Iterable[ProcessInfo], now: float, tick: Callable[[], None]) -> dict[int, Footprint]:
        """By pid, of those that live; ``now`` in seconds on any steady clock. ``tick`` is called after each reading.
        A process that was not asked for is forgotten."""
        kept: dict[Key, _Read] = {}
        for process in processes:
            key = process.pid, process.start
            before = self._last.get(key)
            if before is not None and not _stale(before, process.rss_bytes, now):
                kept[key] = before
                continue
            footprint = self._read(process.pid)
            if footprint is not None:
                kept[key] = _Read(footprint=footprint, rss=process.rss_bytes, at=now)
            tick()
        self._last = kept
        return {pid: read.footprint for (pid, _), read in kept.items()}


def _stale(before: _Read, rss: int, now: float) -> bool:
    return abs(rss - before.rss) > WITHIN * before.rss or now - before.at >= SECONDS
