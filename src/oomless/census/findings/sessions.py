"""Rules on sessions: too many subagents at once, what dead sessions leave, and memory that grows over time. Pure."""

from __future__ import annotations

import msgspec

from oomless import hosts
from oomless.census.attribution import Attributed
from oomless.census.findings.finding import Finding, Inventory, Severity, describe_session, join_words, pids_of
from oomless.census.ownerless import LIKELY
from oomless.model import LiveSession, SubagentEnd
from oomless.redact import command_line
from oomless.units import format_size

#: More than these at once were the first sign in the incident that this tool is for.
SUBAGENTS = 3
#: A line through fewer points says nothing, nor does one that explains less than half of their spread.
LEAST_POINTS, LEAST_FIT = 5, 0.5
#: Growth of a session in all that is reported, and growth a subagent that is a warning. Thirty subagents in one
#: session of Claude Code 2.1.330, one after another, left 53 MB, 1.8 MB each.
GROWN, STEEP = 50_000_000, 50_000_000
_COMMAND_WIDTH = 40


def many_subagents(inventory: Inventory) -> Finding | None:
    """More than three subagents run at once, inside hosts' processes or as governed trees."""
    members = [process for process in inventory.processes if process.role == "tree"]
    trees = {member.tree_root: member for member in members if member.tree_root is not None}
    count = sum(inventory.subagents.values()) + len(trees)
    if count <= SUBAGENTS:
        return None
    inside = (f"{number} in the session {session[:8]}" for session, number in inventory.subagents.items() if number)
    names = (f"tree {command_line((process.tree or '',))}" for process in trees.values())
    return Finding(
        rule="many-subagents",
        severity="warning",
        title=f"{count} subagents run at once",
        pids=tuple(pid for pid in trees if pid in inventory.footprints),
        bytes_recoverable=inventory.recoverable_bytes(members),
        evidence=(f"{join_words((*inside, *names))}; more than {SUBAGENTS} is a warning",),
        action="set max_parallel_subagents, so that further ones wait (oomless config show)",
    )


# -- what dead sessions leave ----------------------------------------------------------------------------------------


def orphans(inventory: Inventory) -> Finding | None:
    """Processes that are proven to be left of a dead session."""
    group = [process for process in inventory.of_verdict("orphan") if process.confidence > LIKELY]
    title = _title(group, "leftover process of a dead session", "leftover processes of dead sessions")
    action = "oomless reap shows what it kills; with --yes it does"
    return _find_left(inventory, group, "orphans", "warning", title, action)


def likely_orphans(inventory: Inventory) -> Finding | None:
    """Processes that are likely left of a dead session, which nothing proves."""
    group = [process for process in inventory.of_verdict("orphan") if process.confidence <= LIKELY]
    title = _title(group, "process is likely left over", "processes are likely left over")
    action = "look at each; on the machine itself, while oomless' daemon runs, oomless reap can prove more"
    return _find_left(inventory, group, "likely-orphans", "warning", title, action)


def detached_processes(inventory: Inventory) -> Finding | None:
    """Processes that outlived their session on purpose."""
    group = inventory.of_verdict("detached")
    title = _title(group, "detached process outlived its session", "detached processes outlived their session")
    action = "end those that you no longer need (oomless reap --include detached)"
    return _find_left(inventory, group, "detached", "info", title, action)


def background_not_ending(inventory: Inventory) -> Finding | None:
    """Background processes that run on though the session that their marks name has ended. Marks are inherited by
    what detached on purpose, too: so it is a warning and no verdict."""
    unknown = (process for process in inventory.of_verdict("unknown") if process.tree is None)
    group = [process for process in unknown if process.session is not None and process.session_root is None]
    title = _title(
        group,
        "background process did not end with its session",
        "background processes did not end with their session",
    )
    action = "look at each; end those that you did not start to go on"
    return _find_left(inventory, group, "background-not-ending", "warning", title, action)


def _title(group: list[Attributed], singular: str, plural: str) -> str:
    return f"{len(group)} {singular if len(group) == 1 else plural}"


def _find_left(
    inventory: Inventory, group: list[Attributed], rule: str, severity: Severity, title: str, action: str
) -> Finding | None:
    if not group:
        return None
    more = (f"and {len(group) - 3} more",) if len(group) > 3 else ()
    return Finding(
        rule=rule,
        severity=severity,
        title=f"{title}{inventory.frees(group)}",
        pids=pids_of(group),
        bytes_recoverable=inventory.recoverable_bytes(group),
        evidence=(*(_explain_left(member) for member in group[:3] if member.evidence), *more),
        action=f"{action}: {join_words(str(member.pid) for member in group)}",
    )


def _explain_left(attributed: Attributed) -> str:
    """Why it is left: the verdict's own line, or where there is no verdict the mark."""
    reason = attributed.evidence[0]
    if attributed.verdict == "unknown":
        marks = (line for line in attributed.evidence if line.startswith("environment mark"))
        reason = next(marks, reason)
    name = attributed.server or command_line(attributed.process.command)
    name = name if len(name) <= _COMMAND_WIDTH else f"{name[: _COMMAND_WIDTH - 1]}…"
    session = f", of {describe_session(attributed)}" if attributed.session else ""
    return f"{attributed.pid} {name}{session}: {reason}"


# -- memory that grows over time -------------------------------------------------------------------------------------


class LinearFit(msgspec.Struct, frozen=True, kw_only=True):
    """The least squares line: bytes a subagent, and the share of the spread that it explains (R²)."""

    slope: float
    share: float
    points: int


def fit_growth(ends: tuple[SubagentEnd, ...]) -> LinearFit | None:
    """None where there are too few points for a line."""
    points = [(end.ended, end.private_bytes) for end in ends]
    number = len(points)
    if number < LEAST_POINTS:
        return None
    mean_x, mean_y = sum(x for x, _ in points) / number, sum(y for _, y in points) / number
    xx = sum((x - mean_x) ** 2 for x, _ in points)
    yy = sum((y - mean_y) ** 2 for _, y in points)
    xy = sum((x - mean_x) * (y - mean_y) for x, y in points)
    if not xx or not yy:
        return None
    return LinearFit(slope=xy / xx, share=xy * xy / (xx * yy), points=number)


def growing_sessions(inventory: Inventory) -> Finding | None:
    """A session's own process keeps more memory with every subagent that ends."""
    fits = ((session, fit_growth(session.ends)) for session in inventory.sessions)
    growing = [(session, fit) for session, fit in fits if fit is not None and _grows(session, fit)]
    if not growing:
        return None
    growing.sort(key=lambda pair: -pair[1].slope)
    (steepest, fit), more = growing[0], len(growing) - 1
    listed = {process.pid for process in inventory.processes}
    return Finding(
        rule="growing-session",
        severity="warning" if fit.slope >= STEEP else "info",
        title=f"{_name_session(steepest)} grew by {format_size(round(fit.slope))} with each subagent that ended"
        + (f", {more} more too" if more else ""),
        pids=tuple(sorted(session.pid for session, _ in growing if session.pid in listed)),
        evidence=(
            *(_explain_growth(session, fit) for session, fit in growing[:3]),
            "it is the memory of the host's own process: its subagents run inside of it and are no processes",
        ),
        action="end such a session between two tasks and take it up again"
        f" ({join_words(_resume(session) for session, _ in growing)}); start fewer subagents in one session",
    )


def _grows(session: LiveSession, fit: LinearFit) -> bool:
    return fit.share >= LEAST_FIT and fit.slope * (session.ends[-1].ended - session.ends[0].ended) >= GROWN


def _explain_growth(session: LiveSession, fit: LinearFit) -> str:
    ends = (session.ends[0], session.ends[-1])
    first, last = (f"{format_size(end.private_bytes)} at number {end.ended}" for end in ends)
    return (
        f"private memory of {session.pid} when its subagents ended: {first}, {last};"
        f" a line through n = {fit.points} points: {format_size(round(fit.slope))} each, R² = {fit.share:.2f}"
    )


def _name_session(session: LiveSession) -> str:
    return f"the process {session.pid} of {session.host} {session.newest_id[:8]}"


def _resume(session: LiveSession) -> str:
    return hosts.resume_command(session.host, session.newest_id) or _name_session(session)
