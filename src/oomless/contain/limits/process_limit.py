"""The limit on how many processes a tree may hold, and when being at it is an offence.

Where the kernel holds the limit (``pids.max``; it counts threads too), a fork beyond it fails, and only a tree whose
forks go on failing is ended: being full is allowed. Elsewhere no fork is refused, and a tree is ended when it has
been over its limit for as long, or is far beyond it. Standard library only.

A tree whose forks fail by the hundred is held still for three quarters of the time until it is ended or gives in. Its
processes are in the middle of fork(2), with their memory map locked, and hardly get a processor; a reader of their
command lines, ``ps`` as well as ``scan``, waits for that lock. Measured with 100 such processes on 2 cores (6.18):
``scan`` took 9 s, and no less with them at nice 19 or SCHED_IDLE, which keep the lock longer; held still, 0.5 s.
A process is stopped on its way out of the kernel, where it holds no lock.
"""

from __future__ import annotations

import sys

assert sys.platform == "linux"

from oomless.contain.cause import Cause
from oomless.lean import signal
from oomless.platform import cgroup, proc
from oomless.processes import descendants

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oomless.contain.rungs.base import Rung
    from oomless.processes.ids import ProcessId

#: A tree that is held at its limit for so long is ended.
FULL_FOR = 1.0
COUNT_EVERY, OVER_EVERY = 0.25, 0.05
#: Forks failed, and then for so long none did: it is not held there any more.
QUIET_FOR = 0.55
#: So many failed forks between two looks are a storm; meanwhile the tree runs for ``TURN`` of ``COUNT_EVERY``.
STORM, TURN = 50, 0.06


class ProcessLimit:
    """``look_at``: when ``check`` is to be called next (monotonic). ``is_holding``: the tree is being held still."""

    def __init__(self, limit: int, began: float) -> None:
        self.limit = limit
        self.look_at = began
        self.is_holding = False
        self._stopped: list[ProcessId] = []
        self._stormy = False
        self._since: float | None = None
        self._last = began
        self._refused = 0
        self._refused_before = 0

    def check(self, rung: Rung, now: float) -> Cause | None:
        """Why the tree is to be ended, or None."""
        group = cgroup.CgroupPids.of(rung.paths)
        if group is None:
            return self._check_own_count(rung, now)
        if self.is_holding:
            self.resume(rung)
            self.look_at = now + TURN
            return None
        return self._check_kernel_count(rung, group, now)

    def resume(self, rung: Rung) -> None:
        """The tree runs again, if it was held still."""
        if not self.is_holding:
            return
        self.is_holding = False
        if "" in rung.paths:
            cgroup.CgroupV2(rung.paths[""]).freeze(False)
        for process in self._stopped:
            proc.send(*process, signal.SIGCONT)
        self._stopped = []

    def _hold(self, rung: Rung) -> None:
        """By the freezer of the v2 tree, which its processes do not notice; by SIGSTOP where there is none."""
        self.is_holding = True
        if "" in rung.paths and cgroup.CgroupV2(rung.paths[""]).freeze(True):
            return
        for process in rung.members():
            stat = descendants.find_living(process)
            if stat is not None and stat.state != "T" and proc.send(*process, signal.SIGSTOP) == proc.SENT:
                self._stopped.append(process)

    def _check_own_count(self, rung: Rung, now: float) -> Cause | None:
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

    def _check_kernel_count(self, rung: Rung, group: cgroup.CgroupPids, now: float) -> Cause | None:
        refused = group.refused_forks()
        new, self._refused = refused - self._refused, refused
        if new > 0 and self._is_full(group):
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

    def _is_full(self, group: cgroup.CgroupPids) -> bool:
        """Roughly: one may have ended since a fork failed. Forks may also fail at a nested tree's limit."""
        return group.count() >= self.limit - self.limit // 10 - 1

    def _offence(self, reason: str) -> Cause:
        return Cause("killed", 137, reason, at_once=True, tells_freed=True)


def far_over(limit: int) -> int:
    """So many are too many even for a moment."""
    return 2 * limit + 50
