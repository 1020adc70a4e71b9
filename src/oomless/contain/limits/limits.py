"""The limits of one tree and whether it has exceeded them: memory, number of processes, time.

Memory is the kernel's business where the rung says so, and then only its word is read; elsewhere ``usage`` is polled.
Standard library only.
"""

from __future__ import annotations

import sys
import time

assert sys.platform == "linux"

from oomless.contain.cause import Cause
from oomless.contain.limits.poll_interval import PollInterval
from oomless.contain.limits.process_limit import ProcessLimit
from oomless.units import format_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oomless.contain.rungs.base import Rung

#: Many processes that share much are dear to read and need be read each time (50 of 100 MB: 65 ms): a fifth of a core
#: at most goes into that.
COST_MOST = 5.0
#: How much the sum of RSS counts more than once is learned on the way to the limit, to know when that is passed.
LEARN_FROM, LEARN_EVERY = 0.6, 5.0


class TreeLimits:
    """``memory`` in bytes, ``processes`` as a count, ``timeout`` in seconds from ``began``; None: no such limit."""

    def __init__(self, memory: int | None, processes: int | None, timeout: float | None, began: float) -> None:
        self.memory = memory
        self.timeout = timeout
        self._ends_at = None if timeout is None else began + timeout
        self._interval = PollInterval(memory) if memory else None
        self._look_at = self._under_at = began
        self._shared, self._learned_at = 0, -LEARN_EVERY
        self._processes = None if processes is None else ProcessLimit(processes, began)

    @property
    def is_holding(self) -> bool:
        """The tree is stopped by us, and not as a job is stopped on a terminal."""
        return self._processes is not None and self._processes.is_holding

    def due(self, rung: Rung) -> list[float]:
        """When ``find_exceeded`` is to be asked next, besides at events of the rung (monotonic)."""
        times = [] if self._interval is None or rung.kernel_limit else [self._look_at]
        times += [] if self._processes is None else [self._processes.look_at]
        return times if self._ends_at is None else [*times, self._ends_at]

    def find_exceeded(self, rung: Rung, now: float) -> Cause | None:
        """Why the tree is to be ended, at once (a limit) or with a grace (the time)."""
        cause = self.find_kernel_kill(rung, now)
        if cause is None and now >= self._look_at:
            cause = self._check_memory(rung, now)
        if cause is None and self._processes is not None and now >= self._processes.look_at:
            cause = self._processes.check(rung, now)
        if cause is None and self._ends_at is not None and now >= self._ends_at:
            return Cause("timeout", 124, f"ran out of time ({self.timeout:g} s)")
        return cause

    def resume(self, rung: Rung) -> None:
        """Limits are checked no more: a tree that is held still runs again, for it is to have its grace."""
        if self._processes is not None:
            self._processes.resume(rung)

    def find_kernel_kill(self, rung: Rung, now: float) -> Cause | None:
        """What the kernel has done may come to light only after the root has died of it."""
        how = rung.breach() if self.memory else None
        return self._over_memory(rung.peak(), how, now) if how else None

    def _check_memory(self, rung: Rung, now: float) -> Cause | None:
        if self._interval is None or rung.kernel_limit:
            return None
        resident, cost = rung.resident(), 0.0
        used = max(0, resident - self._shared)
        to_learn = resident > LEARN_FROM * self._interval.limit and now - self._learned_at > LEARN_EVERY
        if resident > self._interval.limit or to_learn:  # only then is the dearer figure worth its price
            used = rung.usage()
            self._shared, self._learned_at = max(0, resident - used), now
            cost = time.monotonic() - now
        self._look_at = now + max(self._interval.seconds(now, used), COST_MOST * cost)
        if used > self._interval.limit:
            return self._over_memory(used, f"{rung.source}, found by polling", self._under_at)
        self._under_at = now
        return None

    def _over_memory(self, used: int, how: str, since: float) -> Cause:
        reason = f"used {format_size(used)} of its {format_size(self.memory or 0)} memory limit ({how})"
        return Cause("killed", 137, reason, at_once=True, used=used, since=since, tells_freed=True)
