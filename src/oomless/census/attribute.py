"""Whose each process is, and on what evidence: pure, from one snapshot, the governed trees and the catalog.

The ladder, strongest first: our own journal (governed trees), the live chain of parents, marks in the
environment, the catalog of known programs. Verdicts here are ``owned``, ``protected`` and ``unknown``; to call a
process an orphan takes a memory of parents that are gone, which one snapshot has not.

Only what is governed, known, or below a live host or governed tree is listed. Of what is below an editor or a
terminal, only known programs are: the rest is its user's own work.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from oomless.census.catalog import ONLY_BELOW, PROTECTED, Catalog, Kind, Known
from oomless.census.command import SHELLS, parse
from oomless.census.governed import GovernedTree
from oomless.census.lineage import Lineage
from oomless.census.servers import Instance, Servers
from oomless.census.snapshot import SESSION, Snapshot
from oomless.model import ProcessInfo

Verdict = Literal["owned", "protected", "unknown"]

#: How sure each rung of the ladder makes the owner. The journal is written before the fork; a chain of parents is
#: a fact of this moment; a mark is inherited by what has left its session too.
JOURNAL, CHAIN, CATALOG, MARK, NOTHING = 1.0, 0.95, 0.9, 0.3, 0.0


class Attributed(msgspec.Struct, frozen=True, kw_only=True):
    """``instance`` is the root pid of the server's instance, ``session_root`` that of the session, ``tree`` and
    ``tree_root`` name and root of the innermost governed tree."""

    process: ProcessInfo
    kind: Kind
    verdict: Verdict
    confidence: float
    host: str | None = None
    session: str | None = None
    session_root: int | None = None
    server: str | None = None
    instance: int | None = None
    tree: str | None = None
    tree_root: int | None = None
    program: str | None = None
    evidence: tuple[str, ...] = ()


def attribute(snapshot: Snapshot, governed: tuple[GovernedTree, ...], catalog: Catalog) -> tuple[Attributed, ...]:
    """The processes worth listing, by pid."""
    census = _Census(snapshot, governed, catalog)
    found = (census.attributed(process) for process in snapshot.processes)
    return tuple(one for one in found if one is not None)


class _Owner(msgspec.Struct, frozen=True, kw_only=True):
    """A session or an editor: who has the process, and by which chain."""

    host: str
    session: str
    root: int
    chain: tuple[int, ...]
    is_session: bool


class _Facts(msgspec.Struct, frozen=True, kw_only=True):
    """All that is known of one process."""

    pid: int
    known: Known | None
    tree: GovernedTree | None
    owner: _Owner | None
    instance: Instance | None


class _Census:
    """What is worked out once for the whole snapshot, and the questions put to it for each process."""

    def __init__(self, snapshot: Snapshot, governed: tuple[GovernedTree, ...], catalog: Catalog) -> None:
        self._lineage = Lineage(snapshot.processes)
        self._marks = {p.pid: marks for p, marks in zip(snapshot.processes, snapshot.marks, strict=True)}
        found = ((p.pid, catalog.recognise(p.command)) for p in snapshot.processes)
        self._known: dict[int, Known] = {pid: known for pid, known in found if known is not None}
        # Nested trees come before the trees around them.
        self._governed = sorted(governed, key=lambda tree: len(tree.pids))
        self._shims = {tree.shim_pid: tree for tree in governed if tree.shim_pid is not None}
        self._sessions = {pid for pid in self._known if self._is_session(pid)}
        self._protected = {pid for pid, known in self._known.items() if known.program.kind in PROTECTED}
        self._servers = Servers(
            self._lineage, self._known, self._marks, self._sessions, self._protected | self._shims.keys()
        )

    def attributed(self, process: ProcessInfo) -> Attributed | None:
        pid = process.pid
        known, tree, owner = self._known.get(pid), self._tree(pid), self._owner(pid)
        instance = self._servers.of(pid)
        facts = _Facts(pid=pid, known=known, tree=tree, owner=owner, instance=instance)
        if not _is_listed(facts):
            return None
        verdict, confidence = self._verdict(facts)
        session, root = (owner.session, owner.root) if owner else self._unowned_session(pid, tree)
        return Attributed(
            process=process,
            kind=self._kind(facts),
            verdict=verdict,
            confidence=confidence,
            host=owner.host if owner else None,
            session=session,
            session_root=root,
            server=instance.name if instance else None,
            instance=instance.root if instance else None,
            tree=tree.name if tree else None,
            tree_root=tree.root_pid if tree else None,
            program=known.program.name if known else None,
            evidence=self._evidence(facts),
        )

    def _is_session(self, pid: int) -> bool:
        """A host's root process. A direct child of the same program is a session of its own, but for those hosts
        that start themselves again."""
        program = self._known[pid].program
        above = self._known.get(self._lineage.parent(pid) or 0)
        again = program.relaunches and above is not None and above.program.name == program.name
        return program.host and not again

    def _tree(self, pid: int) -> GovernedTree | None:
        """The innermost governed tree; a shim counts to the tree that it owns."""
        if pid in self._shims:
            return self._shims[pid]
        return next((tree for tree in self._governed if pid in tree.pids), None)

    def _owner(self, pid: int) -> _Owner | None:
        root = self._lineage.owner_session(pid, self._sessions, self._protected)
        if root is not None and pid not in self._protected:
            return self._owned_by(pid, root, self._session_id(root), is_session=True)
        editor = self._lineage.nearest(pid, self._protected)
        if editor is None or pid in self._protected or self._known[editor].program.kind == "terminal":
            return None
        name = self._known[editor].program.name
        for above in self._lineage.ancestors(editor):
            if above in self._known and self._known[above].program.name == name:
                editor = above
        return self._owned_by(pid, editor, self._plain_id(editor), is_session=False)

    def _owned_by(self, pid: int, root: int, session: str, *, is_session: bool) -> _Owner:
        return _Owner(
            host=self._known[root].program.name,
            session=session,
            root=root,
            chain=self._lineage.chain(pid, root),
            is_session=is_session,
        )

    def _session_id(self, root: int) -> str:
        """A host has its id from the marks of its children (its own environment has that of the host above, if
        any); of several, which ``/clear`` makes, the youngest child's."""
        marked = [
            (self._lineage.by_pid[child].start, child)
            for child in self._lineage.children(root)
            if child not in self._sessions and self._marks[child].session
            and self._marks[child].session != self._marks[root].session
        ]  # fmt: skip
        return self._marks[max(marked)[1]].session if marked else self._plain_id(root)

    def _plain_id(self, pid: int) -> str:
        return f"{pid}:{self._lineage.by_pid[pid].start}"

    def _unowned_session(self, pid: int, tree: GovernedTree | None) -> tuple[str | None, int | None]:
        """Without a host: the governed tree's root, else what the mark says."""
        if tree is not None and tree.root_pid in self._lineage.by_pid:
            return self._plain_id(tree.root_pid), tree.root_pid
        return self._marks[pid].session or None, None

    def _verdict(self, facts: _Facts) -> tuple[Verdict, float]:
        if facts.tree is not None:
            return "owned", JOURNAL
        if facts.pid in self._protected:
            return "protected", CATALOG
        if facts.owner is not None:
            return "owned", CATALOG if facts.owner.root == facts.pid else CHAIN
        return "unknown", MARK if self._marks[facts.pid].session else NOTHING

    def _kind(self, facts: _Facts) -> Kind:
        pid, known = facts.pid, facts.known
        if pid in self._sessions:
            return "session"
        if pid in self._shims:
            return "launcher"
        if facts.instance is not None:
            return self._servers.kind(pid, facts.instance)
        if known is not None:
            return "other" if known.program.kind == "session" else known.program.kind
        if facts.tree is not None and pid == facts.tree.root_pid:
            return "subagent"
        return "tool-shell" if self._is_tool_shell(facts) else "other"

    def _is_tool_shell(self, facts: _Facts) -> bool:
        owner = facts.owner
        if owner is None or not owner.is_session or self._lineage.parent(facts.pid) != owner.root:
            return False
        return parse(self._lineage.by_pid[facts.pid].command).program in SHELLS

    def _evidence(self, facts: _Facts) -> tuple[str, ...]:
        """One line a rung that said something, strongest first."""
        lines = (
            self._by_journal(facts),
            _by_chain(facts),
            self._by_mark(facts),
            _by_catalog(facts),
            _by_instance(facts),
        )
        return tuple(line for line in lines if line)

    def _by_journal(self, facts: _Facts) -> str:
        if facts.tree is None:
            return ""
        root = facts.pid == facts.tree.root_pid
        part = "shim" if facts.pid in self._shims else "root" if root else "member"
        return f"journal: {part} of the governed tree {facts.tree.name} ({facts.tree.tree})"

    def _by_mark(self, facts: _Facts) -> str:
        mark = self._marks[facts.pid].session
        if not mark:
            return ""
        agrees = facts.owner is not None and facts.owner.session == mark
        return f"environment mark: {SESSION}={mark}" + ("" if agrees else ", which alone proves no owner")


def _is_listed(facts: _Facts) -> bool:
    if facts.tree is not None or facts.instance is not None:
        return True
    if facts.owner is not None and facts.owner.is_session:
        return True
    return facts.known is not None and facts.known.program.kind not in ONLY_BELOW


def _by_chain(facts: _Facts) -> str:
    if facts.owner is None or facts.owner.root == facts.pid:
        return ""
    return f"live parent chain: {' < '.join(map(str, facts.owner.chain))} ({facts.owner.host})"


def _by_catalog(facts: _Facts) -> str:
    if facts.known is None:
        return ""
    program = facts.known.program
    return f"catalog: {program.title} ({program.name}), by {facts.known.by}"


def _by_instance(facts: _Facts) -> str:
    instance = facts.instance
    if instance is None:
        return ""
    if instance.serving == facts.pid:
        return "" if facts.known is not None else instance.by
    return f"part of the server {instance.name}, instance {instance.root}"
