"""The client's side of the lease protocol with the standard library alone, for ``run`` and the engines.

The messages are described, typed, in ``wire.py``; here they are plain JSON objects, since msgspec would cost the
fast path more than the whole rest of it (and ``_socket`` is used bare, because ``socket`` costs 0.8 MB).
"""

from __future__ import annotations

import _socket
import os
import sys
import time

assert sys.platform == "linux"

from oomless.errors import DaemonError, DaemonGone, OomlessError, Refused, UsageError
from oomless.lean import dumps, loads
from oomless.protocol import spawn

VERSION = 1
#: A daemon that hangs keeps a connect waiting once too many are queued before it.
CONNECT_SECONDS = 5.0
#: The least that an operation of the socket gets, when the time is almost up.
SHORTEST = 0.05
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from oomless.paths import Paths

    Message = dict[str, object]


def parent_tree() -> str | None:
    """The innermost governed tree that this process runs in, by the mark ``<install>:<tree>[/<nested>]``, or None.
    The daemon checks it against ancestry."""
    mark = os.environ.get("OOMLESS_TREE", "")
    return mark.rsplit(":", 1)[-1].rsplit("/", 1)[-1] or None


def request(**fields: object) -> bytes:
    """The opening line of a new lease; see ``wire.Lease`` for the fields."""
    fields.setdefault("parent", parent_tree())
    given = {name: value for name, value in fields.items() if value is not None}
    return dumps({"op": "lease", "v": VERSION, **given}).encode() + b"\n"


def failure(message: Message) -> OomlessError:
    """The error for a ``refused`` message, with the daemon's wording and exit code."""
    what = str(message.get("error", "")).removeprefix("oomless: ") or "refused without a reason"
    code = message.get("code")
    kind = {75: Refused, 2: UsageError}.get(code if isinstance(code, int) else 125, DaemonError)
    return kind(what, "", str(message.get("hint", "")))


def connect(paths: Paths, seconds: float = spawn.START_SECONDS) -> LeaseClient:
    """To the running daemon, which is started if there is none; within ``seconds``. Raises what ``spawn.ensure``
    raises."""
    until = time.monotonic() + seconds
    known = spawn.DaemonFile.read(paths.daemon_file)
    if known is not None and known.alive():
        try:
            return LeaseClient(known.socket, min(CONNECT_SECONDS, seconds))
        except DaemonError:
            pass
    path = spawn.ensure(paths, max(0.0, until - time.monotonic()))
    return LeaseClient(path, max(SHORTEST, until - time.monotonic()))


class LeaseClient:
    """One lease connection, blocking. ``socket`` may be handed to a shim once the lease is granted."""

    def __init__(self, path: str, timeout: float | None = None) -> None:
        """Connects within ``timeout`` seconds; raises DaemonError."""
        self._buffer = b""
        self.socket = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
        try:
            self.socket.settimeout(timeout)
            self.socket.connect(path)
        except OSError as error:
            self.socket.close()
            why = f"{path}: {error.strerror or error}"
            raise DaemonError("cannot reach the daemon", why, "try: oomless daemon start") from None

    def send(self, opening: bytes) -> None:
        """The request; ``wait_granted`` is its second half. Raises DaemonGone."""
        try:
            self.socket.sendall(opening)
        except OSError as error:
            raise DaemonGone("the daemon went away while we asked", str(error), "try again") from None

    def wait_granted(self, on_waiting: Callable[[Message], None], timeout: float | None = None) -> Message:
        """The ``granted`` message; raises what the daemon refused with. ``timeout`` bounds each single silence of the
        daemon in seconds; how long a request may wait is the daemon's business."""
        try:
            self.socket.settimeout(timeout)
            while True:
                message = self.receive()
                if message.get("op") == "granted":
                    return message
                if message.get("op") == "refused":
                    raise failure(message)
                if message.get("op") == "waiting":
                    on_waiting(message)
        except OSError as error:
            raise DaemonGone("the daemon went away while we asked", str(error), "try again") from None

    def receive(self) -> Message:
        """The next message; raises DaemonGone at the end of the stream, DaemonError on garbage."""
        while b"\n" not in self._buffer:
            part = self.socket.recv(65536)
            if not part:
                raise DaemonGone("the daemon went away while we asked", "", "try again")
            self._buffer += part
        line, _, self._buffer = self._buffer.partition(b"\n")
        try:
            message = loads(line)
            if isinstance(message, dict):
                return message
        except ValueError:
            pass
        raise DaemonError("the daemon answered with something that is not a message", repr(line[:80]), "restart it")

    def close(self) -> None:
        self.socket.close()
