"""What the demo prints: progress while it runs (bars on a terminal, lines elsewhere), then table and plot.

The words of the conclusion are in ``verdict.py``, the plot in ``chart.py``.
"""

from __future__ import annotations

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from oomless.demo.chart import plot, style_for
from oomless.demo.record import ActName, ActRecord, DemoRecord, Point
from oomless.units import format_duration, format_size

#: A pipe has no width, and more columns show nothing more.
WIDEST = 100


def title(agents: int) -> str:
    return f"The incident replayed: {agents} small agents, each with children that nobody ends, in five acts"


class Lines:
    """Progress for logs and pipes: a line when an act begins and when it ends."""

    def __init__(self, console: Console, agents: int) -> None:
        self._console, self._agents = console, agents

    def act(self, name: ActName, what: str) -> None:
        self.note(f"{name}: {what}")

    def tick(self, point: Point, finished: int) -> None:
        pass

    def done(self, record: ActRecord) -> None:
        ended = f", {record.ended} ended by the demo" if record.ended else ""
        self.note(
            f"{record.name}: {record.finished} of {self._agents} finished in {format_duration(record.seconds)}, "
            f"peak {format_size(record.peak_bytes)}, {record.survivors} left{ended}"
        )

    def note(self, line: str) -> None:
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)


class Bars:
    """Progress for a terminal: one bar for each act, agents finished, and what is in memory at the moment."""

    def __init__(self, progress: Progress, agents: int) -> None:
        self._progress, self._agents = progress, agents
        self._task: TaskID | None = None

    def act(self, name: ActName, what: str) -> None:
        self._task = self._progress.add_task(name, total=self._agents, now=what)

    def tick(self, point: Point, finished: int) -> None:
        if self._task is not None:
            now = f"{format_size(point.bytes)}, {point.agents} agents, {point.processes} processes"
            self._progress.update(self._task, completed=finished, now=now)

    def done(self, record: ActRecord) -> None:
        if self._task is not None:
            now = f"peak {format_size(record.peak_bytes)}, {record.survivors} left, {record.ended} ended by the demo"
            self._progress.update(self._task, completed=record.finished, now=now)
            self._progress.stop_task(self._task)

    def note(self, line: str) -> None:
        self._progress.console.print(line, markup=False, highlight=False)


def bars(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description:<15}", markup=False),
        BarColumn(bar_width=20),
        TextColumn("{task.completed:.0f}/{task.total:.0f}"),
        TimeElapsedColumn(),
        TextColumn("{task.fields[now]}", markup=False),
        console=console,
    )


def show(console: Console, record: DemoRecord) -> None:
    console.print()
    console.print(table(record))
    console.print()
    source = record.acts[0].footprint_source.upper()
    console.print(f"Memory of all processes of an act ({source}) over time", highlight=False)
    for line in plot(record.acts, min(console.width, WIDEST) - 1, style_for(console.encoding)):
        console.print(line, markup=False, highlight=False, no_wrap=True, crop=True)
    console.print()
    for sentence in record.conclusion:
        console.print(sentence, markup=False, highlight=False)


def table(record: DemoRecord) -> Table:
    found = Table(box=None, pad_edge=False, header_style="bold")
    found.add_column("act", no_wrap=True)
    for heading in ("agents", "procs", "peak", "budget", "finished", "time", "left", "oomless"):
        found.add_column(heading, justify="right", no_wrap=True)
    for act in record.acts:
        found.add_row(
            act.name,
            str(act.agents_peak),
            str(act.processes_peak),
            format_size(act.peak_bytes),
            format_size(act.budget_bytes) if act.budget_bytes is not None else "-",
            f"{act.finished} of {record.agents}",
            format_duration(act.seconds),
            str(act.survivors),
            format_size(act.overhead_bytes) if act.overhead_bytes else "-",
            style=None if act.survivors == 0 else "yellow",
        )
    return found
