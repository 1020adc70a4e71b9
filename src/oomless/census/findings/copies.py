"""Rules on MCP servers: too many, copies across sessions, older generations, and what launchers cost. Pure."""

from __future__ import annotations

from oomless.census.attribute import Attributed
from oomless.census.findings.finding import Finding, Scene, listed, pids_of, servers, where
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
    sizes: dict[str, int] = {}
    for one in group:
        sizes[one.server or ""] = sizes.get(one.server or "", 0) + scene.size((one,))
    largest = sorted(sizes, key=lambda name: -sizes[name])
    copies = len(servers(group))
    together = f", {format_size(scene.size(group))} together" if scene.size(group) else ""
    return Finding(
        rule="many-servers",
        severity="warning",
        title=f"{len(group)} processes of MCP servers run{together}",
        pids=pids_of(group),
        bytes_recoverable=scene.freed(group),
        evidence=(
            f"{copies} instances of {len(sizes)} servers: {listed(_sized(n, sizes[n]) for n in largest)}",
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
        title=f"{len(roots)} MCP servers run in another session as well: {names}",
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
        title=f"{len(roots)} older generations of MCP servers still run under a live session",
        pids=pids_of(group),
        bytes_recoverable=scene.freed(group),
        evidence=tuple(f"{one.process.pid} {one.server} of {where(one)}: {one.evidence[0]}" for one in roots[:4]),
        action=f"oomless reap shows which of {pids} it would end, with --yes it does",
    )


def launcher_overhead(scene: Scene) -> Finding | None:
    """What npx, uvx and the like take while they only wait for the server that they started."""
    group = [one for one in scene.processes if one.server is not None and one.kind == "launcher" and one.program]
    size = scene.size(group)
    if size < OVERHEAD_BYTES:
        return None
    names = sorted({one.server or "" for one in group})
    return Finding(
        rule="launcher-overhead",
        severity="info",
        title=f"{len(group)} launchers of MCP servers take {format_size(size)} and only wait",
        pids=pids_of(group),
        bytes_recoverable=scene.freed(group),
        evidence=(
            f"{listed(sorted({one.program or '' for one in group}))} above {listed(names)}:"
            f" {format_size(size)} by {listed(sorted({scene.footprints[one.process.pid].source for one in group}))}",
        ),
        action=f"install these servers and name their program as the command, without a launcher: {listed(names)}",
    )


def _sized(name: str, size: int) -> str:
    """A listing may not say how large it is."""
    return f"{name} {format_size(size)}" if size else name


def _at(scene: Scene, one: Attributed) -> str:
    """A server's own terminal is its session's, but the session is what a person closes."""
    root = next((other for other in scene.processes if other.process.pid == one.session_root), one)
    return where(root if root.session is not None else one)
