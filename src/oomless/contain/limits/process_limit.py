"""The limit on how many processes a tree may hold, and when being at it is an offence.

Where the kernel holds the limit (``pids.max``; it counts threads too), a fork beyond it fails, and only a tree whose
forks go on failing is ended: being full is allowed. Elsewhere nobody refuses a fork, and a tree is ended when it has
been over its limit for as long, or is far beyond it. Not here: how it is ended (``contain/shim.py``). Standard
library only.

A tree whose forks fail by the hundred is held still for three quarters of the time until it is ended or gives in. Its
processes are in the middle of fork(2), with their memory map locked, and hardly get a processor; whoever reads their
command lines, ``ps`` as well as ``scan``, waits for that lock. Measured with 100 such processes on 2 cores (6.18):
``scan`` took 9 s, and no less with them at nice 19 or SCHED_IDLE, which keep the lock longer; held still, 0.5 s.
A process is stopped on its way out of the kernel, where it holds no lock.
"""

from __future__ import annotations

import os
import sys

assert sys.platform == "linux"

from oomless.contain.ending import Cause
from oomless.lean import signal
from oomless.platform import files, proc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oomless.contain.rungs.base import Rung

#: A tree that is held at its limit for so long is ended.
FULL_FOR = 1.0
COUNT_EVERY, OVER_EVERY = 0.25, 0.05
#: Forks failed, and then for so long none did: it is not held there any more.
QUIET_FOR = 0.55
#: So many failed forks between two looks are a storm; meanwhile the tree runs for ``TURN`` of ``COUNT_EVERY``.
STORM, TURN = 50, 0.06


class Crowd:
    """``look_at``: when ``look`` is to be called next (monotonic). ``holding``: the tree is being held still."""

    def __init__(self, limit: int, began: float) -> None:
        self.limit = limit
        self.look_at = began
        self.holding = False
        self._stopped: list[tuple[int, int]] = []
        self._stormy = False
        self._since: float | None = None
        self._last = began
        self._refused = 0
        self._refused_before = 0

    def look(self, rung: Rung, now: float) -> Cause | None:
        folder = counted_in(rung.paths)
        if folder is None:
            return self._counted_by_us(rung, now)
        if self.holding:
            self.let_go(rung)
            self.look_at = now + TURN
            return None
        return self._counted_by_the_kernel(rung, folder, now)

    def let_go(self, rung: Rung) -> None:
        """The tree runs again, if it was held still."""
        if not self.holding:
            return
        self.holding = False
        if "" in rung.paths:
            files.try_write(f"{rung.paths['']}/cgroup.freeze", "0")
        for pid, start in self._stopped:
            proc.send(pid, start, signal.SIGCONT)
        self._stopped = []

    def _hold(self, rung: Rung) -> None:
        """By the freezer of the v2 tree, which nobody in it notices; by SIGSTOP where there is none."""
        self.holding = True
        if "" in rung.paths and files.try_write(f"{rung.paths['']}/cgroup.freeze", "1"):
            return
        for pid, start in rung.members():
            stat = proc.read_stat(pid)
            runs = stat is not None and stat.start == start and stat.state != "T"
            if runs and proc.send(pid, start, signal.SIGSTOP) == proc.SENT:
                self._stopped.append((pid, start))

    def _counted_by_us(self, rung: Rung, now: float) -> Cause | None:
        count = rung.processes()
        over = count > self.limit
        self.look_at = now + (OVER_EVERY if over else COUNT_EVERY)
        if not over:
            self._since = None
            return None
        since = self._since = now if self._since is None else self._since
        if count >= far_over(self.limit):
            return self._offence(f"at least {count} processes, far over its limit of {self.limit}")
        if now - since < FULL_FOR:
            return None
        return self._offence(f"{count} processes, over its limit of {self.limit} for {now - since:.1f} s")

    def _counted_by_the_kernel(self, rung: Rung, folder: str, now: float) -> Cause | None:
        refused = refusals(folder)
        new, self._refused = refused - self._refused, refused
        if new > 0 and self._full(folder):
            self._last = now
            if self._since is None:
                self._since, self._refused_before = now, refused - new
        elif now - self._last > QUIET_FOR:
            self._since = None
        self.look_at = now + COUNT_EVERY
        if self._since is None:
            self._stormy = False
            return None
        if new > 0 and now - self._since >= FULL_FOR:
            failed = refused - self._refused_before
            return self._offence(
                f"at its limit of {self.limit} processes for {now - self._since:.1f} s, while {failed} forks failed"
            )
        self._stormy = new >= (1 if self._stormy else STORM)
        if self._stormy:
            self._hold(rung)
            self.look_at = now + COUNT_EVERY - TURN
        return None

    def _full(self, folder: str) -> bool:
        """Roughly: one may have ended since a fork failed. Forks may also fail at a nested tree's limit."""
        return (files.read_int(f"{folder}/pids.current") or 0) >= self.limit - self.limit // 10 - 1

    def _offence(self, reason: str) -> Cause:
        return Cause("killed", 137, reason, at_once=True, told=True)


def far_over(limit: int) -> int:
    """So many are too many even for a moment."""
    return 2 * limit + 50


def counted_in(paths: dict[str, str]) -> str | None:
    """The tree's folder in which the kernel counts its processes, or None."""
    for controller in ("pids", ""):
        folder = paths.get(controller)
        if folder is not None and os.path.exists(f"{folder}/pids.max"):
            return folder
    return None


def refusals(folder: str) -> int:
    """How many forks have failed so far. A fork in a group below it that fails at its limit is told there (v1, and v2
    before 6.11), or in both, which does no harm: only growth is looked at."""
    return sum(files.read_field(f"{each}/pids.events", "max") or 0 for each in files.subdirectories(folder))
