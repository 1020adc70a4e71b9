"""One governed command from asyncio: what is asked for (``Order``), the shim that is spawned with the lease, its end,
and the record that it leaves. A batch and ``Governor`` are both made of this.
"""

from __future__ import annotations

import sys

assert sys.platform == "linux"

import asyncio
import os
import subprocess
import time
from signal import SIGKILL, SIGTERM, pidfd_send_signal

import msgspec

from oomless.contain.launch import ShimSpec, shim_argv, write_spec
from oomless.errors import CommandNotFound, ContainmentError, DaemonError, NotRunnable, OomlessError, Refused
from oomless.model import ExitRecord, Status, Terms
from oomless.paths import Paths
from oomless.platform import proc
from oomless.processes.ids import ProcessId
from oomless.protocol import wire
from oomless.protocol.async_lease import GrantedLease
from oomless.protocol.client import Client
from oomless.protocol.views import TreeView

#: Longer than a daemon waits for the shim of a granted tree (10 s) and sweeps (5 s).
SWEPT_WITHIN = 20.0

#: Descriptors of standard input, output and error; None: this process's own.
StandardFds = tuple[int, int | None, int | None]


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """``environ`` is the whole environment. ``report`` is the file that the shim writes its record to, with
    ``extra`` in it. ``timeout`` and ``wait`` are seconds."""

    terms: Terms
    command: tuple[str, ...]
    environ: dict[str, str]
    cwd: str
    owner: str
    report: str
    timeout: float | None = None
    wait: float | None = None
    retriable: bool = False
    private_tmp: bool = False
    extra: dict[str, str | int] = {}

    @property
    def name(self) -> str:
        return self.terms.name

    def make_request(self) -> wire.LeaseRequest:
        return wire.LeaseRequest(
            **msgspec.structs.asdict(self.terms),
            v=wire.VERSION,
            argv=self.command,
            cwd=self.cwd,
            wait=self.wait,
            owner=self.owner,
            retriable=self.retriable,
        )


class ShimHandle:
    """A running shim, held by a pidfd, so that signals reach it or no process. ``child`` is None for a shim that an
    earlier, killed batch command started. ``asked_to_end`` is True after ``end``."""

    def __init__(self, tree: str, process: ProcessId, pidfd: int, child: subprocess.Popen[bytes] | None) -> None:
        self.tree, self.process = tree, process
        self._pidfd = pidfd
        self._child = child
        self.asked_to_end = False

    @classmethod
    def open(cls, tree: str, process: ProcessId) -> ShimHandle | None:
        """None if that process is gone."""
        pidfd = proc.open_verified(*process)
        return None if pidfd is None else cls(tree, process, pidfd, None)

    def end(self) -> None:
        """Asks the shim to end its tree, which it does within the grace."""
        self.asked_to_end = True
        try:
            if self._pidfd >= 0:
                pidfd_send_signal(self._pidfd, SIGTERM)
        except ProcessLookupError:
            pass

    def release(self) -> None:
        """Closes the pidfd; the shim goes on."""
        if self._pidfd >= 0:
            os.close(self._pidfd)
        self._pidfd = -1

    async def wait_gone(self) -> int | None:
        """Waits for the shim's end and returns its return code, None if it is not our child. To be called once."""
        try:
            await _wait_readable(self._pidfd)
        finally:
            self.release()
        return None if self._child is None else self._child.wait()


async def _wait_readable(fd: int) -> None:
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()

    def wake() -> None:
        if not ready.done():
            ready.set_result(None)

    loop.add_reader(fd, wake)
    try:
        await ready
    finally:
        loop.remove_reader(fd)


def check_folder(cwd: str) -> None:
    """Raises CommandNotFound or NotRunnable, as a shell would, for a working folder that cannot be entered."""
    if not os.path.exists(cwd):
        raise CommandNotFound(f"the working folder {cwd} does not exist", "", "make it, or correct cwd")
    if not os.path.isdir(cwd) or not os.access(cwd, os.X_OK):
        raise NotRunnable(f"the working folder {cwd} cannot be entered", "", "correct cwd")


def spawn_shim(
    state: str, lease: GrantedLease, order: Order, stdio: StandardFds, lifeline: int | None = None
) -> ShimHandle:
    """Starts the shim and hands it the lease; ours is closed in any case. ``lifeline``: the read end of a pipe, which
    the shim inherits. Raises CommandNotFound, NotRunnable or ContainmentError."""
    spec = ShimSpec(
        lease.message,
        name=order.name,
        state=state,
        lease_fd=lease.connection.fileno(),
        lifeline_fd=lifeline,
        reports=[order.report],
        timeout=order.timeout,
        extra={**order.extra},
        quiet=True,
        private_tmp=order.private_tmp,
    )
    tree = lease.granted.tree
    fd = write_spec(spec)
    try:
        child = _start_shim(shim_argv(fd, tree, list(order.command)), order, stdio, [fd, *spec.descriptors()])
    finally:
        os.close(fd)
        lease.close()
    try:
        # Our own child keeps its pid until we wait for it, so both of these name it.
        process = ProcessId(child.pid, proc.start_of(child.pid) or 0)
        return ShimHandle(tree, process, os.pidfd_open(child.pid), child)
    except OSError as error:  # no descriptor left: a shim that cannot be watched must not go on
        child.terminate()
        child.wait()
        raise ContainmentError(f"cannot watch {order.name}", error.strerror or str(error)) from None


def _start_shim(argv: list[str], order: Order, stdio: StandardFds, passed: list[int]) -> subprocess.Popen[bytes]:
    """Popen and not asyncio's subprocess, which needs a child watcher and cannot wait for a pidfd of ours. It returns
    when the exec has succeeded, 1 to 2 ms."""
    try:
        return subprocess.Popen(
            argv,
            stdin=stdio[0],
            stdout=stdio[1],
            stderr=stdio[2],
            env=order.environ,
            cwd=order.cwd,
            pass_fds=passed,
            start_new_session=True,
        )
    except OSError as error:
        why = f"{error.filename or argv[0]}: {error.strerror}"
        kind = {FileNotFoundError: CommandNotFound, PermissionError: NotRunnable, NotADirectoryError: NotRunnable}
        raise kind.get(type(error), ContainmentError)(f"cannot start {order.name}", why) from None


def read_record(path: str, tree: str | None = None) -> ExitRecord | None:
    """The record in a file, None if there is no whole one (of this ``tree``)."""
    try:
        record = msgspec.json.decode(proc.read_file(path) or b"", type=ExitRecord)
    except msgspec.DecodeError:
        return None
    return record if tree in (None, record.tree) else None


class TreeEnd(msgspec.Struct, frozen=True, kw_only=True):
    """``verified``: shim or daemon proved that ``record.survivors`` is all that is left."""

    record: ExitRecord
    verified: bool = True


async def find_end(paths: Paths, tree: str, order: Order, code: int | None) -> TreeEnd:
    """How a tree ended whose shim is gone with return code ``code`` (None: not our child). Where the shim left no
    record (it was killed, or the disk is full) the daemon knows, once it has swept the tree."""
    record = read_record(order.report, tree)
    if record is not None:
        return TreeEnd(record=record)
    killed = code in (None, -SIGKILL)
    reason = "its shim was killed" if killed else f"its shim failed with exit code {code}"
    view = await _wait_swept(paths, tree)
    if view is None or view.survivors is None:
        reason += ", and no daemon knows what became of its tree"
    blank = _make_record(order.name, tree, "failed", 137 if killed else 125, reason)
    if view is None:
        return TreeEnd(record=blank, verified=False)
    record = msgspec.structs.replace(
        blank,
        rung=view.rung or "",
        peak_bytes=view.used_bytes or 0,
        limit_bytes=view.limit_bytes,
        reserved_bytes=view.reserved_bytes,
        seconds=view.seconds,
        survivors=view.survivors or 0,
    )
    return TreeEnd(record=record, verified=view.survivors is not None)


async def _wait_swept(paths: Paths, tree: str) -> TreeView | None:
    """The tree once the daemon has closed it; None if no daemon knows it, or none answers."""
    client = Client(paths, start=True)
    until = time.monotonic() + SWEPT_WITHIN
    while time.monotonic() < until:
        try:
            view = await asyncio.to_thread(client.tree, tree)
            if view is None or view.state == "ended":
                return view
        except DaemonError:
            pass  # it died or is being started; the next one sweeps
        await asyncio.sleep(0.05)
    return None


def make_unstarted_record(name: str, error: OomlessError) -> ExitRecord:
    """The record of a command for which no shim was started."""
    status: Status = "refused" if isinstance(error, Refused) else "failed"
    return _make_record(name, "", status, error.exit_code, error.line())


def _make_record(name: str, tree: str, status: Status, exit_code: int, reason: str) -> ExitRecord:
    return ExitRecord(
        tree=tree,
        name=name,
        status=status,
        exit_code=exit_code,
        reason=reason,
        rung="",
        peak_bytes=0,
        peak_source="cgroup",
        reserved_bytes=0,
        seconds=0.0,
        survivors=0,
        started_at=time.time(),
    )
