"""Parents and children of one reading of the process table.

Covers live lineage only: who is below whom now. A parent that is gone leaves no trace in the table, so an orphan
has none here. Pure; who counts as a host or a server is decided in ``attribute.py`` and ``servers.py``.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator

from oomless.model import ProcessInfo


class Lineage:
    def __init__(self, processes: Iterable[ProcessInfo]) -> None:
        self.by_pid = {process.pid: process for process in processes}
        self._children: dict[int, list[int]] = {}
        for process in self.by_pid.values():
            if self.parent(process.pid) is not None:
                self._children.setdefault(process.ppid, []).append(process.pid)

    def parent(self, pid: int) -> int | None:
        """The parent, if it is in the table. The entries are read one after another, so a number may have been
        used again in between: a parent that is younger than its child is a stranger."""
        child = self.by_pid.get(pid)
        parent = self.by_pid.get(child.ppid) if child else None
        if child is None or parent is None or parent.start > child.start or parent.pid == pid:
            return None
        return parent.pid

    def children(self, pid: int) -> tuple[int, ...]:
        return tuple(sorted(self._children.get(pid, ())))

    def ancestors(self, pid: int) -> Iterator[int]:
        """From the parent up."""
        seen = {pid}
        above = self.parent(pid)
        while above is not None and above not in seen:
            seen.add(above)
            yield above
            above = self.parent(above)

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

    def owner_session(self, pid: int, sessions: Container[int], barriers: Container[int] = ()) -> int | None:
        """The root of the session that ``pid`` belongs to: itself, or the nearest host above it. A terminal,
        multiplexer or editor in between ends the chain: what is in it is its user's."""
        return pid if pid in sessions else self.nearest(pid, sessions, barriers)

    def chain(self, pid: int, top: int) -> tuple[int, ...]:
        """``pid`` and its ancestors up to ``top``."""
        found = [pid]
        for above in self.ancestors(pid):
            if found[-1] == top:
                break
            found.append(above)
        return tuple(found)
