"""What the demo prints: progress while it installs and runs (bars on a terminal, lines elsewhere), then table
and plot.

The words of the conclusion are in ``verdict.py`` and ``differences.py``, the plot in ``chart.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from oomless.demo.chart import plot, style_for
from oomless.demo.record import ActName, ActRecord, DemoRecord, Form, Point
from oomless.units import format_duration, format_size

#: A part's name, what is being done, and how much of it is done (None: nobody knows).
OnProgress = Callable[[str, str, float | None], None]
#: A pipe has no width, and more columns show nothing more.
WIDEST = 100


def title(form: Form, agents: int) -> str:
    if form == "real":
        return f"The incident replayed: {agents} sessions of Claude Code, each with its MCP servers, in five acts"
    return f"The incident replayed: {agents} small agents, each with children that nobody ends, in five acts"


# While the real programs are installed


@contextmanager
def building(console: Console, missing: Sequence[str], size: int, folder: str) -> Iterator[OnProgress]:
    """What is going to happen first, then how far it is; nothing at all where all is there."""
    if not missing:
        yield lambda name, step, fraction: None
        return
    console.print(
        f"Installing {len(missing)} programs into {folder}, about {format_size(size)}, once: {', '.join(missing)}",
        soft_wrap=True,
    )
    if not console.is_terminal:
        yield BuildLines(console)
        return
    columns = (TextColumn("{task.description:<16}", markup=False), BarColumn(bar_width=20), TimeElapsedColumn())
    with Progress(*columns, TextColumn("{task.fields[now]}", markup=False), console=console) as progress:
        yield BuildBars(progress)


class BuildLines:
    """A line when a step begins or is over."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._last: dict[str, str] = {}

    def __call__(self, name: str, step: str, fraction: float | None) -> None:
        if self._last.get(name) != step:
            self._last[name] = step
            self._console.print(f"{name}: {step}" if name else step, soft_wrap=True)


class BuildBars:
    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._tasks: dict[str, TaskID] = {}

    def __call__(self, name: str, step: str, fraction: float | None) -> None:
        if name not in self._tasks:
            self._tasks[name] = self._progress.add_task(name, total=1.0, now=step)
        task = self._tasks[name]
        self._progress.update(task, completed=fraction or 0.0, now=step)
        if fraction == 1.0 or (fraction is None and name):
            self._progress.stop_task(task)


# While the acts play


@contextmanager
def progress(console: Console, form: Form, agents: int) -> Iterator[Lines | Bars]:
    """Bars on a terminal, lines elsewhere."""
    console.print(title(form, agents), style="bold")
    if not console.is_terminal:
        yield Lines(console, agents)
        return
    with bars(console) as shown:
        yield Bars(shown, agents)


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
    if record.differences:
        console.print()
        console.print("What is different from the incident's account", style="bold")
        for sentence in record.differences:
            console.print(f"- {sentence}", markup=False, highlight=False)
    for missing in record.servers_missing:
        console.print(f"Left out: {missing.name}, {missing.reason}", markup=False, highlight=False)
    for tool in record.tools:
        if tool.errors:
            said = f"{tool.server}: {tool.errors} of {tool.calls} calls of {tool.tool} failed: {tool.error}"
            console.print(said, markup=False, highlight=False)


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
