"""MCP server instances: the processes that together are one server, wrappers and helpers included.

``npx PACKAGE`` stays in the table as launcher, shell and server: one instance of three processes, named after the
server. A server is recognised by the catalog, by the marks that its host gives to stdio servers and to nothing else,
by a host's settings, or by its name. Pure.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import msgspec

from oomless import hosts, redact
from oomless.catalog import Kind, ProgramMatch
from oomless.census.snapshot import NO_MARKS, Snapshot, is_foreign_server
from oomless.hosts.mcp_entries import Entry
from oomless.processes.command import (
    SHELLS,
    describe_command,
    is_subreaper,
    mcp_name,
    runs_projects,
    says_mcp,
)


class Instance(msgspec.Struct, frozen=True, kw_only=True):
    """``root`` is its topmost process, ``serving`` the one that is the server itself (the root, while a launcher is
    still loading it). ``by`` is the evidence. ``by_name``: it is a server by its words alone, which a job may have
    too."""

    name: str
    root: int
    serving: int
    by: str
    by_name: bool = False


class Servers:
    """All instances of one snapshot. ``sessions`` are the roots of sessions; ``prefixed``: shims that the shell
    prefix put before servers, which start one each; ``barriers``: protected processes and shims, where every instance
    ends; ``strays``: servers of sessions that are gone, by their marks; ``entries``: what hosts' settings start."""

    def __init__(
        self,
        snapshot: Snapshot,
        programs: Mapping[int, ProgramMatch],
        sessions: Collection[int],
        prefixed: Collection[int],
        barriers: Collection[int],
        strays: Collection[int],
        entries: Mapping[int, Entry],
    ) -> None:
        self._ancestry, self._programs, self._marks = snapshot.ancestry, programs, snapshot.marks_by_pid
        self._commands, self._final_command = snapshot.commands, snapshot.final_command
        self._sessions, self._prefixed = frozenset(sessions), frozenset(prefixed)
        self._ends, self._strays = self._sessions | frozenset(barriers), strays
        self._entries = entries
        self._by_root: dict[int, Instance] = {}
        for process in snapshot.processes:
            self._add_server(process.pid)

    def instance_of(self, pid: int) -> Instance | None:
        """The instance that ``pid`` is part of, as server, wrapper or child of it; the outermost, so that a server
        that starts another is one instance."""
        instance = self._by_root.get(pid)
        if pid in self._ends:
            return None
        for above in self._ancestry.ancestors(pid):
            if above in self._ends:
                break
            instance = self._by_root.get(above, instance)
        return instance

    def kind_of(self, pid: int, instance: Instance) -> Kind:
        """What ``pid`` is within its instance."""
        if pid == instance.serving:
            return "server"
        match = self._programs.get(pid)
        if match is not None:
            return match.program.kind
        return "launcher" if pid in self._ancestry.chain(instance.serving, instance.root) else "other"

    def _add_server(self, pid: int) -> None:
        if pid in self._ends:
            return
        match = self._programs.get(pid)
        if match is not None and match.program.kind == "server":
            self._add(
                self._topmost_wrapper(pid), match.program.name, pid, f"catalog: {match.program.name}, {match.by}"
            )
        elif match is not None and match.serves:
            by = f"catalog: {match.program.name} launches {match.launches}"
            self._add(self._topmost_wrapper(pid), match.serves, pid, by)
        elif self._is_prefixed(pid):
            self._add_unknown(pid, "oomless' prefix: started by a host as a stdio server")
        elif self._is_marked_as_server(pid) or self._is_stray(pid):
            self._add_unknown(
                pid, f"environment marks: those that {self._host_title(pid)} gives to its stdio servers"
            )
        elif self._may_serve(pid) and self._started_as_server(pid):
            self._add_named(pid, match)

    def _host_title(self, pid: int) -> str:
        facts = hosts.facts_of(self._marks[pid].host)
        return facts.title if facts is not None else "a host"

    def _may_serve(self, pid: int) -> bool:
        """Whether other evidence than its name may make it a server. A language server may be one (``gopls mcp``)."""
        match = self._programs.get(pid)
        return match is None or match.program.kind in ("launcher", "language-server")

    def _add_named(self, pid: int, match: ProgramMatch | None) -> None:
        """A process that a host's settings start as a server, or whose name says that it is one."""
        entry, root = self._entries.get(pid), self._topmost_wrapper(pid)
        name = mcp_name(self._commands[pid]) if match is None else self._container(match, pid)
        if entry is not None:
            by = f"settings: {entry.source} starts the server {entry.name} with this command"
            self._add(root, entry.name, pid, by, by_name=True)
        elif name and root not in self._by_root:
            self._add(root, name, pid, "name: it calls itself an MCP server", by_name=True)

    def _container(self, match: ProgramMatch, pid: int) -> str:
        """Of a launcher that only speaks to a container, the image, if that has the name of a server."""
        return match.launches if not self._ancestry.children(pid) and says_mcp(match.launches) else ""

    def _started_as_server(self, pid: int) -> bool:
        """Whether a host or an editor started it, by a launcher or not, or its parent is gone. What an agent or a
        person runs in a shell is their work, whatever its name."""
        if self._commands[pid].program in SHELLS or self._marks[pid].host_pid:
            return False
        above = self._ancestry.parent(self._topmost_wrapper(pid))
        if above is None or above == 1 or above in self._ends:
            return True
        return is_subreaper(self._ancestry.by_pid[above].command)

    def _add(self, root: int, name: str, serving: int, by: str, *, by_name: bool = False) -> None:
        """The innermost server of a chain of wrappers is the one that serves."""
        before = self._by_root.get(root)
        if before is None or before.serving in self._ancestry.chain(serving, root):
            by_name = by_name and (before is None or before.by_name)
            name = redact.printable_name(name)
            self._by_root[root] = Instance(name=name, root=root, serving=serving, by=by, by_name=by_name)

    def _topmost_wrapper(self, pid: int) -> int:
        """The server itself if nothing wraps it."""
        top = pid
        for above in self._ancestry.ancestors(pid):
            if above in self._ends or not self._wraps(above, top):
                break
            top = above
        return top

    def _wraps(self, pid: int, below: int) -> bool:
        """A launcher wraps what it started, a project's runner the server that it was asked for, a server its second
        process, and a shell only what a launcher or a host had it start, also if that launcher has ended: a tool
        shell, where the agent works, belongs to the session."""
        match, inner = self._programs.get(pid), self._programs.get(below)
        if match is not None:
            same = inner is not None and match.program.name == inner.program.name
            return match.program.kind == "launcher" or same
        command = self._commands[pid]
        if command.program not in SHELLS:
            return runs_projects(command)
        above = self._ancestry.parent(pid)
        if above in self._prefixed:
            return True
        if above in self._sessions:
            return self._marks[pid].host_pid != above
        outer = self._programs.get(above) if above is not None else None
        if outer is not None and outer.program.kind == "launcher":
            return True
        return is_foreign_server(self._marks[pid], self._marks[above] if above is not None else NO_MARKS)

    def _is_prefixed(self, pid: int) -> bool:
        """Whether it is the first child of such a shim; later ones are those that were reparented to it."""
        shim = self._ancestry.parent(pid)
        if shim not in self._prefixed or pid in self._by_root:
            return False
        first = min(self._ancestry.children(shim), key=lambda child: (self._ancestry.by_pid[child].start, child))
        return pid == first and self._may_serve(pid)

    def _is_marked_as_server(self, pid: int) -> bool:
        """A host gives its stdio servers its own process group and the project's folder, and no mark with its pid;
        its tool shells and hooks get a group of their own and its pid (observed with Claude Code 2.1.330)."""
        above = self._ancestry.parent(pid)
        if above is None or above not in self._sessions or pid in self._by_root:
            return False
        marks, child, host = self._marks[pid], self._ancestry.by_pid[pid], self._ancestry.by_pid[above]
        if not self._may_serve(pid):
            return False
        return marks.project and bool(marks.session) and marks.host_pid != above and child.pgid == host.pgid

    def _is_stray(self, pid: int) -> bool:
        return pid in self._strays and pid not in self._by_root and self._may_serve(pid)

    def _add_unknown(self, root: int, by: str) -> None:
        """Names the server after the first process below its wrappers."""
        serving = root
        while self._is_wrapper(serving) and len(below := self._ancestry.children(serving)) == 1:
            serving = below[0]
        match = self._programs.get(root)
        if match is not None and match.launches:
            name = match.launches
        else:
            name = describe_command(self._final_command(serving))
        if root not in self._by_root:
            self._by_root[root] = Instance(name=redact.printable_name(name), root=root, serving=serving, by=by)

    def _is_wrapper(self, pid: int) -> bool:
        match = self._programs.get(pid)
        if match is not None:
            return match.program.kind == "launcher"
        return self._commands[pid].program in SHELLS
