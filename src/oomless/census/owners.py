"""Whose a process is: the rungs of the ladder below the journal's trees, strongest first.

The live chain of parents up to a session or an editor; the session that the daemon has noted for a tool shell, a
server, or what was left running; the lineage that it remembers; marks in the environment, which name a live session,
or one that is gone. Pure. What verdict and kind follow is decided in ``attribute.py``.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Literal

import msgspec

from oomless.catalog import Known
from oomless.census.governed import GovernedTree
from oomless.census.sessions import Sessions, plain_id
from oomless.census.snapshot import Marks
from oomless.model import DetachedProcess, Leftover
from oomless.processes.ancestry import Lineage


class Owner(msgspec.Struct, frozen=True, kw_only=True):
    """``root`` is the process of the session or editor, None when it is gone. ``chain``: from the process up to it,
    alone if the chain is broken, and as it was where that is remembered. ``marked``: the process whose marks say so,
    itself or one above it. ``why``: the reason why it was spared."""

    by: Literal["chain", "journal", "lineage", "mark"]
    host: str
    session: str
    root: int | None = None
    chain: tuple[int, ...] = ()
    is_session: bool = True
    marked: int | None = None
    why: str = ""


class Owners:
    """``protected``: editors and terminals, where every chain upwards ends; what is below them is their user's."""

    def __init__(
        self,
        lineage: Lineage,
        known: Mapping[int, Known],
        marks: Mapping[int, Marks],
        sessions: Sessions,
        protected: Collection[int],
        detached: Mapping[tuple[int, int], DetachedProcess],
        leftovers: Mapping[tuple[int, int], Leftover],
    ) -> None:
        self._lineage, self._known, self._marks = lineage, known, marks
        self._sessions, self._protected, self._detached = sessions, protected, detached
        self._leftovers = leftovers
        self._marked = {pid for pid, found in marks.items() if found.session}

    def of(self, pid: int, tree: GovernedTree | None) -> Owner | None:
        if pid in self._protected:
            return None
        root = self._lineage.owner_session(pid, self._sessions.roots, self._protected)
        if root is not None:
            return self._by_chain(pid, root, self._sessions.id(root), is_session=True)
        editor = self._lineage.nearest(pid, self._protected)
        if editor is not None:
            return self._by_editor(pid, editor)
        return self._by_journal(pid, tree) or self._by_mark(pid, tree)

    def _by_chain(self, pid: int, root: int, session: str, *, is_session: bool) -> Owner:
        chain = self._lineage.chain(pid, root)
        host = self._known[root].program.name
        return Owner(by="chain", host=host, session=session, root=root, chain=chain, is_session=is_session)

    def _by_editor(self, pid: int, editor: int) -> Owner | None:
        if self._known[editor].program.kind == "terminal":
            return None
        name = self._known[editor].program.name
        for above in self._lineage.ancestors(editor):
            if above in self._known and self._known[above].program.name == name:
                editor = above
        return self._by_chain(pid, editor, plain_id(self._lineage, editor), is_session=False)

    def _by_journal(self, pid: int, tree: GovernedTree | None) -> Owner | None:
        detached = self._detached.get((pid, self._lineage.by_pid[pid].start))
        if detached is not None:
            return Owner(by="journal", host=detached.host, session=detached.session, chain=(pid,), why=detached.why)
        if tree is None:
            return self._by_lineage(pid)
        if not tree.session:
            return None
        root = self._sessions.by_id(tree.session, pid)
        return Owner(by="journal", host=tree.host, session=tree.session, root=root, chain=(pid,))

    def _by_lineage(self, pid: int) -> Owner | None:
        one = self._leftovers.get((pid, self._lineage.by_pid[pid].start))
        if one is None:
            return None
        chain = (pid, *reversed(one.above), one.root)
        return Owner(by="lineage", host=one.host, session=one.session, chain=chain, why=one.spared)

    def _by_mark(self, pid: int, tree: GovernedTree | None) -> Owner | None:
        """Of a tree of ours, a mark says whose it is only as long as that session lives."""
        bearer = pid if pid in self._marked else self._lineage.nearest(pid, self._marked)
        if bearer is None:
            return None
        root = self._sessions.by_marks(bearer, pid)
        if root is None and tree is not None:
            return None
        marks = self._marks[bearer]
        session = marks.session if root is None else self._sessions.id(root)
        return Owner(by="mark", host=marks.host, session=session, root=root, chain=(pid,), marked=bearer)
