"""One look at everything that ``oomless scan`` shows, once or again and again.

It asks the daemon (and starts none: without one, nothing is governed), reads the process table, and runs the census.
The catalog, the marks of known processes, and footprints that cannot have changed much are kept for the next look.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import NamedTuple

import msgspec

from oomless import catalog
from oomless.census import attribution, governed, snapshot, verdicts
from oomless.census.attribution import Attributed
from oomless.census.daemon_facts import DaemonFacts, OpenTree, Role
from oomless.census.footprints import FootprintCache
from oomless.errors import DaemonError
from oomless.hosts import mcp_configs
from oomless.model import Footprint
from oomless.paths import Paths
from oomless.platform.base import Platform
from oomless.protocol.client import Client
from oomless.protocol.views import StatusView, TreeView
from oomless.reports.scan import ScanReport, build_scan

#: Trees that the shell prefix asked for, by their class.
ROLES: dict[str | None, Role] = {"tool-shell": "tool-shell", "mcp-server": "server"}


class Scan(NamedTuple):
    """``attributed`` and ``footprints`` are by pid: what is behind the rows of the report."""

    report: ScanReport
    attributed: dict[int, Attributed]
    footprints: dict[int, Footprint]
    status: StatusView


class Scanner:
    def __init__(self, platform: Platform, paths: Paths) -> None:
        self._platform, self._paths = platform, paths
        self._client = Client(paths, start=False)
        self._catalog = catalog.CachedCatalog(catalog.load(paths.catalog_file).programs)
        self._footprints = FootprintCache(platform.footprint)
        self._settings = mcp_configs.McpConfigReader()
        self._before: snapshot.Snapshot | None = None

    def status(self) -> StatusView:
        """Raises DaemonError."""
        return self._client.status()

    def scan(self, status: StatusView, tick: Callable[[int], None] = lambda count: None) -> Scan:
        """``tick`` is called before each reading of memory, with how many there are at most."""
        facts = msgspec.structs.replace(daemon_facts(status), configured=self._settings.read())
        current = self._before = snapshot.take_snapshot(self._platform, self._before)
        members = governed.find_members(current, facts.trees, self._paths.install_id()) if facts.trees else ()
        attributed = attribution.attribute(current, members, self._catalog, facts)
        doubtful = verdicts.select_doubtful(attributed, current)
        attributed = verdicts.decide(attributed, current, snapshot.read_standings(self._platform, doubtful))
        processes = (row.process for row in attributed)
        footprints = self._footprints.read_all(processes, time.monotonic(), lambda: tick(len(attributed)))
        running = [tree for tree in find_subagents(status) if tree.state == "running"]
        names, sessions = Counter(tree.name for tree in running), Counter(owner_of(tree)[1] for tree in running)
        report = build_scan(
            attributed,
            footprints,
            self._platform.memory(),
            names,
            sessions,
            use=self._platform.memory_use(),
            sessions=facts.sessions,
        )
        alive = {row.process.pid: row for row in attributed if row.process.pid in footprints}
        return Scan(report, alive, footprints, status)


class Looks:
    """The looks themselves, one every ``interval`` seconds; a look that takes longer is followed by the next at once.
    A daemon that goes away meanwhile is none."""

    def __init__(self, platform: Platform, paths: Paths, interval: float, count: int | None) -> None:
        self._platform, self._scanner = platform, Scanner(platform, paths)
        self._interval, self._count = interval, count

    def __iter__(self) -> Iterator[Scan]:
        number, due = 0, time.monotonic()
        while True:
            yield self._scanner.scan(self._status())
            number += 1
            if number == self._count:
                return
            due = max(due + self._interval, time.monotonic())
            time.sleep(max(0.0, due - time.monotonic()))

    def _status(self) -> StatusView:
        try:
            return self._scanner.status()
        except DaemonError as error:
            return StatusView(pid=None, memory=self._platform.memory(), problem=error.line())


def daemon_facts(status: StatusView) -> DaemonFacts:
    """What the census uses of the daemon's answer."""
    return DaemonFacts(
        trees=tuple(
            _open_tree(tree, tree.pid) for tree in status.trees if tree.state == "running" and tree.pid is not None
        ),
        sessions=status.sessions,
        detached=status.detached,
        leftovers=status.leftovers,
        idle=status.idle,
        escaped=tuple(process for tree in status.trees for process in tree.escaped),
    )


def _open_tree(tree: TreeView, pid: int) -> OpenTree:
    host, session = owner_of(tree)
    role = ROLES.get(tree.class_name, "tree") if session else "tree"
    of_session = (host, session) if role != "tree" else ("", "")
    return OpenTree(
        tree=tree.tree,
        name=tree.name,
        root_pid=pid,
        root_start=tree.start,
        role=role,
        host=of_session[0],
        session=of_session[1],
    )


def find_subagents(status: StatusView) -> list[TreeView]:
    """Subagents that run or wait inside hosts' own processes."""
    return [tree for tree in status.trees if tree.kind == "subagent"]


def owner_of(tree: TreeView) -> tuple[str, str]:
    """Host and session of what belongs to one (``claude-code:<id>``); both empty for all other owners."""
    host, _, session = tree.owner.replace(" ", ":", 1).partition(":")
    return (host, session) if session and host not in ("batch", "run", "governor") else ("", "")
