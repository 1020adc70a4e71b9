"""The bounds of one tree and whether it has passed them: memory, number of processes, time.

Memory is the kernel's business where the rung says so, and then only its word is read; elsewhere ``usage`` is polled
at the pace of ``pace.py``. Not here: the number of processes (``crowd.py``), ending the tree (``contain/shim.py``).
Standard library only.
"""

from __future__ import annotations

import sys
import time

assert sys.platform == "linux"

from oomless.contain.ending import Cause
from oomless.contain.limits.poll_interval import Pace
from oomless.contain.limits.process_limit import Crowd
from oomless.units import format_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oomless.contain.rungs.base import Rung

#: Many processes that share much are dear to read and need be read each time (50 of 100 MB: 65 ms): a fifth of a core
#: at most goes into that.
COST_MOST = 5.0
#: How much the sum of RSS counts more than once is learned on the way to the limit, to know when that is passed.
LEARN_FROM, LEARN_EVERY = 0.6, 5.0


class Bounds:
    """``memory`` in bytes, ``processes`` as a count, ``timeout`` in seconds from ``began``; None: no such bound."""

    def __init__(self, memory: int | None, processes: int | None, timeout: float | None, began: float) -> None:
        self.memory = memory
        self.timeout = timeout
        self._ends_at = None if timeout is None else began + timeout
        self._pace = Pace(memory) if memory else None
        self._look_at = self._under_at = began
        self._shared, self._learned_at = 0, -LEARN_EVERY
        self._crowd = None if processes is None else Crowd(processes, began)

    @property
    def holding(self) -> bool:
        """The tree is stopped by us, and not by whoever may do that with a job."""
        return self._crowd is not None and self._crowd.holding

    def due(self, rung: Rung) -> list[float]:
        """When ``passed`` is to be asked next, besides at events of the rung (monotonic)."""
        found = [] if self._pace is None or rung.kernel_limit else [self._look_at]
        found += [] if self._crowd is None else [self._crowd.look_at]
        return found if self._ends_at is None else [*found, self._ends_at]

    def passed(self, rung: Rung, now: float) -> Cause | None:
        """Why the tree is to be ended, at once (a limit) or with a grace (the time)."""
        found = self.kernel(rung, now)
        if found is None and now >= self._look_at:
            found = self._memory(rung, now)
        if found is None and self._crowd is not None and now >= self._crowd.look_at:
            found = self._crowd.look(rung, now)
        if found is None and self._ends_at is not None and now >= self._ends_at:
            return Cause("timeout", 124, f"ran out of time ({self.timeout:g} s)")
        return found

    def let_go(self, rung: Rung) -> None:
        """Nobody looks any more: what is held still runs again, for it is to have its grace."""
        if self._crowd is not None:
            self._crowd.let_go(rung)

    def kernel(self, rung: Rung, now: float) -> Cause | None:
        """What the kernel has done may come to light only after the root has died of it."""
        how = rung.breach() if self.memory else None
        return self._over_memory(rung.peak(), how, now) if how else None

    def _memory(self, rung: Rung, now: float) -> Cause | None:
        if self._pace is None or rung.kernel_limit:
            return None
        resident, cost = rung.resident(), 0.0
        used = max(0, resident - self._shared)
        to_learn = resident > LEARN_FROM * self._pace.limit and now - self._learned_at > LEARN_EVERY
        if resident > self._pace.limit or to_learn:  # only then is the dearer figure worth its price
            used = rung.usage()
            self._shared, self._learned_at = max(0, resident - used), now
            cost = time.monotonic() - now
        self._look_at = now + max(self._pace.seconds(now, used), COST_MOST * cost)
        if used > self._pace.limit:
            return self._over_memory(used, f"{rung.source}, found by polling", self._under_at)
        self._under_at = now
        return None

    def _over_memory(self, used: int, how: str, since: float) -> Cause:
        reason = f"used {format_size(used)} of its {format_size(self.memory or 0)} memory limit ({how})"
        return Cause("killed", 137, reason, at_once=True, used=used, since=since, told=True)
