"""``oomless scan --watch``: one look after another, as a live table, or as JSON lines without a terminal.

On a terminal it takes the whole screen, as ``htop`` does, and gives it back at the end, however that comes, with the
last table on it.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Literal

from oomless.census.findings import Finding, at_least
from oomless.cli.output import console, print_json, printable
from oomless.cli.status_view import headline
from oomless.cli.watch_view import fit_sections
from oomless.model import MachineMemory
from oomless.paths import Paths
from oomless.platform import current
from oomless.reports.look import Looks, Scan
from oomless.reports.watch import (
    LEFTOVER,
    WatchRow,
    WatchSection,
    count_kind,
    count_totals,
    footprints_by_key,
    make_sections,
)
from oomless.units import format_size

if TYPE_CHECKING:
    from rich.console import Console, Group, RenderableType
    from rich.table import Table
    from rich.text import Text

Severity = Literal["warning", "critical"]
#: Changes of footprint that are worth a figure.
WORTH_BYTES = 1_000_000
#: Lines of the table beside its rows: blank ones, head and rule; and the one that counts what did not fit.
_AROUND = 5
_STATES = {
    "detached": "yellow",
    "session ended": "red",
    "orphan": "red",
    "unknown": "red",
    "waiting": "yellow",
    "new": "green",
}


def run(json: bool, interval: float, count: int | None, fail_on: Severity | None) -> bool:
    """Until ``count`` looks are over, or a signal ends it. Whether any of them had a finding as severe as that."""
    looks = Looks(current(), Paths(), interval, count)
    out = console()
    failed = False
    with _open_screen(out, json) as show:
        for scan in looks:
            show(scan)
            failed = failed or (fail_on is not None and at_least(scan.report.findings, fail_on))
    return failed


@contextmanager
def _open_screen(out: Console, json: bool) -> Iterator[Callable[[Scan], None]]:
    """What to do with each look."""
    if json or not out.is_terminal:
        yield _print_line
        return
    from rich.live import Live

    table = LiveTable(out)
    with _ended_by_signal():
        try:
            with Live(
                console=out, screen=True, auto_refresh=False, redirect_stdout=False, redirect_stderr=False
            ) as live:
                yield lambda scan: live.update(table.frame(scan), refresh=True)
        finally:
            if table.last is not None:
                out.print(table.last)


def _print_line(scan: Scan) -> None:
    print_json(scan.report)
    sys.stdout.flush()


@contextmanager
def _ended_by_signal() -> Iterator[None]:
    """Signals that would end us at once end the table first, which gives the screen back."""

    def end(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class LiveTable:
    """Draws one look after another, and remembers the last for what has changed since."""

    def __init__(self, out: Console) -> None:
        self._out = out
        self._before: dict[str, int] = {}
        self.last: Group | None = None

    def frame(self, scan: Scan) -> Group:
        from rich.console import Group

        current = make_sections(scan, self._before)
        self._before = footprints_by_key(current)
        parts = [*_draw_memory(scan.report.memory), *_draw_totals(scan, current)]
        parts += _draw_findings(scan.report.findings, self._out.size.height - len(parts) - _AROUND - 1)
        shown, more = fit_sections(current, self._out.size.height - len(parts) - _AROUND)
        parts += [_draw_table(shown)] if shown else ["No sessions, servers or governed trees found."]
        parts += [f"and {more} more"] if more else []
        self.last = Group(*parts)
        return self.last


def _draw_memory(memory: MachineMemory | None) -> list[RenderableType]:
    if memory is None:
        return []
    from rich.progress_bar import ProgressBar
    from rich.table import Table

    used = memory.total_bytes - memory.available_bytes
    share = used / memory.total_bytes
    style = "green" if share < 0.8 else "yellow" if share < 0.95 else "red"
    line = Table.grid(padding=(0, 1))
    text = f"{format_size(used)} of {format_size(memory.total_bytes)} in use"
    bar = ProgressBar(total=100, completed=100 * share, width=30, complete_style=style, finished_style=style)
    line.add_row("memory", bar, f"{text}, {format_size(memory.available_bytes)} available")
    return [line]


def _draw_totals(scan: Scan, shown: tuple[WatchSection, ...]) -> list[RenderableType]:
    rows = scan.report.processes
    runs, left = count_totals(shown)
    sources = ", ".join(sorted({row.footprint_source or "" for row in rows}))
    total = format_size(sum(row.footprint_bytes or 0 for row in rows))
    lines = [f"{runs or 'nothing runs'}; {len(rows)} processes, {total}{f' ({sources})' if sources else ''}"]
    if left:
        lines.append(f"leftover: {left}")
    if scan.status.pid is not None:
        lines.append(f"governed: {headline(scan.status)}")
    if scan.status.problem:
        lines.append(scan.status.problem)
    return [_draw_line(line) for line in lines]


def _draw_findings(findings: tuple[Finding, ...], lines: int) -> list[RenderableType]:
    """The most severe come first; what a low screen has no line for is counted."""
    shown = findings if len(findings) <= lines else findings[: max(0, lines - 1)]
    more = [f"and {len(findings) - len(shown)} more findings"] if len(shown) < len(findings) else []
    return [_draw_line(line) for line in (*(f"{finding.severity}: {finding.title}" for finding in shown), *more)]


def _draw_line(text: str) -> Text:
    from rich.text import Text

    return Text(printable(text), no_wrap=True, overflow="ellipsis")


def _draw_table(shown: tuple[WatchSection, ...]) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, expand=True)
    table.add_column("SESSION", no_wrap=True)
    table.add_column("KIND", no_wrap=True)
    table.add_column("NAME", no_wrap=True, overflow="ellipsis", ratio=1)
    for title in ("PROCS", "FOOTPRINT", "CHANGE"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("STATE", no_wrap=True)
    for section in shown:
        for at, row in enumerate(section.rows):
            table.add_row(*_draw_cells(section.title if at == 0 else "", row))
        table.add_section()
    return table


def _draw_cells(title: str, row: WatchRow) -> list[Text]:
    from rich.text import Text

    texts = [
        title,
        row.kind if row.count == 1 else count_kind(row.kind, row.count),
        row.name,
        str(row.processes or "-"),
        "-" if row.footprint is None else format_size(row.footprint),
        _format_change(row.change),
    ]
    state = Text(row.state, style=_STATES.get(row.state, ""))
    style = "bold" if row.kind == "session" else "red" if title == LEFTOVER else ""
    return [*(Text(printable(text), style=style) for text in texts), state]


def _format_change(change: int | None) -> str:
    if change is None:
        return ""
    return "=" if abs(change) < WORTH_BYTES else f"{'+' if change > 0 else '-'}{format_size(abs(change))}"
