"""The Python API: run commands and hold reservations under the machine's memory budget, from asyncio.

::

    async with oomless.Governor(budget="2GiB") as governor:
        result = await governor.run(["claude", "-p", "review"], name="review", memory="512MB")
        async with governor.slot("index", memory="300MB"):
            build_index()

Everything that is run belongs to this Python process: when it ends, by SIGKILL too, each shim sees its lifeline close
and ends its tree. A slot ends with the process or with the daemon, whichever ends first. Work that shall outlive its
starter is for ``oomless batch``.
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

from oomless.engines.launch import (
    Order,
    ShimHandle,
    StandardFds,
    check_folder,
    find_end,
    make_unstarted_record,
    spawn_shim,
)
from oomless.errors import CommandNotFound, NotRunnable, StateUnwritable, UsageError
from oomless.model import ExitRecord, FootprintSource, Status, Terms, TreeKind
from oomless.paths import Paths
from oomless.platform import proc
from oomless.protocol import wire
from oomless.protocol.async_lease import AsyncLeaseClient, GrantedLease
from oomless.units import parse_duration, parse_size

Size = int | str
Duration = float | str

_CHUNK = 65536
#: Descriptors whose closing tells shims and daemon that this process is gone. A forked child (multiprocessing) would
#: keep them open beyond our death, so it closes its copies; after an exec they are closed anyway.
_lifelines: set[int] = set()


def _close_in_child() -> None:
    for fd in _lifelines:
        os.close(fd)
    _lifelines.clear()


os.register_at_fork(after_in_child=_close_in_child)


def _hold_lifeline(fd: int) -> int:
    _lifelines.add(fd)
    return fd


def _close_lifeline(fd: int) -> None:
    if fd in _lifelines:
        _lifelines.discard(fd)
        os.close(fd)


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """How a command ended. ``survivors`` is 0 unless a process could not be killed, and None if that is unknown;
    ``reason`` says why it was killed or not started. The output is empty without ``capture``."""

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
        self._budget = _parse_size(budget, "the budget")
        if max_parallel is not None and max_parallel < 1:
            raise UsageError(f"max_parallel is {max_parallel}", "", "use 1 or more, or None")
        self._parallel = max_parallel
        self._paths = paths or Paths()
        self._door = AsyncLeaseClient(self._paths)
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
            _close_lifeline(fd)
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
        class_name: str | None = None,
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
        """Runs ``cmd`` once it is admitted, and returns when nothing of it is left. ``memory`` (bytes, or text such
        as "512MB") reserves and limits, ``expect`` only reserves. ``processes`` limits how many it may have: further
        forks fail, and without cgroups it is killed after 1 s over the limit. ``timeout`` and ``wait`` are seconds,
        or text such as "10m"; ``wait=0`` fails fast, None takes the settings' ``wait``. ``env`` adds to this
        process's environment. ``private_tmp`` gives it a TMPDIR of its own, which is removed with it. Raises Refused;
        cancelling it kills the command and waits for that.
        """
        if isinstance(cmd, str | bytes) or not cmd or not all(isinstance(part, str) for part in cmd):
            raise UsageError("the command is not a list of strings", repr(cmd)[:60], "use ['program', 'argument']")
        if processes is not None and processes < 1:
            raise UsageError(f"processes is {processes}", "", "use 1 or more, or None")
        limit = _parse_size(memory, "memory")
        order = Order(
            terms=Terms(
                name=name or os.path.basename(cmd[0]),
                class_name=class_name,
                need=_parse_size(expect, "expect") or limit,
                limit=limit,
                processes=processes,
                group=self._group,
                group_budget=self._budget,
                group_parallel=self._parallel,
            ),
            command=tuple(cmd),
            environ={**os.environ, **(env or {})},
            cwd=os.path.abspath(cwd or "."),
            owner="governor",
            report=self._new_report(),
            timeout=_parse_seconds(timeout, "timeout"),
            wait=_parse_seconds(wait, "wait"),
            private_tmp=private_tmp,
        )
        task = asyncio.create_task(self._run_order(order, input, capture))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return await task

    @asynccontextmanager
    async def slot(
        self, name: str, *, memory: Size | None = None, class_name: str | None = None, wait: Duration | None = None
    ) -> AsyncIterator[Slot]:
        """Holds a reservation for work inside this process. Raises Refused."""
        self._new_report()
        request = wire.LeaseRequest(
            v=wire.VERSION,
            kind=TreeKind.SLOT,
            name=name,
            class_name=class_name,
            cwd=os.getcwd(),
            need=_parse_size(memory, "memory"),
            wait=_parse_seconds(wait, "wait"),
            owner="governor",
            group=self._group,
            group_budget=self._budget,
            group_parallel=self._parallel,
        )
        lease = await self._door.ask(request, _ignore_waiting)
        fd = _hold_lifeline(lease.connection.detach())
        self._slots.add(fd)
        try:
            yield Slot(name=name, reserved_bytes=lease.granted.reserved)
        finally:
            self._slots.discard(fd)
            _close_lifeline(fd)

    def _new_report(self) -> str:
        """A new file for a record; raises UsageError outside of ``async with``."""
        if self._folder is None:
            raise UsageError("this Governor is not open", "", "use it inside: async with Governor() as governor")
        self._count += 1
        return os.path.join(self._folder, f"{self._count}.json")

    async def _run_order(self, order: Order, input: bytes | str | None, capture: bool) -> Result:
        try:
            check_folder(order.cwd)
            lease = await self._door.ask(order.make_request(), _ignore_waiting)
            data = input.encode() if isinstance(input, str) else input
            try:
                with Stdio(data, capture) as stdio:
                    tree, code = await self._run_shim(order, lease, stdio)
            finally:
                lease.close()
        except (CommandNotFound, NotRunnable) as error:
            return _make_result(make_unstarted_record(order.name, error), True, None)
        end = await find_end(self._paths, tree, order, code)
        return _make_result(end.record, end.verified, stdio)

    async def _run_shim(self, order: Order, lease: GrantedLease, stdio: Stdio) -> tuple[str, int | None]:
        lifeline, ours = os.pipe2(os.O_CLOEXEC)
        _hold_lifeline(ours)
        try:
            try:
                shim = spawn_shim(self._paths.state, lease, order, stdio.descriptors, lifeline)
            finally:
                os.close(lifeline)
            stdio.start_reading()
            return shim.tree, await _wait_gone(shim)
        finally:
            _close_lifeline(ours)


async def _wait_gone(shim: ShimHandle) -> int | None:
    """Waits for the shim; a cancellation ends its tree, and is passed on once that is done."""
    waiter = asyncio.ensure_future(shim.wait_gone())
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


def _make_result(record: ExitRecord, verified: bool, stdio: Stdio | None) -> Result:
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


def _ignore_waiting(waiting: wire.WaitNotice) -> None:
    """The reason is in ``oomless status``."""


def _parse_size(value: Size | None, what: str) -> int | None:
    if isinstance(value, str):
        return parse_size(value, what)
    if value is not None and value <= 0:
        raise UsageError(f"{what} {value} is not more than zero", "", "write it as 512MB or in bytes")
    return value


def _parse_seconds(value: Duration | None, what: str) -> float | None:
    return parse_duration(value, what) if isinstance(value, str) else value


def _make_folder(paths: Paths) -> str:
    """A folder for the records of this Governor's shims. Those of processes that are gone are removed."""
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


class _Pipe:
    def __init__(self) -> None:
        self.reader, self.writer = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self.reader, False)
        self._parts: list[bytes] = []
        self._loop = asyncio.get_running_loop()

    def start_reading(self) -> None:
        os.close(self.writer)
        self.writer = -1
        self._loop.add_reader(self.reader, self._read)

    def _read(self) -> None:
        """One chunk, so that a flood of output does not keep the loop."""
        if not self._read_chunk():
            self._loop.remove_reader(self.reader)

    def _read_chunk(self) -> bool:
        """False if there is nothing to read now, or the stream has ended."""
        try:
            part = os.read(self.reader, _CHUNK)
        except BlockingIOError:
            return False
        self._parts.append(part)
        return bool(part)

    def close(self) -> bytes:
        self._loop.remove_reader(self.reader)
        while self.writer < 0 and self._read_chunk():
            pass
        os.close(self.reader)
        if self.writer >= 0:
            os.close(self.writer)
        return b"".join(self._parts)


class Stdio:
    """Standard input, output and error of one command: bytes in, bytes out. After the context ``stdout`` and
    ``stderr`` hold what was captured. Reading ends when the shim is gone, not at the end of the stream: a process
    that escaped with a copy of the pipe must not keep us waiting."""

    def __init__(self, data: bytes | None, capture: bool) -> None:
        self.stdout = self.stderr = b""
        self._input = _open_input(data)
        self._pipes = (_Pipe(), _Pipe()) if capture else None

    @property
    def descriptors(self) -> StandardFds:
        if self._pipes is None:
            return self._input, None, None
        return self._input, self._pipes[0].writer, self._pipes[1].writer

    def start_reading(self) -> None:
        """To be called when the shim has its copies."""
        for pipe in self._pipes or ():
            pipe.start_reading()

    def __enter__(self) -> Stdio:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._input)
        if self._pipes is not None:
            self.stdout, self.stderr = (pipe.close() for pipe in self._pipes)


def _open_input(data: bytes | None) -> int:
    """A file and not a pipe, which would have to be fed while the command runs."""
    if not data:
        return os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    fd = os.memfd_create("oomless-input", os.MFD_CLOEXEC)
    with open(fd, "wb", closefd=False) as file:
        file.write(data)
    os.lseek(fd, 0, os.SEEK_SET)
    return fd
