"""The daemon's log as its readers see it: one JSON object a line, ``{"at", "level", "text", ...}``.

What dies so early or so hard that it can only print (the interpreter, an uncaught error) is in the same file as plain
text, and is read as an error.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from typing import BinaryIO

import msgspec

_TAIL_BYTES = 262_144
Field = str | int | float | bool | None


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """``fields``: what came besides. ``at`` is None for plain text."""

    at: float | None
    level: str
    text: str
    fields: dict[str, Field] = {}


def parse(raw: bytes) -> Line:
    try:
        fields = msgspec.json.decode(raw, type=dict[str, Field])
        at, level, text = (fields.pop(name) for name in ("at", "level", "text"))
        if isinstance(at, (int, float)):
            return Line(at=at, level=str(level), text=str(text), fields=fields)
    except (msgspec.DecodeError, KeyError):
        pass
    return Line(at=None, level="error", text=raw.decode("utf-8", "replace"))


def as_fields(line: Line) -> dict[str, Field]:
    """The line as it is in the file; plain text in the same form."""
    return {"at": line.at, "level": line.level, "text": line.text, **line.fields}


def lines(path: str, count: int, following: bool = False) -> Iterator[Line]:
    """The last ``count`` lines (within the last quarter of a megabyte), oldest first; with ``following``
    also all that come from then on, for ever. No log is an empty log."""
    file = _open(path)
    if file:
        yield from _last(file, count)
    if following:
        yield from _follow(path, file)
    elif file:
        file.close()


def _open(path: str) -> BinaryIO | None:
    try:
        return open(path, "rb")  # closed by whoever took it
    except FileNotFoundError:
        return None


def _last(file: BinaryIO, count: int) -> list[Line]:
    file.seek(max(0, os.fstat(file.fileno()).st_size - _TAIL_BYTES))
    skip = 1 if file.tell() else 0
    found = file.read().splitlines()[skip:]
    return [parse(line) for line in found[-count:]] if count > 0 else []


def _follow(path: str, file: BinaryIO | None, interval: float = 0.3) -> Iterator[Line]:
    rest = b""
    while True:
        part = file.read() if file else b""
        *whole, rest = (rest + part).split(b"\n")
        yield from map(parse, whole)
        if part:
            continue
        if file is None or _replaced(path, file):
            if file:
                file.close()
            file, rest = _open(path), b""
            if file:
                continue
        time.sleep(interval)  # A regular file is always ready, poll(2) would not wait for more.


def _replaced(path: str, file: BinaryIO) -> bool:
    """By a rotation. Not by a deletion: a daemon may go on writing to the file that we hold."""
    ours = os.fstat(file.fileno())
    try:
        return os.stat(path).st_ino != ours.st_ino
    except FileNotFoundError:
        return False
