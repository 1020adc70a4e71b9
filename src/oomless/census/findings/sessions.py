"""Rules on sessions: too many subagents at once, and what is left of sessions that are gone. Pure."""

from __future__ import annotations

from collections.abc import Callable

from oomless.census.attribution import Attributed
from oomless.census.findings.finding import Finding, Scene, Severity, listed, pids_of, where
from oomless.census.ownerless import LIKELY
from oomless.redact import command_line

#: More than these at once were the first sign in the incident that this tool is for.
SUBAGENTS = 3
_COMMAND_WIDTH = 40


def many_subagents(scene: Scene) -> Finding | None:
    """More than three subagents run at once, inside hosts' processes or as governed trees."""
    trees = {one.tree_root: one for one in scene.processes if one.role == "tree" and one.tree_root is not None}
    inside = sum(scene.subagents.values())
    roots = tuple(pid for pid in trees if pid in scene.footprints)
    count = inside + len(trees)
    if count <= SUBAGENTS:
        return None
    members = [one for one in scene.processes if one.role == "tree"]
    by_session = (f"{number} in the session {session[:8]}" for session, number in scene.subagents.items() if number)
    trees_of = (f"tree {command_line((one.tree or '',))}" for one in trees.values())
    return Finding(
        rule="many-subagents",
        severity="warning",
        title=f"{count} subagents run at once",
        pids=roots,
        bytes_recoverable=scene.freed(members),
        evidence=(f"{listed((*by_session, *trees_of))}; more than {SUBAGENTS} is a warning",),
        action="set max_parallel_subagents, so that further ones wait (oomless config show)",
    )


def orphans(scene: Scene) -> Finding | None:
    """Processes whose owner is proven to be gone."""
    group = [one for one in scene.processes if one.verdict == "orphan" and one.confidence > LIKELY]
    action = "oomless reap shows what it would end, with --yes it does"
    return _left(scene, group, "orphans", "warning", _orphans_title, action)


def likely_orphans(scene: Scene) -> Finding | None:
    """Processes whose owner seems to be gone, by what alone is no proof."""
    group = [one for one in scene.processes if one.verdict == "orphan" and one.confidence <= LIKELY]
    action = "look at each; on the machine itself, while oomless' daemon runs, oomless reap can prove more"
    return _left(scene, group, "likely-orphans", "warning", _likely_title, action)


def detached(scene: Scene) -> Finding | None:
    """Processes that outlived their session, and may have been meant to."""
    group = [one for one in scene.processes if one.verdict == "detached"]
    return _left(
        scene,
        group,
        "detached",
        "info",
        _running_title,
        "end those that you no longer need (oomless reap --include detached)",
    )


def not_ending(scene: Scene) -> Finding | None:
    """Background processes that go on though the session that its marks name is gone, and nothing proves it."""
    group = [one for one in scene.processes if _may_be_left(one)]
    action = "look at each; end those that you did not start to go on"
    return _left(scene, group, "background-not-ending", "warning", _background_title, action)


def _may_be_left(one: Attributed) -> bool:
    """Marks are inherited by what was meant to go on, too: so it is a warning and no verdict."""
    return one.verdict == "unknown" and one.session is not None and one.session_root is None and one.tree is None


def _orphans_title(count: str) -> str:
    return f"{count} left of sessions that are gone"


def _likely_title(count: str) -> str:
    return f"{count} seem to be left of sessions that are gone"


def _running_title(count: str) -> str:
    return f"{count} outlived the session, as it may have been meant"


def _background_title(count: str) -> str:
    return f"{count} in the background did not end with the session that started them"


def _left(
    scene: Scene, group: list[Attributed], rule: str, severity: Severity, title: Callable[[str], str], action: str
) -> Finding | None:
    if not group:
        return None
    number = len(group)
    freed = scene.freed_words(group)
    evidence = tuple(f"{one.process.pid} {_name(one)}: {_why(one)}" for one in group[:3] if one.evidence)
    more = (f"and {number - 3} more",) if number > 3 else ()
    back = f" ({freed} would be free)" if freed else ""
    return Finding(
        rule=rule,
        severity=severity,
        title=title(f"{number} process{'es' if number > 1 else ''}") + back,
        pids=pids_of(group),
        bytes_recoverable=scene.freed(group),
        evidence=(*evidence, *more),
        action=f"{action}: {listed(dict.fromkeys(f'{one.process.pid}' for one in group))}",
    )


def _why(one: Attributed) -> str:
    """What says that it is left: the verdict's own line, or where there is no verdict the mark."""
    if one.verdict != "unknown":
        return one.evidence[0]
    return next((line for line in one.evidence if line.startswith("environment mark")), one.evidence[0])


def _name(one: Attributed) -> str:
    text = one.server or command_line(one.process.command)
    text = text if len(text) <= _COMMAND_WIDTH else f"{text[: _COMMAND_WIDTH - 1]}…"
    return f"{text}, of {where(one)}" if one.session else text
