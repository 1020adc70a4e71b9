"""Rules on MCP servers: too many, copies across sessions, older generations, unused ones, and their launchers. Pure.

A server is unused or idle by the CPU time that the daemon has seen it use; calls are not seen. So that is for
information, and nothing is proposed for it: the host would only start the server again. What helps is to disable it.
"""

from __future__ import annotations

from oomless.census.attribution import Attributed
from oomless.census.findings.finding import (
    Finding,
    Inventory,
    by_instance,
    count_noun,
    describe_session,
    join_words,
    pids_of,
)
from oomless.census.verdicts import IDLE_AFTER, idle_seconds
from oomless.units import format_duration, format_size

#: More server processes than these at once were a sign in the incident that this tool is for.
SERVER_PROCESSES = 10
#: Wrappers that only wait are reported from this footprint on.
OVERHEAD_BYTES = 50_000_000

_Instances = list[list[Attributed]]


def many_servers(inventory: Inventory) -> Finding | None:
    """More than ten processes of MCP servers, wrappers included."""
    group = [process for process in inventory.processes if process.server is not None]
    if len(group) <= SERVER_PROCESSES:
        return None
    by_name: dict[str, list[Attributed]] = {}
    for process in group:
        by_name.setdefault(process.server or "", []).append(process)
    largest = sorted(by_name, key=lambda name: -inventory.size(by_name[name]))
    sized = (f"{name} {inventory.format_size(by_name[name])}".rstrip() for name in largest)
    size = inventory.format_size(group)
    together = f", {size} together" if size else ""
    return Finding(
        rule="many-servers",
        severity="warning",
        title=f"{len(group)} processes of MCP servers run{together}",
        pids=pids_of(group),
        bytes_recoverable=inventory.recoverable_bytes(group),
        evidence=(
            f"{len(by_instance(group))} instances of {len(by_name)} servers: {join_words(sized)}",
            f"more than {SERVER_PROCESSES} processes is a warning",
        ),
        action=f"disable servers that you don't use, the largest first: {join_words(largest[:3])}",
    )


def duplicate_servers(inventory: Inventory) -> Finding | None:
    """The same server runs in several live sessions."""
    group = inventory.of_verdict("duplicate")
    if not group:
        return None
    names = join_words(sorted({member.server or "" for member in group}))
    places = join_words(sorted({inventory.session_place(member) for member in group}))
    roots = _roots(group)
    return Finding(
        rule="duplicate-servers",
        severity="warning",
        title=f"{count_noun(len(roots), 'MCP server runs', 'MCP servers run')} in another session as well: {names}",
        pids=pids_of(group),
        bytes_recoverable=inventory.recoverable_bytes(group),
        evidence=_explain_roots(roots),
        action=f"close the sessions that you don't need: {places}; or disable these servers where they are not used",
    )


def superseded_servers(inventory: Inventory) -> Finding | None:
    """Older generations of a server, whose session has started it again."""
    group = inventory.of_verdict("superseded")
    if not group:
        return None
    roots = _roots(group)
    return Finding(
        rule="superseded-servers",
        severity="warning",
        title=(
            f"{count_noun(len(roots), 'older generation', 'older generations')} of MCP servers still"
            f" run{'s' * (len(roots) == 1)} under a live session"
        ),
        pids=pids_of(group),
        bytes_recoverable=inventory.recoverable_bytes(group),
        evidence=_explain_roots(roots),
        action=f"oomless reap shows which of {join_words(map(str, pids_of(group)))} it kills; with --yes it does",
    )


def _roots(group: list[Attributed]) -> list[Attributed]:
    return [member for member in group if member.pid == member.instance]


def _explain_roots(roots: list[Attributed]) -> tuple[str, ...]:
    return tuple(f"{root.pid} {root.server} of {describe_session(root)}: {root.evidence[0]}" for root in roots[:4])


def launcher_overhead(inventory: Inventory) -> Finding | None:
    """What npx, uvx and the like use while they only wait for the server that they started."""
    launchers = (process for process in inventory.processes if process.kind == "launcher" and process.program)
    group = [process for process in launchers if process.server is not None and process.pid in inventory.footprints]
    size = inventory.size(group)
    if size < OVERHEAD_BYTES:
        return None
    names = join_words(sorted({member.server or "" for member in group}))
    programs = join_words(sorted({member.program or "" for member in group}))
    sources = join_words(sorted({inventory.footprints[member.pid].source for member in group}))
    return Finding(
        rule="launcher-overhead",
        severity="info",
        title=(
            f"{count_noun(len(group), 'launcher', 'launchers')} of MCP servers"
            f" take{'s' * (len(group) == 1)} {format_size(size)} and only wait{'s' * (len(group) == 1)}"
        ),
        pids=pids_of(group),
        bytes_recoverable=inventory.recoverable_bytes(group),
        evidence=(f"{programs} above {names}: {format_size(size)} by {sources}",),
        action=f"install these servers and name their program as the command, without a launcher: {names}",
    )


def unused_servers(inventory: Inventory) -> Finding | None:
    """Servers of which every instance is idle: no session here uses them."""
    unused = {name: idle for name, (idle, used) in _split_by_use(inventory).items() if idle and not used}
    hosts = sorted({member.host or "" for groups in unused.values() for group in groups for member in group})
    return _find_idle(
        inventory,
        unused,
        rule="unused-servers",
        title="no session uses",
        action=f"disable for good what you do not need, in the settings of {join_words(hosts)}",
    )


def idle_servers(inventory: Inventory) -> Finding | None:
    """Servers that are idle in some sessions, and used in others."""
    idle_some = {name: idle for name, (idle, used) in _split_by_use(inventory).items() if idle and used}
    members = (member for groups in idle_some.values() for group in groups for member in group)
    places = sorted({inventory.session_place(member) for member in members})
    return _find_idle(
        inventory,
        idle_some,
        rule="idle-servers",
        title="used in one session and not in another:",
        action=f"disable them where they are not used, or close {join_words(places)}",
    )


def _split_by_use(inventory: Inventory) -> dict[str, tuple[_Instances, _Instances]]:
    """The instances of each server, of live sessions: the idle ones, and the others."""
    by_name: dict[str, tuple[_Instances, _Instances]] = {}
    for (name, _), group in by_instance(inventory.processes).items():
        if any(member.verdict in ("owned", "escaped", "idle", "duplicate") for member in group):
            idle, used = by_name.setdefault(name, ([], []))
            (idle if idle_seconds(group) >= IDLE_AFTER else used).append(group)
    return by_name


def _find_idle(
    inventory: Inventory, idle: dict[str, _Instances], *, rule: str, title: str, action: str
) -> Finding | None:
    if not idle:
        return None
    size = {name: inventory.size(member for group in groups for member in group) for name, groups in idle.items()}
    names = sorted(idle, key=lambda name: (-size[name], name))
    members = [member for groups in idle.values() for group in groups for member in group]
    return Finding(
        rule=rule,
        severity="info",
        title=f"{title} {join_words(names)}{inventory.frees(members)}",
        pids=pids_of(members),
        bytes_recoverable=inventory.recoverable_bytes(members),
        evidence=(
            *(_explain_idle(inventory, name, idle[name]) for name in names[:4]),
            "calls are not seen, only CPU time",
        ),
        action=f"{action}: {join_words(names)}",
    )


def _explain_idle(inventory: Inventory, name: str, groups: _Instances) -> str:
    seconds = min(idle_seconds(group) for group in groups)
    used = sum(member.idle.cpu_seconds for group in groups for member in group if member.idle is not None)
    parts = (
        count_noun(len(groups), "instance", "instances"),
        inventory.format_size(member for group in groups for member in group),
        f"{used:.2f} s of CPU time in the last {format_duration(seconds)}",
    )
    return f"{name}: {', '.join(filter(None, parts))}"
