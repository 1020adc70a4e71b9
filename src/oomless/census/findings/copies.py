"""Rules on MCP servers: too many, copies across sessions, older generations, and what launchers cost. Pure."""

from __future__ import annotations

from oomless.census.attribution import Attributed
from oomless.census.findings.finding import Finding, Scene, counted, listed, pids_of, servers, where
from oomless.units import format_size

#: More server processes than these at once were a sign in the incident that this tool is for.
SERVER_PROCESSES = 10
#: Wrappers that only wait are worth a line from here.
OVERHEAD_BYTES = 50_000_000


def many_servers(scene: Scene) -> Finding | None:
    """More than ten processes of MCP servers, wrappers included."""
    group = [one for one in scene.processes if one.server is not None]
    if len(group) <= SERVER_PROCESSES:
        return None
    by_name: dict[str, list[Attributed]] = {}
    for one in group:
        by_name.setdefault(one.server or "", []).append(one)
    largest = sorted(by_name, key=lambda name: -scene.size(by_name[name]))
    sized = (f"{name} {scene.size_words(by_name[name])}".rstrip() for name in largest)
    copies = len(servers(group))
    size = scene.size_words(group)
    together = f", {size} together" if size else ""
    return Finding(
        rule="many-servers",
        severity="warning",
        title=f"{len(group)} processes of MCP servers run{together}",
        pids=pids_of(group),
        bytes_recoverable=scene.freed(group),
        evidence=(
            f"{copies} instances of {len(by_name)} servers: {listed(sized)}",
            f"more than {SERVER_PROCESSES} processes is a warning",
        ),
        action=f"disable servers that you don't use, the largest first: {listed(largest[:3])}",
    )


def duplicates(scene: Scene) -> Finding | None:
    """The same server runs in several live sessions."""
    group = [one for one in scene.processes if one.verdict == "duplicate"]
    if not group:
        return None
    names = listed(sorted({one.server or "" for one in group}))
    places = listed(sorted({_at(scene, one) for one in group}))
    roots = [one for one in group if one.process.pid == one.instance]
    return Finding(
        rule="duplicate-servers",
        severity="warning",
        title=f"{counted(len(roots), 'MCP server runs', 'MCP servers run')} in another session as well: {names}",
        pids=pids_of(group),
        bytes_recoverable=scene.freed(group),
        evidence=tuple(f"{one.process.pid} {one.server} of {where(one)}: {one.evidence[0]}" for one in roots[:4]),
        action=f"close the sessions that you don't need: {places}; or disable these servers where they are not used",
    )


def superseded(scene: Scene) -> Finding | None:
    """Older generations of a server, whose session has started it anew."""
    group = [one for one in scene.processes if one.verdict == "superseded"]
    if not group:
        return None
    roots = [one for one in group if one.process.pid == one.instance]
    pids = listed(str(pid) for pid in pids_of(group))
    return Finding(
        rule="superseded-servers",
        severity="warning",
        title=(
            f"{counted(len(roots), 'older generation', 'older generations')} of MCP servers still"
            f" run{'s' * (len(roots) == 1)} under a live session"
        ),
        pids=pids_of(group),
        bytes_recoverable=scene.freed(group),
        evidence=tuple(f"{one.process.pid} {one.server} of {where(one)}: {one.evidence[0]}" for one in roots[:4]),
        action=f"oomless reap shows which of {pids} it would end, with --yes it does",
    )


def launcher_overhead(scene: Scene) -> Finding | None:
    """What npx, uvx and the like take while they only wait for the server that they started."""
    group = [one for one in scene.processes if one.server is not None and one.kind == "launcher" and one.program]
    group = [one for one in group if one.process.pid in scene.footprints]
    size = scene.size(group)
    if size < OVERHEAD_BYTES:
        return None
    names = sorted({one.server or "" for one in group})
    return Finding(
        rule="launcher-overhead",
        severity="info",
        title=(
            f"{counted(len(group), 'launcher', 'launchers')} of MCP servers"
            f" take{'s' * (len(group) == 1)} {format_size(size)} and only wait{'s' * (len(group) == 1)}"
        ),
        pids=pids_of(group),
        bytes_recoverable=scene.freed(group),
        evidence=(
            f"{listed(sorted({one.program or '' for one in group}))} above {listed(names)}:"
            f" {format_size(size)} by {listed(sorted({scene.footprints[one.process.pid].source for one in group}))}",
        ),
        action=f"install these servers and name their program as the command, without a launcher: {listed(names)}",
    )


def _at(scene: Scene, one: Attributed) -> str:
    """A server's own terminal is its session's, but the session is what a person closes."""
    root = next((other for other in scene.processes if other.process.pid == one.session_root), one)
    return where(root if root.session is not None else one)
