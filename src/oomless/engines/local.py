"""The engine of this machine: asks the daemon for each job, spawns a shim, retries, resumes, interrupts.

Covers: the life of each job of a batch and what is run again. Not here: how many may run (the daemon's admission
decides), one attempt's mechanics (``launch.py``), files (``store.py``).

The jobs belong to the journal and not to this process: if it is killed they finish, and ``--resume`` takes them
over. Nothing here may therefore end a job, except ``interrupt``.
"""

from __future__ import annotations

import sys

assert sys.platform == "linux"

import asyncio
import os

import msgspec

from oomless.engines.base import Event, Finished, Plan, Tell, result_of
from oomless.engines.launch import Ending, Order, Shim, check_folder, conclude, not_started, spawn_shim
from oomless.engines.store import Intent, Store
from oomless.errors import ContainmentError, OomlessError, StateUnwritable
from oomless.paths import Paths
from oomless.platform import proc
from oomless.protocol.async_lease import FOREVER, Door, Lease

#: Requests that wait at the daemon at once: enough to choose from for backfill, and a batch of thousands does
#: not hold thousands of sockets.
ASKING = 16
#: So often a job that has attempts left is ended for a budget shared with others without losing one.
REQUEUES = 5
_FINAL_CODES = (126, 127)


class Local:
    name = "local"

    def __init__(self, paths: Paths, plan: Plan, store: Store, tell: Tell, cwd: str) -> None:
        self._paths, self._plan, self._store, self._tell, self._cwd = paths, plan, store, tell, cwd
        self._door = Door(paths)
        self._gate = asyncio.Semaphore(ASKING)
        self._asks: set[asyncio.Task[Lease]] = set()
        self._running: set[Shim] = set()
        self._told: set[str] = set()  # trees that we asked to end
        self._interrupted = False

    async def run(self) -> list[Finished | None]:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._job(seq)) for seq in range(len(self._plan.jobs))]
        return [task.result() for task in tasks]

    def interrupt(self) -> None:
        self._interrupted = True
        for task in self._asks:
            task.cancel()
        for shim in self._running:
            shim.end()

    async def _job(self, seq: int) -> Finished | None:
        """None if an interruption came before it was started. An old failure gets its whole number of attempts
        again; an attempt that an earlier command started and that still runs counts as the first."""
        attempt, ending, lived = await self._earlier(seq)
        if ending is not None and ending.record.status == "done":
            return self._finish(seq, attempt, ending, earlier=not lived)
        left, spared = self._plan.jobs[seq].retries + (0 if lived else 1), REQUEUES
        if not lived:
            ending = None
        while not self._interrupted and (ending is None or (left > 0 and _again(ending))):
            if ending is not None:
                self._tell(Event(seq=seq, kind="retry", attempt=attempt, text=_described(ending)))
            newer = await self._attempt(seq, attempt + 1, retriable=left > 1)
            if newer is None:
                break
            attempt, ending = attempt + 1, newer
            if newer.record.victim and left > 1 and spared:
                spared -= 1  # it was ended for the others: none of its own attempts is used up
            else:
                left -= 1
        return None if ending is None else self._finish(seq, attempt, ending)

    async def _earlier(self, seq: int) -> tuple[int, Ending | None, bool]:
        """The newest attempt of an earlier command, its end, and whether it still ran when we came."""
        intent = self._store.intent(seq)
        if intent is None:
            return 0, None, False
        shim = self._store.shim(intent)
        if shim is not None:
            await self._watch(seq, shim, intent.attempt)
        order = self._order(seq, intent.attempt)
        return intent.attempt, await conclude(self._paths, intent.tree, order, None), shim is not None

    async def _attempt(self, seq: int, attempt: int, retriable: bool) -> Ending | None:
        order = msgspec.structs.replace(self._order(seq, attempt), retriable=retriable)
        try:
            check_folder(order.cwd)
            lease = await self._ask(seq, order)
            if lease is None:
                return None
            shim = self._spawn(seq, attempt, lease, order)
        except OomlessError as error:
            return Ending(record=not_started(order.name, error))
        code = await self._watch(seq, shim, attempt)
        return await conclude(self._paths, shim.tree, order, code)

    def _order(self, seq: int, attempt: int) -> Order:
        job, plan, path = self._plan.jobs[seq], self._plan, self._store.path
        return Order(
            name=job.name,
            command=job.command,
            environ={**os.environ, **job.env},
            cwd=os.path.join(self._cwd, job.cwd or ""),
            owner=f"batch:{plan.batch}",
            report=path(seq, "json"),
            klass=job.klass,
            memory=job.memory,
            expect=job.expect,
            processes=job.processes,
            timeout=job.timeout,
            wait=FOREVER,
            group=f"batch {plan.batch}",
            group_budget=plan.budget,
            group_parallel=plan.max_parallel,
            private_tmp=job.private_tmp,
            extra={"attempts": attempt, "stdout": path(seq, "out"), "stderr": path(seq, "err")},
        )

    async def _ask(self, seq: int, order: Order) -> Lease | None:
        """None if the batch was interrupted meanwhile."""
        async with self._gate:
            if self._interrupted:
                return None
            task = asyncio.ensure_future(
                self._door.ask(
                    order.request(),
                    lambda waiting: self._tell(Event(seq=seq, kind="waiting", text=waiting.reason)),
                )
            )
            self._asks.add(task)
            try:
                lease = await task
            except asyncio.CancelledError:
                if self._interrupted:
                    return None
                raise
            finally:
                self._asks.discard(task)
        if self._interrupted:
            lease.close()
            return None
        return lease

    def _spawn(self, seq: int, attempt: int, lease: Lease, order: Order) -> Shim:
        """The intent first: a shim that nobody knows of would be started twice by ``--resume``."""
        intent = Intent(tree=lease.granted.tree, attempt=attempt)
        files: list[int] = []
        try:
            self._store.write_intent(seq, intent)
            files += [os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)]
            files += [self._store.open_output(seq, kind) for kind in ("out", "err")]
            shim = spawn_shim(self._paths.state, lease, order, (files[0], files[1], files[2]))
        except OSError as error:  # no descriptor left
            raise ContainmentError(f"cannot start {order.name}", error.strerror or str(error)) from None
        finally:
            lease.close()
            for fd in files:
                os.close(fd)
        who = msgspec.structs.replace(intent, pid=shim.pid, start=shim.start, boot_id=proc.boot_id())
        try:
            self._store.write_intent(seq, who)
        except StateUnwritable:
            pass  # A full disk; the shim can still be found by its arguments.
        return shim

    async def _watch(self, seq: int, shim: Shim, attempt: int) -> int | None:
        self._running.add(shim)
        if self._interrupted:
            shim.end()
        self._tell(Event(seq=seq, kind="running", tree=shim.tree, attempt=attempt))
        try:
            return await shim.gone()
        finally:
            self._running.discard(shim)
            if shim.told:
                self._told.add(shim.tree)

    def _finish(self, seq: int, attempt: int, ending: Ending, earlier: bool = False) -> Finished:
        path, record = self._store.path, ending.record
        interrupted = record.tree in self._told
        if interrupted:
            # A command that answers TERM with exit 0 was interrupted all the same: it must run again.
            record = msgspec.structs.replace(record, status="killed", reason="interrupted")
            self._store.forget(seq)
        finished = Finished(
            result=result_of(
                record, self._plan.jobs[seq].name, attempt, ending.verified, path(seq, "out"), path(seq, "err")
            ),
            started_at=record.started_at,
            signal=record.signal,
            interrupted=interrupted,
            earlier=earlier,
        )
        self._tell(Event(seq=seq, kind="finished", attempt=attempt, finished=finished))
        return finished


def _again(ending: Ending) -> bool:
    """Whether a further attempt makes sense: not where memory can never suffice or the command is not there."""
    return ending.record.status in ("failed", "killed", "timeout") and ending.record.exit_code not in _FINAL_CODES


def _described(ending: Ending) -> str:
    return ending.record.reason or f"exit {ending.record.exit_code}"
