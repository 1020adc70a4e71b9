"""What ``oomless scan`` prints of the live machine: a table of sessions, their servers and governed trees, the memory
in use, and the findings.

Neither typer nor rich is loaded: each takes about as long as all the rest.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Mapping
from typing import Literal

from oomless.census.findings import at_least
from oomless.cli.finding_view import show_findings
from oomless.cli.output import guard, print_json, print_line, printable
from oomless.cli.plain_table import SECTION, Column, print_table
from oomless.hosts.naming import short_name
from oomless.paths import Paths
from oomless.platform import current
from oomless.reports.look import Scanner
from oomless.reports.scan import ProcessRow, ScanReport
from oomless.units import format_size, shorten

Severity = Literal["warning", "critical"]
#: Seconds: reading memory is announced only if it takes longer than that (a process of 500 MB takes 9 ms).
SLOW_SECONDS = 0.7
_WHAT_WIDTH = 44
_COLUMNS = (
    Column("PID", right=True),
    *(Column(title) for title in ("KIND", "WHAT", "OWNER")),
    Column("FOOTPRINT", right=True),
    Column("VERDICT"),
)


def answer(arguments: list[str]) -> bool:
    """Prints the scan. False, with nothing printed, for arguments that typer is to explain, to refuse or to read."""
    if not set(arguments) <= {"--json"}:
        return False
    print_scan("--json" in arguments, None)
    return True


@guard()
def print_scan(json: bool, fail_on: Severity | None) -> None:
    """Exits with 1 if there is a finding as severe as that."""
    scanner = Scanner(current(), Paths())
    scan = scanner.scan(scanner.status(), Announcement())
    if json:
        print_json(scan.report)
    else:
        trees = {pid: row.tree for pid, row in scan.attributed.items() if row.tree is not None and row.role == "tree"}
        _show_report(scan.report, trees)
    if fail_on is not None and at_least(scan.report.findings, fail_on):
        sys.exit(1)


class Announcement:
    """Says what it is doing if that takes long and somebody watches."""

    def __init__(self) -> None:
        self._slow_at = time.monotonic() + SLOW_SECONDS
        self._shown = not sys.stderr.isatty()

    def __call__(self, count: int) -> None:
        if not self._shown and time.monotonic() > self._slow_at:
            sys.stderr.write(f"reading the memory of {count} processes ...\n")
            sys.stderr.flush()
            self._shown = True


def _show_report(report: ScanReport, trees: Mapping[int, str]) -> None:
    if report.processes:
        _print_rows(report.processes, trees)
        print_line(_format_totals(report))
    else:
        print_line("No sessions, servers or governed trees found.")
    if (memory := report.memory) is not None:
        used, available = (
            format_size(memory.total_bytes - memory.available_bytes),
            format_size(memory.available_bytes),
        )
        print_line(f"memory: {used} of {format_size(memory.total_bytes)} in use, {available} available")
    show_findings(report.findings)


def _print_rows(rows: Iterable[ProcessRow], trees: Mapping[int, str]) -> None:
    """One section a session, its own processes first, then server by server; the largest session first."""
    cells: list[tuple[str, ...]] = []
    for section in _group_by_session(rows):
        cells += [SECTION] if cells else []
        for row in section:
            footprint = f"{format_size(row.footprint_bytes or 0)} {row.footprint_source}"
            cells.append(
                (str(row.pid), row.kind, _format_what(row), _format_owner(row, trees), footprint, row.verdict)
            )
    print_table(_COLUMNS, cells)


def _group_by_session(rows: Iterable[ProcessRow]) -> list[list[ProcessRow]]:
    sections: dict[tuple[str, str], list[ProcessRow]] = {}
    for row in rows:
        sections.setdefault((row.host or "", row.session or ""), []).append(row)
    for section in sections.values():
        section.sort(key=lambda row: (row.kind != "session", row.server or "", row.pid))
    return sorted(sections.values(), key=lambda section: -sum(row.footprint_bytes or 0 for row in section))


def _format_what(row: ProcessRow) -> str:
    """The server's name where there is one, then the command, cut; of a tool shell its command."""
    name = short_name("shell", row.command) if row.kind == "tool-shell" else ""
    text = printable(name if name and name != "tool shell" else row.command)
    return shorten(f"{row.server}: {text}" if row.server else text, _WHAT_WIDTH)


def _format_owner(row: ProcessRow, trees: Mapping[int, str]) -> str:
    """The host and its session, an id cut as git cuts its own; then the governed tree."""
    host = f"{row.host} {(row.session or '').partition(':')[0][:8]}" if row.host else ""
    tree = f"tree {trees[row.pid]}" if row.pid in trees else ""
    return printable(", ".join(part for part in (host, tree) if part)) or "-"


def _format_totals(report: ScanReport) -> str:
    rows = report.processes
    total = format_size(sum(row.footprint_bytes or 0 for row in rows))
    sources = ", ".join(sorted({row.footprint_source or "" for row in rows}))
    sessions = sum(group.instances for group in report.groups if group.kind == "session")
    servers = [group for group in report.groups if group.kind == "server"]
    copies = sum(group.instances for group in servers)
    return (
        f"{_count_noun(len(rows), 'process', 'processes')}, {total} ({sources}): {_count_noun(sessions, 'session')},"
        f" {_count_noun(copies, 'server instance')} of {_count_noun(len(servers), 'server')}"
    )


def _count_noun(number: int, singular: str, plural: str = "") -> str:
    return f"{number} {singular if number == 1 else plural or f'{singular}s'}"
