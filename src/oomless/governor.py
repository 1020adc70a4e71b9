"""The Python API: run commands and hold reservations under the machine's memory budget, from asyncio.

::

    async with oomless.Governor(budget="2GiB") as governor:
        result = await governor.run(["claude", "-p", "review"], name="review", memory="512MB")
        async with governor.slot("index", memory="300MB"):
            build_index()

Everything that is run belongs to this Python process: when it ends, by SIGKILL too, each shim sees its lifeline
close and ends its tree. A slot ends with the process or with the daemon, whichever ends first. Not here: the
mechanics of a governed command (``engines/launch.py``), work that shall outlive its starter (``oomless batch``).
"""

from __future__ import annotations

import sys

assert sys.platform == "linux"

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from types import TracebackType

import msgspec

from oomless.engines.capture import Stdio
from oomless.engines.launch import Order, Shim, check_folder, conclude, not_started, spawn_shim
from oomless.errors import CommandNotFound, NotRunnable, StateUnwritable, UsageError
from oomless.model import ExitRecord, FootprintSource, Status, TreeKind
from oomless.paths import Paths
from oomless.platform import proc
from oomless.protocol import wire
from oomless.protocol.async_lease import Door, Lease
from oomless.units import parse_duration, parse_size

Size = int | str
Duration = float | str

#: Descriptors whose closing tells others that this process is gone. A forked child (multiprocessing) would keep
#: them open beyond our death, so it closes its copies; after an exec they are closed anyway.
_held: set[int] = set()


def _let_go() -> None:
    for fd in _held:
        os.close(fd)
    _held.clear()


os.register_at_fork(after_in_child=_let_go)


def _hold(fd: int) -> int:
    _held.add(fd)
    return fd


def _release(fd: int) -> None:
    if fd in _held:
        _held.discard(fd)
        os.close(fd)


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """How a command ended. ``survivors`` is 0 unless something could not be ended, and None if nobody could
    tell; ``reason`` says why it was ended or not started. The output is empty without ``capture``."""

    name: str
    status: Status
    exit_code: int
    signal: int | None
    stdout: bytes
    stderr: bytes
    peak_bytes: int
    peak_source: FootprintSource
    seconds: float
    survivors: int | None
    reason: str
    record: ExitRecord


class Slot(msgspec.Struct, frozen=True, kw_only=True):
    """A reservation without processes of its own."""

    name: str
    reserved_bytes: int


class Governor:
    """``budget`` and ``max_parallel`` bound what this Governor runs, within what the machine's settings allow."""

    def __init__(
        self, budget: Size | None = None, max_parallel: int | None = None, paths: Paths | None = None
    ) -> None:
        self._budget = _size(budget, "the budget")
        if max_parallel is not None and max_parallel < 1:
            raise UsageError(f"max_parallel is {max_parallel}", "", "use 1 or more, or None")
        self._parallel = max_parallel
        self._paths = paths or Paths()
        self._door = Door(self._paths)
        self._group = f"governor-{os.urandom(6).hex()}"
        self._folder: str | None = None
        self._tasks: set[asyncio.Task[Result]] = set()
        self._slots: set[int] = set()
        self._count = 0

    async def __aenter__(self) -> Governor:
        self._paths.make()
        self._folder = _make_folder(self._paths)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        folder, self._folder = self._folder, None
        for fd in self._slots:
            _release(fd)
        for task in self._tasks:
            task.cancel()
        while self._tasks:
            await asyncio.wait(self._tasks)
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)

    async def run(
        self,
        cmd: Sequence[str],
        *,
        name: str | None = None,
        klass: str | None = None,
        memory: Size | None = None,
        expect: Size | None = None,
        processes: int | None = None,
        timeout: Duration | None = None,
        wait: Duration | None = None,
        env: Mapping[str, str] | None = None,
        cwd: str | os.PathLike[str] | None = None,
        input: bytes | str | None = None,
        capture: bool = True,
        private_tmp: bool = False,
    ) -> Result:
        """Runs ``cmd`` once memory for it is free, and returns when nothing of it is left. ``memory`` reserves
        and limits, ``expect`` only reserves. ``processes``: so many at once; no more can be started, and a command
        that goes on trying is ended. ``env`` adds to this process's environment. ``wait``: 0 fails
        fast, None takes the settings' word. ``private_tmp`` gives it a TMPDIR of its own, which goes with it. Raises
        Refused; cancelling it ends the command and waits for that.
        """
        if isinstance(cmd, str | bytes) or not cmd or not all(isinstance(part, str) for part in cmd):
            raise UsageError("the command is not a list of strings", repr(cmd)[:60], "use ['program', 'argument']")
        if processes is not None and processes < 1:
            raise UsageError(f"processes is {processes}", "", "use 1 or more, or None")
        order = Order(
            name=name or os.path.basename(cmd[0]),
            command=tuple(cmd),
            environ={**os.environ, **(env or {})},
            cwd=os.path.abspath(cwd or "."),
            owner="governor",
            report=self._report(),
            klass=klass,
            memory=_size(memory, "memory"),
            expect=_size(expect, "expect"),
            processes=processes,
            timeout=_seconds(timeout, "timeout"),
            wait=_seconds(wait, "wait"),
            group=self._group,
            group_budget=self._budget,
            group_parallel=self._parallel,
            private_tmp=private_tmp,
        )
        task = asyncio.create_task(self._govern(order, input, capture))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return await task

    @asynccontextmanager
    async def slot(
        self, name: str, *, memory: Size | None = None, klass: str | None = None, wait: Duration | None = None
    ) -> AsyncIterator[Slot]:
        """Holds a reservation for work inside this process. Raises Refused."""
        self._report()
        request = wire.Lease(
            v=wire.VERSION,
            kind=TreeKind.SLOT,
            name=name,
            class_name=klass,
            cwd=os.getcwd(),
            need=_size(memory, "memory"),
            wait=_seconds(wait, "wait"),
            owner="governor",
            group=self._group,
            group_budget=self._budget,
            group_parallel=self._parallel,
        )
        lease = await self._door.ask(request, _ignore)
        fd = _hold(lease.connection.detach())
        self._slots.add(fd)
        try:
            yield Slot(name=name, reserved_bytes=lease.granted.reserved)
        finally:
            self._slots.discard(fd)
            _release(fd)

    def _report(self) -> str:
        """A new file for a record; raises UsageError outside of ``async with``."""
        if self._folder is None:
            raise UsageError("this Governor is not open", "", "use it inside: async with Governor() as governor")
        self._count += 1
        return os.path.join(self._folder, f"{self._count}.json")

    async def _govern(self, order: Order, input: bytes | str | None, capture: bool) -> Result:
        try:
            check_folder(order.cwd)
            lease = await self._door.ask(order.request(), _ignore)
            data = input.encode() if isinstance(input, str) else input
            try:
                with Stdio(data, capture) as stdio:
                    tree, code = await self._contained(order, lease, stdio)
            finally:
                lease.close()
        except (CommandNotFound, NotRunnable) as error:
            return _result(not_started(order.name, error), True, None)
        ending = await conclude(self._paths, tree, order, code)
        return _result(ending.record, ending.verified, stdio)

    async def _contained(self, order: Order, lease: Lease, stdio: Stdio) -> tuple[str, int | None]:
        lifeline, ours = os.pipe2(os.O_CLOEXEC)
        _hold(ours)
        try:
            try:
                shim = spawn_shim(self._paths.state, lease, order, stdio.descriptors, lifeline)
            finally:
                os.close(lifeline)
            stdio.started()
            return shim.tree, await _gone(shim)
        finally:
            _release(ours)


async def _gone(shim: Shim) -> int | None:
    """Waits for the shim; a cancellation ends its tree, and is passed on once that is done."""
    waiter = asyncio.ensure_future(shim.gone())
    cancelled = False
    while not waiter.done():
        try:
            await asyncio.wait({waiter})
        except asyncio.CancelledError:
            cancelled = True
            shim.end()
    if cancelled:
        raise asyncio.CancelledError
    return waiter.result()


def _result(record: ExitRecord, verified: bool, stdio: Stdio | None) -> Result:
    return Result(
        name=record.name,
        status=record.status,
        exit_code=record.exit_code,
        signal=record.signal,
        stdout=stdio.stdout if stdio else b"",
        stderr=stdio.stderr if stdio else b"",
        peak_bytes=record.peak_bytes,
        peak_source=record.peak_source,
        seconds=record.seconds,
        survivors=record.survivors if verified else None,
        reason=record.reason,
        record=record,
    )


def _ignore(waiting: wire.Waiting) -> None:
    """Nobody is there to be told why it waits; ``oomless status`` tells."""


def _size(value: Size | None, what: str) -> int | None:
    if isinstance(value, str):
        return parse_size(value, what)
    if value is not None and value <= 0:
        raise UsageError(f"{what} {value} is not more than zero", "", "write it as 512MB or in bytes")
    return value


def _seconds(value: Duration | None, what: str) -> float | None:
    return parse_duration(value, what) if isinstance(value, str) else value


def _make_folder(paths: Paths) -> str:
    """Where the shims of this Governor put their records. Those of processes that are gone are removed."""
    parent = os.path.join(paths.state, "governor")
    start = proc.start_of(os.getpid())
    try:
        os.makedirs(parent, mode=0o700, exist_ok=True)
        for entry in os.listdir(parent):
            pid, _, rest = entry.partition("-")
            if pid.isdigit() and str(proc.start_of(int(pid))) != rest.partition("-")[0]:
                shutil.rmtree(os.path.join(parent, entry), ignore_errors=True)
        folder = os.path.join(parent, f"{os.getpid()}-{start}-{os.urandom(4).hex()}")
        os.mkdir(folder, 0o700)
    except OSError as error:
        why = error.strerror or str(error)
        raise StateUnwritable(f"cannot write {parent}", why, "free disk space, or set XDG_STATE_HOME") from None
    return folder
