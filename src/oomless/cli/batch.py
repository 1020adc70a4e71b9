"""``oomless batch``: many commands under one memory budget, with retries, a job log and ``--resume``.

Options, signals and the result on stdout. Not here: the file's format and the engine (``engines/``), what is shown
meanwhile (``progress.py``).
"""

from __future__ import annotations

import sys

assert sys.platform == "linux"

import asyncio
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import msgspec
import typer
from rich.table import Table

from oomless.cli.output import console, guard, print_error, print_json, printable
from oomless.cli.progress import Bars, Lines, View
from oomless.engines.base import Engine, Event, Finished, JobResult, Plan
from oomless.engines.joblog import JobLog
from oomless.engines.jobs import BatchFile, load
from oomless.engines.local import Local
from oomless.engines.store import Store, batch_id, prune
from oomless.errors import DaemonError, Interrupted, UsageError
from oomless.paths import Paths
from oomless.protocol import spawn
from oomless.protocol.client import Client
from oomless.units import format_duration, format_size, parse_size

USAGE_EVERY = 1.0


class BatchRecord(msgspec.Struct, frozen=True, kw_only=True):
    """``unfinished``: jobs that an interruption kept from starting; ``broken``: lines that are no jobs."""

    schema: str = "oomless.batch/1"
    batch: str
    jobs: tuple[JobResult, ...]
    unfinished: tuple[str, ...] = ()
    broken: tuple[str, ...] = ()


@guard()
def command(
    file: Annotated[str, typer.Argument(metavar="FILE.jsonl", help="A job a line; - reads standard input.")],
    budget: Annotated[
        str | None, typer.Option("--budget", metavar="SIZE", help="What all jobs together may use.")
    ] = None,
    max_parallel: Annotated[
        str, typer.Option("--max-parallel", metavar="N|auto", help="How many jobs at once; auto: as memory allows.")
    ] = "auto",
    engine: Annotated[str, typer.Option("--engine", metavar="local", help="Where the jobs run.")] = "local",
    resume: Annotated[
        bool, typer.Option("--resume", help="Take over what an earlier, interrupted run of the file left.")
    ] = False,
    joblog: Annotated[
        str | None, typer.Option("--joblog", metavar="FILE", help="Write a tab-separated line for each job.")
    ] = None,
    keep_going: Annotated[
        bool, typer.Option("--keep-going", help="Run the other jobs if lines are broken; then exit with 1.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Run the jobs of a file, as many at once as memory allows."""
    bytes_budget = None if budget is None else parse_size(budget, "--budget")
    parallel = _parallel(max_parallel)
    if engine != "local":
        raise UsageError(f"there is no engine {engine!r}", "", "use --engine local")
    if resume and file == "-":
        raise UsageError("a batch from standard input cannot be resumed", "it has no file", "save it to a file")
    read = load(file)
    for error in read.broken:
        print_error(error)
    if read.broken and not keep_going:
        raise typer.Exit(UsageError.exit_code)
    plan = Plan(batch=batch_id(read), jobs=read.jobs, budget=bytes_budget, max_parallel=parallel)
    record, interrupted = _run(plan, read, resume, joblog)
    if json:
        print_json(record)
    else:
        _print_table(record)
    if interrupted:
        raise typer.Exit(Interrupted.exit_code)
    whole = not record.broken and all(job.status == "done" for job in record.jobs)
    raise typer.Exit(0 if whole else 1)


def _parallel(text: str) -> int | None:
    if text == "auto":
        return None
    if not text.isascii() or not text.isdecimal() or int(text) < 1:
        raise UsageError(f"--max-parallel {text!r} is not a number of jobs", "", "use 1 or more, or auto")
    return int(text)


def _run(plan: Plan, read: BatchFile, resume: bool, joblog: str | None) -> tuple[BatchRecord, bool]:
    """The result, and whether it was interrupted before all was done."""
    paths = Paths()
    with _opened(paths, plan.batch, resume, once=read.source == "-") as store, _logged(joblog) as log:
        spawn.ensure(paths)
        view: View = Bars(plan.jobs) if sys.stderr.isatty() else Lines(plan.jobs)

        def tell(event: Event) -> None:
            view.event(event)
            if log is not None and event.finished is not None:
                log.add(event.seq, plan.jobs[event.seq], event.finished)

        results = asyncio.run(_drive(Local(paths, plan, store, tell, _here()), view, paths))
        interrupted = any(found is None or found.interrupted for found in results)
        if not interrupted:
            store.finish()
    if log is not None and log.problem:
        view.note(f"oomless: the job log {joblog} is incomplete; {log.problem}")
    missing = tuple(job.name for job, found in zip(plan.jobs, results, strict=True) if found is None)
    record = BatchRecord(
        batch=plan.batch,
        jobs=tuple(found.result for found in results if found is not None),
        unfinished=missing,
        broken=tuple(error.line() for error in read.broken),
    )
    return record, interrupted


def _here() -> str:
    try:
        return os.getcwd()
    except OSError as error:
        raise UsageError("the working folder is gone", error.strerror or str(error), "go to another one") from None


@contextmanager
def _opened(paths: Paths, batch: str, resume: bool, once: bool) -> Iterator[Store]:
    """``once``: it can never be resumed, so that nobody needs its folder if it is interrupted."""
    store = Store.open(paths, batch)
    try:
        prune(paths)
        if not resume:
            store.clear()
        if once:
            store.finish()
        yield store
    finally:
        store.close()


@contextmanager
def _logged(path: str | None) -> Iterator[JobLog | None]:
    log = None if path is None else JobLog(path)
    try:
        yield log
    finally:
        if log is not None:
            log.close()


async def _drive(engine: Engine, view: View, paths: Paths) -> list[Finished | None]:
    """Runs the engine; each Ctrl-C (or SIGTERM) asks it to end its jobs, and all of them are waited for."""
    loop = asyncio.get_running_loop()

    def interrupt() -> None:
        view.note("ending the jobs that run ...")
        engine.interrupt()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, interrupt)
    with view:
        watch = asyncio.create_task(_watch_usage(view, paths)) if view.live else None
        try:
            return await engine.run()
        finally:
            if watch is not None:
                watch.cancel()


async def _watch_usage(view: View, paths: Paths) -> None:
    client = Client(paths, start=False)
    while True:
        try:
            status = await asyncio.to_thread(client.status)
            view.used({tree.tree: tree.used_bytes for tree in status.trees if tree.used_bytes is not None})
        except DaemonError:
            view.used({})  # It is being restarted; the figures are unknown meanwhile.
        await asyncio.sleep(USAGE_EVERY)


def _print_table(record: BatchRecord) -> None:
    out = console()
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("NAME", "STATUS"):
        table.add_column(title)
    for title in ("EXIT", "ATTEMPTS", "PEAK", "TIME", "LEFT"):
        table.add_column(title, justify="right")
    table.add_column("REASON")
    for job in record.jobs:
        table.add_row(
            job.name,
            job.status,
            str(job.exit_code),
            str(job.attempts),
            f"{format_size(job.peak_bytes)} {job.peak_source}",
            format_duration(job.seconds),
            "?" if job.survivors is None else str(job.survivors),
            printable(job.reason),
        )
    if record.jobs:
        out.print(table)
    counts = {status: sum(job.status == status for job in record.jobs) for status in _STATUSES}
    parts = [f"{count} {status}" for status, count in counts.items() if count] or ["no jobs"]
    if record.unfinished:
        parts.append(f"{len(record.unfinished)} not started")
    out.print(", ".join(parts), soft_wrap=True)
    if record.jobs:
        out.print(f"output: {printable(os.path.dirname(record.jobs[0].stdout))}", soft_wrap=True)


_STATUSES = ("done", "failed", "killed", "timeout", "refused")
