"""How the report of ``oomless reap`` is printed for people."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from oomless.cli.output import print_line, printable
from oomless.cli.plain_table import SECTION, Column, print_table
from oomless.reports.reap import ReapReport
from oomless.reports.scan import ProcessRow
from oomless.units import format_size, shorten

_WHAT_WIDTH = 44


def show_reap(report: ReapReport, next_step: str) -> None:
    """``next_step``: what a person does after a dry run that proposes something."""
    for held in report.held_back:
        print_line(f"{held.pid} is held back: {printable(held.why)}")
    if not report.proposed:
        print_line("No process is proven to be a leftover." if report.held_back else "No leftover processes found.")
    elif report.dry_run:
        _print_rows(report.proposed, None)
        print_line(f"{_count_processes(len(report.proposed))} to kill, {_format_freed(report)}; {next_step}")
    else:
        _show_results(report)
    for note in report.notes:
        print_line(f"note: {printable(note)}")


def _count_processes(number: int) -> str:
    return "1 process" if number == 1 else f"{number} processes"


def _format_freed(report: ReapReport) -> str:
    size = report.bytes_recoverable
    return "frees an unknown amount" if size is None else f"frees at least {format_size(size)}"


def _show_results(report: ReapReport) -> None:
    results = {(process.pid, process.start): process.how for process in report.ended}
    results |= {(process.pid, process.start): f"survived: {process.why}" for process in report.left}
    results |= {(process.pid, process.start): f"not signalled: {process.why}" for process in report.refused}
    _print_rows(report.proposed, results)
    proposed = {(row.pid, row.start) for row in report.proposed}
    for process in report.ended:
        if (process.pid, process.start) not in proposed:
            print_line(f"{process.pid}, started meanwhile by one of these: {process.how}")
    survived = len(report.left) + len(report.refused)
    freed = f"{format_size(report.bytes_freed)} freed ({report.bytes_source}, read before)"
    print_line(f"{_count_processes(len(report.ended))} killed, {survived} not; {freed}")


def _print_rows(rows: Iterable[ProcessRow], results: Mapping[tuple[int, int], str] | None) -> None:
    """One section an instance; the evidence in full, for the decision rests on it."""
    columns = (
        Column("PID", right=True),
        Column("WHAT"),
        Column("VERDICT"),
        Column("FREES", right=True),
        Column("EVIDENCE" if results is None else "EVIDENCE AND RESULT", fold=True),
    )
    cells: list[tuple[str, ...]] = []
    last: int | None = None
    for row in sorted(rows, key=lambda row: (row.instance or row.pid, row.pid)):
        if last is not None and last != (row.instance or row.pid):
            cells.append(SECTION)
        last = row.instance or row.pid
        evidence = "; ".join(row.evidence)
        if results is not None and row.start is not None:
            evidence = f"{evidence}; {results.get((row.pid, row.start), 'no result')}"
        frees = "?" if row.bytes_recoverable is None else format_size(row.bytes_recoverable)
        cells.append((str(row.pid), _format_what(row), row.verdict, frees, printable(evidence)))
    print_table(columns, cells)


def _format_what(row: ProcessRow) -> str:
    return shorten(printable(f"{row.server}: {row.command}" if row.server else row.command), _WHAT_WIDTH)
