"""Rules on MCP servers that nobody seems to use, by the CPU time that the daemon has seen them use. Pure.

Calls are not seen, so these are for information, and nothing is proposed to be ended for it: the server would only be
started again. What helps is to disable it.
"""

from __future__ import annotations

from oomless.census.attribution import Attributed
from oomless.census.findings.finding import Finding, Scene, listed, pids_of, servers, where
from oomless.census.verdicts import IDLE_AFTER, idle_seconds
from oomless.units import format_duration

_Instances = list[list[Attributed]]


def unused_servers(scene: Scene) -> Finding | None:
    """Servers of which every instance is idle: no session here uses them."""
    found = {name: idle for name, (idle, used) in _by_name(scene).items() if idle and not used}
    return _told(
        scene,
        found,
        rule="unused-servers",
        title="no session uses",
        action="disable for good what you do not need, in the settings of",
    )


def idle_servers(scene: Scene) -> Finding | None:
    """Servers that are idle in some sessions, and used in others."""
    found = {name: idle for name, (idle, used) in _by_name(scene).items() if idle and used}
    return _told(
        scene,
        found,
        rule="idle-servers",
        title="one session uses, and another does not:",
        action="disable them where they are not used, or close",
    )


def _by_name(scene: Scene) -> dict[str, tuple[_Instances, _Instances]]:
    """The instances of each server, of live sessions: the idle ones, and the others."""
    found: dict[str, tuple[_Instances, _Instances]] = {}
    for (name, _), group in servers(scene.processes).items():
        if any(one.verdict in ("owned", "escaped", "idle", "duplicate") for one in group):
            idle, used = found.setdefault(name, ([], []))
            (idle if idle_seconds(group) >= IDLE_AFTER else used).append(group)
    return found


def _told(scene: Scene, found: dict[str, _Instances], *, rule: str, title: str, action: str) -> Finding | None:
    if not found:
        return None
    size = {name: scene.size(one for group in groups for one in group) for name, groups in found.items()}
    names = sorted(found, key=lambda name: (-size[name], name))
    everybody = [one for groups in found.values() for group in groups for one in group]
    freed = scene.freed_words(everybody)
    hosts = sorted({one.host or "" for one in everybody})
    sessions = sorted({_session(scene, one) for one in everybody})
    return Finding(
        rule=rule,
        severity="info",
        title=f"{title} {listed(names)}" + (f" ({freed} would be free)" if freed else ""),
        pids=pids_of(everybody),
        bytes_recoverable=scene.freed(everybody),
        evidence=(
            *(_evidence(scene, name, found[name]) for name in names[:4]),
            "calls are not seen, only what they cost",
        ),
        action=f"{action} {listed(hosts if rule == 'unused-servers' else sessions)}: {listed(names)}",
    )


def _evidence(scene: Scene, name: str, groups: _Instances) -> str:
    shortest = min(idle_seconds(group) for group in groups)
    used = sum(one.idle.cpu_seconds for group in groups for one in group if one.idle is not None)
    size = scene.size_words(one for group in groups for one in group)
    many = "1 instance" if len(groups) == 1 else f"{len(groups)} instances"
    return f"{name}: {many}, {size}, {used:.2f} s of CPU time in the last {format_duration(shortest)}".replace(
        ", ,", ","
    )


def _session(scene: Scene, one: Attributed) -> str:
    """The session is what a person finds by its terminal."""
    root = next((other for other in scene.processes if other.process.pid == one.session_root), one)
    return where(root if root.session is not None else one)
