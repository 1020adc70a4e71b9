"""How much memory processes use between them where no cgroup says so: the sum of their PSS, read without ever
waiting long.

``smaps_rollup`` needs the memory map of its process unlocked: one that
is in fork(2) and gets no processor kept a reader waiting for as long as it lived (16 s, beside a fork bomb). So it is
read in a thread, which is left behind when a process does not answer. What cannot be read is made up for by what
everybody may read without a lock, and always so that the sum is not too large: a kill may rest on it.
Standard library only.
"""

from __future__ import annotations

import sys
import time

assert sys.platform == "linux"

from oomless.lean import thread
from oomless.platform import proc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

#: One process that has not answered for so long is passed over (2 GB take 27 ms), and so are all that come later.
PATIENCE, PATIENCE_IN_ALL = 0.25, 1.0
#: Threads that wait for a process at the same time.
MOST_WAITING = 4

#: Pid and start time.
Key = tuple[int, int]


class _Reading:
    """A thread that reads one process after the other. ``figures``: PSS by process, None where it is not to be
    had."""

    def __init__(self, stats: Sequence[proc.Stat]) -> None:
        self._stats = stats
        self._lock = thread.allocate_lock()
        self.figures: dict[Key, int | None] = {}
        self.ended = self.given_up = False
        self._lock.acquire()
        thread.start_new_thread(self._read, ())

    def _read(self) -> None:
        try:
            for stat in self._stats:
                if self.given_up:
                    break
                self.figures[(stat.pid, stat.start)] = read_pss(stat.pid)
        finally:
            self.ended = True
            self._lock.release()

    def wait(self, until: float) -> bool:
        """Whether it has read all of them; False once it gets on no more, or at ``until``."""
        known = -1
        while not self.ended and len(self.figures) > known and time.monotonic() < until:
            known = len(self.figures)
            self._lock.acquire(True, PATIENCE)
        self.given_up = True
        return self.ended

    def stuck_at(self) -> Key | None:
        at = len(self.figures)
        return None if self.ended or at == len(self._stats) else (self._stats[at].pid, self._stats[at].start)


_waiting: list[_Reading] = []


def measure_pss(stats: Sequence[proc.Stat]) -> tuple[int, str]:
    """PSS of all, and where the figure is from: ``pss+anon`` if anonymous memory stands in for the PSS of some.

    For those whose PSS is not ours to read (another user's) that is the anonymous memory of each; of those that do
    not answer only of the largest one, for what they have inherited from each other is in all of their figures. One
    that ends while it is read counts for nothing: its RSS from before would be counted on top of the shared pages
    that are the others' by now."""
    figures = _read_all(stats)
    total, source, silent = 0, "pss", 0
    for stat in stats:
        process = (stat.pid, stat.start)
        used = figures.get(process)
        if used is None:
            used, source = (anon := read_anonymous(stat)), "pss+anon" if anon else source
            if process not in figures:
                used, silent = 0, max(silent, anon)
        total += used
    return total + silent, source


def _read_all(stats: Sequence[proc.Stat]) -> dict[Key, int | None]:
    """PSS by process; one that does not answer in time is not in it."""
    _waiting[:] = [reading for reading in _waiting if not reading.ended]
    stuck = {reading.stuck_at() for reading in _waiting}
    rest = [stat for stat in stats if (stat.pid, stat.start) not in stuck]
    figures: dict[Key, int | None] = {}
    until = time.monotonic() + PATIENCE_IN_ALL
    while rest and len(_waiting) < MOST_WAITING and time.monotonic() < until:
        try:
            reading = _Reading(rest)
        except RuntimeError:  # no thread to be had: then no process answers
            break
        complete = reading.wait(until)
        figures |= (read := reading.figures.copy())
        if complete:
            break
        _waiting.append(reading)
        rest = rest[len(read) + 1 :]
    return figures


def read_pss(pid: int) -> int | None:
    """PSS in bytes, or None if it is not ours to read (another user's process)."""
    return read_rollup(pid).get(b"Pss")


def read_rollup(pid: int | str) -> dict[bytes, int]:
    """The figures of ``smaps_rollup`` in bytes (``Pss``, ``Private_Dirty``, ...); empty if it is not ours to read, or
    has no memory at all: kernel threads and zombies. The kernel walks the page tables for it and holds the memory
    map's lock, so it stalls its target: 0.2 ms at 10 MB, 9 ms at 500 MB. Pages that are swapped out are not in it."""
    figures = {}
    for line in (proc.read_file(f"/proc/{pid}/smaps_rollup") or b"").splitlines():
        name, _, rest = line.partition(b":")
        value = rest.split()
        if len(value) == 2 and value[1] == b"kB":
            figures[name] = int(value[0]) * 1024
    return figures


def read_anonymous(stat: proc.Stat) -> int:
    """Its resident memory that is of no file, in bytes, which everybody may read; 0 once it has ended. RSS would do a
    tree wrong: it counts the pages of a shared library or file once a process."""
    for line in (proc.read_file(f"/proc/{stat.pid}/status") or b"").splitlines():
        if line.startswith(b"RssAnon:"):
            return int(line.split()[1]) * 1024 if proc.start_of(stat.pid) == stat.start else 0
    return 0


def sum_pss(stats: Sequence[proc.Stat]) -> int:
    return measure_pss(stats)[0]
