"""How the report of ``oomless reap`` is printed for people."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from oomless.cli.output import console, printable
from oomless.reports.reap import ReapReport
from oomless.reports.scan import ProcessRow
from oomless.units import format_size

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

_WHAT_WIDTH = 44


def show(report: ReapReport, todo: str) -> None:
    """``todo``: what a person does after a dry run that proposes something."""
    out = console()
    for held in report.held_back:
        out.print(f"{held.pid} is held back: {printable(held.why)}", soft_wrap=True)
    if not report.proposed:
        out.print("nothing is proven to be only left", soft_wrap=True)
    elif report.dry_run:
        out.print(_table(report.proposed, None))
        out.print(f"{_many(report.proposed)} would be ended, {_back(report)}; {todo}", soft_wrap=True)
    else:
        _show_ended(out, report)
    for note in report.notes:
        out.print(f"note: {printable(note)}", soft_wrap=True)


def _many(proposed: tuple[ProcessRow, ...]) -> str:
    return "1 process" if len(proposed) == 1 else f"{len(proposed)} processes"


def _back(report: ReapReport) -> str:
    size = report.bytes_recoverable
    return "how much would come back is not known" if size is None else f"{format_size(size)} or more would come back"


def _show_ended(out: Console, report: ReapReport) -> None:
    how = {(one.pid, one.start): one.how for one in report.ended}
    how |= {(one.pid, one.start): f"still there: {one.why}" for one in report.left}
    how |= {(one.pid, one.start): f"not signalled: {one.why}" for one in report.refused}
    out.print(_table(report.proposed, how))
    named = {(one.pid, one.start) for one in report.proposed}
    for one in report.ended:
        if (one.pid, one.start) not in named:
            out.print(f"{one.pid}, started meanwhile by one of them: {one.how}", soft_wrap=True)
    freed = f"{format_size(report.bytes_freed)} came back ({report.bytes_source} of those that were ended, before)"
    out.print(f"{len(report.ended)} ended, {len(report.left) + len(report.refused)} not; {freed}", soft_wrap=True)


def _table(rows: Iterable[ProcessRow], how: Mapping[tuple[int, int], str] | None) -> Table:
    """One section an instance; the evidence in full, for it is what the decision is made on."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("PID", justify="right")
    table.add_column("WHAT", overflow="ellipsis", no_wrap=True, max_width=_WHAT_WIDTH)
    table.add_column("VERDICT", no_wrap=True)
    table.add_column("FREES", justify="right", no_wrap=True)
    table.add_column("WHY" if how is None else "WHY, AND HOW IT ENDED", overflow="fold")
    last: int | None = None
    for row in sorted(rows, key=lambda row: (row.instance or row.pid, row.pid)):
        if last is not None and last != (row.instance or row.pid):
            table.add_section()
        last = row.instance or row.pid
        what = f"{row.server}: {row.command}" if row.server else row.command
        why = "; ".join(row.evidence)
        if how is not None and row.start is not None:
            why = f"{why}; {how.get((row.pid, row.start), 'no word of it')}"
        frees = "?" if row.bytes_recoverable is None else format_size(row.bytes_recoverable)
        table.add_row(str(row.pid), printable(what), row.verdict, frees, printable(why))
    return table
