"""The foreground of one tool shell: the process that the host started, which ends as the shell ends.

It passes the host's signals on: one to this process alone has to be handed to the shell, one to the whole process
group has reached the shell by itself, and a second one would run its trap twice. If the background shim is killed,
the shell becomes our child (we are a subreaper), so that its end is still known. Standard library only.
"""

from __future__ import annotations

import os
import select
import sys
import time

assert sys.platform == "linux"

from oomless.contain.child import SignalFd, close_inherited
from oomless.lean import signal
from oomless.platform import proc
from oomless.processes.ids import ProcessId

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)
#: Asks the background shim to take what waits for it. Ignored by default: one to the whole group harms nobody.
CLEAR = signal.SIGURG
#: kill(2) to a group marks one member after the other; none comes later than this.
GROUP_SECONDS = 0.005
#: A background shim needs 1 ms to clear its signals, on an idle machine.
CLEAR_SECONDS = 0.2
#: One with nothing in the background ends within 3 ms. It is waited for, because not every init reaps orphans.
SHIM_SECONDS = 0.05


class GroupSignalProbe:
    """Tells a signal to the whole process group from one to the foreground alone.

    The kernel does not say which it was. But as long as the shell runs the background shim is a member of the group,
    too, and blocks all signals: one that is pending there was sent to the group."""

    def __init__(self, pid: int) -> None:
        self._pid = pid  # our child and not reaped, so the number is its own

    def saw(self, number: int) -> bool:
        return bool(self._pending() >> (number - 1) & 1)

    def clear(self) -> None:
        """Returns when the next signal can be told from the last one."""
        os.kill(self._pid, CLEAR)
        until = time.monotonic() + CLEAR_SECONDS
        mask = sum(1 << (number - 1) for number in FORWARDED)
        while self._pending() & mask and time.monotonic() < until:
            time.sleep(0.0005)

    def _pending(self) -> int:
        return proc.signals(self._pid, b"SigPnd:", b"ShdPnd:")


class Foreground:
    """``reader``: the pipe from the background shim, which says ``root PID START`` and ``ended CODE SIGNAL LAST``;
    ``LAST`` is 1 if nothing is left in the background."""

    def __init__(self, reader: int, shim: int, signals: SignalFd) -> None:
        self._reader = reader
        self._shim = shim
        self._signals = signals
        self._probe: GroupSignalProbe | None = GroupSignalProbe(shim)
        self._root: ProcessId | None = None
        self._buffer = b""
        self._early: set[int] = set()
        self._pending: list[int] = []

    def wait(self) -> tuple[int, int]:
        """Exit code and signal of the shell, 0 if it was none."""
        close_inherited(0, 1, 2)
        poll = select.poll()
        poll.register(self._reader, select.POLLIN)
        poll.register(self._signals.fd, select.POLLIN)
        while True:
            ready = {fd for fd, _ in poll.poll(self._due())}
            if self._reader in ready:
                ended = self._read()
                if ended is not None:
                    return ended
            if self._pending:  # before what came since, which may be of the other kind
                self._forward()
            if self._signals.fd in ready:
                self._take()

    def _read(self) -> tuple[int, int] | None:
        part = os.read(self._reader, 4096)
        if not part:
            return self._wait_without_shim()
        *lines, self._buffer = (self._buffer + part).split(b"\n")
        for line in lines:
            word, first, second, *rest = line.split()
            if word == b"ended":
                if rest == [b"1"]:
                    self._reap_shim()
                return int(first), int(second)
            self._root = ProcessId(int(first), int(second))
        return None

    def _take(self) -> None:
        came = [number for number, _ in self._signals.read() if number != signal.SIGCHLD]
        self._pending += came
        if self._root is None:
            self._early |= set(came)

    def _forward(self) -> None:
        """Hands on what did not go to the whole group. ``_pending`` is some milliseconds old."""
        if self._root is None:
            return
        seen = [number for number in self._pending if self._probe and self._probe.saw(number)]
        for number in self._pending:
            if number not in seen or self._missed(self._root.pid, number):
                proc.send(*self._root, number)
        self._pending = []
        if seen and self._probe:
            self._probe.clear()

    def _missed(self, pid: int, number: int) -> bool:
        """A signal to the group that came when we knew of no shell may have come before there was one. If it has a
        handler it has run since; if not, a second signal does no more than the first."""
        early = number in self._early
        self._early.discard(number)
        return early and not proc.signals(pid, b"SigCgt:") >> (number - 1) & 1

    def _due(self) -> float | None:
        """Milliseconds until pending signals are to be forwarded."""
        return GROUP_SECONDS * 1000 if self._pending and self._root is not None else None

    def _reap_shim(self) -> None:
        fd = os.pidfd_open(self._shim)
        try:
            poll = select.poll()
            poll.register(fd, select.POLLIN)
            poll.poll(SHIM_SECONDS * 1000)
            os.waitpid(self._shim, os.WNOHANG)
        finally:
            os.close(fd)

    def _wait_without_shim(self) -> tuple[int, int]:
        """It was killed, and once it is a zombie its children are ours. Every signal is handed on from here: a trap
        runs twice for one to the whole group."""
        os.waitpid(self._shim, 0)
        self._probe = None
        root = self._root.pid if self._root else self._find_root()
        poll = select.poll()
        poll.register(self._signals.fd, select.POLLIN)
        while True:
            try:
                pid, status = os.waitpid(root, os.WNOHANG)
            except ChildProcessError:
                return 125, 0
            if pid:
                number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
                return (128 + number if number else os.WEXITSTATUS(status)), number
            poll.poll(self._due())
            self._forward()
            self._take()

    def _find_root(self) -> int:
        """The shell, if the shim could not say any more which one it is."""
        return next(iter(proc.children_of(os.getpid())), os.getpid())


def die_of(number: int) -> NoReturn:
    """Ends by that signal, so that the host sees the one that it would have seen; without a second core dump."""
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if number not in (signal.SIGKILL, signal.SIGSTOP):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [number])
    os.kill(os.getpid(), number)
    time.sleep(1)
    os._exit(128 + number)  # a signal whose default does not end a process
