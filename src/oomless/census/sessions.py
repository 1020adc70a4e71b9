"""The sessions of one snapshot: their root processes, their ids, and the session that a mark names.

Pure. A mark counts only together with a live process that is older than the process with the mark: pids are reused,
and a session that is resumed has the id of one that ended.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from oomless.catalog import ProgramMatch
from oomless.census.snapshot import Snapshot
from oomless.model import LiveSession, ProcessInfo
from oomless.processes.ancestry import Ancestry
from oomless.processes.ids import ProcessId


class SessionRoots:
    """``roots`` are the pids of the hosts' processes, one for each session. ``live`` is what the daemon knows."""

    def __init__(self, snapshot: Snapshot, programs: Mapping[int, ProgramMatch], live: Iterable[LiveSession]) -> None:
        self._ancestry, self._programs, self._marks = snapshot.ancestry, programs, snapshot.marks_by_pid
        self._live = {
            ProcessId(session.pid, session.start): session.newest_id
            for session in live
            if session.pid is not None and session.start is not None
        }
        self.roots = frozenset(pid for pid in programs if self._is_root(pid))
        self._named = self._by_host_pid()
        self._ids = {root: self._find_id(root) for root in self.roots}

    def id_of(self, root: int) -> str:
        """The host's id where it is known, else pid and start."""
        return self._ids[root]

    def with_id(self, session: str, bearer: int) -> int | None:
        """The root of the session with that id that is older than the process ``bearer``; None unless exactly one."""
        roots = [root for root in self.roots if self._ids[root] == session and self._is_older(root, bearer)]
        return roots[0] if len(roots) == 1 else None

    def named_by_marks(self, pid: int, bearer: int) -> int | None:
        """The root of the live session that the marks of ``pid`` name, if it is older than ``bearer``. The id counts
        before CLAUDE_PID: a session within a session has both, and that pid is the outer one's."""
        marks = self._marks[pid]
        of_id = self.with_id(marks.session, bearer) if marks.session else None
        named = marks.host_pid if marks.host_pid in self.roots and self._is_older(marks.host_pid, bearer) else None
        return of_id if of_id is not None else named

    def is_stray_server(self, pid: int) -> bool:
        """Whether a process is marked as a stdio server of a session that is gone: with the session's id and folder
        and no CLAUDE_PID, in a process group and session that it does not lead, and below no process with that
        mark."""
        marks, process = self._marks[pid], self._ancestry.by_pid[pid]
        if not marks.session or not marks.project or marks.host_pid or pid in (process.pgid, process.sid):
            return False
        above = (
            self._marks[ancestor].session == marks.session or ancestor in self.roots
            for ancestor in self._ancestry.ancestors(pid)
        )
        return self.with_id(marks.session, pid) is None and not any(above)

    def _is_older(self, root: int, bearer: int) -> bool:
        return self._ancestry.by_pid[root].start <= self._ancestry.by_pid[bearer].start

    def _is_root(self, pid: int) -> bool:
        """A host's root process. A direct child that is the same program is a session of its own, except of hosts
        that relaunch themselves, and except a fork that was read before its exec."""
        program = self._programs[pid].program
        above = self._ancestry.parent(pid)
        match = self._programs.get(above) if above is not None else None
        if not program.host or above is None or match is None or match.program.name != program.name:
            return program.host
        child, parent = self._ancestry.by_pid[pid], self._ancestry.by_pid[above]
        forked = (child.command, child.pgid, child.sid) == (parent.command, parent.pgid, parent.sid)
        return not program.relaunches and not forked

    def _by_host_pid(self) -> dict[int, list[int]]:
        """By a session's pid, the processes whose marks name it."""
        named: dict[int, list[int]] = {}
        for pid, marks in self._marks.items():
            root = marks.host_pid
            if root in self.roots and pid not in self.roots and marks.session and self._is_older(root, pid):
                named.setdefault(root, []).append(pid)
        return named

    def _find_id(self, root: int) -> str:
        """The id that the daemon knows, else that in the marks of the children (the root's own environment has that
        of the host above, if any), else that of the processes that name it. Of several ids, which ``/clear`` makes,
        the youngest process's counts."""
        live = self._live.get(ProcessId.of(self._ancestry.by_pid[root]))
        if live:
            return live
        children = [child for child in self._ancestry.children(root) if child not in self.roots]
        own = self._marks[root].session
        marked = [pid for pid in children if self._marks[pid].session not in ("", own)] or self._named.get(root)
        if not marked:
            return plain_id(self._ancestry, root)
        return self._marks[max(marked, key=lambda pid: (self._ancestry.by_pid[pid].start, pid))].session


def plain_id(ancestry: Ancestry[ProcessInfo], pid: int) -> str:
    return f"{pid}:{ancestry.by_pid[pid].start}"
