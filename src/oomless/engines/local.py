"""The engine of this machine: asks the daemon for each job, spawns a shim, retries, resumes, interrupts.

How many jobs may run is the daemon's decision. The jobs belong to the journal and not to this process: if it is
killed they finish, and ``--resume`` takes them over. Therefore only ``interrupt`` may end a job.
"""

from __future__ import annotations

import sys

assert sys.platform == "linux"

import asyncio
import os

import msgspec

from oomless.engines.base import BatchPlan, Finished, JobEvent, OnEvent, make_result
from oomless.engines.batch_folder import BatchFolder, JobIntent
from oomless.engines.launch import (
    Order,
    ShimHandle,
    TreeEnd,
    check_folder,
    find_end,
    make_unstarted_record,
    spawn_shim,
)
from oomless.errors import ContainmentError, OomlessError, StateUnwritable
from oomless.model import Terms
from oomless.paths import Paths
from oomless.platform import proc
from oomless.protocol.async_lease import FOREVER, AsyncLeaseClient, GrantedLease

#: Requests that wait at the daemon at once: enough to choose from for backfill, and a batch of thousands does
#: not hold thousands of sockets.
REQUESTS = 16
#: How often a job that has attempts left may be a victim of memory pressure without losing one of them.
REQUEUES = 5
_FINAL_CODES = (126, 127)


class LocalEngine:
    name = "local"

    def __init__(self, paths: Paths, plan: BatchPlan, folder: BatchFolder, on_event: OnEvent, cwd: str) -> None:
        self._paths, self._plan, self._folder, self._on_event, self._cwd = paths, plan, folder, on_event, cwd
        self._door = AsyncLeaseClient(paths)
        self._request_slots = asyncio.Semaphore(REQUESTS)
        self._requests: set[asyncio.Task[GrantedLease]] = set()
        self._running: set[ShimHandle] = set()
        self._ended_by_us: set[str] = set()  # trees
        self._interrupted = False

    async def run(self) -> list[Finished | None]:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._run_job(seq)) for seq in range(len(self._plan.jobs))]
        return [task.result() for task in tasks]

    def interrupt(self) -> None:
        self._interrupted = True
        for task in self._requests:
            task.cancel()
        for shim in self._running:
            shim.end()

    async def _run_job(self, seq: int) -> Finished | None:
        """None if an interruption came before it was started. An old failure gets its whole number of attempts
        again; an attempt that an earlier command started and that still runs counts as the first."""
        attempt, end, still_ran = await self._take_over(seq)
        if end is not None and end.record.status == "done":
            return self._finish(seq, attempt, end, earlier=not still_ran)
        left, requeues = self._plan.jobs[seq].retries + (0 if still_ran else 1), REQUEUES
        if not still_ran:
            end = None
        while not self._interrupted and (end is None or (left > 0 and _may_retry(end))):
            if end is not None:
                reason = end.record.reason or f"exit {end.record.exit_code}"
                self._on_event(JobEvent(seq=seq, kind="retry", attempt=attempt, text=reason))
            newer = await self._try_job(seq, attempt + 1, retriable=left > 1)
            if newer is None:
                break
            attempt, end = attempt + 1, newer
            if newer.record.victim and left > 1 and requeues:
                requeues -= 1  # killed under memory pressure: none of its own attempts is used up
            else:
                left -= 1
        return None if end is None else self._finish(seq, attempt, end)

    async def _take_over(self, seq: int) -> tuple[int, TreeEnd | None, bool]:
        """The newest attempt of an earlier command, its end, and whether it still ran."""
        intent = self._folder.read_intent(seq)
        if intent is None:
            return 0, None, False
        shim = self._folder.find_shim(intent)
        if shim is not None:
            await self._watch(seq, shim, intent.attempt)
        order = self._make_order(seq, intent.attempt)
        return intent.attempt, await find_end(self._paths, intent.tree, order, None), shim is not None

    async def _try_job(self, seq: int, attempt: int, retriable: bool) -> TreeEnd | None:
        """One attempt; None if the batch was interrupted before it started."""
        order = msgspec.structs.replace(self._make_order(seq, attempt), retriable=retriable)
        try:
            check_folder(order.cwd)
            lease = await self._request(seq, order)
            if lease is None:
                return None
            shim = self._spawn(seq, attempt, lease, order)
        except OomlessError as error:
            return TreeEnd(record=make_unstarted_record(order.name, error))
        code = await self._watch(seq, shim, attempt)
        return await find_end(self._paths, shim.tree, order, code)

    def _make_order(self, seq: int, attempt: int) -> Order:
        job, plan, path = self._plan.jobs[seq], self._plan, self._folder.path
        return Order(
            terms=Terms(
                name=job.name,
                class_name=job.class_name,
                need=job.expect or job.memory,
                limit=job.memory,
                processes=job.processes,
                group=f"batch {plan.batch}",
                group_budget=plan.budget,
                group_parallel=plan.max_parallel,
            ),
            command=job.command,
            environ={**os.environ, **job.env},
            cwd=os.path.join(self._cwd, job.cwd or ""),
            owner=f"batch:{plan.batch}",
            report=path(seq, "json"),
            timeout=job.timeout,
            wait=FOREVER,
            private_tmp=job.private_tmp,
            extra={"attempts": attempt, "stdout": path(seq, "out"), "stderr": path(seq, "err")},
        )

    async def _request(self, seq: int, order: Order) -> GrantedLease | None:
        """None if the batch was interrupted meanwhile."""
        async with self._request_slots:
            if self._interrupted:
                return None
            task = asyncio.ensure_future(
                self._door.ask(
                    order.make_request(),
                    lambda waiting: self._on_event(JobEvent(seq=seq, kind="waiting", text=waiting.reason)),
                )
            )
            self._requests.add(task)
            try:
                lease = await task
            except asyncio.CancelledError:
                if self._interrupted:
                    return None
                raise
            finally:
                self._requests.discard(task)
        if self._interrupted:
            lease.close()
            return None
        return lease

    def _spawn(self, seq: int, attempt: int, lease: GrantedLease, order: Order) -> ShimHandle:
        """The intent is written first: ``--resume`` would start an unknown shim's job twice."""
        intent = JobIntent(tree=lease.granted.tree, attempt=attempt)
        files: list[int] = []
        try:
            self._folder.write_intent(seq, intent)
            files += [os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)]
            files += [self._folder.open_output(seq, kind) for kind in ("out", "err")]
            shim = spawn_shim(self._paths.state, lease, order, (files[0], files[1], files[2]))
        except OSError as error:  # no descriptor left
            raise ContainmentError(f"cannot start {order.name}", error.strerror or str(error)) from None
        finally:
            lease.close()
            for fd in files:
                os.close(fd)
        pid, start = shim.process
        try:
            intent = msgspec.structs.replace(intent, pid=pid, start=start, boot_id=proc.boot_id())
            self._folder.write_intent(seq, intent)
        except StateUnwritable:
            pass  # a full disk; the shim can still be found by its arguments
        return shim

    async def _watch(self, seq: int, shim: ShimHandle, attempt: int) -> int | None:
        self._running.add(shim)
        if self._interrupted:
            shim.end()
        self._on_event(JobEvent(seq=seq, kind="running", tree=shim.tree, attempt=attempt))
        try:
            return await shim.wait_gone()
        finally:
            self._running.discard(shim)
            if shim.asked_to_end:
                self._ended_by_us.add(shim.tree)

    def _finish(self, seq: int, attempt: int, end: TreeEnd, earlier: bool = False) -> Finished:
        path, record = self._folder.path, end.record
        interrupted = record.tree in self._ended_by_us
        if interrupted:
            # Also a command that answers TERM with exit 0: it must run again.
            record = msgspec.structs.replace(record, status="killed", reason="interrupted")
            self._folder.drop_record(seq)
        finished = Finished(
            result=make_result(
                record, self._plan.jobs[seq].name, attempt, end.verified, path(seq, "out"), path(seq, "err")
            ),
            started_at=record.started_at,
            signal=record.signal,
            interrupted=interrupted,
            earlier=earlier,
        )
        self._on_event(JobEvent(seq=seq, kind="finished", attempt=attempt, finished=finished))
        return finished


def _may_retry(end: TreeEnd) -> bool:
    """Not where memory can never suffice or the command is missing."""
    return end.record.status in ("failed", "killed", "timeout") and end.record.exit_code not in _FINAL_CODES
