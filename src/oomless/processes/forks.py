"""Ancestors of processes that are born between two readings of the process table, from fork events: pure.

A reading once a second never sees a shell that starts something and ends at once; the fork events do. From each,
the line of ancestors of the new process is put together while they are known.
"""

from __future__ import annotations

from collections.abc import Mapping

#: Longer lines are cut off at the far end.
DEEPEST = 32


class ForkLines:
    """Pids of the ancestors by pid, the nearest last. Kept over two readings, for an event may come after the reading
    that already missed its process."""

    def __init__(self) -> None:
        self._new: dict[int, tuple[int, ...]] = {}
        self._before: dict[int, tuple[int, ...]] = {}

    def add_fork(self, parent: int, child: int) -> None:
        above = self._new.get(parent) or self._before.get(parent, ())
        self._before.pop(child, None)
        self._new[child] = (*above, parent)[-DEEPEST:]

    def lines(self) -> Mapping[int, tuple[int, ...]]:
        return self._before | self._new

    def mark_read(self) -> None:
        """The table has been read: the ancestors of the living are known from there."""
        self._before, self._new = self._new, {}

    def clear(self) -> None:
        """Events were lost: a number may have changed hands unseen."""
        self._before, self._new = {}, {}
