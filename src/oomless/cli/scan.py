"""``oomless scan``: who is governed, and the known hosts and servers around, with owner and honest memory.

Covers the options and the table of one look; the looking itself is ``scanner.py``, going on with it ``watch.py``, and
saved listings are ``listed.py``.
Whose a process is comes from ``census/attribution.py``, the JSON from ``reports/scan.py``.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from oomless.census.findings import at_least
from oomless.cli.finding_view import show as show_findings
from oomless.cli.naming import name_of
from oomless.cli.output import console, guard, print_json, printable
from oomless.errors import UsageError
from oomless.paths import Paths
from oomless.platform import current
from oomless.reports.look import Scan, Scanner
from oomless.reports.scan import ProcessRow, ScanReport
from oomless.units import format_size, parse_duration

if TYPE_CHECKING:
    from rich.table import Table

#: Reading memory is announced only if it takes longer than that (a process of 500 MB takes 9 ms).
SLOW_SECONDS = 0.7
#: Less would cost more than it shows.
SHORTEST_INTERVAL = 0.1
_WHAT_WIDTH = 44


@guard()
def command(
    source: Annotated[
        str | None,
        typer.Option("--from", metavar="FILE|-", help="Read saved output of ps or top instead of the machine."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object; with --watch one a line.")] = False,
    fail_on: Annotated[
        Literal["warning", "critical"] | None,
        typer.Option("--fail-on", help="Exit with 1 if there is a finding as severe as that."),
    ] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Go on looking; without a terminal as JSON lines.")] = False,
    interval: Annotated[str | None, typer.Option(metavar="TIME", help="With --watch: how often (1s).")] = None,
    count: Annotated[int | None, typer.Option(min=1, help="With --watch: end after so many looks.")] = None,
) -> None:
    """Show sessions, their servers and tool shells, and their memory."""
    if not watch and (interval is not None or count is not None):
        raise UsageError("--interval and --count are for --watch", "", "add --watch")
    if source is not None and watch:
        raise UsageError("--from is for one look at what was saved", "", "leave --watch out")
    if source is not None:
        failed = _scan_listing(source, json, fail_on)
    elif watch:
        from oomless.cli.watch import run

        failed = run(json, _seconds(interval or "1s"), count, fail_on)
    else:
        scanner = Scanner(current(), Paths())
        scan = scanner.scan(scanner.status(), Announcement())
        _tell(scan, json)
        failed = fail_on is not None and at_least(scan.report.findings, fail_on)
    if failed:
        raise typer.Exit(1)


def _scan_listing(source: str, json: bool, fail_on: Literal["warning", "critical"] | None) -> bool:
    from oomless import catalog
    from oomless.census.listing import attribute_listing
    from oomless.cli.listing import show_listing
    from oomless.reports.listing import read_listing, scan_listing

    listing = read_listing(source)
    report = scan_listing(listing, attribute_listing(listing, catalog.load(Paths().catalog_file)))
    if json:
        print_json(report)
    else:
        show_listing(report)
    return fail_on is not None and at_least(report.findings, fail_on)


def _seconds(text: str) -> float:
    seconds = parse_duration(text, "the interval")
    if seconds < SHORTEST_INTERVAL:
        raise UsageError(f"the interval {text!r} is too short", "", f"{SHORTEST_INTERVAL:.0g}s is the least")
    return seconds


def _tell(scan: Scan, json: bool) -> None:
    if json:
        print_json(scan.report)
    else:
        trees = {pid: one.tree for pid, one in scan.attributed.items() if one.tree is not None and one.role == "tree"}
        _show(scan.report, trees)


class Announcement:
    """Says what it is doing if that takes long and somebody watches."""

    def __init__(self) -> None:
        self._console = console(stderr=True)
        self._slow_at = time.monotonic() + SLOW_SECONDS
        self._shown = not sys.stderr.isatty()

    def __call__(self, count: int) -> None:
        if not self._shown and time.monotonic() > self._slow_at:
            self._console.print(f"reading the memory of {count} processes ...")
            self._shown = True


def _show(report: ScanReport, trees: Mapping[int, str]) -> None:
    out = console()
    if report.processes:
        out.print(_table(report.processes, trees))
        out.print(_totals(report), soft_wrap=True)
    else:
        out.print("no governed tree, known host or server runs here", soft_wrap=True)
    if (memory := report.memory) is not None:
        used = memory.total_bytes - memory.available_bytes
        out.print(
            f"memory: {format_size(used)} of {format_size(memory.total_bytes)} in use,"
            f" {format_size(memory.available_bytes)} available",
            soft_wrap=True,
        )
    show_findings(out, report.findings)


def _table(rows: Iterable[ProcessRow], trees: Mapping[int, str]) -> Table:
    """One section a session, its own processes first, then server by server; the largest session first."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("PID", justify="right")
    for name in ("KIND", "WHAT"):
        table.add_column(name, overflow="ellipsis", no_wrap=True)
    table.add_column("OWNER", overflow="ellipsis", no_wrap=True)
    table.add_column("FOOTPRINT", justify="right", no_wrap=True)
    table.add_column("VERDICT", no_wrap=True)
    for section in _sections(rows):
        for row in section:
            footprint = f"{format_size(row.footprint_bytes or 0)} {row.footprint_source}"
            table.add_row(str(row.pid), row.kind, _what(row), _owner(row, trees), footprint, row.verdict)
        table.add_section()
    return table


def _sections(rows: Iterable[ProcessRow]) -> list[list[ProcessRow]]:
    sections: dict[tuple[str, str], list[ProcessRow]] = {}
    for row in rows:
        sections.setdefault((row.host or "", row.session or ""), []).append(row)
    for section in sections.values():
        section.sort(key=lambda row: (row.kind != "session", row.server or "", row.pid))
    return sorted(sections.values(), key=lambda section: -sum(row.footprint_bytes or 0 for row in section))


def _what(row: ProcessRow) -> str:
    """The server's name where there is one, then the command, cut; of a tool shell what it was told to run."""
    name = name_of("shell", row.command) if row.kind == "tool-shell" else ""
    text = printable(name if name and name != "tool shell" else row.command)
    text = f"{row.server}: {text}" if row.server else text
    return text if len(text) <= _WHAT_WIDTH else f"{text[: _WHAT_WIDTH - 1]}…"


def _owner(row: ProcessRow, trees: Mapping[int, str]) -> str:
    """The host and its session, an id cut as git cuts its own; then the governed tree."""
    host = f"{row.host} {(row.session or '').partition(':')[0][:8]}" if row.host else ""
    tree = f"tree {trees[row.pid]}" if row.pid in trees else ""
    return printable(", ".join(part for part in (host, tree) if part)) or "-"


def _totals(report: ScanReport) -> str:
    rows = report.processes
    total = format_size(sum(row.footprint_bytes or 0 for row in rows))
    sources = ", ".join(sorted({row.footprint_source or "" for row in rows}))
    sessions = sum(group.instances for group in report.groups if group.kind == "session")
    servers = [group for group in report.groups if group.kind == "server"]
    copies = sum(group.instances for group in servers)
    return (
        f"{_count(len(rows), 'process', 'processes')}, {total} ({sources}): {_count(sessions, 'session')},"
        f" {_count(copies, 'server instance')} of {_count(len(servers), 'server')}"
    )


def _count(number: int, one: str, many: str = "") -> str:
    return f"{number} {one if number == 1 else many or f'{one}s'}"
