"""Attribute each process to its owner, on evidence: pure, from one snapshot, the daemon's facts and the catalog.

The ladder, strongest first: our own journal (governed trees, detached processes), the live chain of parents, ancestry
that the daemon recorded, marks in the environment, the catalog of known programs. Verdicts of this step are
``owned``, ``escaped``, ``detached``, ``orphan`` (by recorded ancestry alone), ``protected`` and ``unknown``. Verdicts
that follow from how a process stands to others are given by ``verdicts.py``.

Listed are processes that are governed, known, marked by a session, or below a live host or governed tree. Below an
editor or a terminal only known programs are listed: the rest is its user's own work.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from oomless.catalog import ONLY_BELOW, PROTECTED, Catalog, Kind, ProgramMatch
from oomless.census.daemon_facts import DaemonFacts
from oomless.census.evidence import ProcessFacts, list_evidence
from oomless.census.governed import GovernedTree
from oomless.census.owners import Owner, Owners
from oomless.census.servers import Instance, Servers
from oomless.census.sessions import SessionRoots, plain_id
from oomless.census.snapshot import Snapshot
from oomless.hosts.mcp_entries import Entries, Entry
from oomless.model import IdleProcess, ProcessInfo
from oomless.processes.command import SHELLS
from oomless.processes.ids import ProcessId
from oomless.processes.ours import keeps_tree, prefixed

Verdict = Literal["owned", "duplicate", "superseded", "idle", "orphan", "detached", "escaped", "protected", "unknown"]

#: Confidence by the rung of the ladder. The journal is written before the fork; a chain of parents is a fact of this
#: moment; a mark is inherited by what has left its session too, and is worth more if that session lives.
JOURNAL, CHAIN, RECORD, CATALOG, LIVE_MARK, MARK, NOTHING = 1.0, 0.95, 0.95, 0.9, 0.6, 0.3, 0.0


class Attributed(msgspec.Struct, frozen=True, kw_only=True):
    """One process with its verdict and owner.

    ``session_root`` is the session's process, if it lives, ``instance`` the root pid of the server's instance,
    ``shell`` a pid that stands for the tool shell that it is of. ``tree``, ``role`` and ``tree_root``: name, role and
    root of the innermost governed tree. ``chain_broken``: no live chain of parents leads to its owner. ``idle``: for
    how long it has used next to no CPU time. ``persist_reason``: why its entry in a host's settings may have it
    outlive its session, or "". ``by_name``: it is of a server by its words alone."""

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
    chain_broken: bool = False
    idle: IdleProcess | None = None
    persist_reason: str = ""
    by_name: bool = False
    program: str | None = None
    evidence: tuple[str, ...] = ()

    @property
    def pid(self) -> int:
        return self.process.pid


def attribute(
    snapshot: Snapshot, governed: tuple[GovernedTree, ...], catalog: Catalog, facts: DaemonFacts | None = None
) -> tuple[Attributed, ...]:
    """The processes worth listing, by pid."""
    attribution = _Attribution(snapshot, governed, catalog, facts or DaemonFacts())
    attributed = (attribution.attribute(process) for process in snapshot.processes)
    return tuple(process for process in attributed if process is not None)


class _Attribution:
    """Works out once what concerns the whole snapshot, then attributes one process after the other."""

    def __init__(
        self, snapshot: Snapshot, governed: tuple[GovernedTree, ...], catalog: Catalog, facts: DaemonFacts
    ) -> None:
        self._ancestry, self._marks, self._commands = snapshot.ancestry, snapshot.marks_by_pid, snapshot.commands
        matches = ((pid, catalog.match(command)) for pid, command in self._commands.items())
        self._programs: dict[int, ProgramMatch] = {pid: match for pid, match in matches if match is not None}
        self._innermost = _innermost_trees(governed)
        self._shims = {tree.shim_pid: tree for tree in governed if tree.shim_pid is not None}
        self._ours = {p.pid for p in snapshot.processes if keeps_tree(p.command)} | self._shims.keys()
        self._prefixed = {p.pid for p in snapshot.processes if prefixed(p.command) == "server"}
        self._protected = {pid for pid, match in self._programs.items() if match.program.kind in PROTECTED}
        self._sessions = SessionRoots(snapshot, self._programs, facts.sessions)
        self._entries = _find_entries(snapshot, facts)
        self._idle = {ProcessId.of(process): process for process in facts.idle}
        self._escaped = {ProcessId.of(process): process for process in facts.escaped}
        self._owners = Owners(
            snapshot,
            self._programs,
            self._sessions,
            self._protected,
            {ProcessId.of(process): process for process in facts.detached},
            {ProcessId.of(process): process for process in facts.leftovers},
        )
        self._servers = Servers(
            snapshot,
            self._programs,
            self._sessions.roots,
            self._prefixed,
            self._protected | self._ours,
            frozenset(filter(self._sessions.is_stray_server, self._ancestry.by_pid)),
            {pid: entry for pid, entry in self._entries.items() if not entry.loosely},
        )

    def attribute(self, process: ProcessInfo) -> Attributed | None:
        facts = self._gather_facts(process)
        if not _is_listed(facts):
            return None
        verdict, confidence = self._decide_verdict(facts)
        owner, tree, instance = facts.owner, facts.tree, facts.instance
        session, root = (owner.session, owner.root) if owner else self._tree_as_session(tree)
        return Attributed(
            process=process,
            kind=self._find_kind(facts),
            verdict=verdict,
            confidence=confidence,
            host=owner.host if owner else None,
            session=session,
            session_root=root,
            server=instance.name if instance else None,
            instance=instance.root if instance else None,
            shell=self._find_shell(facts),
            tree=tree.name if tree else None,
            role=tree.role if tree else "",
            tree_root=tree.root_pid if tree else None,
            chain_broken=owner is not None and owner.by != "chain",
            idle=self._idle.get(ProcessId.of(process)),
            persist_reason=facts.entry.persist_reason if facts.entry else "",
            by_name=instance is not None and instance.by_name,
            program=facts.match.program.name if facts.match else None,
            evidence=list_evidence(facts),
        )

    def _gather_facts(self, process: ProcessInfo) -> ProcessFacts:
        pid = process.pid
        tree = self._shims.get(pid) or self._innermost.get(pid)
        return ProcessFacts(
            pid=pid,
            marks=self._marks[pid],
            match=self._programs.get(pid),
            tree=tree,
            owner=self._owners.owner_of(pid, tree),
            instance=self._find_instance(pid),
            entry=self._entries.get(pid),
            ours=pid in self._ours,
            shim=pid in self._shims,
            escaped=self._escaped.get(ProcessId.of(process)) if tree is not None else None,
        )

    def _find_instance(self, pid: int) -> Instance | None:
        """The shim of a server is a wrapper of it, and what lost its parents below the shim is part of it."""
        instance = self._servers.instance_of(pid)
        shim = pid if pid in self._prefixed else self._ancestry.nearest(pid, self._prefixed, self._sessions.roots)
        if instance is not None or shim is None or pid in self._sessions.roots:
            return instance
        below = (self._servers.instance_of(child) for child in self._ancestry.children(shim))
        return next((instance for instance in below if instance is not None), None)

    def _tree_as_session(self, tree: GovernedTree | None) -> tuple[str | None, int | None]:
        """Without a host: the governed tree's root."""
        if tree is not None and tree.root_pid in self._ancestry.by_pid:
            return plain_id(self._ancestry, tree.root_pid), tree.root_pid
        return None, None

    def _decide_verdict(self, facts: ProcessFacts) -> tuple[Verdict, float]:
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
        if owner.by == "record":
            persists = owner.detach_reason or (facts.entry is not None and facts.entry.persist_reason)
            return ("detached" if persists else "orphan"), RECORD
        return ("owned", LIVE_MARK) if owner.root is not None else ("unknown", MARK)

    def _find_kind(self, facts: ProcessFacts) -> Kind:
        pid, match, tree = facts.pid, facts.match, facts.tree
        if pid in self._sessions.roots:
            return "session"
        if facts.ours:
            return "launcher"
        if facts.instance is not None:
            return self._servers.kind_of(pid, facts.instance)
        if match is not None and match.program.kind != "tool-shell":
            return "other" if match.program.kind == "session" else match.program.kind
        if tree is not None and pid == tree.root_pid:
            return "subagent" if tree.role == "tree" else tree.role
        return "tool-shell" if self._is_tool_shell(facts) else "other"

    def _is_tool_shell(self, facts: ProcessFacts) -> bool:
        """What the catalog knows as one, unless it is a subshell of one; else a shell that a host started itself."""
        above, owner = self._ancestry.parent(facts.pid), facts.owner
        if facts.match is not None:
            outer = self._programs.get(above) if above is not None else None
            return outer is None or outer.program.kind != "tool-shell"
        return (
            owner is not None and owner.is_session and above == owner.root and self._is_hosts_shell(facts.pid, owner)
        )

    def _find_shell(self, facts: ProcessFacts) -> int | None:
        """A pid for the tool shell that the process is of: the host's child at the top of the chain; where that is
        gone, the shim of its background jobs; else the leader of the process session."""
        owner, tree = facts.owner, facts.tree
        if owner is None or not owner.is_session or facts.instance is not None:
            return None
        if tree is not None and tree.role == "tree" and {tree.root_pid, tree.shim_pid} & set(owner.chain[:-1]):
            return None  # requested from within the session: a tree of its own
        if owner.by == "chain":
            top = owner.chain[-2] if len(owner.chain) > 1 else None
            return top if top is not None and self._is_shell_top(top, owner) else None
        if tree is not None and tree.role == "tool-shell":
            return tree.shim_pid or tree.root_pid
        if not facts.marks.host_pid:
            return None
        upwards = (facts.pid, *self._ancestry.ancestors(facts.pid))
        shims = (pid for pid in upwards if prefixed(self._ancestry.by_pid[pid].command) == "shell")
        return next(shims, self._ancestry.by_pid[facts.pid].sid)

    def _is_shell_top(self, top: int, owner: Owner) -> bool:
        match = self._programs.get(top)
        if match is not None and match.program.kind == "tool-shell":
            return True
        return prefixed(self._ancestry.by_pid[top].command) == "shell" or self._is_hosts_shell(top, owner)

    def _is_hosts_shell(self, pid: int, owner: Owner) -> bool:
        """Whether a host's child is a shell that it started for its agent, or what that became by exec: no wrapper of
        a server, and no hook (a host gives those no mark with its pid)."""
        marks, process = self._marks[pid], self._ancestry.by_pid[pid]
        if self._servers.instance_of(pid) is not None:
            return False
        if owner.host == marks.host and marks.session:
            if marks.host_pid != owner.root:
                return False
            if process.sid == pid:
                return True
        return self._commands[pid].program in SHELLS


def _innermost_trees(governed: tuple[GovernedTree, ...]) -> dict[int, GovernedTree]:
    """By pid, the smallest of the trees that it is in: nested trees are parts of those around them."""
    innermost: dict[int, GovernedTree] = {}
    for tree in sorted(governed, key=lambda tree: -len(tree.pids)):
        innermost.update(dict.fromkeys(tree.pids, tree))
    return innermost


def _find_entries(snapshot: Snapshot, facts: DaemonFacts) -> dict[int, Entry]:
    """By pid, the entry of a host's settings that a process runs."""
    if not facts.configured:
        return {}
    entries = Entries(facts.configured)
    found = ((pid, entries.find(command)) for pid, command in snapshot.commands.items())
    return {pid: entry for pid, entry in found if entry is not None}


def _is_listed(facts: ProcessFacts) -> bool:
    if facts.tree is not None or facts.instance is not None:
        return True
    if facts.owner is not None and facts.owner.is_session:
        return True
    return facts.match is not None and facts.match.program.kind not in ONLY_BELOW
