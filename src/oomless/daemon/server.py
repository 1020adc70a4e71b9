"""Listens on a Unix socket for leases and control, and on 127.0.0.1 for the surfaces with tokens.

The first byte on the Unix socket tells a lease from HTTP. If the socket was deleted (a logout removes the runtime
folder) the daemon listens anew.
"""

from __future__ import annotations

import asyncio
import os
import socket
import stat

from oomless import atomicfile
from oomless.daemon.api import Backend, Control, Loopback
from oomless.daemon.http import HttpProtocol
from oomless.daemon.logs import Log
from oomless.errors import DaemonError, StateUnwritable
from oomless.paths import Paths
from oomless.platform import system

FIRST_BYTE_SECONDS = 10.0
BACKLOG = 1024
#: The longest lease message: an argument list may be 2 MiB long (execve(2)).
LEASE_LINE_BYTES = 8 * 2**20


class ProtocolSniffer(asyncio.Protocol):
    """A connection on the Unix socket until its first byte: ``{`` opens a lease, anything else is HTTP."""

    def __init__(self, backend: Backend, control: Control, log: Log, leases: set[asyncio.Task[None]]) -> None:
        self._backend = backend
        self._control = control
        self._log = log
        self._leases = leases
        self._pid = 0
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._pid, uid = system.peer_of(transport.get_extra_info("socket"))
        if uid not in (os.geteuid(), 0):
            self._log.warning("a connection of another user was refused", pid=self._pid, uid=uid)
            transport.abort()
            return
        self._timer = asyncio.get_running_loop().call_later(FIRST_BYTE_SECONDS, transport.close)

    def data_received(self, data: bytes) -> None:
        self._forget_timer()
        if data.startswith(b"{"):
            reader = asyncio.StreamReader(LEASE_LINE_BYTES)
            chosen: asyncio.Protocol = asyncio.StreamReaderProtocol(reader, self._lease)
        else:
            chosen = HttpProtocol(self._control)
        self._transport.set_protocol(chosen)
        chosen.connection_made(self._transport)
        chosen.data_received(data)

    def connection_lost(self, error: Exception | None) -> None:
        self._forget_timer()

    def _forget_timer(self) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None

    def _lease(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._serve_lease(reader, writer))
        self._leases.add(task)
        task.add_done_callback(self._lease_done)

    async def _serve_lease(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._backend.lease(reader, writer, self._pid)
        finally:
            writer.close()

    def _lease_done(self, task: asyncio.Task[None]) -> None:
        self._leases.discard(task)
        error = None if task.cancelled() else task.exception()
        if error:
            report = {"message": "a lease failed", "exception": error}
            task.get_loop().call_exception_handler(report)


class Server:
    """Both listeners. ``path`` and ``port`` are known after ``open``."""

    def __init__(self, paths: Paths, backend: Backend, control: Control, loopback: Loopback, log: Log) -> None:
        self.path = ""
        self.loopback = loopback
        self._paths = paths
        self._backend = backend
        self._control = control
        self._log = log
        self._leases: set[asyncio.Task[None]] = set()
        self._unix: asyncio.Server | None = None
        self._tcp: asyncio.Server | None = None
        self._inode: tuple[int, int] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.loopback.port}"

    async def open(self, port: int) -> None:
        """Raises DaemonError or StateUnwritable."""
        last = 0 if port else read_port(self._paths.port_file)
        self._tcp = await self._listen_again(last) or await self._listen(port)
        self.loopback.port = self._tcp.sockets[0].getsockname()[1]
        if self.loopback.port != last:
            write_port(self._paths.port_file, self.loopback.port)
        await self._open_unix()

    async def _listen(self, port: int) -> asyncio.Server:
        loop = asyncio.get_running_loop()
        try:
            return await loop.create_server(lambda: HttpProtocol(self.loopback), "127.0.0.1", port)
        except OSError as error:
            why = os.strerror(error.errno) if error.errno else str(error)
            todo = f"set port = 0 under [daemon] in {self._paths.config_file}, or end what uses it"
            raise DaemonError(f"cannot listen on port {port} of 127.0.0.1", why, todo) from None

    async def _listen_again(self, last: int) -> asyncio.Server | None:
        """On the port of the daemon before, which hosts' settings name; None if there is none or it is taken."""
        if not last:
            return None
        try:
            return await self._listen(last)
        except DaemonError as error:
            again = "another port is used; install the hosts' hooks again, they name the old one"
            self._log.warning(f"{error.what}; {error.why}; {again}", port=last)
            return None

    async def _open_unix(self) -> None:
        path = self._paths.socket()
        listener = bind_socket(path)
        status = os.stat(path)
        loop = asyncio.get_running_loop()
        self._unix = await loop.create_unix_server(self._make_sniffer, sock=listener, backlog=BACKLOG)
        self.path, self._inode = path, (status.st_dev, status.st_ino)

    def _make_sniffer(self) -> ProtocolSniffer:
        return ProtocolSniffer(self._backend, self._control, self._log, self._leases)

    async def reopen_if_lost(self) -> bool:
        """Listens anew if the socket's file is gone or is not ours any more; leases that are open go on."""
        if self._is_ours():
            return False
        self._log.warning("the socket was deleted, listening anew", socket=self.path)
        if self._unix:
            self._unix.close()
        await self._open_unix()
        return True

    def close(self) -> None:
        """Stops listening and removes the socket; open connections end with the process."""
        for server in (self._unix, self._tcp):
            if server:
                server.close()
        if self._is_ours():
            os.unlink(self.path)

    def _is_ours(self) -> bool:
        try:
            status = os.stat(self.path)
        except OSError:
            return False
        return (status.st_dev, status.st_ino) == self._inode


def read_port(path: str) -> int:
    """0 if there is none, or it is no port of an ordinary program."""
    try:
        with open(path, encoding="ascii") as file:
            text = file.read(16).strip()
    except (OSError, UnicodeDecodeError):
        return 0
    return int(text) if text.isdecimal() and 1024 <= int(text) <= 65535 else 0


def write_port(path: str, port: int) -> None:
    """Whole or not at all; raises StateUnwritable."""
    try:
        atomicfile.write(path, b"%d\n" % port)
    except OSError as error:
        raise StateUnwritable(f"cannot write {path}", error.strerror or str(error), "free disk space") from None


def bind_socket(path: str) -> socket.socket:
    """A bound socket, 0600 in a folder that is ours alone. A file in its place is stale: its name has the id of this
    installation, whose lock we hold."""
    folder = os.path.dirname(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
        _require_private(folder)
        if os.path.lexists(path):
            os.unlink(path)
        listener.bind(path)
        os.chmod(path, 0o600)
    except OSError as error:
        listener.close()
        why = error.strerror or str(error)
        raise DaemonError(
            f"cannot listen on {path}", why, "make its folder writable, or delete what is there"
        ) from None
    except DaemonError:
        listener.close()
        raise
    return listener


def _require_private(folder: str) -> None:
    """A folder under /tmp may have been made by another user before us."""
    status = os.lstat(folder)
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
        raise DaemonError(f"cannot listen in {folder}", "it is not a folder of ours", "delete it")
    if status.st_mode & 0o077:
        os.chmod(folder, 0o700)
