"""How reports of a saved listing are printed: the table of ``scan --from``, and the lines that could not be read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from oomless.cli.finding_view import show as show_findings
from oomless.cli.output import console, printable
from oomless.listing import Unreadable
from oomless.reports.listing import ListingReport
from oomless.reports.scan import ProcessRow
from oomless.units import format_size

if TYPE_CHECKING:
    from rich.table import Table

#: What the other columns of the table need; commands get the rest, within these bounds.
_OTHERS_WIDTH, _NARROWEST, _WIDEST = 86, 16, 60
_UNREADABLE_SHOWN = 10


def show_listing(report: ListingReport) -> None:
    out = console()
    if report.processes:
        out.print(_table(report.processes, max(_NARROWEST, min(_WIDEST, out.width - _OTHERS_WIDTH))))
    else:
        out.print("no known host or server is in the listing", soft_wrap=True)
    if report.memory is not None:
        used, whole = report.memory.total_bytes - report.memory.available_bytes, report.memory.total_bytes
        out.print(f"memory: {format_size(used)} of {format_size(whole)} in use by the listing", soft_wrap=True)
    for note in report.notes:
        out.print(f"note: {note}", soft_wrap=True)
    show_unreadable(report.unreadable)
    show_findings(out, report.findings)


def show_unreadable(lines: tuple[Unreadable, ...]) -> None:
    out = console()
    for one in lines[:_UNREADABLE_SHOWN]:
        out.print(f"line {one.line}: {_short(printable(one.text), _WIDEST)}", soft_wrap=True)
    if len(lines) > _UNREADABLE_SHOWN:
        out.print(f"and {len(lines) - _UNREADABLE_SHOWN} more lines (--json has all)", soft_wrap=True)


def _table(rows: tuple[ProcessRow, ...], width: int) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("PID", justify="right", no_wrap=True)
    for name in ("KIND", "WHAT", "TTY", "OWNER"):
        table.add_column(name, overflow="ellipsis", no_wrap=True)
    table.add_column("MEMORY", justify="right", no_wrap=True)
    table.add_column("VERDICT", no_wrap=True)
    for row in sorted(
        rows, key=lambda row: (row.host or "~", row.session or "~", row.tty or "", row.kind != "session")
    ):
        owner = printable(f"{row.host} {(row.session or '')[:8]}") if row.host else "-"
        what = f"{row.server}: {row.command}" if row.server else row.command
        size = "?" if row.footprint_bytes is None else format_size(row.footprint_bytes)
        table.add_row(
            str(row.pid), row.kind, _short(printable(what), width), row.tty or "-", owner, size, row.verdict
        )
    return table


def _order(row: ProcessRow) -> tuple[str, str, str, bool]:
    return row.host or "~", row.session or "~", row.tty or "", row.kind != "session"


def _short(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 1]}…"
