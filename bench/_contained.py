"""One tree under measurement: watched from outside through pidfds, timed, and killed whatever happens.

A member is dead when its pidfd is readable, and the tree when all are and no process holds the roster open any more
(which a member that is another process every 2 ms cannot fake). Standard library and oomless only.
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
#: Seconds after the request; a member that is alive then is missed.
MISSED_AFTER = 2.0


class MeasuredTree:
    """``command`` is what a way has to start. After ``with`` nothing of it is left."""

    def __init__(self, *what: str) -> None:
        self.folder = tempfile.mkdtemp(prefix="oob", dir="/tmp")
        for name in ("roster", "life"):
            os.mkfifo(f"{self.folder}/{name}", 0o600)
        self._roster = os.open(f"{self.folder}/roster", os.O_RDONLY | os.O_NONBLOCK)
        self._life: int | None = os.open(f"{self.folder}/life", os.O_RDWR)
        self.command = [*TREE, self.folder, *what]
        self._fds: list[int] = []
        self._root = -1
        #: The pid that the tree descends from, where that is known.
        self.below: int | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
        for fd in [self._roster, *self._fds]:
            os.close(fd)
        shutil.rmtree(self.folder)

    def close(self) -> None:
        """Kills what is left."""
        if self._life is None:
            return
        os.unlink(f"{self.folder}/life")  # first: a process that opens it later would get no end of file
        os.close(self._life)
        self._life = None
        os.close(os.open(f"{self.folder}/roster", os.O_WRONLY))  # its end of file comes only after a writer
        self._kill_members()
        if not self.wait_ended(time.monotonic() + 10):
            print(f"a tree does not end: its folder is {self.folder}", file=sys.stderr)

    def wait_ready(self, count: int, timeout: float = 60) -> None:
        """Returns once ``count`` members have reported."""
        poll, text, until = select.poll(), b"", time.monotonic() + timeout
        poll.register(self._roster, select.POLLIN)
        while (there := text.count(b"\n")) < count:
            if not poll.poll(max(0, until - time.monotonic()) * 1000):
                raise SystemExit(f"{there} of {count} processes are there after {timeout:g} s")
            text += os.read(self._roster, 65536)
        pids = self._map_pids()
        for pid, start, kind in (line.split() for line in text.splitlines()):
            fd = proc.open_verified(pids.get(int(pid), int(pid)), int(start))
            if fd is None:
                raise SystemExit(f"member {pid.decode()} has ended by itself")
            self._fds.append(fd)
            if kind == b"root":
                self._root = fd

    def _map_pids(self) -> dict[int, int]:
        """The pid here by that in the process's own PID namespace."""
        found: dict[int, int] = {}
        for stat in descendants.walk(self.below) if self.below else ():
            for line in (proc.read_file(f"/proc/{stat.pid}/status") or b"").splitlines():
                if line.startswith(b"NSpid:"):
                    found[int(line.split()[-1])] = stat.pid
        return found

    def signal_root(self) -> None:
        """The root goes on (an eater), or ends (in the case ``left``)."""
        assert self._life is not None
        os.write(self._life, b"x")

    def end_root(self) -> float:
        """Makes the root end and waits for that. Returns when it was asked to, on the monotonic clock."""
        asked = time.monotonic()
        self.signal_root()
        poll = select.poll()
        poll.register(self._root, select.POLLIN)
        if not poll.poll(10_000):
            raise SystemExit("the root does not end")
        return asked

    def measure_end(self, asked: float) -> tuple[float, int]:
        """Seconds from ``asked`` to the death of the last member, and how many lived 2 s later, which are killed
        here."""
        if self.wait_ended(asked + MISSED_AFTER):
            return time.monotonic() - asked, 0
        alive = self._count_alive()
        self._kill_members()
        moving = not self._roster_closed(0.5)  # what still holds the roster is another process every 2 ms
        return MISSED_AFTER, alive + moving

    def _kill_members(self) -> None:
        for fd in self._fds:
            try:
                signal.pidfd_send_signal(fd, signal.SIGKILL)
            except ProcessLookupError:
                pass

    def wait_ended(self, until: float) -> bool:
        """Waits for all to end; False if one has not by then."""
        if not self._roster_closed(max(0.0, until - time.monotonic())):
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

    def _roster_closed(self, timeout: float) -> bool:
        """Whether no process holds the roster."""
        poll = select.poll()
        poll.register(self._roster, 0)
        return bool(poll.poll(timeout * 1000))

    def _count_alive(self) -> int:
        poll = select.poll()
        for fd in self._fds:
            poll.register(fd, select.POLLIN)
        return len(self._fds) - len(poll.poll(0))


class EaterTree(MeasuredTree):
    """Grows at ``rate`` MB/s from ``begin`` MB."""

    def __init__(self, rate: int, begin: int, top: int, limit: int) -> None:
        super().__init__("eater", str(rate), str(begin), str(top))
        path = f"{self.folder}/gauge"
        with open(path, "wb") as file:
            file.write((0).to_bytes(16, sys.byteorder) + limit.to_bytes(8, sys.byteorder))
        with open(path, "r+b") as file:
            self._gauge = memoryview(mmap.mmap(file.fileno(), 24)).cast("Q")

    @property
    def peak(self) -> int:
        """The most bytes that it held."""
        return self._gauge[0]

    @property
    def passed(self) -> float:
        """When it was below its limit for the last time, on the monotonic clock."""
        return self._gauge[1] / 1e9
