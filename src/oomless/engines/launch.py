"""One governed command from asyncio: lease, shim, end, record. A batch and ``Governor`` are both made of this.

Covers: what is asked for (``Order``), spawning a shim with its lease, waiting for a shim (our child or not), the
record it leaves, and what is said when it left none. Not here: the asking itself (``lease.py``), retries and
files of a batch (``local.py``, ``store.py``), what the shim does (``contain/shim.py``).
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
from oomless.model import ExitRecord, Status
from oomless.paths import Paths
from oomless.platform import proc
from oomless.protocol import wire
from oomless.protocol.async_lease import Lease
from oomless.protocol.client import Client
from oomless.protocol.views import TreeView

#: Longer than a daemon waits for the shim of a granted tree (10 s) and sweeps (5 s).
SWEPT_WITHIN = 20.0

#: Descriptors for standard input, output and error; None: our own.
Standard = tuple[int, int | None, int | None]


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """``environ`` is the whole environment. ``report`` is the file that the shim writes its record to, with
    ``extra`` in it."""

    name: str
    command: tuple[str, ...]
    environ: dict[str, str]
    cwd: str
    owner: str
    report: str
    klass: str | None = None
    memory: int | None = None
    expect: int | None = None
    processes: int | None = None
    timeout: float | None = None
    wait: float | None = None
    group: str | None = None
    group_budget: int | None = None
    group_parallel: int | None = None
    retriable: bool = False
    private_tmp: bool = False
    extra: dict[str, str | int] = {}

    def request(self) -> wire.Lease:
        return wire.Lease(
            v=wire.VERSION,
            name=self.name,
            class_name=self.klass,
            argv=self.command,
            cwd=self.cwd,
            need=self.expect or self.memory,
            limit=self.memory,
            processes=self.processes,
            wait=self.wait,
            owner=self.owner,
            group=self.group,
            group_budget=self.group_budget,
            group_parallel=self.group_parallel,
            retriable=self.retriable,
        )


class Shim:
    """A running shim, held by a pidfd: signals reach it or nobody. ``child`` is None for one that an earlier,
    killed batch command started. ``told``: we asked it to end."""

    def __init__(self, tree: str, pid: int, start: int, pidfd: int, child: subprocess.Popen[bytes] | None) -> None:
        self.tree, self.pid, self.start = tree, pid, start
        self._pidfd = pidfd
        self._child = child
        self.told = False

    @classmethod
    def found(cls, tree: str, pid: int, start: int) -> Shim | None:
        pidfd = proc.open_verified(pid, start)
        return None if pidfd is None else cls(tree, pid, start, pidfd, None)

    def end(self) -> None:
        """Asks the shim to end its tree; it does so within the grace."""
        self.told = True
        try:
            if self._pidfd >= 0:
                pidfd_send_signal(self._pidfd, SIGTERM)
        except ProcessLookupError:
            pass

    def release(self) -> None:
        """Lets go of it, alive or not."""
        if self._pidfd >= 0:
            os.close(self._pidfd)
        self._pidfd = -1

    async def gone(self) -> int | None:
        """Waits for the shim's end; its return code if it is our child. To be called once."""
        try:
            await readable(self._pidfd)
        finally:
            self.release()
        return None if self._child is None else self._child.wait()


async def readable(fd: int) -> None:
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
    """Raises what a shell would say about a working folder that cannot be entered."""
    if not os.path.exists(cwd):
        raise CommandNotFound(f"the working folder {cwd} does not exist", "", "make it, or correct cwd")
    if not os.path.isdir(cwd) or not os.access(cwd, os.X_OK):
        raise NotRunnable(f"the working folder {cwd} cannot be entered", "", "correct cwd")


def spawn_shim(state: str, lease: Lease, order: Order, stdio: Standard, lifeline: int | None = None) -> Shim:
    """Starts the shim and hands it the lease; ours is closed in any case. ``stdio``: descriptors for standard
    input, output and error. ``lifeline``: the read end, which the shim inherits."""
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
        child = _popen(shim_argv(fd, tree, list(order.command)), order, stdio, [fd, *spec.descriptors()])
    finally:
        os.close(fd)
        lease.close()
    try:
        # Our own child keeps its number until we wait for it, so both of these name it.
        return Shim(tree, child.pid, proc.start_of(child.pid) or 0, os.pidfd_open(child.pid), child)
    except OSError as error:  # no descriptor left: a shim that we cannot watch must not go on
        child.terminate()
        child.wait()
        raise ContainmentError(f"cannot watch {order.name}", error.strerror or str(error)) from None


def _popen(argv: list[str], order: Order, stdio: Standard, passed: list[int]) -> subprocess.Popen[bytes]:
    """Popen and not asyncio's subprocess: that one needs a child watcher and cannot wait for a pidfd of ours.
    It returns when the exec has succeeded, 1 to 2 ms."""
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
    """The record, if there is a whole one (of this ``tree``)."""
    try:
        record = msgspec.json.decode(proc.read_file(path) or b"", type=ExitRecord)
    except msgspec.DecodeError:
        return None
    return record if tree in (None, record.tree) else None


class Ending(msgspec.Struct, frozen=True, kw_only=True):
    """``verified``: somebody proved that ``record.survivors`` is all that is left."""

    record: ExitRecord
    verified: bool = True


async def conclude(paths: Paths, tree: str, order: Order, code: int | None) -> Ending:
    """How a tree ended whose shim is gone with return code ``code`` (None: not our child). Where the shim left
    no record (it was killed, or the disk is full) the daemon tells, once it has swept the tree."""
    record = read_record(order.report, tree)
    if record is not None:
        return Ending(record=record)
    killed = code in (None, -SIGKILL)
    reason = "its shim was killed" if killed else f"its shim failed with exit code {code}"
    view = await _swept(paths, tree)
    if view is None or view.survivors is None:
        reason += ", and no daemon could tell what became of its tree"
    blank = _blank(order.name, tree, "failed", 137 if killed else 125, reason)
    if view is None:
        return Ending(record=blank, verified=False)
    record = msgspec.structs.replace(
        blank,
        rung=view.rung or "",
        peak_bytes=view.used_bytes or 0,
        limit_bytes=view.limit_bytes,
        reserved_bytes=view.reserved_bytes,
        seconds=view.seconds,
        survivors=view.survivors or 0,
    )
    return Ending(record=record, verified=view.survivors is not None)


async def _swept(paths: Paths, tree: str) -> TreeView | None:
    """The tree once the daemon has closed it; None if no daemon knows it, or none answers."""
    client = Client(paths, start=True)
    until = time.monotonic() + SWEPT_WITHIN
    while time.monotonic() < until:
        try:
            view = await asyncio.to_thread(client.tree, tree)
            if view is None or view.state == "ended":
                return view
        except DaemonError:
            pass  # It died or is being started; the next one sweeps.
        await asyncio.sleep(0.05)
    return None


def not_started(name: str, error: OomlessError) -> ExitRecord:
    """The record of a command that no shim was started for."""
    status: Status = "refused" if isinstance(error, Refused) else "failed"
    return _blank(name, "", status, error.exit_code, error.line())


def _blank(name: str, tree: str, status: Status, exit_code: int, reason: str) -> ExitRecord:
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
