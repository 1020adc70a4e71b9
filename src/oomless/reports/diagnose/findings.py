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
from oomless.reports.diagnose.facts import Case, CaseProcess, format_lines
from oomless.units import format_size

_NAMED = 8
_AGENTS = re.compile(r"\b(?:sub-?agents?|tasks?|agents?)\b", re.IGNORECASE)
_AT_ONCE = re.compile(r"\b(?:parallel|simultaneous(?:ly)?|concurrent(?:ly)?|at once|together)\b", re.IGNORECASE)


def find_problems(case: Case) -> tuple[Finding, ...]:
    """Those of the census, and what only the text says; the most severe first."""
    if case.origin == "live":
        return case.findings
    said = any(copies.only_said for copies in case.copies)
    by_rule = {finding.rule: finding for finding in case.findings}
    for finding in (*_many_subagents(case), *_duplicate_servers(case), *_many_servers(case), *_extension_hosts(case)):
        if said or finding.rule not in by_rule:
            by_rule[finding.rule] = finding
    return tuple(sorted(by_rule.values(), key=lambda finding: SEVERITY_RANK[finding.severity]))


def _many_subagents(case: Case) -> Iterator[Finding]:
    """As many as the text says that were started in parallel, above a list of them."""
    for listed in case.enumerations:
        count = listed.count
        if count is None or count.number <= SUBAGENTS or listed.partial:
            continue
        if _AGENTS.search(count.what) and _AT_ONCE.search(listed.lead):
            yield Finding(
                rule="many-subagents",
                severity="warning",
                title=f"{count.number} subagents were started at once",
                evidence=(f"line {count.line}: {count.number} {count.what}; more than {SUBAGENTS} is a warning",),
                action="start fewer at once; max_parallel_subagents has further ones wait (oomless config show)",
            )
            return


def _duplicate_servers(case: Case) -> Iterator[Finding]:
    several = [copies for copies in case.copies if copies.number > 1]
    if not several:
        return
    places = sorted({place for copies in several for place in copies.places})
    action = f"close one of the terminals {', '.join(places)}" if len(places) > 1 else "close the sessions not needed"
    yield Finding(
        rule="duplicate-servers",
        severity="warning",
        title=f"{count_noun(len(several), 'MCP server runs', 'MCP servers run')} more than once",
        pids=tuple(sorted({pid for copies in several for pid in copies.pids})),
        evidence=tuple(
            f"{c.name}: {c.number}{_format_places(c.places)} ({format_lines(c.lines)})" for c in several[:_NAMED]
        ),
        action=f"{action}; or disable these servers where they are not used",
    )


def _format_places(places: tuple[str, ...]) -> str:
    return f" on {', '.join(places)}" if places else ""


def _many_servers(case: Case) -> Iterator[Finding]:
    instances = sum(copies.number for copies in case.copies)
    seen = sum(1 for copies in case.processes if copies.server)
    if max(instances, seen) > SERVER_PROCESSES:
        yield Finding(
            rule="many-servers",
            severity="warning",
            title=f"{max(instances, seen)} or more processes of MCP servers run",
            evidence=(
                f"{instances} instances of {len(case.copies)} servers: "
                + ", ".join(f"{copies.name} {copies.number}" for copies in case.copies[:_NAMED]),
                f"more than {SERVER_PROCESSES} processes is a warning",
            ),
            action="disable servers that are not used",
        )


def _extension_hosts(case: Case) -> Iterator[Finding]:
    """The memory of extensions is that of the editor, whatever the text calls them."""
    hosts = [host for host in case.processes if host.kind == "extension-host"]
    if not hosts:
        return
    size = sum(host.footprint_bytes or 0 for host in hosts)
    total = f", {format_size(size)}{' together' * (len(hosts) > 1)}" if size else ""
    yield Finding(
        rule="extension-hosts",
        severity="warning",
        title=count_noun(len(hosts), "extension host of an editor runs", "extension hosts of an editor run") + total,
        pids=tuple(host.pid for host in hosts),
        evidence=tuple(_format_host(host) for host in hosts[:_NAMED]),
        action="close editor windows that are not needed, and look in the editor at which extension takes the memory"
        ' (VS Code: "Developer: Show Running Extensions")',
    )


def _format_host(process: CaseProcess) -> str:
    size = format_size(process.footprint_bytes) if process.footprint_bytes is not None else "no figure"
    return f"PID {process.pid}: {size} ({process.source or format_lines(process.lines)})"
