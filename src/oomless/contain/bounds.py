"""The bounds of one tree and whether it has passed them: memory, number of processes, time.

Memory is the kernel's business where the rung says so, and then only its word is read; elsewhere ``usage`` is polled
at the pace of ``limit.py``. Not here: ending the tree (``shim.py``). Standard library only.
"""

from __future__ import annotations

import sys

assert sys.platform == "linux"

from oomless.contain.ending import Cause
from oomless.contain.limit import Pace
from oomless.units import format_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oomless.contain.base import Rung

#: A tree that sits at its process limit for so long is ended.
FULL_FOR = 1.0
COUNT_EVERY = 0.25


class Bounds:
    """``memory`` in bytes, ``processes`` as a count, ``timeout`` in seconds from ``began``; None: no such bound."""

    def __init__(self, memory: int | None, processes: int | None, timeout: float | None, began: float) -> None:
        self.memory = memory
        self.processes = processes
        self.timeout = timeout
        self._ends_at = None if timeout is None else began + timeout
        self._pace = Pace(memory) if memory else None
        self._look_at = began
        self._full_since: float | None = None

    def due(self, rung: Rung) -> list[float]:
        """When ``passed`` is to be asked next, besides at events of the rung (monotonic)."""
        polled = (self._pace is not None and not rung.kernel_limit) or self.processes is not None
        return ([self._look_at] if polled else []) + ([self._ends_at] if self._ends_at is not None else [])

    def passed(self, rung: Rung, now: float) -> Cause | None:
        """Why the tree is to be ended, at once (a limit) or with a grace (the time)."""
        found = self.kernel(rung)
        if found is None and now >= self._look_at:
            self._look_at = now + COUNT_EVERY
            found = self._memory(rung, now) or self._count(rung, now)
        if found is None and self._ends_at is not None and now >= self._ends_at:
            return Cause("timeout", 124, f"ran out of time ({self.timeout:g} s)")
        return found

    def kernel(self, rung: Rung) -> Cause | None:
        """What the kernel has done may come to light only after the root has died of it."""
        how = rung.breach() if self.memory else None
        return self._over_memory(rung.peak(), how) if how else None

    def _memory(self, rung: Rung, now: float) -> Cause | None:
        if self._pace is None or rung.kernel_limit:
            return None
        used = rung.resident()
        if used > self._pace.limit:  # only then is the dearer figure worth its price
            used = rung.usage()
        self._look_at = now + self._pace.seconds(now, used)
        return self._over_memory(used, f"{rung.source}, found by polling") if used > self._pace.limit else None

    def _count(self, rung: Rung, now: float) -> Cause | None:
        if self.processes is None:
            return None
        self._look_at = min(self._look_at, now + COUNT_EVERY)
        count = rung.processes()
        self._full_since = (self._full_since or now) if count >= self.processes else None
        if self._full_since is None or now - self._full_since < FULL_FOR:
            return None
        reason = f"{count} processes, at its limit of {self.processes} for {FULL_FOR:g} s"
        return Cause("killed", 137, reason, at_once=True)

    def _over_memory(self, used: int, how: str) -> Cause:
        reason = f"used {format_size(used)} of its {format_size(self.memory or 0)} memory limit ({how})"
        return Cause("killed", 137, reason, at_once=True)
