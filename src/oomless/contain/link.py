"""The shim's end of its lease: messages out, ``end`` in, and the way back to a restarted daemon.

It never blocks the shim: a daemon that does not read loses the connection, and the tree goes on without. Standard
library only.
"""

from __future__ import annotations

import os
import select

from oomless.lean import dumps, loads, socket

VERSION = 1
RETRY_FIRST = 0.2
RETRY_MOST = 2.0


class Link:
    """``fd`` is to be polled when it is not None; ``retry_at`` is when ``reconnect`` is due, or None."""

    def __init__(self, fd: int | None, state: str, now: float) -> None:
        self._state = state
        self._socket: socket.socket | None = None
        self._buffer = b""
        self._delay = RETRY_FIRST
        self.retry_at: float | None = None
        if fd is not None:
            os.set_inheritable(fd, False)
            self._take(socket.socket(fileno=fd))
        else:
            self.retry_at = now + self._delay

    def _take(self, connected: socket.socket) -> None:
        connected.setblocking(False)
        self._socket, self._buffer = connected, b""
        self._delay, self.retry_at = RETRY_FIRST, None

    @property
    def fd(self) -> int | None:
        return self._socket.fileno() if self._socket else None

    def follow(self, poll: select.poll, linked: int | None) -> int | None:
        """Polls the connection that there is now, instead of the one before."""
        if self.fd != linked:
            if linked is not None:
                poll.unregister(linked)
            if self.fd is not None:
                poll.register(self.fd, select.POLLIN)
        return self.fd

    def send(self, message: dict[str, object], now: float) -> None:
        if self._socket is None:
            return
        data = dumps(message).encode() + b"\n"
        try:
            if self._socket.send(data) != len(data):
                self.lost(now)
        except OSError:
            self.lost(now)

    def last(self, message: dict[str, object]) -> None:
        """The final message may wait half a second for a busy daemon; the record is in its file anyway."""
        if self._socket is not None:
            self._socket.settimeout(0.5)
            self.send(message, 0.0)

    def lost(self, now: float) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        self.retry_at = now + self._delay
        self._delay = min(RETRY_MOST, self._delay * 2)

    def receive(self, now: float) -> list[dict[str, object]]:
        """Complete messages that have come; [] also when the connection was lost meanwhile."""
        if self._socket is None:
            return []
        try:
            part = self._socket.recv(65536)
        except BlockingIOError:
            return []
        except OSError:
            part = b""
        if not part:
            self.lost(now)
            return []
        *lines, self._buffer = (self._buffer + part).split(b"\n")
        return [message for line in lines if (message := _parse(line)) is not None]

    def reconnect(self, adopt: dict[str, object], now: float) -> bool:
        """Tries the daemon that ``daemon.json`` names now, and asks it to adopt the tree."""
        try:
            with open(f"{self._state}/daemon.json", encoding="utf-8") as file:
                path = loads(file.read())["socket"]
            connected = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            connected.settimeout(0.2)
            connected.connect(path)
        except (OSError, ValueError, KeyError, TypeError):
            self.lost(now)
            return False
        self._take(connected)
        self.send({"op": "adopt", "v": VERSION, **adopt}, now)
        return self._socket is not None

    def give_up(self) -> None:
        """The daemon does not know this tree: no more attempts."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        self.retry_at = None


def _parse(line: bytes) -> dict[str, object] | None:
    try:
        message = loads(line)
    except ValueError:
        return None
    return message if isinstance(message, dict) else None
