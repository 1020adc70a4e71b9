"""Whose each process is, and on what evidence: pure, from one snapshot, what the daemon tells, and the catalog.

The ladder, strongest first: our own journal (governed trees, what was left running), the live chain of parents,
the lineage that the daemon remembers, marks in the environment, the catalog of known programs. Verdicts here are
``owned``, ``escaped``, ``detached``, ``orphan`` (by that lineage alone), ``protected`` and ``unknown``. What can
be told from how a process stands to others is told in ``verdicts.py``.

Only what is governed, known, marked by a session, or below a live host or governed tree is listed. Of what is below
an editor or a terminal, only known programs are: the rest is its user's own work.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from oomless.catalog import ONLY_BELOW, PROTECTED, Catalog, Kind, Known
from oomless.census.daemon_facts import DaemonFacts
from oomless.census.evidence import Facts, evidence
from oomless.census.governed import GovernedTree
from oomless.census.owners import Owner, Owners
from oomless.census.servers import Instance, Servers
from oomless.census.sessions import Sessions, plain_id
from oomless.census.snapshot import Snapshot
from oomless.hosts.mcp_entries import Entries
from oomless.model import IdleProcess, ProcessInfo
from oomless.processes.ancestry import Lineage
from oomless.processes.command import SHELLS, parse
from oomless.processes.ours import is_ours, prefixed

Verdict = Literal["owned", "duplicate", "superseded", "idle", "orphan", "detached", "escaped", "protected", "unknown"]

#: How sure each rung of the ladder makes the owner. The journal is written before the fork; a chain of parents is
#: a fact of this moment; a mark is inherited by what has left its session too, the surer if that session lives.
JOURNAL, CHAIN, LINEAGE, CATALOG, LIVE_MARK, MARK, NOTHING = 1.0, 0.95, 0.95, 0.9, 0.6, 0.3, 0.0


class Attributed(msgspec.Struct, frozen=True, kw_only=True):
    """``instance`` is the root pid of the server's instance, ``shell`` stands for the tool shell that it is of,
    ``session_root`` is the session's process, if it lives. ``tree``, ``role`` and ``tree_root``: name, role and root
    of the innermost governed tree. ``detached``: its parents are gone. ``idle``: for how long
    it has used next to no CPU time. ``meant``: why its entry in a host's settings has it go on by itself, or "".
    ``guessed``: that it is of a server is told by its words alone."""

    process: ProcessInfo
    kind: Kind
    verdict: Verdict
    confidence: float
    host: str | None = None
    session: str | None = None
    session_root: int | None = None
    server: str | None = None
    instance: int | None = None
    shell: int | None = None
    tree: str | None = None
    role: str = ""
    tree_root: int | None = None
    detached: bool = False
    idle: IdleProcess | None = None
    meant: str = ""
    guessed: bool = False
    program: str | None = None
    evidence: tuple[str, ...] = ()


def attribute(
    snapshot: Snapshot, governed: tuple[GovernedTree, ...], catalog: Catalog, facts: DaemonFacts | None = None
) -> tuple[Attributed, ...]:
    """The processes worth listing, by pid."""
    census = _Census(snapshot, governed, catalog, facts or DaemonFacts())
    found = (census.attributed(process) for process in snapshot.processes)
    return tuple(one for one in found if one is not None)


class _Census:
    """What is worked out once for the whole snapshot, and the questions put to it for each process."""

    def __init__(
        self, snapshot: Snapshot, governed: tuple[GovernedTree, ...], catalog: Catalog, facts: DaemonFacts
    ) -> None:
        self._lineage = Lineage(snapshot.processes)
        self._marks = {p.pid: marks for p, marks in zip(snapshot.processes, snapshot.marks, strict=True)}
        found = ((p.pid, catalog.recognise(p.command)) for p in snapshot.processes)
        self._known: dict[int, Known] = {pid: known for pid, known in found if known is not None}
        self._innermost = _innermost(governed)
        self._shims = {tree.shim_pid: tree for tree in governed if tree.shim_pid is not None}
        self._ours = {p.pid for p in snapshot.processes if is_ours(p)} | self._shims.keys()
        self._prefixed = {p.pid for p in snapshot.processes if prefixed(p) == "server"}
        protected = {pid for pid, known in self._known.items() if known.program.kind in PROTECTED}
        self._protected = protected
        self._sessions = Sessions(self._lineage, self._known, self._marks, facts.sessions)
        detached = {(one.pid, one.start): one for one in facts.detached}
        leftovers = {(one.pid, one.start): one for one in facts.leftovers}
        entries = Entries(facts.configured)
        matching = ((p.pid, entries.of(p.command)) for p in snapshot.processes)
        self._entries = {pid: entry for pid, entry in matching if entry is not None}
        self._idle = {(one.pid, one.start): one for one in facts.idle}
        self._escaped = {(one.pid, one.start): one for one in facts.escaped}
        self._owners = Owners(self._lineage, self._known, self._marks, self._sessions, protected, detached, leftovers)
        self._servers = Servers(
            self._lineage,
            self._known,
            self._marks,
            self._sessions.roots,
            self._prefixed,
            protected | self._ours,
            frozenset(filter(self._sessions.strayed, self._lineage.by_pid)),
            {pid: entry for pid, entry in self._entries.items() if not entry.loosely},
        )

    def attributed(self, process: ProcessInfo) -> Attributed | None:
        facts = self._facts(process.pid)
        if not _is_listed(facts):
            return None
        verdict, confidence = self._verdict(facts)
        owner, tree, instance = facts.owner, facts.tree, facts.instance
        session, root = (owner.session, owner.root) if owner else self._tree_as_session(tree)
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
            shell=self._shell(facts),
            tree=tree.name if tree else None,
            role=tree.role if tree else "",
            tree_root=tree.root_pid if tree else None,
            detached=owner is not None and owner.by != "chain",
            idle=self._idle.get((process.pid, process.start)),
            meant=facts.entry.meant if facts.entry else "",
            guessed=instance is not None and instance.guess,
            program=facts.known.program.name if facts.known else None,
            evidence=evidence(facts),
        )

    def _facts(self, pid: int) -> Facts:
        tree = self._shims.get(pid) or self._innermost.get(pid)
        escaped = self._escaped.get((pid, self._lineage.by_pid[pid].start))
        return Facts(
            pid=pid,
            marks=self._marks[pid],
            known=self._known.get(pid),
            tree=tree,
            owner=self._owners.of(pid, tree),
            instance=self._instance(pid),
            entry=self._entries.get(pid),
            ours=pid in self._ours,
            shim=pid in self._shims,
            escaped=escaped if tree is not None else None,
        )

    def _instance(self, pid: int) -> Instance | None:
        """The shim of a server is a wrapper of it, and whoever lost its parents below that is part of it."""
        found = self._servers.of(pid)
        shim = pid if pid in self._prefixed else self._lineage.nearest(pid, self._prefixed, self._sessions.roots)
        if found is not None or shim is None or pid in self._sessions.roots:
            return found
        below = (self._servers.of(child) for child in self._lineage.children(shim))
        return next((one for one in below if one is not None), None)

    def _tree_as_session(self, tree: GovernedTree | None) -> tuple[str | None, int | None]:
        """Without a host: the governed tree's root."""
        if tree is not None and tree.root_pid in self._lineage.by_pid:
            return plain_id(self._lineage, tree.root_pid), tree.root_pid
        return None, None

    def _verdict(self, facts: Facts) -> tuple[Verdict, float]:
        owner = facts.owner
        if facts.tree is not None:
            return "owned" if facts.escaped is None else "escaped", JOURNAL
        if facts.pid in self._protected:
            return "protected", CATALOG
        if owner is None:
            return "unknown", NOTHING
        if owner.by == "chain":
            return "owned", CATALOG if owner.root == facts.pid else CHAIN
        if owner.by == "journal":
            return "detached", JOURNAL
        if owner.by == "lineage":
            meant = owner.why or (facts.entry is not None and facts.entry.meant)
            return ("detached" if meant else "orphan"), LINEAGE
        return ("owned", LIVE_MARK) if owner.root is not None else ("unknown", MARK)

    def _kind(self, facts: Facts) -> Kind:
        pid, known, tree = facts.pid, facts.known, facts.tree
        if pid in self._sessions.roots:
            return "session"
        if facts.ours:
            return "launcher"
        if facts.instance is not None:
            return self._servers.kind(pid, facts.instance)
        if known is not None and known.program.kind != "tool-shell":
            return "other" if known.program.kind == "session" else known.program.kind
        if tree is not None and pid == tree.root_pid:
            return "subagent" if tree.role == "tree" else tree.role
        return "tool-shell" if self._is_tool_shell(facts) else "other"

    def _is_tool_shell(self, facts: Facts) -> bool:
        """What the catalog knows for one, unless it is a subshell of one; else a shell that a host started itself."""
        above, owner = self._lineage.parent(facts.pid), facts.owner
        if facts.known is not None:
            known = self._known.get(above) if above is not None else None
            return known is None or known.program.kind != "tool-shell"
        return owner is not None and owner.is_session and above == owner.root and self._of_host(facts.pid, owner)

    def _shell(self, facts: Facts) -> int | None:
        """Who stands for the tool shell that the process is of: the host's child at the top of the chain, the keeper
        where that is gone, else the leader of the process session."""
        owner, tree = facts.owner, facts.tree
        if owner is None or not owner.is_session or facts.instance is not None:
            return None
        if tree is not None and tree.role == "tree" and {tree.root_pid, tree.shim_pid} & set(owner.chain[:-1]):
            return None  # asked for from within the session: a thing of its own
        if owner.by == "chain":
            top = owner.chain[-2] if len(owner.chain) > 1 else None
            return top if top is not None and self._tops_shell(top, owner) else None
        if tree is not None and tree.role == "tool-shell":
            return tree.shim_pid or tree.root_pid
        if not facts.marks.host_pid:
            return None
        upwards = (facts.pid, *self._lineage.ancestors(facts.pid))
        keepers = (pid for pid in upwards if prefixed(self._lineage.by_pid[pid]) == "shell")
        return next(keepers, self._lineage.by_pid[facts.pid].sid)

    def _tops_shell(self, top: int, owner: Owner) -> bool:
        known = self._known.get(top)
        if known is not None and known.program.kind == "tool-shell":
            return True
        return prefixed(self._lineage.by_pid[top]) == "shell" or self._of_host(top, owner)

    def _of_host(self, pid: int, owner: Owner) -> bool:
        """Whether a host's child is a shell that it started for its agent, or what that has become by exec: no
        wrapper of a server, and no hook (a host marks those with no pid of its own)."""
        marks, process = self._marks[pid], self._lineage.by_pid[pid]
        if self._servers.of(pid) is not None:
            return False
        if owner.host == marks.host and marks.session:
            if marks.host_pid != owner.root:
                return False
            if process.sid == pid:
                return True
        return parse(process.command).program in SHELLS


def _innermost(governed: tuple[GovernedTree, ...]) -> dict[int, GovernedTree]:
    """The smallest of the trees that each process is in: nested ones are parts of those around them."""
    found: dict[int, GovernedTree] = {}
    for tree in sorted(governed, key=lambda tree: -len(tree.pids)):
        found.update(dict.fromkeys(tree.pids, tree))
    return found


def _is_listed(facts: Facts) -> bool:
    if facts.tree is not None or facts.instance is not None:
        return True
    if facts.owner is not None and facts.owner.is_session:
        return True
    return facts.known is not None and facts.known.program.kind not in ONLY_BELOW
