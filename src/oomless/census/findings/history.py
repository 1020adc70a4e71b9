"""Rules on what grows over time, by what the daemon has read of it. Pure."""

from __future__ import annotations

import msgspec

from oomless import hosts
from oomless.census.findings.finding import Finding, Scene, listed
from oomless.model import LiveSession, SubagentEnd
from oomless.units import format_size

#: A line through fewer points says nothing; one that explains less than half of their spread neither.
LEAST_POINTS, LEAST_FIT = 5, 0.5
#: All in all, for a word; a subagent, for a warning. Thirty in one session of Claude Code 2.1.330, one after another,
#: left 53 MB, 1.8 MB each.
GROWN, STEEP = 50_000_000, 50_000_000


class Fit(msgspec.Struct, frozen=True, kw_only=True):
    """The least squares line: bytes a subagent, and which share of the spread it explains (R²)."""

    slope: float
    share: float
    points: int


def fit(ends: tuple[SubagentEnd, ...]) -> Fit | None:
    """None where there is no line to be had."""
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
    return Fit(slope=xy / xx, share=xy * xy / (xx * yy), points=number)


def growing_sessions(scene: Scene) -> Finding | None:
    """A session's own process keeps more memory with every subagent that ends."""
    fitted = [(one, line) for one in scene.sessions if (line := fit(one.ends)) is not None and _tells(one, line)]
    if not fitted:
        return None
    fitted.sort(key=lambda pair: -pair[1].slope)
    (steepest, line), more = fitted[0], len(fitted) - 1
    listed_pids = {one.process.pid for one in scene.processes}
    others = f", {more} more too" if more else ""
    return Finding(
        rule="growing-session",
        severity="warning" if line.slope >= STEEP else "info",
        title=f"{_name(steepest)} grew by {_each(line)} with each subagent that ended{others}",
        pids=tuple(sorted(one.pid for one, _ in fitted if one.pid in listed_pids)),
        evidence=(
            *(_evidence(one, line) for one, line in fitted[:3]),
            "it is the memory of the host's own process: its subagents run inside of it and are no processes",
        ),
        action="end such a session between two tasks and take it up again"
        f" ({listed(_again(one) for one, _ in fitted)}); start fewer subagents in one session",
    )


def _tells(one: LiveSession, line: Fit) -> bool:
    return line.share >= LEAST_FIT and line.slope * (one.ends[-1].ended - one.ends[0].ended) >= GROWN


def _evidence(one: LiveSession, line: Fit) -> str:
    first, last = (f"{format_size(end.private_bytes)} at number {end.ended}" for end in (one.ends[0], one.ends[-1]))
    return (
        f"private memory of {one.pid} when its subagents ended: {first}, {last};"
        f" a line through n = {line.points} points: {_each(line)} each, R² = {line.share:.2f}"
    )


def _each(line: Fit) -> str:
    return format_size(round(line.slope))


def _name(one: LiveSession) -> str:
    return f"the process {one.pid} of {one.host} {one.newest_id[:8]}"


def _again(one: LiveSession) -> str:
    return hosts.resume_command(one.host, one.newest_id) or _name(one)
