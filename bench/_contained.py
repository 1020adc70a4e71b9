"""One tree under measurement, seen from outside: started, watched through pidfds, timed, and ended whatever happens.

A member's death is when its pidfd says so, and the tree's when that of the last does and nobody holds the roster open
any more (which a member that is another process every 2 ms cannot fake). Standard library and oomless only.
"""

from __future__ import annotations

import mmap
import os
import select
import shutil
import signal
import sys
import tempfile
import time
from typing import Self

from oomless.platform import proc
from oomless.processes import descendants

TREE = [sys.executable, "-I", "-S", os.path.join(os.path.dirname(os.path.abspath(__file__)), "_tree.py")]
#: Alive so long after the request: missed.
MISSED_AFTER = 2.0


class Tree:
    """``command`` is what a way has to start. To be used with ``with``: at the end nobody of it is left."""

    def __init__(self, *what: str) -> None:
        self.folder = tempfile.mkdtemp(prefix="oob", dir="/tmp")
        for name in ("roster", "life"):
            os.mkfifo(f"{self.folder}/{name}", 0o600)
        self._roster = os.open(f"{self.folder}/roster", os.O_RDONLY | os.O_NONBLOCK)
        self._life: int | None = os.open(f"{self.folder}/life", os.O_RDWR)
        self.command = [*TREE, self.folder, *what]
        self._fds: list[int] = []
        self._root = -1
        #: Who the tree is below, where that is known.
        self.below: int | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
        for fd in [self._roster, *self._fds]:
            os.close(fd)
        shutil.rmtree(self.folder)

    def close(self) -> None:
        """Ends who is left."""
        if self._life is None:
            return
        os.unlink(f"{self.folder}/life")  # first, so that nobody opens one that no end of file comes from
        os.close(self._life)
        self._life = None
        os.close(os.open(f"{self.folder}/roster", os.O_WRONLY))  # its end comes only after somebody has written
        self._kill()
        if not self.wait(time.monotonic() + 10):
            print(f"a tree does not end; its folder is {self.folder}", file=sys.stderr)

    def ready(self, count: int, timeout: float = 60) -> None:
        """Returns once so many are there."""
        poll, text, until = select.poll(), b"", time.monotonic() + timeout
        poll.register(self._roster, select.POLLIN)
        while (there := text.count(b"\n")) < count:
            if not poll.poll(max(0, until - time.monotonic()) * 1000):
                raise SystemExit(f"{there} of {count} processes are there after {timeout:g} s")
            text += os.read(self._roster, 65536)
        outside = self._outside()
        for pid, start, kind in (line.split() for line in text.splitlines()):
            fd = proc.open_verified(outside.get(int(pid), int(pid)), int(start))
            if fd is None:
                raise SystemExit(f"member {pid.decode()} has ended by itself")
            self._fds.append(fd)
            if kind == b"root":
                self._root = fd

    def _outside(self) -> dict[int, int]:
        """Our number by that which a process has where it is: another one in a PID namespace."""
        found: dict[int, int] = {}
        for stat in descendants.walk(self.below) if self.below else ():
            for line in (proc.read_file(f"/proc/{stat.pid}/status") or b"").splitlines():
                if line.startswith(b"NSpid:"):
                    found[int(line.split()[-1])] = stat.pid
        return found

    def tell(self) -> None:
        """The root goes on (an eater), or ends (where it is to be gone)."""
        assert self._life is not None
        os.write(self._life, b"x")

    def leave(self) -> float:
        """Tells the root to end, and waits for that; when it was told, on the monotonic clock."""
        asked = time.monotonic()
        self.tell()
        poll = select.poll()
        poll.register(self._root, select.POLLIN)
        if not poll.poll(10_000):
            raise SystemExit("the root does not end")
        return asked

    def ended(self, asked: float) -> tuple[float, int]:
        """Seconds from ``asked`` to the death of the last, and how many lived 2 s later; those are ended here."""
        if self.wait(asked + MISSED_AFTER):
            return time.monotonic() - asked, 0
        alive = self._alive()
        self._kill()
        moving = not self._closed(0.5)  # who still holds the roster is another process every 2 ms
        return MISSED_AFTER, alive + moving

    def _kill(self) -> None:
        for fd in self._fds:
            try:
                signal.pidfd_send_signal(fd, signal.SIGKILL)
            except ProcessLookupError:
                pass

    def wait(self, until: float) -> bool:
        """For all to end; False if somebody has not by then."""
        if not self._closed(max(0.0, until - time.monotonic())):
            return False
        poll = select.poll()
        for fd in self._fds:
            poll.register(fd, select.POLLIN)
        left = len(self._fds)
        while left:
            ready = poll.poll(max(0.0, until - time.monotonic()) * 1000)
            if not ready:
                return False
            for fd, _ in ready:
                poll.unregister(fd)
                left -= 1
        return True

    def _closed(self, timeout: float) -> bool:
        """Whether nobody holds the roster."""
        poll = select.poll()
        poll.register(self._roster, 0)
        return bool(poll.poll(timeout * 1000))

    def _alive(self) -> int:
        poll = select.poll()
        for fd in self._fds:
            poll.register(fd, select.POLLIN)
        return len(self._fds) - len(poll.poll(0))


class Eater(Tree):
    """Grows at ``rate`` MB/s from ``begin`` MB, and is looked at where it was when it died."""

    def __init__(self, rate: int, begin: int, top: int, limit: int) -> None:
        super().__init__("eater", str(rate), str(begin), str(top))
        path = f"{self.folder}/gauge"
        with open(path, "wb") as file:
            file.write((0).to_bytes(16, sys.byteorder) + limit.to_bytes(8, sys.byteorder))
        with open(path, "r+b") as file:
            self._gauge = memoryview(mmap.mmap(file.fileno(), 24)).cast("Q")

    @property
    def peak(self) -> int:
        """Bytes that it held at most."""
        return self._gauge[0]

    @property
    def passed(self) -> float:
        """When it was below its limit for the last time, on the monotonic clock."""
        return self._gauge[1] / 1e9
