"""How large a session's own process is each time one of its subagents ends: a bounded history, in memory.

Subagents run inside that process, so what they leave behind shows there and nowhere else. Private memory is kept,
which does not change with what others share. Reading it stalls the process (9 ms at 500 MB), so it is read at these
moments only.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from oomless.model import Identity, SubagentEnd

KEPT_POINTS = 64


class _History:
    def __init__(self) -> None:
        self.count = 0
        self.points: deque[SubagentEnd] = deque(maxlen=KEPT_POINTS)


class SessionGrowth:
    """``private_bytes`` measures a process; None if it is gone or cannot be read."""

    def __init__(self, private_bytes: Callable[[Identity], int | None]) -> None:
        self._private_bytes = private_bytes
        self._histories: dict[Identity, _History] = {}

    def record_end(self, process: Identity) -> None:
        """Takes a point after a subagent of the process has ended."""
        history = self._histories.setdefault(process, _History())
        history.count += 1
        size = self._private_bytes(process)
        if size is not None:
            history.points.append(SubagentEnd(ended=history.count, private_bytes=size))

    def points_of(self, process: Identity) -> tuple[SubagentEnd, ...]:
        """Returns the points, oldest first."""
        history = self._histories.get(process)
        return tuple(history.points) if history is not None else ()

    def forget(self, process: Identity) -> None:
        self._histories.pop(process, None)
