"""Standard input, output and error of a command that is run from Python: bytes in, bytes out.

Output goes through pipes that the event loop drains. Reading ends when the shim is gone, not at the end of the
stream: whoever escaped with a copy of the pipe must not keep us waiting. Not here: the files of a batch
(``store.py``).
"""

from __future__ import annotations

import sys

assert sys.platform == "linux"

import asyncio
import os
from types import TracebackType

_CHUNK = 65536


class _Pipe:
    def __init__(self) -> None:
        self.reader, self.writer = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self.reader, False)
        self._parts: list[bytes] = []
        self._loop = asyncio.get_running_loop()

    def started(self) -> None:
        os.close(self.writer)
        self.writer = -1
        self._loop.add_reader(self.reader, self._read)

    def _read(self) -> None:
        """What is there, a chunk at a time so that a flood of output does not keep the loop."""
        if not self._take():
            self._loop.remove_reader(self.reader)

    def _take(self) -> bool:
        """False if there is nothing more: now (at the end of the tree) or ever."""
        try:
            part = os.read(self.reader, _CHUNK)
        except BlockingIOError:
            return False
        self._parts.append(part)
        return bool(part)

    def close(self) -> bytes:
        self._loop.remove_reader(self.reader)
        while self.writer < 0 and self._take():
            pass
        os.close(self.reader)
        if self.writer >= 0:
            os.close(self.writer)
        return b"".join(self._parts)


class Stdio:
    """Use it as a context; after it, ``stdout`` and ``stderr`` hold what was captured."""

    def __init__(self, data: bytes | None, capture: bool) -> None:
        self.stdout = self.stderr = b""
        self._input = _input(data)
        self._pipes = (_Pipe(), _Pipe()) if capture else None

    @property
    def descriptors(self) -> tuple[int, int | None, int | None]:
        if self._pipes is None:
            return self._input, None, None
        return self._input, self._pipes[0].writer, self._pipes[1].writer

    def started(self) -> None:
        """The shim has its copies; starts reading."""
        for pipe in self._pipes or ():
            pipe.started()

    def __enter__(self) -> Stdio:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._input)
        if self._pipes is not None:
            self.stdout, self.stderr = (pipe.close() for pipe in self._pipes)


def _input(data: bytes | None) -> int:
    """A file and not a pipe: nobody has to feed it while the command runs."""
    if not data:
        return os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    fd = os.memfd_create("oomless-input", os.MFD_CLOEXEC)
    with open(fd, "wb", closefd=False) as file:
        file.write(data)
    os.lseek(fd, 0, os.SEEK_SET)
    return fd
