"""Sessions of one snapshot: their root processes, the ids they go by, and which one a mark names.

Pure. A mark counts only together with a live process that is older than its bearer: numbers are used again, and a
session that is resumed has the id of one that ended. Whose a process is at last: ``attribute.py``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from oomless.catalog import Known
from oomless.census.snapshot import Marks
from oomless.model import LiveSession
from oomless.processes.ancestry import Lineage


class Sessions:
    def __init__(
        self,
        lineage: Lineage,
        known: Mapping[int, Known],
        marks: Mapping[int, Marks],
        registered: Iterable[LiveSession],
    ) -> None:
        self._lineage, self._known, self._marks = lineage, known, marks
        self._registered_ids = {(one.pid, one.start): one.newest_id for one in registered if one.pid is not None}
        self.roots = frozenset(pid for pid in known if self._is_root(pid))
        self._named = self._by_host_pid()
        self._ids = {root: self._id(root) for root in self.roots}

    def id(self, root: int) -> str:
        """The host's id where it is known, else pid and start."""
        return self._ids[root]

    def by_id(self, session: str, bearer: int) -> int | None:
        """The root of the one session of that id that is older than ``bearer``."""
        found = [root for root in self.roots if self._ids[root] == session and self._older(root, bearer)]
        return found[0] if len(found) == 1 else None

    def by_marks(self, pid: int, bearer: int) -> int | None:
        """The live session that the marks of ``pid`` name, if it is older than ``bearer``. The id goes first: within
        one session CLAUDE_PID is the surer, but a session in a session has both."""
        marks = self._marks[pid]
        of_id = self.by_id(marks.session, bearer) if marks.session else None
        named = marks.host_pid if marks.host_pid in self.roots and self._older(marks.host_pid, bearer) else None
        return of_id if of_id is not None else named

    def strayed(self, pid: int) -> bool:
        """Whether it is marked as a stdio server of a session that is gone: with the session's id and folder and no
        CLAUDE_PID, in a process group and session that it does not lead, and nobody above it has that mark."""
        marks, process = self._marks[pid], self._lineage.by_pid[pid]
        if not marks.session or not marks.project or marks.host_pid or pid in (process.pgid, process.sid):
            return False
        above = (
            self._marks[one].session == marks.session or one in self.roots for one in self._lineage.ancestors(pid)
        )
        return self.by_id(marks.session, pid) is None and not any(above)

    def _older(self, root: int, bearer: int) -> bool:
        return self._lineage.by_pid[root].start <= self._lineage.by_pid[bearer].start

    def _is_root(self, pid: int) -> bool:
        """A host's root process. A direct child of the same program is a session of its own, but for those hosts that
        start themselves again, and for a fork that was met before its exec."""
        program = self._known[pid].program
        above = self._lineage.parent(pid)
        known = self._known.get(above) if above is not None else None
        if not program.host or above is None or known is None or known.program.name != program.name:
            return program.host
        child, parent = self._lineage.by_pid[pid], self._lineage.by_pid[above]
        forked = (child.command, child.pgid, child.sid) == (parent.command, parent.pgid, parent.sid)
        return not program.relaunches and not forked

    def _by_host_pid(self) -> dict[int, list[int]]:
        """Whoever names a session by its pid, by that pid."""
        found: dict[int, list[int]] = {}
        for pid, marks in self._marks.items():
            root = marks.host_pid
            if root in self.roots and pid not in self.roots and marks.session and self._older(root, pid):
                found.setdefault(root, []).append(pid)
        return found

    def _id(self, root: int) -> str:
        """A host has its id from the daemon, or from the marks of its children (its own environment has that of the
        host above, if any); of several, which ``/clear`` makes, the youngest child's. Else from whoever names it."""
        process = self._lineage.by_pid[root]
        registered = self._registered_ids.get((process.pid, process.start))
        if registered:
            return registered
        children = [child for child in self._lineage.children(root) if child not in self.roots]
        own = self._marks[root].session
        marked = [pid for pid in children if self._marks[pid].session not in ("", own)] or self._named.get(root)
        if not marked:
            return plain_id(self._lineage, root)
        return self._marks[max(marked, key=lambda pid: (self._lineage.by_pid[pid].start, pid))].session


def plain_id(lineage: Lineage, pid: int) -> str:
    return f"{pid}:{lineage.by_pid[pid].start}"
