"""How large a session's own process is each time one of its subagents ends: a bounded history, in memory.

Its subagents run inside of that process, so what they leave behind is seen there and nowhere else. What is kept is
its private memory, which does not change with what others share. Reading it stalls the process (9 ms at 500 MB), so
it is done at these moments alone. Not here: what follows from the figures (``census/findings/history.py``).
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable

assert sys.platform == "linux"

from oomless.model import Identity, SubagentEnd

KEPT = 64


class _Ends:
    def __init__(self) -> None:
        self.count = 0
        self.points: deque[SubagentEnd] = deque(maxlen=KEPT)


class Growth:
    """``weigh`` gives the private bytes of a process, None if that one is gone or cannot be read."""

    def __init__(self, weigh: Callable[[Identity], int | None]) -> None:
        self._weigh = weigh
        self._by_process: dict[Identity, _Ends] = {}

    def ended(self, process: Identity) -> None:
        """One of its subagents has ended."""
        ends = self._by_process.setdefault(process, _Ends())
        ends.count += 1
        size = self._weigh(process)
        if size is not None:
            ends.points.append(SubagentEnd(ended=ends.count, private_bytes=size))

    def of(self, process: Identity) -> tuple[SubagentEnd, ...]:
        """Oldest first."""
        found = self._by_process.get(process)
        return tuple(found.points) if found is not None else ()

    def forget(self, process: Identity) -> None:
        self._by_process.pop(process, None)
