"""Parents and children in one reading of the process table. Standard library only.

Only living processes are in a table: of a parent that has ended nothing is left, so a reparented process has lost its
ancestry here. What was recorded of it while the parents lived is in ``descent.py``.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator
from typing import Generic, Protocol, TypeVar


class TableRow(Protocol):
    """``start`` as in ``ProcessId``."""

    @property
    def pid(self) -> int: ...
    @property
    def ppid(self) -> int: ...
    @property
    def start(self) -> int: ...


Row = TypeVar("Row", bound=TableRow)


class Ancestry(Generic[Row]):
    """``by_pid`` has every row of the table."""

    def __init__(self, processes: Iterable[Row]) -> None:
        self.by_pid = {process.pid: process for process in processes}
        self._parents: dict[int, int] = {}
        self._children: dict[int, list[int]] = {}
        for pid, process in self.by_pid.items():
            parent = self.by_pid.get(process.ppid)
            # Rows are read one after another, so a pid may have been reused in between: a parent that is younger than
            # its child is another process.
            if parent is not None and parent.start <= process.start and parent.pid != pid:
                self._parents[pid] = parent.pid
                self._children.setdefault(parent.pid, []).append(pid)

    def parent(self, pid: int) -> int | None:
        """The parent's pid; None if it is not in the table."""
        return self._parents.get(pid)

    def children(self, pid: int) -> tuple[int, ...]:
        """In the order of their pids."""
        return tuple(sorted(self._children.get(pid, ())))

    def ancestors(self, pid: int) -> Iterator[int]:
        """From the parent up."""
        seen = {pid}
        above = self._parents.get(pid)
        while above is not None and above not in seen:
            seen.add(above)
            yield above
            above = self._parents.get(above)

    def descendants(self, pid: int) -> Iterator[int]:
        """Nearest first, without ``pid`` itself."""
        seen = {pid}
        queue = list(self.children(pid))
        while queue:
            below = queue.pop(0)
            if below not in seen:
                seen.add(below)
                yield below
                queue += self.children(below)

    def nearest(self, pid: int, among: Container[int], barriers: Container[int] = ()) -> int | None:
        """The nearest ancestor that is ``among`` these; None if a barrier comes first."""
        for above in self.ancestors(pid):
            if above in among:
                return above
            if above in barriers:
                return None
        return None

    def topmost(self, pid: int, among: Container[int]) -> int:
        """The highest of the unbroken line of ancestors that are ``among`` these; ``pid`` if its parent is not."""
        for above in self.ancestors(pid):
            if above not in among:
                break
            pid = above
        return pid

    def chain(self, pid: int, top: int) -> tuple[int, ...]:
        """``pid`` and its ancestors up to ``top``."""
        chain = [pid]
        for above in self.ancestors(pid):
            if chain[-1] == top:
                break
            chain.append(above)
        return tuple(chain)
