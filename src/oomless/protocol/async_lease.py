"""The client of the lease protocol for asyncio: what ``protocol/lease.py`` is for callers that may block.

It starts the daemon if need be, passes on the reasons of a wait, and asks again when a daemon dies during a request.
"""

from __future__ import annotations

import sys

assert sys.platform == "linux"

import asyncio
import socket
from collections.abc import Callable

import msgspec

from oomless.errors import DaemonError
from oomless.paths import Paths
from oomless.protocol import spawn, wire
from oomless.protocol.lease import failure, parent_tree

#: Daemons that may die during one request before it fails.
DAEMONS = 5
#: Longer than any queue; the settings' own ``wait`` is meant for a single command.
FOREVER = 365 * 86400.0

Waiting = Callable[[wire.WaitNotice], None]


class GrantedLease:
    """A granted lease: ``message`` is the daemon's own, ``granted`` the same with types. Closing it gives the
    reservation back, unless a shim holds the connection as well."""

    def __init__(self, connection: socket.socket, line: bytes) -> None:
        self.connection = connection
        self.message: dict[str, object] = msgspec.json.decode(line)
        self.granted = msgspec.convert({**self.message}, wire.Grant)

    def close(self) -> None:
        self.connection.close()


class AsyncLeaseClient:
    """The requests of one batch or ``Governor``; they arrive at the daemon in the order of the calls."""

    def __init__(self, paths: Paths) -> None:
        self._paths = paths
        self._turn = asyncio.Lock()

    async def ask(self, request: wire.LeaseRequest, on_waiting: Waiting) -> GrantedLease:
        """Returns once the lease is granted; raises what the daemon refuses with, or DaemonError when one daemon
        after the other dies. Cancelling it withdraws the request."""
        request = msgspec.structs.replace(request, parent=request.parent or parent_tree())
        last: Exception | None = None
        for turn in range(DAEMONS):
            if turn:
                await asyncio.sleep(0.05 * 2**turn)
            try:
                return await _converse(await self._open(wire.line(request)), on_waiting)
            except (OSError, _Lost) as error:
                last = error
        raise DaemonError("the daemon went away during the request", str(last), "see: oomless daemon logs")

    async def _open(self, opening: bytes) -> socket.socket:
        """A connection on which the request is under way."""
        loop = asyncio.get_running_loop()
        async with self._turn:
            path = await asyncio.to_thread(spawn.ensure, self._paths)
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
            try:
                await loop.sock_connect(connection, path)
                await loop.sock_sendall(connection, opening)
            except BaseException:
                connection.close()
                raise
        return connection


class _Lost(Exception):
    """The connection ended without an answer."""


async def _converse(connection: socket.socket, on_waiting: Waiting) -> GrantedLease:
    loop = asyncio.get_running_loop()
    try:
        buffer = b""
        while True:
            while b"\n" not in buffer:
                part = await loop.sock_recv(connection, 65536)
                if not part:
                    raise _Lost("it closed the connection")
                buffer += part
            line, _, buffer = buffer.partition(b"\n")
            if _granted(line, on_waiting):
                return GrantedLease(connection, line)
    except BaseException:
        connection.close()
        raise


def _granted(line: bytes, on_waiting: Waiting) -> bool:
    """True at the grant; raises at a refusal, and when the daemon does not speak our language."""
    try:
        message = wire.decode_from_daemon(line)
    except msgspec.DecodeError as error:
        raise DaemonError("the daemon answered with something that is no message", str(error), "restart it") from None
    if isinstance(message, wire.RefusalNotice):
        raise failure({"error": message.error, "hint": message.hint, "code": message.code})
    if isinstance(message, wire.WaitNotice):
        on_waiting(message)
    return isinstance(message, wire.Grant)
