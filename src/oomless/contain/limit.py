"""When to look at a tree's memory next, where no kernel limit does the looking.

Like earlyoom, the pause is what is left divided by how fast it can go: far from the limit looks are rare, near
it they come every 50 ms (measured: then the median overshoot is 3 % at 1 GB/s, while one look a second lets
2.5 times the limit through). Pure; no clock, no reads. Standard library only.
"""

from __future__ import annotations

FLOOR = 0.05
CEILING = 1.0
#: Bytes a second that a tree is assumed able to take at any moment, having shown nothing faster yet.
ASSUMED_RATE = 1.5e9


class Pace:
    """Remembers the last look; ``seconds`` answers when the next one is due."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._last: tuple[float, int] | None = None

    def seconds(self, now: float, used: int) -> float:
        rate = ASSUMED_RATE
        if self._last is not None and now > self._last[0]:
            rate = max(rate, (used - self._last[1]) / (now - self._last[0]))
        self._last = (now, used)
        return min(CEILING, max(FLOOR, (self.limit - used) / rate))
