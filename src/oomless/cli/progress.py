"""What a batch shows on stderr while it runs: bars on a terminal, else a line for each job that is over. Both views
take the engine's events; the bars also take what each tree uses, once a second.
"""

from __future__ import annotations

import time
from contextlib import AbstractContextManager, ExitStack
from types import TracebackType

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from oomless.cli.output import console, printable
from oomless.engines.base import Finished, JobEvent
from oomless.engines.batch_file import Job
from oomless.units import format_duration, format_size

#: Rows of the live display; further jobs are counted.
ROWS_RUNNING = 16
ROWS_WAITING = 4


def finished_line(finished: Finished) -> str:
    """``done  name  exit 0  peak 120 MB  3.2 s``"""
    result = finished.result
    parts = [f"{result.status:7}", result.name, f"exit {result.exit_code}"]
    if result.status != "refused":
        parts += [f"peak {format_size(result.peak_bytes)}", format_duration(result.seconds)]
    if result.attempts > 1:
        parts.append(f"{result.attempts} attempts")
    if result.survivors != 0:
        parts.append("survivors unknown" if result.survivors is None else f"{result.survivors} SURVIVORS")
    if finished.earlier:
        parts.append("in an earlier run")
    if result.reason:
        parts.append(result.reason)
    return printable("  ".join(parts))


def _print_note(out: Console, text: str) -> None:
    """The reader may be gone (``2>&1 | head``); the jobs matter more."""
    try:
        out.print(printable(text), soft_wrap=True)
    except OSError:
        pass


class BatchLines(AbstractContextManager["BatchLines"]):
    """Waiting is shown only while nothing of the batch runs: otherwise its own jobs are the reason."""

    live = False

    def __init__(self, jobs: tuple[Job, ...]) -> None:
        self._jobs = jobs
        self._console = console(stderr=True)
        self._running: set[int] = set()
        self._last_reason = ""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def event(self, event: JobEvent) -> None:
        name = self._jobs[event.seq].name
        if event.kind == "running":
            self._running.add(event.seq)
        elif event.kind == "retry":
            self._running.discard(event.seq)
            self.note(f"retry    {name}  attempt {event.attempt}: {event.text}")
        elif event.kind == "finished" and event.finished is not None:
            self._running.discard(event.seq)
            self.note(finished_line(event.finished))
        elif not self._running and event.text != self._last_reason:
            self._last_reason = event.text
            self.note(f"waiting  {name}  {event.text}")

    def used(self, by_tree: dict[str, int]) -> None:
        """A log has no live figures."""

    def note(self, text: str) -> None:
        _print_note(self._console, text)


class _JobRow:
    """A job that runs or waits."""

    def __init__(self, job: Job, event: JobEvent) -> None:
        self.job = job
        self.event = event
        self.since = time.monotonic()


class BatchBars(AbstractContextManager["BatchBars"]):
    live = True

    def __init__(self, jobs: tuple[Job, ...]) -> None:
        self._jobs = jobs
        self._rows: dict[int, _JobRow] = {}
        self._used: dict[str, int] = {}
        self._done = 0
        self._began = time.monotonic()
        self._console = console(stderr=True)
        self._stack = ExitStack()

    def __enter__(self) -> BatchBars:
        live = Live(get_renderable=self._render, console=self._console, transient=True, redirect_stdout=False)
        self._stack.enter_context(live)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def event(self, event: JobEvent) -> None:
        if event.kind == "finished" and event.finished is not None:
            self._rows.pop(event.seq, None)
            self._done += 1
            self.note(finished_line(event.finished))
        elif event.kind == "retry":
            self._rows.pop(event.seq, None)
            self.note(f"retry    {self._jobs[event.seq].name}  attempt {event.attempt}: {event.text}")
        else:
            row = self._rows.get(event.seq)
            if row is None or row.event.kind != event.kind:
                self._rows[event.seq] = _JobRow(self._jobs[event.seq], event)
            else:
                row.event = event

    def used(self, by_tree: dict[str, int]) -> None:
        self._used = by_tree

    def note(self, text: str) -> None:
        _print_note(self._console, text)

    def _render(self) -> Group:
        """Called from the display's own thread, so it works on copies."""
        rows = list(self._rows.values())
        running = [row for row in rows if row.event.kind == "running"]
        waiting = [row for row in rows if row.event.kind == "waiting"]
        parts = [
            self._overall(),
            self._running_table(running[:ROWS_RUNNING]),
            self._waiting_table(waiting[:ROWS_WAITING]),
        ]
        more = max(0, len(running) - ROWS_RUNNING) + max(0, len(waiting) - ROWS_WAITING)
        return Group(*parts, *([f"and {more} more"] if more else []))

    def _overall(self) -> Table:
        grid = Table.grid(padding=(0, 2))
        total = len(self._jobs)
        elapsed = format_duration(time.monotonic() - self._began)
        grid.add_row(ProgressBar(total=total, completed=self._done, width=40), f"{self._done} of {total}", elapsed)
        return grid

    def _running_table(self, rows: list[_JobRow]) -> Table:
        grid = Table.grid(padding=(0, 2))
        for row in rows:
            used = self._used.get(row.event.tree)
            size = "" if used is None else format_size(used)
            expected = row.job.memory or row.job.expect
            if expected:
                size = f"{size or '?'} of {format_size(expected)}"
            bar = ProgressBar(total=expected, completed=used or 0, width=20) if expected else ""
            grid.add_row("running", row.job.name, bar, size, format_duration(time.monotonic() - row.since))
        return grid

    def _waiting_table(self, rows: list[_JobRow]) -> Table:
        grid = Table.grid(padding=(0, 2))
        for row in rows:
            reason = Text(printable(row.event.text), no_wrap=True, overflow="ellipsis")
            grid.add_row("waiting", row.job.name, reason)
        return grid


BatchView = BatchLines | BatchBars
