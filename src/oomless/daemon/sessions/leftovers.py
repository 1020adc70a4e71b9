"""What dead sessions left: which of it is a leftover, and which is detached and why.

``LivingDescendants`` reads the facts about each process and asks ``detach_reasons``; cleaning up after a registered
session (``cleanup.py``) goes by the same answer. ``Leftovers`` reports what nobody has asked us to kill for as long
as it lives, decided anew for each view, as a socket may have been opened since. ``DetachedFromTrees`` is what tool
shells' trees left alone.

The catalog and the readers of hosts' settings are loaded for the first dead session only: they cost a megabyte.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

assert sys.platform == "linux"

from oomless import hosts
from oomless.daemon.governed_trees import GovernedTrees
from oomless.daemon.sessions.ancestry_store import AncestryStore, StoredAncestry
from oomless.daemon.sessions.sampling import ProcessSample
from oomless.journal.trees import TreeIntent, TreeRow
from oomless.model import DetachedProcess, Leftover, Survivor
from oomless.platform import system
from oomless.platform.system import Stat
from oomless.processes.descendants import alive
from oomless.processes.descent import Descendants
from oomless.processes.detach import DAEMON, SurvivalFacts, detach_reasons
from oomless.processes.ids import ProcessId
from oomless.redact import command_line

if TYPE_CHECKING:
    from oomless.hosts.mcp_entries import Entries

_COMMAND_CHARS = 200


class LivingDescendants:
    """The descendants of a dead session that live. ``detached`` and ``commands`` are those of the last
    ``classify``."""

    def __init__(self, descendants: Descendants, trees: GovernedTrees) -> None:
        self.descendants = descendants
        self.commands: dict[ProcessId, str] = {}
        self.detached: dict[ProcessId, str] = {}
        self._trees = trees
        self._facts: dict[ProcessId, SurvivalFacts] = {}
        self._entries: Entries | None = None
        self._persist_reasons: dict[ProcessId, str] = {}

    def classify(
        self,
        table: dict[int, Stat] | None = None,
        *,
        reread: bool = False,
        detached: Mapping[ProcessId, str] | None = None,
    ) -> dict[ProcessId, Stat]:
        """Returns the leftovers. ``reread``: facts about them are read again. ``detached``: more processes that count
        as detached, with their reasons."""
        table = system.table() if table is None else table
        self.descendants.observe(table, self._trees.roots())
        living = self.descendants.living(table)
        living = {p: s for p, s in living.items() if p.pid != os.getpid() and not self._trees.holds(p.pid)}
        for process, stat in living.items():
            if process not in self._facts or (reread and process not in self.detached):
                argv = tuple(system.cmdline(process.pid))
                self._facts[process] = read_survival_facts(stat, argv)
                self._persist_reasons[process] = self._persist_reason(argv)
                self.record_command(process, argv, stat)
        descents = self.descendants.descents
        earlier = self.detached | {p: reason for p, reason in (detached or {}).items() if p in living}
        earlier |= {p: reason for p, reason in self._persist_reasons.items() if reason and p in living}
        daemons = (p for p in self.descendants.daemons if p in living and not self._facts[p].crash_handler)
        earlier |= dict.fromkeys(daemons, DAEMON)
        facts = {process: fact for process, fact in self._facts.items() if process in descents}
        self.detached = detach_reasons(descents, facts, earlier)
        return {process: stat for process, stat in living.items() if process not in self.detached}

    def _persist_reason(self, argv: tuple[str, ...]) -> str:
        """Returns why a host's settings make the process outlive its session, or ""."""
        if self._entries is None:
            from oomless.hosts.mcp_configs import McpConfigReader
            from oomless.hosts.mcp_entries import Entries

            self._entries = Entries(McpConfigReader().read())
        from oomless.processes.command import parse_command

        entry = self._entries.find(parse_command(argv))
        return entry.persist_reason if entry is not None else ""

    def record_command(self, process: ProcessId, argv: tuple[str, ...], stat: Stat) -> None:
        self.commands[process] = (command_line(argv) or stat.comm)[:_COMMAND_CHARS]


def read_survival_facts(stat: Stat, argv: tuple[str, ...]) -> SurvivalFacts:
    from oomless import catalog
    from oomless.daemon.sessions.programs import known_programs
    from oomless.platform.system import find_listeners, ignores_hangup
    from oomless.processes.command import is_crash_handler, is_driven

    known = known_programs().recognise(argv) if argv else None
    program = known.program if known is not None else None
    leads_session = stat.sid == stat.pid
    return SurvivalFacts(
        sid=stat.sid,
        leads_session=leads_session,
        ignores_hangup=ignores_hangup(stat.pid),
        listens=stat.pid in find_listeners((stat.pid,)),
        protected=program.title if program is not None and program.kind in catalog.PROTECTED else "",
        host=program is not None and program.host,
        driven=program is not None and program.kind == "browser" and is_driven(argv),
        crash_handler=is_crash_handler(argv),
        stray_server=leads_session and _has_server_marks(stat.pid),
    )


def _has_server_marks(pid: int) -> bool:
    """Whether it has the marks of a stdio server, which a host starts in its own process session."""
    marks = hosts.read_marks(read_environ(pid))
    return marks is not None and marks.has_project and bool(marks.session) and not marks.host_pid


def read_environ(pid: int) -> dict[str, str]:
    """Returns the environment that the process was started with; empty if it may not be read."""
    entries = system.environ(pid).decode("utf-8", "replace").split("\0")
    return dict(entry.partition("=")[::2] for entry in entries)


class DeadSession:
    """A session whose process has died, with what lives of it. ``since`` is seconds since the epoch."""

    def __init__(self, host: str, session: str, descendants: Descendants, trees: GovernedTrees, since: float) -> None:
        self.host, self.session, self.root, self.since = host, session, descendants.root, since
        self.processes = LivingDescendants(descendants, trees)
        self.written: tuple[frozenset[ProcessId], dict[ProcessId, str]] | None = None

    def has_survivors(self, table: Mapping[int, Stat]) -> bool:
        return _any_alive(self.processes.descendants, table)

    def state(self) -> tuple[frozenset[ProcessId], dict[ProcessId, str]]:
        """Returns what the journal must know: who lives, and the reasons of those that are detached."""
        living = self.processes.descendants.descents
        return frozenset(living), {p: reason for p, reason in self.processes.detached.items() if p in living}


class Leftovers:
    """An observer of the sampler's, by way of ``DiscoveredSessions``. ``living`` yields the processes of hosts'
    sessions that live, with their hosts: such a process is never a leftover, nor is what it started."""

    def __init__(
        self, trees: GovernedTrees, living: Callable[[], Mapping[ProcessId, str]], ancestry_store: AncestryStore
    ) -> None:
        self._trees = trees
        self._living = living
        self._store = ancestry_store
        self._dead: list[DeadSession] = []

    def __bool__(self) -> bool:
        return bool(self._dead)

    def add(self, host: str, session: str, descendants: Descendants) -> int:
        """Takes over what a session left that has just died; returns the number of proven leftovers."""
        dead = DeadSession(host, session, descendants, self._trees, time.time())
        table = system.table()
        leftovers = self._classify(dead, table, reread=False)
        dead.session = session or _session_label(host, descendants)
        if dead.has_survivors(table):
            self._dead.append(dead)
            self._save(dead)
        return len(leftovers)

    def restore(self, stored: StoredAncestry, table: Mapping[int, Stat]) -> None:
        """Takes over what an earlier daemon stored, as far as it lives: by pid and start time, in the same boot."""
        descendants = stored.descendants
        descendants.observe(table, self._trees.roots())
        if not _any_alive(descendants, table):
            self._store.forget(descendants.root)
            return
        since = time.time() if stored.died_at is None else stored.died_at
        session = stored.session or _session_label(stored.host, descendants)
        dead = DeadSession(stored.host, session, descendants, self._trees, since)
        dead.processes.detached = dict(stored.detached)
        self._dead.append(dead)
        self._save(dead)

    def has_root(self, root: ProcessId) -> bool:
        return any(dead.root == root for dead in self._dead)

    def observe(self, sample: ProcessSample) -> None:
        """Survivors may go on forking. A dead session with no survivors is forgotten."""
        for dead in self._dead:
            dead.processes.descendants.observe(sample.table, sample.governed, sample.lines)
            if not dead.has_survivors(sample.table):
                self._store.forget(dead.root)
            elif dead.state() != dead.written:
                self._save(dead)
        self._dead = [dead for dead in self._dead if dead.has_survivors(sample.table)]

    def _save(self, dead: DeadSession) -> None:
        dead.written = dead.state()
        processes = dead.processes
        self._store.save(dead.host, dead.session, processes.descendants, processes.detached, dead.since)

    def views(self) -> tuple[Leftover, ...]:
        """A process that descends from two dead sessions, one within the other, is listed once: below the nearer."""
        views: dict[ProcessId, Leftover] = {}
        table = system.table() if self._dead else {}
        for dead in self._dead:
            leftovers = self._classify(dead, table, reread=True)
            detached = {p: reason for p, reason in dead.processes.detached.items() if alive(p, table)}
            for process, reason in (detached | dict.fromkeys(leftovers, "")).items():
                view = _view(dead, process, reason)
                if process not in views or len(view.above) < len(views[process].above):
                    views[process] = view
        return tuple(views.values())

    def _classify(self, dead: DeadSession, table: dict[int, Stat], *, reread: bool) -> dict[ProcessId, Stat]:
        sessions = {p: f"it is a session of {host} itself" for p, host in self._living().items() if p != dead.root}
        return dead.processes.classify(table, reread=reread, detached=sessions)


def _view(dead: DeadSession, process: ProcessId, reason: str) -> Leftover:
    return Leftover(
        pid=process.pid,
        start=process.start,
        command=dead.processes.commands.get(process, ""),
        host=dead.host,
        session=dead.session,
        root=dead.root.pid,
        above=tuple(pid for pid, _ in dead.processes.descendants.descents[process].above),
        spared=reason,
        since=dead.since,
    )


def _any_alive(descendants: Descendants, table: Mapping[int, Stat]) -> bool:
    """Zombies do not count: they start nothing any more."""
    return any(alive(process, table) for process in descendants.descents)


def _session_label(host: str, descendants: Descendants) -> str:
    """Returns the session's id by the environment of its direct children, else its process as ``PID:START``."""
    facts = hosts.facts_of(host)
    for process, descent in descendants.descents.items() if facts is not None else ():
        marks = facts.read_marks(read_environ(process.pid)) if facts is not None and not descent.above else None
        if marks is not None and marks.session:
            return marks.session
    return "{}:{}".format(*descendants.root)


class DetachedFromTrees:
    """What tool shells' trees left alone when their sessions ended, as it had detached on purpose."""

    def __init__(self) -> None:
        self._views: dict[ProcessId, DetachedProcess] = {}

    def add(self, intent: TreeIntent, rows: tuple[Survivor, ...], at: float) -> None:
        host, _, session = intent.owner.partition(":")
        for row in rows:
            self._views[ProcessId.of(row)] = DetachedProcess(
                pid=row.pid,
                start=row.start,
                command=command_line((row.command,)),  # journals of earlier versions have it raw
                why=row.why,
                host=host,
                session=session,
                since=at,
            )

    def recover(self, rows: Iterable[TreeRow], boot_id: str) -> None:
        """Adds what the journal has of this boot."""
        for row in rows:
            if row.intent.boot_id == boot_id and row.ended_at is not None:
                for account in (row.record, row.sweep):
                    self.add(row.intent, account.left_running if account else (), row.ended_at)

    def living(self) -> tuple[DetachedProcess, ...]:
        self._views = {process: view for process, view in self._views.items() if alive(process)}
        return tuple(self._views.values())
