"""The front of one tool shell: the process that the host started, which ends as the shell ends.

Covers: what the host does to it. A signal to us alone is handed on to the shell; one to the whole process group has
reached the shell by itself, and a second one would run its trap twice. If the keeper is killed, the shell becomes
our child (we are a subreaper), so that its end is still known. Not here: the keeper, and what the shell leaves in
the background (``keeper.py``). Standard library only.
"""

from __future__ import annotations

import os
import select
import sys
import time

assert sys.platform == "linux"

from oomless.contain.child import inherited, let_go
from oomless.contain.signals import SignalFd
from oomless.lean import signal
from oomless.platform import proc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)
#: kill(2) to a group marks one member after the other; nobody is that slow.
GROUP_SECONDS = 0.005
#: A keeper with nothing left to keep needs 3 ms. It is waited for, because not every init reaps strangers.
KEEPER_SECONDS = 0.05


class Witness:
    """A process in our group that blocks all signals and never runs: what waits for it was sent to the group."""

    def __init__(self) -> None:
        self._leash: int | None = None
        self._start()

    def _start(self) -> None:
        reader, self._leash = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            self._stay(reader)
        os.close(reader)

    def _stay(self, reader: int) -> NoReturn:
        """Until the front is gone, which alone holds the other end."""
        try:
            if self._leash is not None:
                os.close(self._leash)
            for fd in (0, 1, 2, *inherited()):
                os.close(fd)
            os.read(reader, 1)
        finally:
            os._exit(0)

    def let_go(self) -> None:
        """In a child of the front that is to outlive it."""
        if self._leash is not None:
            os.close(self._leash)

    def saw(self, number: int) -> bool:
        return bool(proc.signals(self.pid, b"SigPnd:", b"ShdPnd:") >> (number - 1) & 1)

    def renew(self) -> None:
        self.end()
        self._start()

    def end(self) -> None:
        if self._leash is not None:
            os.close(self._leash)
            self._leash = None
            os.kill(self.pid, signal.SIGKILL)  # not reaped yet, so the number is our child's
            os.waitpid(self.pid, 0)


class Front:
    """``reader``: the pipe from the keeper, which says ``root PID START`` and ``ended CODE SIGNAL LAST``."""

    def __init__(self, reader: int, keeper: int, signals: SignalFd, witness: Witness) -> None:
        self._reader = reader
        self._keeper = keeper
        self._signals = signals
        self._witness = witness
        self._root: tuple[int, int] | None = None
        self._buffer = b""
        self._early: set[int] = set()
        self._pending: list[int] = []

    def wait(self) -> tuple[int, int]:
        """Exit code and signal of the shell."""
        let_go(0, 1, 2)
        poll = select.poll()
        poll.register(self._reader, select.POLLIN)
        poll.register(self._signals.fd, select.POLLIN)
        while True:
            ready = {fd for fd, _ in poll.poll(self._due())}
            if self._reader in ready:
                ended = self._read()
                if ended is not None:
                    self._witness.end()
                    return ended
            if self._pending:  # before what came since, which may be of the other kind
                self._settle()
            if self._signals.fd in ready:
                self._take()

    def _read(self) -> tuple[int, int] | None:
        part = os.read(self._reader, 4096)
        if not part:
            return self._without_keeper()
        *lines, self._buffer = (self._buffer + part).split(b"\n")
        for line in lines:
            word, first, second, *rest = line.split()
            if word == b"ended":
                if rest == [b"1"]:
                    self._reap_keeper()
                return int(first), int(second)
            self._root = int(first), int(second)
        return None

    def _take(self) -> None:
        came = [number for number, _ in self._signals.read() if number != signal.SIGCHLD]
        self._pending += came
        if self._root is None:
            self._early |= set(came)

    def _settle(self) -> None:
        """``_pending`` is some milliseconds old: hands on what did not go to the whole group."""
        if self._root is None:
            return
        seen = [number for number in self._pending if self._witness.saw(number)]
        for number in self._pending:
            if number not in seen or self._missed(self._root[0], number):
                proc.send(*self._root, number)
        self._pending = []
        if seen:
            self._witness.renew()

    def _missed(self, pid: int, number: int) -> bool:
        """A signal to the group that came when we knew of no shell may have come before there was one. If it has a
        handler it has run since; if not, a second signal does no more than the first."""
        early = number in self._early
        self._early.discard(number)
        return early and not proc.signals(pid, b"SigCgt:") >> (number - 1) & 1

    def _due(self) -> float | None:
        return GROUP_SECONDS * 1000 if self._pending and self._root is not None else None

    def _reap_keeper(self) -> None:
        fd = os.pidfd_open(self._keeper)
        try:
            poll = select.poll()
            poll.register(fd, select.POLLIN)
            poll.poll(KEEPER_SECONDS * 1000)
            os.waitpid(self._keeper, os.WNOHANG)
        finally:
            os.close(fd)

    def _without_keeper(self) -> tuple[int, int]:
        """It was killed. Once it is a zombie, its children are ours."""
        os.waitpid(self._keeper, 0)
        root = self._root[0] if self._root else self._orphan()
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
            self._settle()
            self._take()

    def _orphan(self) -> int:
        """The shell, if the keeper could not say any more which one it is."""
        return next((pid for pid in proc.children_of(os.getpid()) if pid != self._witness.pid), os.getpid())


def die_of(number: int) -> None:
    """So that the host sees the signal that it would have seen; without a second core dump."""
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if number not in (signal.SIGKILL, signal.SIGSTOP):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [number])
    os.kill(os.getpid(), number)
    time.sleep(1)  # never returns from a signal whose default is to end the process
