"""The shim: owns one tree from its first fork until nobody of it is left.

Covers: starting the command, forwarding signals, the time-out, the limits that the kernel does not enforce, the
owner's lifeline, and the end: TERM, grace, KILL, verify, record. Does not cover: how a rung bounds and kills
(``rungs.py``), the connection (``link.py``), the sweep when the shim itself was killed (``sweep.py``), admission.

One thread, one poll, no handlers, standard library only: the shim must stay below 5 MB and die with nothing
undone. On a terminal it stays in the command's process group, so that job control is the shell's as always;
elsewhere the command gets a session of its own.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import time

assert sys.platform == "linux"

from oomless.contain import child, ending, lineage, record
from oomless.contain.limit import Pace
from oomless.contain.link import Link
from oomless.contain.rungs import Subreaper, build
from oomless.contain.signals import SI_USER, SignalFd
from oomless.platform import proc
from oomless.units import format_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from oomless.contain.base import Rung

GRACE = 1.0
#: A young tree is still forking: reports come faster at first, so that less of it is unknown if we are killed.
REPORT_FIRST, REPORT_EVERY = 0.1, 1.0
#: poll(2) takes milliseconds in an int: 24 days.
LONGEST_PAUSE = 86400.0
#: A tree that sits at its process limit for so long is ended.
FULL_FOR = 1.0


class Shim:
    def __init__(self, spec: dict[str, Any], command: list[str]) -> None:
        self.spec = spec
        self.granted: dict[str, Any] = spec["granted"]
        self.command = command
        self.pid = os.getpid()
        self.started_at, self.began = time.time(), time.monotonic()
        self.signals = SignalFd(spec["mask"])
        self.same_group = any(os.isatty(fd) for fd in (0, 1, 2))
        proc.become_subreaper()
        #: Never of the tree: our children from before, and a daemon that a command in the tree started.
        self.strangers = {(s.pid, s.start) for s in lineage.walk(self.pid)}
        self.link = Link(spec["lease_fd"], spec["state"], self.began)
        self.limit: int | None = self.granted["limit"]
        self.processes: int | None = self.granted["processes"]
        self.rung: Rung
        self.why_rung: str = self.granted["why_rung"]
        self.root = 0
        self.root_start = 0
        self.root_status: int | None = None
        self.cause: ending.Cause | None = None
        self.kill_at: float | None = None
        self.biggest = 0
        self.ended = 0
        self.full_since: float | None = None
        self.pace = Pace(self.limit) if self.limit else None
        self.look_at = self.report_at = self.began
        self.report_pause = REPORT_FIRST

    # -- start ---------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Raises StartFailed, once even the last rung has failed."""
        paths: dict[str, str] = self.granted["cgroups"]
        self.rung = build(self.granted["rung"], paths, self.limit, self.processes, self.strangers)
        try:
            self.rung.make()
            self._fork()
        except OSError as error:
            if not paths or (isinstance(error, child.StartFailed) and error.stage == "exec"):
                raise
            self._fall_through(error)
            self._fork()

    def _fall_through(self, error: OSError) -> None:
        self.why_rung = f"fell through from {self.rung.name}: {error.strerror}"
        self.rung.close()
        self.rung.remove()
        self.rung = Subreaper(self.strangers)

    def _fork(self) -> None:
        marker: str = self.granted["marker"]
        self.root = child.start(self.command, self.rung, marker, self.same_group, self.signals.before)
        self.root_start = proc.start_of(self.root) or 0
        null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        for fd in (0, 1):  # so that pipes end when the command's own ends are closed
            os.dup2(null, fd)
        os.close(null)

    # -- the loop ------------------------------------------------------------------------------------------

    def watch(self) -> None:
        """Returns when the root is gone and nobody else is left (or can be reached)."""
        poll = select.poll()
        lifeline: int | None = self.spec["lifeline_fd"]
        fixed = [self.signals.fd, *self.rung.events()] + ([lifeline] if lifeline is not None else [])
        for fd in fixed:
            poll.register(fd, select.POLLIN | select.POLLPRI)
        if lifeline is not None:
            os.set_inheritable(lifeline, False)
        watched: int | None = None
        while not self._over():
            if self.link.fd != watched:
                if watched is not None:
                    poll.unregister(watched)
                watched = self.link.fd
                if watched is not None:
                    poll.register(watched, select.POLLIN)
            ready = {fd for fd, _ in poll.poll(self._pause())}
            now = time.monotonic()
            self._handle_signals()
            if lifeline in ready and self.cause is None:
                poll.unregister(lifeline)
                self._end(now, "killed", 137, "its owner is gone", GRACE)
            if watched in ready:
                for message in self.link.receive(now):
                    self._obey(message, now)
            self._look(now)

    def _pause(self) -> float | None:
        """Milliseconds until something is due; None: only events."""
        due = [self.link.retry_at, self.kill_at]
        if self.root_status is None and self.cause is None:
            if self.spec["timeout"] is not None:
                due.append(self.began + self.spec["timeout"])
            if self._polled():
                due.append(self.look_at)
            if not self.rung.reachable:
                due.append(self.report_at)
        else:
            due.append(time.monotonic() + 0.01)
        times = [at for at in due if at is not None]
        return min(LONGEST_PAUSE, max(0.0, min(times) - time.monotonic())) * 1000 if times else None

    def _polled(self) -> bool:
        return (self.pace is not None and not self.rung.kernel_limit) or self.processes is not None

    def _handle_signals(self) -> None:
        for number, code in self.signals.read():
            if number == signal.SIGCHLD:
                self._reap()
            elif number == signal.SIGINT and self.same_group and code != SI_USER:
                continue  # Ctrl-C on a terminal: the command has it already, and may live on
            else:
                self._forward(number, code)

    def _reap(self) -> None:
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG | os.WUNTRACED)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if os.WIFSTOPPED(status):
                self._stopped(pid)
                continue
            self.biggest = max(self.biggest, usage.ru_maxrss * 1024)
            if pid == self.root and self.root_status is None:
                self.root_status = status
                self._root_gone()

    def _stopped(self, pid: int) -> None:
        """The command suspended itself: on a terminal the shell must see its job stop, and that job is us."""
        if pid == self.root and self.same_group:
            os.kill(self.pid, signal.SIGSTOP)
            proc.send(self.root, self.root_start, signal.SIGCONT)

    def _root_gone(self) -> None:
        self.strangers |= ending.daemon_below(self.spec["state"])
        if self.kill_at is None:
            others = self.rung.members()
            self.ended = len(others)
            if others:
                ending.signal_all(others, signal.SIGTERM)
            self.kill_at = time.monotonic() + GRACE

    def _forward(self, number: int, code: int) -> None:
        now = time.monotonic()
        if not (self.same_group and code != SI_USER):
            group = None if self.same_group else self.root
            ending.forward(number, group, self.root, self.root_start if self.root_status is None else None)
        if self.cause is None and self.root_status is None:
            self.cause = ending.interrupted(number)
            self.kill_at = now + GRACE

    def _obey(self, message: dict[str, Any], now: float) -> None:
        if message.get("op") == "end" and self.cause is None:
            self._end(now, "killed", 137, str(message.get("reason", "ended by request")), GRACE)
        elif message.get("op") == "unknown":
            self.link.give_up()
        elif message.get("op") == "adopted":
            self.link.send(self._started(), now)

    # -- limits, time, reports -----------------------------------------------------------------------------

    def _look(self, now: float) -> None:
        if self.link.retry_at is not None and now >= self.link.retry_at:
            adopt = {"tree": self.granted["tree"], **self._who()}
            self.link.reconnect(adopt, now)
        if self.cause is None and self.root_status is None:
            self._look_at_limits(now)
        if self.kill_at is not None and now >= self.kill_at:
            self.rung.kill()

    def _look_at_limits(self, now: float) -> None:
        kernel = self.rung.breach() if self.limit else None
        if kernel:
            self._end(now, "killed", 137, self._memory_reason(self.rung.peak(), kernel), 0.0)
        elif self.spec["timeout"] is not None and now >= self.began + self.spec["timeout"]:
            self._end(now, "timeout", 124, f"ran out of time ({self.spec['timeout']:g} s)", GRACE)
        elif self._polled() and now >= self.look_at:
            self._poll_limits(now)
        if not self.rung.reachable and now >= self.report_at:
            self.report_at = now + self.report_pause
            self.report_pause = min(REPORT_EVERY, self.report_pause * 2)
            members = self.rung.members()
            self.link.send({"op": "usage", "used": self.rung.usage(), "members": members}, now)

    def _poll_limits(self, now: float) -> None:
        self.look_at = now + 0.25
        if self.pace is not None and not self.rung.kernel_limit:
            used = self.rung.resident()
            if used > self.pace.limit:
                used = self.rung.usage()
            self.look_at = now + self.pace.seconds(now, used)
            if used > self.pace.limit:
                self._end(now, "killed", 137, self._memory_reason(used, "found by polling"), 0.0)
        if self.processes is not None:
            count = self.rung.processes()
            self.full_since = (self.full_since or now) if count >= self.processes else None
            if self.full_since is not None and now - self.full_since >= FULL_FOR:
                reason = f"{count} processes, at its limit of {self.processes} for {FULL_FOR:g} s"
                self._end(now, "killed", 137, reason, 0.0)

    def _memory_reason(self, used: int, how: str) -> str:
        return f"used {format_size(used)} of its {format_size(self.limit or 0)} memory limit ({how})"

    def _end(self, now: float, status: str, code: int, reason: str, grace: float) -> None:
        """Starts the end of the tree: TERM now (unless there is no grace), KILL when the grace is over."""
        self.cause = ending.Cause(status, code, reason)
        self.kill_at = now + grace
        if grace:
            ending.signal_all(self.rung.members(), signal.SIGTERM)

    def _over(self) -> bool:
        if self.root_status is None:
            return False
        self._reap()
        self.strangers |= ending.daemon_below(self.spec["state"])
        if ending.nobody(self.pid, self.strangers) and not self.rung.members():
            return True
        return self.kill_at is not None and time.monotonic() > self.kill_at + ending.GIVE_UP_AFTER

    # -- the record ----------------------------------------------------------------------------------------

    def _who(self) -> dict[str, int]:
        return {
            "shim_pid": self.pid,
            "shim_start": proc.start_of(self.pid) or 0,
            "root_pid": self.root,
            "root_start": self.root_start,
        }

    def _started(self) -> dict[str, object]:
        return {"op": "started", **self._who(), "rung": self.rung.name, "why_rung": self.why_rung}

    def run(self) -> int:
        """The exit code for our caller."""
        try:
            self.start()
        except OSError as error:
            return self._finish(ending.not_started(error, self.command[0]), [])
        self.link.send(self._started(), time.monotonic())
        if not self.rung.reachable:
            self.rung.usage()
        self.watch()
        cause = self._verdict()
        left = ending.describe(self.rung.members(), self.pid, self.strangers)
        return self._finish(cause, left)

    def _verdict(self) -> ending.Cause:
        """A limit that the kernel enforced may come to light only after the root has died of it."""
        kernel = self.rung.breach() if self.limit and self.cause is None else None
        if kernel:
            return ending.Cause("killed", 137, self._memory_reason(self.rung.peak(), kernel))
        return ending.verdict(self.cause, self.root_status or 0)

    def _finish(self, cause: ending.Cause, left: list[dict[str, object]]) -> int:
        facts = self._record(cause, left)
        self.rung.close()
        ending.remove(self.rung)
        name, exits = self.granted["tree"], self.granted["exits"]
        if cause.reason and not self.spec["quiet"]:
            ending.say(f"oomless: {self.spec['name']}: {cause.reason}")
        for path in [f"{exits}/{name}.json", *self.spec["reports"]]:
            error = record.write(path, facts)
            if error is not None:
                ending.say(f"oomless: cannot write {path}; {error.strerror}; the record went to the daemon only")
        self.link.last({"op": "ended", "record": facts})
        return cause.code

    def _record(self, cause: ending.Cause, left: list[dict[str, object]]) -> dict[str, object]:
        peak, source = self.rung.peak(), self.rung.source
        if self.biggest > peak and source != "cgroup":
            peak, source = self.biggest, "rss"
        return {
            "schema": "oomless.run/1",
            "tree": self.granted["tree"],
            "name": self.spec["name"],
            "status": cause.status,
            "exit_code": cause.code,
            "signal": cause.signal,
            "reason": cause.reason,
            "rung": self.rung.name,
            "why_rung": self.why_rung,
            "peak_bytes": peak,
            "peak_source": source,
            "limit_bytes": self.limit,
            "reserved_bytes": self.granted["reserved"],
            "seconds": round(time.monotonic() - self.began, 3),
            "survivors": len(left),
            "left": left,
            "ended": self.ended,
            "started_at": self.started_at,
            **self.spec["extra"],
        }


def main(argv: list[str]) -> None:
    """``boot.py SPEC_FD TREE -- COMMAND...``"""
    spec_fd = int(argv[1])
    with open(spec_fd, encoding="utf-8") as file:
        spec = json.load(file)
    try:
        code = Shim(spec, argv[4:]).run()
    except BaseException as error:  # noqa: BLE001  its exit tells the daemon, which sweeps the tree
        ending.say(f"oomless: the shim failed; {type(error).__name__}: {error}; please report this")
        code = 125
    os._exit(code)
