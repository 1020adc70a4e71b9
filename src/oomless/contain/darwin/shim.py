"""The shim of macOS: owns one tree from its first fork until no process of it is left, without a daemon.

It forwards signals, watches the owner's lifeline and the limits (memory by phys_footprint, number of processes,
time), and ends the tree: TERM, grace, KILL, verify, record. There is no daemon on macOS yet, so nothing is admitted,
and nothing sweeps if the shim is killed. Standard library only; not run on a Mac.

One thread, one poll. Signals come as bytes in a pipe (``set_wakeup_fd``), which do not name their sender: on a
terminal SIGINT is taken for a Ctrl-C, which the command has got by itself.
"""

from __future__ import annotations

import os
import select
import time

from oomless import atomicfile
from oomless.contain import cause as causes
from oomless.contain.cause import Cause, StartFailed
from oomless.contain.darwin.child import ENDING, DarwinSpec, become_command, close_standard, note_signal
from oomless.contain.darwin.tree import GAP, DarwinTree
from oomless.contain.limits.poll_interval import PollInterval
from oomless.lean import dumps, signal
from oomless.processes.kill_times import KillTimes
from oomless.units import format_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oomless.contain.darwin.tree import DarwinProcess, Exits
    from oomless.platform.darwin_calls import Calls

#: Between two looks at the table: a young tree is still forking.
LOOK_FIRST, LOOK_EVERY = 0.05, 0.5
#: A tree that forks without end tells so each time: looks may take this share of a core at most, as on Linux.
SHARE = 0.2
FULL_FOR = 1.0


class DarwinShim:
    def __init__(self, spec: DarwinSpec, calls: Calls, exits: Exits, times: KillTimes | None = None) -> None:
        self.spec = spec
        # Bazel's loop over a group waits a millisecond; a look at the whole table costs more than the 10 here.
        self.times = KillTimes() if times is None else times
        self._calls, self._exits = calls, exits
        self.same_group = any(os.isatty(fd) for fd in (0, 1, 2))
        self.started_at, self.began = time.time(), time.monotonic()
        self._interval = PollInterval(spec.memory) if spec.memory else None
        self._ends_at = None if spec.timeout is None else self.began + spec.timeout
        self._look_at = self._soonest = self.began
        self._pause = LOOK_FIRST
        self._full_since: float | None = None
        self._kill_at: float | None = None
        self.cause: Cause | None = None
        self.root_gone = False
        self.ended = 0
        self.tree: DarwinTree

    def run(self) -> int:
        """The exit code for our caller."""
        self._listen()
        try:
            self._start()
        except OSError as error:
            return self._finish(causes.not_started(error, self.spec.command[0]), [])
        self._watch()
        left = self.tree.look()
        _, status = os.waitpid(self.tree.root, 0)  # now its number may be used again
        return self._finish(causes.resolve(self.cause, status), left)

    # -- start ---------------------------------------------------------------------------------------------

    def _listen(self) -> None:
        self._signals, writer = os.pipe()
        for fd in (self._signals, writer):
            os.set_blocking(fd, False)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        for number in (*ENDING, signal.SIGCHLD):
            if number == signal.SIGCHLD or signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, note_signal)

    def _start(self) -> None:
        """Raises StartFailed; a failure before exec comes through a pipe that exec closes."""
        if self.spec.lifeline is not None:
            os.set_inheritable(self.spec.lifeline, False)
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            become_command(self.spec, self.same_group, writer)
        os.close(writer)
        mark = f"OOMLESS_TREE={self.spec.mark}"
        try:
            self.tree = DarwinTree(self._calls, self._exits, pid, mark, apart=not self.same_group)
            failure = os.read(reader, 64)
        except OSError:
            os.kill(pid, signal.SIGKILL)  # our child, not reaped
            os.waitpid(pid, 0)
            raise
        finally:
            os.close(reader)
        if failure:
            os.waitpid(pid, 0)
            raise StartFailed("exec", int(failure))
        close_standard(0, 1)

    # -- the loop ------------------------------------------------------------------------------------------

    def _watch(self) -> None:
        """Returns when the root is gone and no other process is seen (or can be killed)."""
        poll = select.poll()
        lifeline = self.spec.lifeline
        for fd in (self._signals, self._exits.fd, *([] if lifeline is None else [lifeline])):
            poll.register(fd, select.POLLIN)
        while True:
            ready = {fd for fd, _ in poll.poll(self._milliseconds())}
            now = time.monotonic()
            if self._exits.fd in ready:
                self._exits.take()
                self._look_at = min(self._look_at, max(now, self._soonest))
            if lifeline in ready:
                poll.unregister(lifeline)
                lifeline = None
                self._end(now, Cause("killed", 137, "its owner is gone", by_owner=True))
            if self._signals in ready:
                self._take_signals()
            self._follow_root(now)
            if self._kill_at is None or now < self._kill_at:
                self._check_limits(now)
            else:
                self.tree.kill()
            if self.root_gone and (self.tree.is_over() or self._gives_up(now)):
                return

    def _milliseconds(self) -> float:
        due = [self._look_at, *([] if self._ends_at is None else [self._ends_at])]
        if self._kill_at is not None:
            now = time.monotonic()
            hasty = now >= self._kill_at or self.tree.quiet
            due = [now + self.times.round_every if hasty else min(self._kill_at, now + LOOK_FIRST)]
        return max(0.0, min(due) - time.monotonic()) * 1000

    def _take_signals(self) -> None:
        for number in os.read(self._signals, 64):
            if number in ENDING and not (number == signal.SIGINT and self.same_group):
                self.tree.forward(number)
                if self.cause is None and not self.root_gone:
                    self.cause = causes.from_signal(number)
                    self._kill_at = time.monotonic() + self.times.grace

    def _follow_root(self, now: float) -> None:
        """The root's end begins that of the tree; where it suspends itself on a terminal, so do we."""
        if self.root_gone:
            return
        state = self.tree.root_state()
        if state == "stopped" and self.same_group:
            os.kill(os.getpid(), signal.SIGSTOP)
            self.tree.forward(signal.SIGCONT)
        elif state == "ended":
            self.root_gone = True
            others = self.tree.look()
            if self._kill_at is None:
                self.ended = len(others)
                self.tree.signal(others, signal.SIGTERM)
                self._kill_at = now + self.times.grace

    def _gives_up(self, now: float) -> bool:
        return self._kill_at is not None and now > self._kill_at + self.times.give_up_after

    # -- the limits ----------------------------------------------------------------------------------------

    def _check_limits(self, now: float) -> None:
        if now >= self._look_at:
            members = self.tree.look()
            used = self.tree.usage(members)
            self._pause = min(LOOK_EVERY, self._pause * 2)
            paced = self._pause if self._interval is None else self._interval.seconds(now, used)
            self._soonest = now + max(self.times.round_every, (time.monotonic() - now) / SHARE)
            self._look_at = max(now + min(self._pause, paced), self._soonest)
            if self.cause is None:
                cause = self._find_exceeded(now, used, len(members))
                if cause is not None:
                    self._end(now, cause)
        if self.cause is None and self._ends_at is not None and now >= self._ends_at:
            self._ends_at = None
            self._end(now, Cause("timeout", 124, f"ran out of time ({self.spec.timeout:g} s)"))

    def _find_exceeded(self, now: float, used: int, count: int) -> Cause | None:
        memory, processes = self.spec.memory, self.spec.processes
        if memory and used > memory:
            reason = f"used {format_size(used)} of its {format_size(memory)} memory limit"
            return Cause("killed", 137, f"{reason} ({DarwinTree.source}, found by polling)", at_once=True)
        if processes is None or count <= processes:
            self._full_since = None
            return None
        self._full_since = self._full_since or now
        if now - self._full_since < FULL_FOR:
            return None
        return Cause("killed", 137, f"{count} processes, over its limit of {processes} for 1 s", at_once=True)

    def _end(self, now: float, cause: Cause) -> None:
        if self.cause is not None or self.root_gone:
            return
        self.cause = cause
        self._kill_at = now if cause.at_once else now + self.times.grace
        if not cause.at_once:
            self.tree.signal(self.tree.look(), signal.SIGTERM)

    # -- the record ----------------------------------------------------------------------------------------

    def _finish(self, cause: Cause, left: list[DarwinProcess]) -> int:
        started = hasattr(self, "tree")
        if cause.reason and not self.spec.quiet:
            _print_line(f"oomless: {self.spec.name}: {cause.reason}")
        if self.spec.report is not None:
            facts: dict[str, object] = {
                "schema": "oomless.run/1",
                "tree": self.spec.mark.rpartition(":")[2].rpartition("/")[2],
                "name": self.spec.name,
                "status": cause.status,
                "exit_code": cause.code,
                "signal": cause.signal,
                "reason": cause.reason,
                "rung": DarwinTree.name,
                "why_rung": f"there is no other on macOS; {GAP}",
                "peak_bytes": self.tree.peak() if started else 0,
                "peak_source": DarwinTree.source,
                "limit_bytes": self.spec.memory,
                "reserved_bytes": 0,
                "seconds": round(time.monotonic() - self.began, 3),
                "survivors": len(left),
                "left": [describe_survivor(process) for process in left],
                "ended": self.ended,
                "started_at": self.started_at,
            }
            error = atomicfile.try_write_named(self.spec.report, dumps(facts) + "\n", 0o666)
            if error is not None:
                _print_line(f"oomless: cannot write {self.spec.report}; {error.strerror}; the record is lost")
        return cause.code


def describe_survivor(process: DarwinProcess) -> dict[str, object]:
    return {"pid": process.pid, "start": process.start, "command": "", "why": "may not be signalled"}


def _print_line(line: str) -> None:
    try:
        os.write(2, (line + "\n").encode())
    except OSError:
        pass  # nobody reads it any more
