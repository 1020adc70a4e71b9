"""The client's side of the lease protocol with the standard library alone, for ``run`` and the engines.

The messages are described, typed, in ``wire.py``; here they are plain JSON objects, since msgspec would cost the
fast path more than the whole rest of it.
"""

from __future__ import annotations

import os

from oomless.errors import DaemonError, DaemonGone, OomlessError, Refused, UsageError
from oomless.lean import dumps, loads

VERSION = 1
TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    Message = dict[str, object]


def parent_tree() -> str | None:
    """The innermost governed tree that this process runs in, by the mark ``<install>:<tree>[/<nested>]``, or None.
    The daemon checks it against ancestry."""
    mark = os.environ.get("OOMLESS_TREE", "")
    return mark.rsplit(":", 1)[-1].rsplit("/", 1)[-1] or None


def request(**fields: object) -> bytes:
    """The opening line of a new lease; see ``wire.LeaseRequest`` for the fields."""
    fields.setdefault("parent", parent_tree())
    given = {name: value for name, value in fields.items() if value is not None}
    return dumps({"op": "lease", "v": VERSION, **given}).encode() + b"\n"


def failure(message: Message) -> OomlessError:
    """The error for a ``refused`` message, with the daemon's wording and exit code."""
    what = str(message.get("error", "")).removeprefix("oomless: ") or "refused without a reason"
    code = message.get("code")
    kind = {75: Refused, 2: UsageError}.get(code if isinstance(code, int) else 125, DaemonError)
    return kind(what, "", str(message.get("hint", "")))


class LeaseClient:
    """One lease connection, blocking. ``socket`` may be handed to a shim once the lease is granted."""

    def __init__(self, connected: socket.socket) -> None:
        """``connected``: by ``spawn.connect``."""
        self._buffer = b""
        self.socket = connected

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
