"""The shim of one tool shell: a command that a host runs for its agent, and whatever that leaves in the background.

Two processes, because the host waits for one of them. The *front* is what the host started; it ends with the
shell's exit code or signal at once, and hands signals on. The *keeper* (a ``Shim``) lives as long as anything of the
shell does. The shell stays in the front's process group and session, so that the host reaches it exactly as without
us. When the session's process dies the keeper ends what is in the background, except what detached on purpose
(``spare.py``): that is moved out of the tree's groups and reported as left running. Standard library only.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import time

assert sys.platform == "linux"

from oomless.contain import ending, spare
from oomless.contain.shim import GRACE, Shim
from oomless.contain.signals import SignalFd
from oomless.platform import proc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: A host signals the whole group or our process alone; who got it by the group is mostly gone within this time.
GROUP_SECONDS = 0.02
FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)


class Keeper(Shim):
    def __init__(self, spec: dict[str, Any], command: list[str], front: int) -> None:
        super().__init__(spec, command)
        self.front = front
        self.sid = os.getsid(0)
        self.left_running: dict[spare.Who, str] = {}

    def start(self) -> None:
        super().start()
        os.setsid()  # a signal to the host's process group must not take us with it
        self._tell(f"root {self.root} {self.root_start}\n")

    def _tell(self, line: str) -> None:
        if self.front is not None:
            try:
                os.write(self.front, line.encode())
            except BrokenPipeError:
                pass  # the host has killed the front, see front_gone

    def front_gone(self) -> None:
        """What killed the front was meant for the shell."""
        self._close_front()
        if self.root_status is None:
            proc.kill(self.root, self.root_start)

    def final(self) -> bool:
        return self.kill_at is not None

    def root_gone(self) -> None:
        cause = self.bounds.kernel(self.rung) or self.cause or ending.exited(self.root_status or 0)
        if cause.reason and not self.spec["quiet"]:
            ending.say(f"oomless: {self.spec['name']}: {cause.reason}")
        self._tell(f"ended {cause.code} {cause.signal or 0}\n")
        self._close_front()
        null = os.open("/dev/null", os.O_RDWR)
        os.dup2(null, 2)
        os.close(null)

    def _close_front(self) -> None:
        if self.front is not None:
            os.close(self.front)
            self.front = None

    def signalled(self, number: int, code: int) -> None:
        """Not for us: the front hands on what the host sends, and we end with the shell."""

    def owner_gone(self, now: float) -> None:
        if self.cause is None:
            self.cause = ending.Cause("killed", 137, "its session is gone")
            self._mark_spared()
            ending.signal_all(self._condemned(), signal.SIGTERM)
            self.kill_at = now + GRACE

    def _mark_spared(self) -> None:
        self.left_running = spare.spared(self.rung.members(), self.sid, proc.table())

    def _condemned(self) -> list[spare.Who]:
        return [who for who in self.rung.members() if who not in self.left_running]

    def kill(self) -> None:
        """The group's own kill only where nobody in it is spared."""
        if self.cause is not None and self.cause.reason == "its session is gone":
            self._mark_spared()
        if not self.left_running:
            self.rung.kill()
            return
        for pid, start in self._condemned():
            proc.kill(pid, start)

    def over(self) -> bool:
        if self.kill_at is not None and self.left_running and not self._condemned():
            self.strangers |= set(self.left_running)
            self.rung.release([pid for pid, _ in self.left_running])
        return super().over()

    def record_extra(self) -> dict[str, object]:
        names = {who: " ".join(proc.cmdline(who[0]))[:200] for who in self.left_running}
        rows = [
            {"pid": pid, "start": start, "command": names[(pid, start)], "why": why}
            for (pid, start), why in self.left_running.items()
            if proc.start_of(pid) == start
        ]
        return {"left_running": rows}


def run(spec: dict[str, Any], command: list[str]) -> int:
    """In the front: forks the keeper, waits for the shell, ends as it ended. Returns an exit code, or dies of the
    signal that the shell died of."""
    signals = SignalFd(spec["mask"], FORWARDED)
    spec["mask"] = [int(number) for number in signals.before]
    reader, writer = os.pipe()
    if os.fork() == 0:
        os.close(reader)
        os.close(signals.fd)
        _keep(spec, command, writer)
    os.close(writer)
    if spec["lease_fd"] is not None:
        os.close(spec["lease_fd"])
    code, number = Front(reader, signals).wait()
    if number:
        _die_of(number)
    return code


def _keep(spec: dict[str, Any], command: list[str], writer: int) -> None:
    try:
        Keeper(spec, command, writer).run()
    except BaseException as error:  # noqa: BLE001  its end tells the daemon, which takes the tree over
        ending.say(f"oomless: the keeper failed; {type(error).__name__}: {error}; please report this")
    finally:
        os._exit(0)


class Front:
    def __init__(self, reader: int, signals: SignalFd) -> None:
        self._reader = reader
        self._signals = signals
        self._root: spare.Who | None = None
        self._buffer = b""

    def wait(self) -> tuple[int, int]:
        """Exit code and signal of the shell; 125 if the keeper vanished without a word."""
        poll = select.poll()
        poll.register(self._reader, select.POLLIN)
        poll.register(self._signals.fd, select.POLLIN)
        pending: list[int] = []
        while True:
            ready = {fd for fd, _ in poll.poll(GROUP_SECONDS * 1000 if pending else None)}
            if self._reader in ready:
                ended = self._read()
                if ended is not None:
                    return ended
            elif pending:
                self._hand_on(pending)
            if self._signals.fd in ready:
                pending += [number for number, _ in self._signals.read() if number != signal.SIGCHLD]

    def _read(self) -> tuple[int, int] | None:
        part = os.read(self._reader, 4096)
        if not part:
            return 125, 0
        *lines, self._buffer = (self._buffer + part).split(b"\n")
        for line in lines:
            word, first, second = line.split()
            if word == b"ended":
                return int(first), int(second)
            self._root = int(first), int(second)
        return None

    def _hand_on(self, pending: list[int]) -> None:
        if self._root is not None:
            for number in pending:
                proc.send(*self._root, number)
            pending.clear()


def _die_of(number: int) -> None:
    """So that the host sees the signal that it would have seen; without a second core dump."""
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(number, signal.SIG_DFL) if number not in (signal.SIGKILL, signal.SIGSTOP) else None
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [number])
    os.kill(os.getpid(), number)
    time.sleep(1)  # never returns from a signal whose default is to end the process
