"""How reports of a saved listing are printed: the table of ``scan --from``, and the lines that could not be read."""

from __future__ import annotations

from collections.abc import Iterable

from oomless.cli.finding_view import show_findings
from oomless.cli.output import print_line, printable
from oomless.cli.plain_table import Column, print_table, screen
from oomless.listing import Unreadable
from oomless.reports.listing import ListingReport
from oomless.reports.scan import ProcessRow
from oomless.units import format_size, shorten

#: What the other columns of the table need; commands get the rest, within these bounds.
_OTHERS_WIDTH, _NARROWEST, _WIDEST = 86, 16, 60
_UNREADABLE_SHOWN = 10


_COLUMNS = (
    Column("PID", right=True),
    *(Column(title) for title in ("KIND", "WHAT", "TTY", "OWNER")),
    Column("MEMORY", right=True),
    Column("VERDICT"),
)


def show_listing(report: ListingReport) -> None:
    if report.processes:
        _print_rows(report.processes)
    else:
        print_line("No sessions or servers found in the listing.")
    if report.memory is not None:
        used, whole = report.memory.total_bytes - report.memory.available_bytes, report.memory.total_bytes
        print_line(f"memory: {format_size(used)} of {format_size(whole)} in use by the listing")
    for note in report.notes:
        print_line(f"note: {note}")
    show_unreadable(report.unreadable)
    show_findings(report.findings)


def show_unreadable(lines: tuple[Unreadable, ...]) -> None:
    for line in lines[:_UNREADABLE_SHOWN]:
        print_line(f"line {line.line}: {shorten(printable(line.text), _WIDEST)}")
    if len(lines) > _UNREADABLE_SHOWN:
        print_line(f"and {len(lines) - _UNREADABLE_SHOWN} more lines (--json has all)")


def _print_rows(rows: Iterable[ProcessRow]) -> None:
    width = max(_NARROWEST, min(_WIDEST, screen()[0] - _OTHERS_WIDTH))
    cells = []
    for row in sorted(rows, key=_sort_key):
        owner = printable(f"{row.host} {(row.session or '')[:8]}") if row.host else "-"
        what = shorten(printable(f"{row.server}: {row.command}" if row.server else row.command), width)
        size = "?" if row.footprint_bytes is None else format_size(row.footprint_bytes)
        cells.append((str(row.pid), row.kind, what, row.tty or "-", owner, size, row.verdict))
    print_table(_COLUMNS, cells)


def _sort_key(row: ProcessRow) -> tuple[str, str, str, bool]:
    return row.host or "~", row.session or "~", row.tty or "", row.kind != "session"
