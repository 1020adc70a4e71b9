"""The report: what ``oomless diagnose --json`` prints, and how it is made of a case.

Pure. Showing it to people is ``markdown.py`` and ``html.py``; each figure here says where it is from.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Literal

import msgspec

from oomless.census.findings import Finding
from oomless.model import MachineMemory
from oomless.reports.diagnose.claims import Claim, judge_claims
from oomless.reports.diagnose.contradictions import Contradiction, find_contradictions
from oomless.reports.diagnose.facts import Case, CaseEvent, CaseProcess, format_lines
from oomless.reports.diagnose.findings import find_problems
from oomless.units import format_size

_DEEPEST = 40


class TreeNode(msgspec.Struct, frozen=True, kw_only=True):
    """A process of the tree, ``depth`` levels below its topmost known parent. ``place``: its terminal or session."""

    pid: int
    depth: int
    what: str
    kind: str
    verdict: str
    place: str
    footprint_bytes: int | None
    source: str
    evidence: tuple[str, ...]


class Group(msgspec.Struct, frozen=True, kw_only=True):
    """``footprint_bytes`` is the sum of what has a figure, None if nothing has."""

    kind: str
    name: str
    processes: int
    footprint_bytes: int | None
    source: str


class Metric(msgspec.Struct, frozen=True, kw_only=True):
    """``unit``: bytes or count."""

    name: str
    value: int
    unit: Literal["bytes", "count"]
    source: str


class DiagnosisReport(msgspec.Struct, frozen=True, kw_only=True):
    schema: str = "oomless.diagnose/1"
    origin: Literal["text", "live"]
    source: str
    summary: tuple[str, ...]
    memory: MachineMemory | None
    timeline: tuple[CaseEvent, ...]
    tree: tuple[TreeNode, ...]
    groups: tuple[Group, ...]
    findings: tuple[Finding, ...]
    claims: tuple[Claim, ...]
    contradictions: tuple[Contradiction, ...]
    now: tuple[str, ...]
    for_good: tuple[str, ...]
    metrics: tuple[Metric, ...]
    unreadable: tuple[str, ...]


def build_report(case: Case, source: str) -> DiagnosisReport:
    problems, judged, disagreements = find_problems(case), judge_claims(case), find_contradictions(case)
    groups = tuple(_group_processes(case.processes))
    return DiagnosisReport(
        origin=case.origin,
        source=source,
        summary=tuple(_summarize(case, problems, judged, disagreements, groups)),
        memory=case.memory,
        timeline=case.events,
        tree=tuple(_make_tree(case.processes)),
        groups=groups,
        findings=problems,
        claims=judged,
        contradictions=disagreements,
        now=tuple(dict.fromkeys(finding.action for finding in problems if finding.severity != "info")),
        for_good=tuple(_for_good(problems, judged)),
        metrics=tuple(_make_metrics(case)),
        unreadable=case.unreadable,
    )


def _summarize(
    case: Case,
    problems: tuple[Finding, ...],
    judged: tuple[Claim, ...],
    disagreements: tuple[Contradiction, ...],
    groups: tuple[Group, ...],
) -> Iterator[str]:
    if not case.processes and not case.copies:
        yield (
            "No process is seen or named here."
            if case.origin == "text"
            else "No session, editor, server or governed tree runs here now."
        )
    if case.memory is not None:
        used, whole = case.memory.total_bytes - case.memory.available_bytes, case.memory.total_bytes
        yield f"{format_size(used)} of the machine's {format_size(whole)} of memory are in use."
    refuted = {item.text for item in judged if item.verdict == "refuted"}
    given = "is given by process" if case.origin == "text" else "is held by what is listed here"
    yield from _describe_largest(groups, given, "the helpers are subagents" in refuted)
    yield from (f"{item.title}." for item in problems if item.severity != "info")
    for verdict, words in _JUDGED:
        texts = [
            item.text for item in judged if item.verdict == verdict and item.about == "cause" and _is_raised(item)
        ]
        if texts:
            yield f"{words}: {'; '.join(texts)}."
    if disagreements:
        points = len(disagreements)
        yield f"The text disagrees with itself in {points} points, so not all of its figures can be right."


_JUDGED = (("refuted", "Refuted"), ("supported", "Supported"), ("unknown", "Neither shown nor refuted"))


def _is_raised(claim: Claim) -> bool:
    """What nothing here is about is no news if it is unknown."""
    return claim.verdict != "unknown" or any(line.startswith("line") for line in claim.evidence)


def _describe_largest(groups: tuple[Group, ...], given: str, no_subagents: bool) -> Iterator[str]:
    """Who has the most of what is given by process, and, if that is an editor's, that it is."""
    whole = sum(group.footprint_bytes or 0 for group in groups)
    if not whole:
        return
    first = groups[0]
    size = first.footprint_bytes or 0
    part = "All" if size == whole else f"{format_size(size)} ({size / whole:.0%})"
    yield f"{part} of the {format_size(whole)} that {given} is in {_name_group(first)} ({first.source})."
    if first.kind == "extension-host" and no_subagents and size > whole / 2:
        yield "So it is the editor's memory, for its extensions; no subagent is among these processes."


def _name_group(group: Group) -> str:
    plural = "" if group.processes == 1 else "s"
    if group.kind == "server" or group.kind == "other":
        return f"{group.processes} process{plural and 'es'} of {group.name}"
    return f"{group.processes} {group.kind.replace('-', ' ')}{plural} of {group.name}"


def _make_tree(processes: Iterable[CaseProcess]) -> Iterator[TreeNode]:
    """Parents before children. At the top are processes without a known parent, and those of a ring."""
    by_pid = {process.pid: process for process in processes}
    children: dict[int, list[int]] = {}
    for process in by_pid.values():
        if process.ppid is not None and process.ppid in by_pid and process.ppid != process.pid:
            children.setdefault(process.ppid, []).append(process.pid)
    below = {pid for group in children.values() for pid in group}
    seen: set[int] = set()
    for top in [*(pid for pid in by_pid if pid not in below), *by_pid]:
        stack = [(top, 0)]
        while stack:
            pid, depth = stack.pop()
            if pid in seen:
                continue
            seen.add(pid)
            yield _make_node(by_pid[pid], min(depth, _DEEPEST))
            stack += [(child, depth + 1) for child in sorted(children.get(pid, ()), reverse=True)]


def _make_node(process: CaseProcess, depth: int) -> TreeNode:
    return TreeNode(
        pid=process.pid,
        depth=depth,
        what=process.command or ", ".join(process.called) or process.kind,
        kind=process.kind,
        verdict=process.verdict,
        place=process.place,
        footprint_bytes=process.footprint_bytes,
        source=process.source or (format_lines(process.lines) if process.lines else ""),
        evidence=(*process.evidence, *process.kind_evidence),
    )


def _group_processes(processes: Iterable[CaseProcess]) -> list[Group]:
    members: dict[tuple[str, str], list[CaseProcess]] = {}
    for process in processes:
        key = (
            ("server", process.server)
            if process.server
            else (process.kind, process.program or _NAMES.get(process.kind, "other programs"))
        )
        members.setdefault(key, []).append(process)
    groups = [_make_group(kind, name, group) for (kind, name), group in members.items()]
    return sorted(groups, key=lambda group: (-(group.footprint_bytes or 0), group.kind, group.name))


def _make_group(kind: str, name: str, group: list[CaseProcess]) -> Group:
    sizes = [process.footprint_bytes for process in group if process.footprint_bytes is not None]
    return Group(
        kind=kind,
        name=name,
        processes=len(group),
        footprint_bytes=sum(sizes) if sizes else None,
        source=_format_sources(group),
    )


_NAMES = {"extension-host": "an editor", "editor": "an editor"}


def _format_sources(group: list[CaseProcess]) -> str:
    """Where the figures are from, lines together; how many have none."""
    sized = [process for process in group if process.footprint_bytes is not None]
    lines = [process.figure_line for process in sized if process.figure_line is not None]
    kinds = dict.fromkeys(process.source.partition(",")[0] for process in sized)
    words = [kind for kind in kinds if not kind.startswith("line ")]
    words += [format_lines(lines)] if lines else []
    without = len(group) - len(sized)
    if not words:
        return "no figures"
    return ", ".join(words) + (f"; {without} without a figure" if without else "")


def _for_good(problems: Iterable[Finding], judged: Iterable[Claim]) -> Iterator[str]:
    rules = {item.rule for item in problems}
    refuted = {item.text for item in judged if item.verdict == "refuted"}
    if rules & {"duplicate-servers", "many-servers"}:
        yield (
            "Let servers end with their session (oomless install claude-code), and configure a server only in the"
            " projects that use it."
        )
    if "many-subagents" in rules:
        yield "Have further subagents wait for memory: oomless install claude-code, and max_parallel_subagents."
    if rules & {"orphans", "likely-orphans", "background-not-ending"}:
        yield "Start agents governed (oomless run): what such a command starts is gone when it ends."
    if "the helpers are subagents" in refuted:
        yield "Count an editor's extension hosts as the editor's memory: limits on subagents do not change it."
    if "a smaller model saves local memory" in refuted:
        yield "Choose models for other reasons than memory on this machine."
    if "memory-in-use" in rules:
        yield "Give agents a budget (oomless batch --budget, or budget in the settings), so that starts wait."


def _make_metrics(case: Case) -> Iterator[Metric]:
    sized = [process for process in case.processes if process.footprint_bytes is not None]
    origin = "the text" if case.origin == "text" else "scan"
    yield Metric(name="processes", value=len(case.processes), unit="count", source=origin)
    if sized:
        total = sum(process.footprint_bytes or 0 for process in sized)
        yield Metric(name="accounted for", value=total, unit="bytes", source=_format_sources(sized))
    hosts = [process for process in case.processes if process.kind == "extension-host"]
    if hosts:
        yield Metric(name="extension hosts", value=len(hosts), unit="count", source=_format_source(hosts))
    if case.copies:
        number = sum(copies.number for copies in case.copies)
        lines = [line for copies in case.copies for line in copies.lines]
        yield Metric(
            name="server instances", value=number, unit="count", source=format_lines(lines) if lines else origin
        )
    if case.inside:
        inside = sum(session.number for session in case.inside)
        yield Metric(name="subagents within sessions", value=inside, unit="count", source="daemon")
    if case.ended:
        yield Metric(
            name="largest peak of an agent",
            value=max(agent.peak_bytes for agent in case.ended),
            unit="bytes",
            source="journal",
        )
    if case.memory is not None:
        used = case.memory.total_bytes - case.memory.available_bytes
        yield Metric(
            name="memory in use", value=used, unit="bytes", source="the system" if case.origin == "live" else origin
        )


def _format_source(group: Iterable[CaseProcess]) -> str:
    lines = [line for process in group for line in process.lines[:1]]
    return format_lines(lines) if lines else "scan"
