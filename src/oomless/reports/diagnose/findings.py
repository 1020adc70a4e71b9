"""What is wrong by a text: the findings of its tables, and those that only its prose gives rise to. Pure.

Too many subagents at once, copies of servers, too many of their processes, and helpers that were taken for something
else.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from oomless.census.findings import SEVERITY_RANK, Finding
from oomless.census.findings.finding import count_noun
from oomless.census.findings.servers import SERVER_PROCESSES
from oomless.census.findings.sessions import SUBAGENTS
from oomless.reports.diagnose.facts import Case, CaseProcess
from oomless.reports.diagnose.helpers import where
from oomless.units import format_size

_NAMED = 8
_AGENTS = re.compile(r"\b(?:sub-?agents?|tasks?|agents?)\b", re.IGNORECASE)
_AT_ONCE = re.compile(r"\b(?:parallel|simultaneous(?:ly)?|concurrent(?:ly)?|at once|together)\b", re.IGNORECASE)


def findings(case: Case) -> tuple[Finding, ...]:
    """Those of the census, and what only the text says; the most severe first."""
    if case.origin == "live":
        return case.findings
    said = any(copies.only_said for copies in case.copies)
    by_rule = {finding.rule: finding for finding in case.findings}
    for finding in (*_subagents(case), *_copies(case), *_many(case), *_helpers(case)):
        if said or finding.rule not in by_rule:
            by_rule[finding.rule] = finding
    return tuple(sorted(by_rule.values(), key=lambda finding: SEVERITY_RANK[finding.severity]))


def _subagents(case: Case) -> Iterator[Finding]:
    """As many as the text says that were started in parallel, above a list of them."""
    for one in case.enumerations:
        if one.count is None or one.count.number <= SUBAGENTS or one.partial:
            continue
        if _AGENTS.search(one.count.what) and _AT_ONCE.search(one.lead):
            yield Finding(
                rule="many-subagents",
                severity="warning",
                title=f"{one.count.number} subagents were started at once",
                evidence=(
                    f"line {one.count.line}: {one.count.number} {one.count.what}; more than {SUBAGENTS} is a warning",
                ),
                action="start fewer at once; max_parallel_subagents has further ones wait (oomless config show)",
            )
            return


def _copies(case: Case) -> Iterator[Finding]:
    several = [one for one in case.copies if one.number > 1]
    if not several:
        return
    places = sorted({place for one in several for place in one.places})
    sets = [f"{one.name}: {one.number}{_at(one.places)} ({where(one.lines)})" for one in several[:_NAMED]]
    action = f"close one of the terminals {', '.join(places)}" if len(places) > 1 else "close the sessions not needed"
    yield Finding(
        rule="duplicate-servers",
        severity="warning",
        title=f"{count_noun(len(several), 'MCP server runs', 'MCP servers run')} more than once",
        pids=tuple(sorted({pid for one in several for pid in one.pids})),
        evidence=tuple(sets),
        action=f"{action}; or disable these servers where they are not used",
    )


def _at(places: tuple[str, ...]) -> str:
    return f" on {', '.join(places)}" if places else ""


def _many(case: Case) -> Iterator[Finding]:
    instances = sum(one.number for one in case.copies)
    seen = sum(1 for one in case.processes if one.server)
    if max(instances, seen) > SERVER_PROCESSES:
        yield Finding(
            rule="many-servers",
            severity="warning",
            title=f"{max(instances, seen)} or more processes of MCP servers run",
            evidence=(
                f"{instances} instances of {len(case.copies)} servers: "
                + ", ".join(f"{one.name} {one.number}" for one in case.copies[:_NAMED]),
                f"more than {SERVER_PROCESSES} processes is a warning",
            ),
            action="disable servers that are not used",
        )


def _helpers(case: Case) -> Iterator[Finding]:
    """The memory of extensions is that of the editor, whatever the text calls them."""
    hosts = [one for one in case.processes if one.kind == "extension-host"]
    if not hosts:
        return
    size = sum(one.footprint_bytes or 0 for one in hosts)
    total = f", {format_size(size)}{' together' * (len(hosts) > 1)}" if size else ""
    yield Finding(
        rule="extension-hosts",
        severity="warning",
        title=count_noun(len(hosts), "extension host of an editor runs", "extension hosts of an editor run") + total,
        pids=tuple(one.pid for one in hosts),
        evidence=tuple(_host(one) for one in hosts[:_NAMED]),
        action="close editor windows that are not needed, and look in the editor at which extension takes the memory"
        ' (VS Code: "Developer: Show Running Extensions")',
    )


def _host(one: CaseProcess) -> str:
    size = format_size(one.footprint_bytes) if one.footprint_bytes is not None else "no figure"
    return f"PID {one.pid}: {size} ({one.source or where(one.lines)})"
