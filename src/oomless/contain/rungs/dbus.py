"""A D-Bus connection, as little of it as asking systemd takes: one socket, blocking, every wait bounded.

It has EXTERNAL authentication, the types ``y b u t s o g v a ()``, method calls with their answers, and signals.
Written from the D-Bus specification 0.43. Standard library only; it also runs in the forked child of a shim, right
before exec.

All failures are OSError, for that is what a rung may raise: ``BusRefused`` is the answer of the other side.
"""

from __future__ import annotations

import errno
import os
import sys
import time

assert sys.platform == "linux"

from oomless.lean import socket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

CALL, RETURN, ERROR, SIGNAL = 1, 2, 3, 4
PATH, INTERFACE, MEMBER, ERROR_NAME, REPLY_SERIAL, DESTINATION, SIGNATURE = 1, 2, 3, 4, 5, 6, 8
_ALIGN = {"y": 1, "g": 1, "v": 1, "b": 4, "u": 4, "s": 4, "o": 4, "a": 4, "t": 8, "(": 8}
_SIZE = {"y": 1, "b": 4, "u": 4, "t": 8}
#: The specification allows 128 MiB; what systemd tells us fits into a page.
LONGEST = 1 << 20
_FIXED = 16


class BusRefused(OSError):
    """The other side answered with an error; ``name`` is that of the D-Bus error."""

    def __init__(self, name: str, text: str) -> None:
        super().__init__(errno.EACCES, text or name)
        self.name = name


class Message:
    __slots__ = ("body", "fields", "kind", "order")

    def __init__(self, kind: int, fields: dict[int, Any], body: bytes, order: str) -> None:
        self.kind = kind
        self.fields = fields
        self.body = body
        self.order = order

    def values(self) -> list[Any]:
        """The arguments; raises OSError for types that are not covered."""
        reader = Reader(self.body, self.order)
        return [reader.get(kind) for kind in complete_types(self.fields.get(SIGNATURE, ""))]


def malformed(what: str) -> OSError:
    return OSError(errno.EPROTO, f"D-Bus: {what}")


def complete_types(signature: str) -> list[str]:
    """``"sa(sv)u"`` -> ``["s", "a(sv)", "u"]``."""
    types, at = [], 0
    while at < len(signature):
        end = _end_of_type(signature, at)
        types.append(signature[at:end])
        at = end
    return types


def _end_of_type(signature: str, at: int) -> int:
    while at < len(signature) and signature[at] == "a":
        at += 1
    if at >= len(signature) or signature[at] not in _ALIGN:
        raise malformed(f"no type in {signature!r}")
    if signature[at] != "(":
        return at + 1
    at += 1
    while at < len(signature) and signature[at] != ")":
        at = _end_of_type(signature, at)
    return at + 1


def put(out: bytearray, kind: str, value: Any) -> None:
    """Appends a value of one complete type, aligned from the start of ``out``. A variant is (type, value)."""
    out += bytes(-len(out) % _ALIGN[kind[0]])
    if kind in _SIZE:
        out += int(value).to_bytes(_SIZE[kind], sys.byteorder)
    elif kind in ("s", "o", "g"):
        data = value.encode()
        out += len(data).to_bytes(1 if kind == "g" else 4, sys.byteorder) + data + b"\0"
    elif kind == "v":
        put(out, "g", value[0])
        put(out, *value)
    elif kind[0] == "a":
        length_at = len(out)
        out += bytes(4)
        out += bytes(-len(out) % _ALIGN[kind[1]])  # not counted in the length
        first = len(out)
        for item in value:
            put(out, kind[1:], item)
        out[length_at : length_at + 4] = (len(out) - first).to_bytes(4, sys.byteorder)
    else:
        for inner, item in zip(complete_types(kind[1:-1]), value, strict=True):
            put(out, inner, item)


class Reader:
    def __init__(self, data: bytes, order: str, at: int = 0) -> None:
        self._data = data
        self._order = order
        self.at = at

    def _take(self, size: int) -> bytes:
        part = self._data[self.at : self.at + size]
        if len(part) != size:
            raise malformed("a message is cut short")
        self.at += size
        return part

    def _number(self, size: int) -> int:
        return int.from_bytes(self._take(size), "little" if self._order == "l" else "big")

    def align(self, size: int) -> None:
        self._take(-self.at % size)

    def get(self, kind: str) -> Any:
        self.align(_ALIGN[kind[0]])
        if kind in _SIZE:
            return self._number(_SIZE[kind])
        if kind in ("s", "o", "g"):
            return self._take(self._number(1 if kind == "g" else 4) + 1)[:-1].decode("utf-8", "replace")
        if kind == "v":
            return self.get(complete_types(self.get("g"))[0])
        if kind[0] == "a":
            length = self._number(4)
            self.align(_ALIGN[kind[1]])
            end, items = self.at + length, []
            while self.at < end:
                items.append(self.get(kind[1:]))
            return items
        return tuple([self.get(inner) for inner in complete_types(kind[1:-1])])


def encode(
    kind: int, serial: int, fields: dict[int, tuple[str, Any]], signature: str, values: Sequence[Any]
) -> bytes:
    body = bytearray()
    for inner, value in zip(complete_types(signature), values, strict=True):
        put(body, inner, value)
    if signature:
        fields = {**fields, SIGNATURE: ("g", signature)}
    out = bytearray((ord("l" if sys.byteorder == "little" else "B"), kind, 0, 1))
    put(out, "u", len(body))
    put(out, "u", serial)
    put(out, "a(yv)", list(fields.items()))
    return bytes(out + bytes(-len(out) % 8) + body)


def decode(data: bytes) -> tuple[Message, int] | None:
    """The first message in ``data`` and its length; None if it is not all there yet."""
    if len(data) < _FIXED:
        return None
    order = chr(data[0])
    if order not in "lB" or data[3] != 1:
        raise malformed("this is not its version 1")
    reader = Reader(data, order, 4)
    body = reader.get("u")
    reader.at = 12
    length = _FIXED + reader.get("u")
    length += -length % 8 + body
    if length > LONGEST:
        raise malformed(f"a message of {length} bytes")
    if len(data) < length:
        return None
    reader.at = 12
    fields = dict(reader.get("a(yv)"))
    return Message(data[1], fields, data[length - body : length], order), length


class Bus:
    """A connection to the socket at ``path``. ``seconds`` bounds all that is done with it, together."""

    def __init__(self, path: str, seconds: float) -> None:
        self._deadline = time.monotonic() + seconds
        self._buffer = b""
        self._serial = 0
        self._signals: list[Message] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            self._bounded(self._socket.connect, path)
            self._authenticate()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self._socket.close()

    def _bounded(self, step: Callable[[Any], Any], argument: Any) -> Any:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))
        self._socket.settimeout(left)
        try:
            return step(argument)
        except TimeoutError:
            raise TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT)) from None

    def _send(self, data: bytes) -> None:
        self._bounded(self._socket.sendall, data)

    def _receive(self) -> None:
        part = self._bounded(self._socket.recv, 65536)
        if not part:
            raise ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))
        self._buffer += part

    def _authenticate(self) -> None:
        # BEGIN goes along: systemd 252 left a call that it had read together with a later BEGIN unanswered until more
        # came (2 of 4 such conversations).
        self._send(b"\0AUTH EXTERNAL " + str(os.geteuid()).encode().hex().encode() + b"\r\nBEGIN\r\n")
        while b"\r\n" not in self._buffer:
            self._receive()
        line, _, self._buffer = self._buffer.partition(b"\r\n")
        if not line.startswith(b"OK"):
            raise OSError(errno.EACCES, f"D-Bus does not let us in: {line.decode('ascii', 'replace')[:80]}")

    def _next(self) -> Message:
        while True:
            decoded = decode(self._buffer)
            if decoded:
                message, length = decoded
                self._buffer = self._buffer[length:]
                return message
            self._receive()

    def call(
        self, destination: str, path: str, interface: str, member: str, signature: str = "", *values: Any
    ) -> list[Any]:
        """The answer's values; raises BusRefused, or OSError for a time-out or a lost connection."""
        self._serial += 1
        fields = {PATH: ("o", path), INTERFACE: ("s", interface), MEMBER: ("s", member)}
        if destination:
            fields[DESTINATION] = ("s", destination)
        self._send(encode(CALL, self._serial, fields, signature, values))
        while True:
            message = self._next()
            if message.kind == SIGNAL:
                self._signals.append(message)
            elif message.fields.get(REPLY_SERIAL) == self._serial:
                return self._answer(message)

    def _answer(self, message: Message) -> list[Any]:
        if message.kind == ERROR:
            has_text = str(message.fields.get(SIGNATURE, "")).startswith("s")
            text = Reader(message.body, message.order).get("s") if has_text else ""
            raise BusRefused(str(message.fields.get(ERROR_NAME, "")), text)
        return message.values()

    def signal(self, member: str, wanted: Callable[[list[Any]], bool]) -> list[Any]:
        """The values of the first signal of that name that is wanted, also of one that came before."""
        while True:
            message = self._signals.pop(0) if self._signals else self._next()
            if message.kind == SIGNAL and message.fields.get(MEMBER) == member:
                values = message.values()
                if wanted(values):
                    return values
