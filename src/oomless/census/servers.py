"""MCP server instances: which processes together are one server, wrappers and helpers included.

``npx PACKAGE`` stays in the table as launcher, shell and server: one instance of three processes, named after the
server. A server is known by the catalog, or by the marks that its host gives to stdio servers and to nothing
else, or by a host's settings. Pure. Who owns the instance is decided in ``attribute.py``.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import msgspec

from oomless import hosts, redact
from oomless.catalog import Kind, Known
from oomless.census.snapshot import Marks, launched
from oomless.hosts.mcp_entries import Entry
from oomless.processes.ancestry import Lineage
from oomless.processes.command import SHELLS, adopts, describe, mcp_name, parse, runs_projects, says_mcp, to_be

NO_MARKS = Marks()


class Instance(msgspec.Struct, frozen=True, kw_only=True):
    """``root`` is the topmost process of it, ``serving`` the one that is the server itself (the root, while a
    launcher is still loading it). ``by`` is the evidence. ``guess``: by its words alone, which a job may have too."""

    name: str
    root: int
    serving: int
    by: str
    guess: bool = False


class Servers:
    """All instances of one snapshot, from the known processes, their marks and the roots of sessions. ``prefixed``:
    shims that the shell prefix put before servers; what they start is one. ``barriers``: protected processes and
    shims, where every instance ends. ``strays``: servers of sessions that are gone, by their marks."""

    def __init__(
        self,
        lineage: Lineage,
        known: Mapping[int, Known],
        marks: Mapping[int, Marks],
        sessions: Collection[int],
        prefixed: Collection[int],
        barriers: Collection[int],
        strays: Collection[int] = (),
        configured: Mapping[int, Entry] | None = None,
    ) -> None:
        self._lineage, self._known, self._marks = lineage, known, marks
        self._sessions, self._prefixed = frozenset(sessions), frozenset(prefixed)
        self._ends, self._strays = self._sessions | frozenset(barriers), strays
        self._configured = configured or {}
        self._by_root: dict[int, Instance] = {}
        for pid in sorted(lineage.by_pid):
            self._note(pid)

    def of(self, pid: int) -> Instance | None:
        """The instance that ``pid`` is part of, as server, wrapper or child of it; the outermost, so that a
        server that starts another is one instance."""
        found = self._by_root.get(pid)
        if pid in self._ends:
            return None
        for above in self._lineage.ancestors(pid):
            if above in self._ends:
                break
            found = self._by_root.get(above, found)
        return found

    def kind(self, pid: int, instance: Instance) -> Kind:
        """What ``pid`` is within its instance."""
        if pid == instance.serving:
            return "server"
        known = self._known.get(pid)
        if known is not None:
            return known.program.kind
        return "launcher" if pid in self._lineage.chain(instance.serving, instance.root) else "other"

    def _note(self, pid: int) -> None:
        if pid in self._ends:
            return
        known = self._known.get(pid)
        if known is not None and known.program.kind == "server":
            self._add(self._climb(pid), known.program.name, pid, f"catalog: {known.program.name}, {known.by}")
        elif known is not None and known.serves:
            by = f"catalog: {known.program.name} was asked for {known.launches}"
            self._add(self._climb(pid), known.serves, pid, by)
        elif self._is_prefixed(pid):
            self._unknown(pid, "oomless' prefix: started by a host as a stdio server")
        elif self._marked_as_server(pid) or self._is_stray(pid):
            self._unknown(pid, f"environment marks: those that {self._title(pid)} gives to its stdio servers")
        elif self._may_serve(pid) and self._started_as_one(pid):
            self._guess(pid, known is None)

    def _title(self, pid: int) -> str:
        facts = hosts.facts_of(self._marks[pid].host)
        return facts.title if facts is not None else "a host"

    def _may_serve(self, pid: int) -> bool:
        """Whether other evidence than its name may make it a server: a language server may be one (``gopls mcp``)."""
        known = self._known.get(pid)
        return known is None or known.program.kind in ("launcher", "language-server")

    def _guess(self, pid: int, unknown: bool) -> None:
        """What its host's settings have for a server, or what calls itself one."""
        entry, root = self._configured.get(pid), self._climb(pid)
        command = parse(self._lineage.by_pid[pid].command)
        name = mcp_name(command) if unknown else self._container(self._known[pid], pid)
        if entry is not None:
            by = f"settings: {entry.source} has it for the server {entry.name}"
            self._add(root, entry.name, pid, by, guess=True)
        elif name and root not in self._by_root:
            self._add(root, name, pid, "its name: it calls itself an MCP server", guess=True)

    def _container(self, known: Known, pid: int) -> str:
        """Of a launcher that only speaks to a container, the image, if that is called a server."""
        return known.launches if not self._lineage.children(pid) and says_mcp(known.launches) else ""

    def _started_as_one(self, pid: int) -> bool:
        """Whether a host or an editor started it, by a launcher or not, or nobody is left who did: what an agent or
        its user runs in a shell is their work, whatever it is called."""
        if parse(self._lineage.by_pid[pid].command).program in SHELLS or self._marks[pid].host_pid:
            return False
        above = self._lineage.parent(self._climb(pid))
        return above is None or above == 1 or above in self._ends or adopts(self._lineage.by_pid[above].command)

    def _add(self, root: int, name: str, serving: int, by: str, *, guess: bool = False) -> None:
        """The innermost server of a chain of wrappers is the one that serves."""
        before = self._by_root.get(root)
        if before is None or before.serving in self._lineage.chain(serving, root):
            guess = guess and (before is None or before.guess)
            name = redact.name(name)
            self._by_root[root] = Instance(name=name, root=root, serving=serving, by=by, guess=guess)

    def _climb(self, pid: int) -> int:
        """The topmost wrapper above a server."""
        top = pid
        for above in self._lineage.ancestors(pid):
            if above in self._ends or not self._wraps(above, top):
                break
            top = above
        return top

    def _wraps(self, pid: int, below: int) -> bool:
        """A launcher wraps what it started, a project's runner the server that it was asked for, a server its second
        process, and a shell only what a launcher or a host had it start, also if that launcher has ended: a tool
        shell, where the user's agent works, belongs to the session."""
        known, inner = self._known.get(pid), self._known.get(below)
        if known is not None:
            same = inner is not None and known.program.name == inner.program.name
            return known.program.kind == "launcher" or same
        command = parse(self._lineage.by_pid[pid].command)
        if command.program not in SHELLS:
            return runs_projects(command)
        above = self._lineage.parent(pid)
        if above in self._prefixed:
            return True
        if above in self._sessions:
            return self._marks[pid].host_pid != above
        started = self._known.get(above) if above is not None else None
        if started is not None and started.program.kind == "launcher":
            return True
        return launched(self._marks[pid], self._marks[above] if above is not None else NO_MARKS)

    def _is_prefixed(self, pid: int) -> bool:
        """The first child of such a shim; later ones are those that it adopted."""
        shim = self._lineage.parent(pid)
        if shim not in self._prefixed or pid in self._by_root:
            return False
        first = min(self._lineage.children(shim), key=lambda child: (self._lineage.by_pid[child].start, child))
        return pid == first and self._may_serve(pid)

    def _marked_as_server(self, pid: int) -> bool:
        """A host gives its stdio servers its own process group and the project's folder, and no mark with its pid;
        its tool shells and hooks get a group of their own and its pid (observed with Claude Code 2.1.330)."""
        above = self._lineage.parent(pid)
        if above is None or above not in self._sessions or pid in self._by_root:
            return False
        marks, child, host = self._marks[pid], self._lineage.by_pid[pid], self._lineage.by_pid[above]
        if not self._may_serve(pid):
            return False
        return marks.project and bool(marks.session) and marks.host_pid != above and child.pgid == host.pgid

    def _is_stray(self, pid: int) -> bool:
        return pid in self._strays and pid not in self._by_root and self._may_serve(pid)

    def _unknown(self, root: int, by: str) -> None:
        """Names the server after the first process below its wrappers."""
        serving = root
        while self._is_wrapper(serving) and len(below := self._lineage.children(serving)) == 1:
            serving = below[0]
        known = self._known.get(root)
        command = parse(to_be(self._lineage.by_pid[serving].command))
        name = known.launches if known is not None and known.launches else describe(command)
        if root not in self._by_root:
            self._by_root[root] = Instance(name=redact.name(name), root=root, serving=serving, by=by)

    def _is_wrapper(self, pid: int) -> bool:
        known = self._known.get(pid)
        if known is not None:
            return known.program.kind == "launcher"
        return parse(self._lineage.by_pid[pid].command).program in SHELLS
