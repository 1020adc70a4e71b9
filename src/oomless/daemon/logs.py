"""The daemon's log, written one JSON object a line, and its rotation when a daemon starts. It is read by
``protocol/log_file.py``."""

from __future__ import annotations

import os
import time

import msgspec

from oomless.protocol.log_file import Field

#: At a start, a log larger than this becomes ``daemon.log.1``; that is the only one kept.
ROTATE_BYTES = 1_000_000


class Log:
    """Writes to a descriptor that is open for appending: each line is one write(2), so lines don't mix."""

    def __init__(self, fd: int = 2) -> None:
        self._fd = fd

    def info(self, text: str, **fields: Field) -> None:
        self._write("info", text, fields)

    def warning(self, text: str, **fields: Field) -> None:
        self._write("warning", text, fields)

    def error(self, text: str, **fields: Field) -> None:
        self._write("error", text, fields)

    def _write(self, level: str, text: str, fields: dict[str, Field]) -> None:
        line = {"at": round(time.time(), 3), "level": level, "text": text, **fields}
        try:
            os.write(self._fd, msgspec.json.encode(line) + b"\n")
        except OSError:
            pass  # A full disk: the daemon goes on, and there is nowhere to say so.


def rotate(path: str) -> None:
    try:
        if os.stat(path).st_size > ROTATE_BYTES:
            os.replace(path, path + ".1")
    except OSError:
        pass  # There is none yet, or it cannot be renamed: then it grows on.
