"""The shim of one tool shell: a command that a host runs for its agent, and whatever that leaves in the background.

Two processes, because the host waits for one of them. The *front* is what the host started; it ends with the
shell's exit code or signal at once, and hands signals on. The *keeper* (a ``Shim``) lives as long as anything of the
shell does. The shell stays in the front's process group and session, so that the host reaches it exactly as without
us. When the session's process dies the keeper ends what is in the background, except what detached on purpose
(``spare.py``): that is moved out of the tree's groups and reported as left running. Standard library only.
"""

from __future__ import annotations

import os
import sys
import time

assert sys.platform == "linux"

from oomless.contain import child, ending
from oomless.contain.shells import detached
from oomless.contain.shells.front import FORWARDED, Front, Witness, die_of
from oomless.contain.shim import GRACE, Shim
from oomless.contain.signals import SignalFd
from oomless.lean import signal
from oomless.platform import proc
from oomless.processes import descendants

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: Trees in the tree, whose own shims end them when their sessions end, are waited for so long after the grace.
ATTENDED_SECONDS = 3.0


class Keeper(Shim):
    def __init__(self, spec: dict[str, Any], command: list[str], front: int) -> None:
        super().__init__(spec, command)
        self.front = front
        self.sid = os.getsid(0)
        self.session_gone = False
        self.left_running: dict[detached.Who, str] = {}

    def start(self) -> None:
        super().start()
        os.setsid()  # a signal to the host's process group must not take us with it
        self.tell(f"root {self.root} {self.root_start}\n")

    def tell(self, line: str) -> None:
        if self.front is not None:
            try:
                os.write(self.front, line.encode())
            except BrokenPipeError:
                pass  # the host has killed the front, see front_gone

    # -- the shell's end -----------------------------------------------------------------------------------

    def front_gone(self) -> None:
        """What killed the front was meant for the shell."""
        self._close_front()
        if self.root_status is None:
            proc.kill(self.root, self.root_start)

    def final(self) -> bool:
        return self.kill_at is not None

    def root_gone(self) -> None:
        cause = self.bounds.kernel(self.rung, time.monotonic()) or self.cause or ending.exited(self.root_status or 0)
        self.say(cause)
        last = 0 if self.rung.members() else 1
        self.tell(f"ended {cause.code} {cause.signal or 0} {last}\n")
        self._close_front()
        child.let_go(2)

    def _close_front(self) -> None:
        if self.front is not None:
            os.close(self.front)
            self.front = None

    def signalled(self, number: int, code: int) -> None:
        """Not for us: the front hands on what the host sends, and we end with the shell."""

    # -- the session's end ---------------------------------------------------------------------------------

    def owner_gone(self, now: float) -> None:
        if self.cause is None:
            self.cause = ending.Cause("killed", 137, "its session is gone", by_owner=True)
            self.session_gone = True
            condemned, attended = self._sorted()
            ending.signal_all(condemned, signal.SIGTERM)
            ending.signal_all(detached.shims(attended, self.sid), signal.SIGTERM)
            self.kill_at = now + GRACE

    def _sorted(self) -> tuple[list[detached.Who], list[detached.Who]]:
        """Who is to be ended, and who is in the care of a shim of its own; who is spared is remembered. All three
        from one reading: a child that a spared process forks meanwhile must not be taken for one of the first."""
        members = self.rung.members()
        moved = self._moved(members)
        found = detached.sort([*members, *moved], self.sid, proc.table(), self.left_running, moved)
        if self.kill_at is not None and time.monotonic() > self.kill_at + ATTENDED_SECONDS:
            found.spared |= dict.fromkeys(found.attended, detached.GOES_ON)
            found.attended.clear()
        self.left_running = found.spared
        return found.condemned, found.attended

    def _moved(self, members: list[detached.Who]) -> list[detached.Who]:
        """Descendants that are not in the tree's groups any more; one that was just born into them is no such."""
        leaf = {os.path.basename(path) for path in self.granted["cgroups"].values()}
        below = {(stat.pid, stat.start) for stat in descendants.walk(self.pid, self.strangers)} if leaf else set()
        return [
            who
            for who in below - set(members)
            if not any(leaf & set(path.split("/")) for path in proc.cgroups(who[0]).values())
        ]

    def kill(self) -> None:
        """The group's own kill only where nobody in it is spared."""
        if not self.session_gone:
            self.rung.kill()
            return
        condemned, attended = self._sorted()
        if not self.left_running and not attended:
            self.rung.kill()
        for pid, start in condemned:
            proc.kill(pid, start)

    def over(self) -> bool:
        if not self.session_gone or not self.left_running or self.kill_at is None:
            return super().over()
        self._reap()
        condemned, attended = self._sorted()
        if not condemned and not attended:
            self.strangers |= set(self.left_running)
            self.rung.release([pid for pid, _ in self.left_running])
            if ending.nobody(self.pid, self.strangers, self.spec["state"]):
                return True
        patience = ending.DYING_FOR if ending.only_dying(condemned) else ending.GIVE_UP_AFTER
        return time.monotonic() > self.kill_at + patience

    def record_extra(self) -> dict[str, object]:
        rows = [
            {"pid": pid, "start": start, "command": ending.shown(pid) or stat.comm, "why": why}
            for (pid, start), why in self.left_running.items()
            if (stat := proc.read_stat(pid)) and stat.start == start and stat.alive
        ]
        return {"left_running": rows}


def run(spec: dict[str, Any], command: list[str]) -> int:
    """In the front: forks the keeper, waits for the shell, ends as it ended. Returns an exit code, or dies of the
    signal that the shell died of. Raises OSError, with nothing changed, if we may not fork."""
    signals = SignalFd(spec["mask"], FORWARDED)
    spec["mask"] = [int(number) for number in signals.before]
    try:
        witness = Witness()
        reader, writer = os.pipe()
        keeper = os.fork()
    except OSError:
        signal.pthread_sigmask(signal.SIG_SETMASK, signals.before)
        raise
    if keeper == 0:
        witness.let_go()
        os.close(reader)
        os.close(signals.fd)
        _keep(spec, command, writer)
    proc.become_subreaper()
    os.close(writer)
    if spec["lease_fd"] is not None:
        os.close(spec["lease_fd"])
    code, number = Front(reader, keeper, signals, witness).wait()
    if number:
        die_of(number)
    return code


def _keep(spec: dict[str, Any], command: list[str], writer: int) -> None:
    try:
        keeper = Keeper(spec, command, writer)
        code = keeper.run()
        keeper.tell(f"ended {code} 0 1\n")  # only if the shell could not be started
    except BaseException as error:  # noqa: BLE001  its end tells the daemon, which takes the tree over
        ending.say(f"oomless: the keeper failed; {type(error).__name__}: {error}; please report this")
    finally:
        os._exit(0)
