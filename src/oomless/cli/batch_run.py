"""What ``oomless batch`` does: runs many commands under one memory budget, with retries, a job log and ``--resume``.
Its options are in ``batch.py``; what is shown meanwhile is in ``progress.py``.
"""

from __future__ import annotations

import sys

assert sys.platform == "linux"

import asyncio
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec
from rich.table import Table

from oomless.cli.output import console, print_error, print_json, printable
from oomless.cli.progress import BatchBars, BatchLines, BatchView
from oomless.engines.base import BatchPlan, Engine, Finished, JobEvent, JobResult
from oomless.engines.batch_file import BatchFile, load_batch
from oomless.engines.batch_folder import BatchFolder, make_batch_id, prune_batches
from oomless.engines.joblog import JobLog
from oomless.engines.local import LocalEngine
from oomless.errors import DaemonError, Interrupted, UsageError
from oomless.paths import Paths
from oomless.protocol import spawn
from oomless.protocol.client import Client
from oomless.units import format_duration, format_size

USAGE_EVERY = 1.0


class BatchRecord(msgspec.Struct, frozen=True, kw_only=True):
    """``unfinished``: jobs that an interruption kept from starting. ``broken``: lines that are no jobs."""

    schema: str = "oomless.batch/1"
    batch: str
    jobs: tuple[JobResult, ...]
    unfinished: tuple[str, ...] = ()
    broken: tuple[str, ...] = ()


def run_batch_file(
    file: str,
    budget: int | None,
    parallel: int | None,
    *,
    resume: bool,
    joblog: str | None,
    keep_going: bool,
    json: bool,
) -> int:
    """Runs the jobs of the file and prints the result; returns the exit code. ``budget`` in bytes. Raises
    OomlessError where nothing was run."""
    batch = load_batch(file)
    for error in batch.broken:
        print_error(error)
    if batch.broken and not keep_going:
        return UsageError.exit_code
    plan = BatchPlan(batch=make_batch_id(batch), jobs=batch.jobs, budget=budget, max_parallel=parallel)
    record, interrupted = _run_batch(plan, batch, resume, joblog)
    if json:
        print_json(record)
    else:
        _print_table(record)
    if interrupted:
        return Interrupted.exit_code
    succeeded = not record.broken and all(job.status == "done" for job in record.jobs)
    return 0 if succeeded else 1


def _run_batch(plan: BatchPlan, batch: BatchFile, resume: bool, joblog: str | None) -> tuple[BatchRecord, bool]:
    """The result, and whether the batch was interrupted before all was done."""
    paths = Paths()
    with _open_folder(paths, plan.batch, resume, once=batch.source == "-") as folder, _open_log(joblog) as log:
        spawn.ensure(paths)
        view: BatchView = BatchBars(plan.jobs) if sys.stderr.isatty() else BatchLines(plan.jobs)

        def show_and_log(event: JobEvent) -> None:
            view.event(event)
            if log is not None and event.finished is not None:
                log.add(event.seq, plan.jobs[event.seq], event.finished)

        engine = LocalEngine(paths, plan, folder, show_and_log, _working_folder())
        results = asyncio.run(_drive(engine, view, paths))
        interrupted = any(result is None or result.interrupted for result in results)
        if not interrupted:
            folder.finish()
    if log is not None and log.problem:
        view.note(f"oomless: warning: the job log {joblog} is incomplete: {log.problem}")
    record = BatchRecord(
        batch=plan.batch,
        jobs=tuple(result.result for result in results if result is not None),
        unfinished=tuple(job.name for job, result in zip(plan.jobs, results, strict=True) if result is None),
        broken=tuple(error.line() for error in batch.broken),
    )
    return record, interrupted


def _working_folder() -> str:
    try:
        return os.getcwd()
    except OSError as error:
        raise UsageError("the working folder is gone", error.strerror or str(error), "go to another one") from None


@contextmanager
def _open_folder(paths: Paths, batch: str, resume: bool, once: bool) -> Iterator[BatchFolder]:
    """``once``: the batch can never be resumed, so its folder need not be kept if it is interrupted."""
    folder = BatchFolder.open(paths, batch)
    try:
        prune_batches(paths)
        if not resume:
            folder.clear()
        if once:
            folder.finish()
        yield folder
    finally:
        folder.close()


@contextmanager
def _open_log(path: str | None) -> Iterator[JobLog | None]:
    log = None if path is None else JobLog(path)
    try:
        yield log
    finally:
        if log is not None:
            log.close()


async def _drive(engine: Engine, view: BatchView, paths: Paths) -> list[Finished | None]:
    """Runs the engine. Ctrl-C and SIGTERM make it kill its jobs, and all of them are waited for."""
    loop = asyncio.get_running_loop()

    def interrupt() -> None:
        view.note("killing the running jobs ...")
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


async def _watch_usage(view: BatchView, paths: Paths) -> None:
    client = Client(paths, start=False)
    while True:
        try:
            status = await asyncio.to_thread(client.status)
            view.used({tree.tree: tree.used_bytes for tree in status.trees if tree.used_bytes is not None})
        except DaemonError:
            view.used({})  # it is being restarted; the figures are unknown meanwhile
        await asyncio.sleep(USAGE_EVERY)


def _print_table(record: BatchRecord) -> None:
    out = console()
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("NAME", "STATUS"):
        table.add_column(title)
    for title in ("EXIT", "ATTEMPTS", "PEAK", "TIME", "SURVIVORS"):
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
