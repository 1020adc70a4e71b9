"""Parents that came and went between two looks at the process table, from events of the kernel: pure.

A look once a second never sees a shell that starts something and ends at once; the fork events do. From each,
the line of ancestors of the new process is put together while they are known. Not here: where events come from
(``platform/fork_events.py``), and what lineage proves (``processes/descent.py``).
"""

from __future__ import annotations

from collections.abc import Mapping

#: Whoever nests deeper is cut off at the far end.
DEEPEST = 32


class Births:
    """Lines by pid: who is above, the nearest last. Kept over two looks, for an event may be told after the look
    that already missed its process."""

    def __init__(self) -> None:
        self._new: dict[int, tuple[int, ...]] = {}
        self._before: dict[int, tuple[int, ...]] = {}

    def forked(self, parent: int, child: int) -> None:
        above = self._new.get(parent) or self._before.get(parent, ())
        self._before.pop(child, None)
        self._new[child] = (*above, parent)[-DEEPEST:]

    def lines(self) -> Mapping[int, tuple[int, ...]]:
        return self._before | self._new

    def looked(self) -> None:
        """The table has been read: who lives now is known from there."""
        self._before, self._new = self._new, {}

    def clear(self) -> None:
        """Events were lost: a number may have changed hands unseen."""
        self._before, self._new = {}, {}
