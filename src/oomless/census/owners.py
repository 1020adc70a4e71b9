"""The owner of each process: the rungs of the ladder below the journal's trees, strongest first.

The live chain of parents up to a session or an editor; the session that the daemon has recorded for a tool shell, a
server or a detached process; ancestry that the daemon recorded; marks in the environment, which name a live session
or one that is gone. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Literal

import msgspec

from oomless.catalog import ProgramMatch
from oomless.census.governed import GovernedTree
from oomless.census.sessions import SessionRoots, plain_id
from oomless.census.snapshot import Snapshot
from oomless.model import DetachedProcess, Leftover
from oomless.processes.ids import ProcessId


class Owner(msgspec.Struct, frozen=True, kw_only=True):
    """``root`` is the process of the session or editor, None when it is gone. ``chain``: from the process up to it,
    the process alone if the chain is broken, as it was where it is recorded. ``marked``: the process whose marks say
    so, itself or one above it. ``detach_reason``: why it was spared when its session ended."""

    by: Literal["chain", "journal", "record", "mark"]
    host: str
    session: str
    root: int | None = None
    chain: tuple[int, ...] = ()
    is_session: bool = True
    marked: int | None = None
    detach_reason: str = ""


class Owners:
    """``protected``: editors and terminals, where every chain upwards ends; what is below them is their user's."""

    def __init__(
        self,
        snapshot: Snapshot,
        programs: Mapping[int, ProgramMatch],
        sessions: SessionRoots,
        protected: Collection[int],
        detached: Mapping[ProcessId, DetachedProcess],
        leftovers: Mapping[ProcessId, Leftover],
    ) -> None:
        self._ancestry, self._programs, self._marks = snapshot.ancestry, programs, snapshot.marks_by_pid
        self._sessions, self._protected = sessions, protected
        self._detached, self._leftovers = detached, leftovers
        self._marked = {pid for pid, marks in self._marks.items() if marks.session}

    def owner_of(self, pid: int, tree: GovernedTree | None) -> Owner | None:
        """``tree``: the governed tree that the process is in."""
        if pid in self._protected:
            return None
        is_root = pid in self._sessions.roots
        root = pid if is_root else self._ancestry.nearest(pid, self._sessions.roots, self._protected)
        if root is not None:
            return self._by_chain(pid, root, self._sessions.id_of(root), is_session=True)
        editor = self._ancestry.nearest(pid, self._protected)
        if editor is not None:
            return self._by_editor(pid, editor)
        return self._by_journal(pid, tree) or self._by_mark(pid, tree)

    def _by_chain(self, pid: int, root: int, session: str, *, is_session: bool) -> Owner:
        chain = self._ancestry.chain(pid, root)
        host = self._programs[root].program.name
        return Owner(by="chain", host=host, session=session, root=root, chain=chain, is_session=is_session)

    def _by_editor(self, pid: int, editor: int) -> Owner | None:
        program = self._programs[editor].program
        if program.kind == "terminal":
            return None
        for above in self._ancestry.ancestors(editor):
            if above in self._programs and self._programs[above].program.name == program.name:
                editor = above
        return self._by_chain(pid, editor, plain_id(self._ancestry, editor), is_session=False)

    def _by_journal(self, pid: int, tree: GovernedTree | None) -> Owner | None:
        detached = self._detached.get(ProcessId.of(self._ancestry.by_pid[pid]))
        if detached is not None:
            return Owner(
                by="journal",
                host=detached.host,
                session=detached.session,
                chain=(pid,),
                detach_reason=detached.why,
            )
        if tree is None:
            return self._by_record(pid)
        if not tree.session:
            return None
        root = self._sessions.with_id(tree.session, pid)
        return Owner(by="journal", host=tree.host, session=tree.session, root=root, chain=(pid,))

    def _by_record(self, pid: int) -> Owner | None:
        leftover = self._leftovers.get(ProcessId.of(self._ancestry.by_pid[pid]))
        if leftover is None:
            return None
        chain = (pid, *reversed(leftover.above), leftover.root)
        return Owner(
            by="record",
            host=leftover.host,
            session=leftover.session,
            chain=chain,
            detach_reason=leftover.spared,
        )

    def _by_mark(self, pid: int, tree: GovernedTree | None) -> Owner | None:
        """In a governed tree, a mark names the owner only as long as that session lives."""
        bearer = pid if pid in self._marked else self._ancestry.nearest(pid, self._marked)
        if bearer is None:
            return None
        root = self._sessions.named_by_marks(bearer, pid)
        if root is None and tree is not None:
            return None
        marks = self._marks[bearer]
        session = marks.session if root is None else self._sessions.id_of(root)
        return Owner(by="mark", host=marks.host, session=session, root=root, chain=(pid,), marked=bearer)
