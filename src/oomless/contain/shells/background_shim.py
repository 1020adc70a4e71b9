"""The shim of one tool shell: a command that a host runs for its agent, and whatever that leaves in the background.

Two processes, because the host waits for one of them. The *foreground* is what the host started; it ends with the
shell's exit code or signal at once, and hands signals on. The *background shim* lives as long as anything of the
shell does; it is forked before the shell, for only an ancestor keeps what loses its parent. The shell stays in the
foreground's process group and session, so that the host reaches it exactly as without us. When the session's process
dies, the background shim kills what is in the background, except what detached on purpose (``detached.py``): that is
moved out of the tree's groups and reported. Standard library only.
"""

from __future__ import annotations

import gc
import os
import sys
import time

assert sys.platform == "linux"

from oomless.contain import cause as causes
from oomless.contain import child, ending, exit_record
from oomless.contain.cause import Cause
from oomless.contain.child import SignalFd
from oomless.contain.shells import detached
from oomless.contain.shells.foreground import CLEAR, FORWARDED, Foreground, die_of
from oomless.contain.shim import Shim
from oomless.errors import OomlessError
from oomless.lean import signal
from oomless.platform import proc
from oomless.processes import descendants
from oomless.processes.ids import ProcessId

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: Trees in the tree, whose own shims end them when their sessions end, are waited for so long after the grace.
ATTENDED_SECONDS = 3.0


class BackgroundShim(Shim):
    """``foreground``: the pipe to it. As long as the shell runs, this process stays in its group and blocks every
    signal, so that the foreground can see by what is pending here what was sent to the whole group."""

    def __init__(self, spec: dict[str, Any], command: list[str], foreground: int) -> None:
        super().__init__(spec, command)
        os.close(self.signals.fd)
        self.signals = SignalFd(spec["mask"], (CLEAR,))
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        self.foreground = foreground
        self.sid = os.getsid(0)
        self.session_gone = False
        self.detached: dict[ProcessId, str] = {}

    def start(self) -> None:
        super().start()
        self.tell(f"root {self.root} {self.root_start}\n")

    def tell(self, line: str) -> None:
        if self.foreground is not None:
            try:
                os.write(self.foreground, line.encode())
            except BrokenPipeError:
                pass  # the host has killed the foreground, see foreground_gone

    # -- the shell's end -----------------------------------------------------------------------------------

    def foreground_gone(self) -> None:
        """What killed the foreground was meant for the shell."""
        self._leave_foreground()
        if self.root_status is None:
            proc.kill(self.root, self.root_start)

    def is_final(self) -> bool:
        return self.kill_at is not None

    def root_gone(self) -> None:
        kernel = self.limits.find_kernel_kill(self.rung, time.monotonic())
        cause = kernel or self.cause or causes.from_exit(self.root_status or 0)
        self.say(cause)
        last = 0 if self.rung.members() else 1
        if not last:
            self._leave_group()
        self.tell(f"ended {cause.code} {cause.signal or 0} {last}\n")
        self._leave_foreground()
        child.close_inherited(2)

    def _leave_foreground(self) -> None:
        if self.foreground is not None:
            self._leave_group()
            os.close(self.foreground)
            self.foreground = None

    def _leave_group(self) -> None:
        """A signal to the host's process group that can no longer be meant for the shell must not take us with it."""
        if os.getsid(0) != self.pid:
            os.setsid()

    def signalled(self, number: int, code: int) -> None:
        """The foreground has seen which signals went to the whole group."""
        while signal.sigtimedwait(FORWARDED, 0) is not None:
            pass

    def _stopped(self, pid: int) -> None:
        """The host sees its shell stop by itself, for it is in the host's group."""

    # -- the session's end ---------------------------------------------------------------------------------

    def owner_gone(self, now: float) -> None:
        if self.cause is None:
            self.cause = Cause("killed", 137, "its session is gone", by_owner=True)
            self.session_gone = True
            members = self._classify_members()
            ending.signal_all(members.leftovers, signal.SIGTERM)
            ending.signal_all(detached.find_run_shims(members.attended, self.sid), signal.SIGTERM)
            self.kill_at = now + self.times.grace

    def _classify_members(self) -> detached.Members:
        """All from one reading of the process table: a child that a detached process forks meanwhile must not be
        taken for a leftover. Remembers the detached."""
        pids = self.rung.members()
        moved = self._find_moved(pids)
        members = detached.classify_members([*pids, *moved], self.sid, proc.table(), self.detached, moved)
        if self.kill_at is not None and time.monotonic() > self.kill_at + ATTENDED_SECONDS:
            members.detached |= dict.fromkeys(members.attended, detached.GOES_ON)
            members.attended.clear()
        self.detached = members.detached
        return members

    def _find_moved(self, members: list[ProcessId]) -> list[ProcessId]:
        """Descendants that are not in the tree's cgroups any more. Each is asked itself, for it may just have been
        born into them."""
        leaf = {os.path.basename(path) for path in self.granted["cgroups"].values()}
        below = {ProcessId.of(stat) for stat in descendants.walk(self.pid, self.strangers)} if leaf else set()
        return [
            process
            for process in below - set(members)
            if not any(leaf & set(path.split("/")) for path in proc.cgroups(process.pid).values())
        ]

    def kill(self) -> None:
        """By the cgroup as a whole only where all its members are to be killed."""
        if not self.session_gone:
            self.rung.kill()
            return
        members = self._classify_members()
        if not members.detached and not members.attended:
            self.rung.kill()
        for pid, start in members.leftovers:
            proc.kill(pid, start)

    def is_over(self) -> bool:
        if not self.session_gone or not self.detached or self.kill_at is None:
            return super().is_over()
        self._reap()
        members = self._classify_members()
        if not members.leftovers and not members.attended:
            self.strangers |= set(self.detached)
            self.rung.release([pid for pid, _ in self.detached])
            if ending.is_empty(self.pid, self.strangers, self.spec["state"]):
                return True
        patience = self.times.dying_for if ending.only_dying(members.leftovers) else self.times.give_up_after
        return time.monotonic() > self.kill_at + patience

    def record_extra(self) -> dict[str, object]:
        return {"left_running": exit_record.describe_detached(self.detached)}


def run(spec: dict[str, Any], command: list[str]) -> int:
    """In the foreground: forks the background shim, waits for the shell, ends as it ended. Returns an exit code, or
    dies of the signal that the shell died of. Raises OSError, with nothing changed, if we may not fork."""
    signals = SignalFd(spec["mask"], FORWARDED)
    spec["mask"] = [int(number) for number in signals.before]
    reader, writer = os.pipe()
    # What neither process changes stays shared: a collection would write to the header of each object.
    gc.freeze()
    try:
        shim = os.fork()
    except OSError:
        os.close(reader)
        os.close(writer)
        signal.pthread_sigmask(signal.SIG_SETMASK, signals.before)
        raise
    if shim == 0:
        os.close(reader)
        os.close(signals.fd)
        _run_shim(spec, command, writer)
    proc.become_subreaper()
    os.close(writer)
    if spec["lease_fd"] is not None:
        os.close(spec["lease_fd"])
    code, number = Foreground(reader, shim, signals).wait()
    if number:
        die_of(number)
    return code


def _run_shim(spec: dict[str, Any], command: list[str], writer: int) -> None:
    try:
        shim = BackgroundShim(spec, command, writer)
        code = shim.run()
        shim.tell(f"ended {code} 0 1\n")  # only if the shell could not be started
    except BaseException as error:  # noqa: BLE001  its end tells the daemon, which takes the tree over
        failure = OomlessError("the background shim failed", f"{type(error).__name__}: {error}", "please report this")
        ending.print_line(failure.report())
    finally:
        os._exit(0)
