"""The shim: owns one tree from its first fork until no process of it is left.

It starts the command, forwards signals, watches the tree's owner and limits, and ends the tree: TERM, grace, KILL,
verify, record.

One thread, one poll, no handlers, standard library only: the shim must stay below 5 MB and die with nothing
undone. On a terminal, or where the specification says so, it stays in the command's process group, so that job
control is the caller's as always; elsewhere the command gets a session of its own.
"""

from __future__ import annotations

import os
import select
import sys
import time

assert sys.platform == "linux"

from oomless.contain import cause as causes
from oomless.contain import child, ending, exit_record
from oomless.contain.cause import Cause, StartFailed
from oomless.contain.child import SI_USER, SignalFd
from oomless.contain.escape_watch import EscapeWatch
from oomless.contain.limits.limits import TreeLimits
from oomless.contain.limits.process_limit import far_over
from oomless.contain.limits.reclaimed import Reclaimed
from oomless.contain.link import Link
from oomless.contain.private_tmp import TmpFolder
from oomless.contain.rungs.build import build_rung
from oomless.contain.rungs.subreaper import Subreaper
from oomless.lean import loads, signal
from oomless.platform import proc
from oomless.processes import descendants
from oomless.processes.ids import ProcessId
from oomless.processes.kill_times import KillTimes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from oomless.contain.rungs.base import Rung

#: A young tree is still forking: reports come faster at first, so that less of it is unknown if we are killed.
REPORT_FIRST, REPORT_EVERY = 0.1, 1.0
#: poll(2) takes milliseconds in an int: 24 days.
LONGEST_PAUSE = 86400.0


class Shim:
    def __init__(self, spec: dict[str, Any], command: list[str]) -> None:
        self.spec = spec
        self.granted: dict[str, Any] = spec["granted"]
        self.command = command
        self.pid = os.getpid()
        self.started_at, self.began = time.time(), time.monotonic()
        self.signals = SignalFd(spec["mask"])
        self.same_group = spec["same_group"] or any(os.isatty(fd) for fd in (0, 1, 2))
        if spec["lifeline_fd"] is not None:
            os.set_inheritable(spec["lifeline_fd"], False)
        proc.become_subreaper()
        #: Never of the tree: our children from before, and a daemon that a command in the tree started.
        self.strangers = {ProcessId.of(stat) for stat in descendants.walk(self.pid)}
        self.link = Link(spec["lease_fd"], spec["state"], self.began)
        self.limits = TreeLimits(self.granted["limit"], self.granted["processes"], spec["timeout"], self.began)
        self.times = KillTimes(spec.get("grace"), spec.get("give_up_after"))
        self.reclaimed, self.patience = Reclaimed(), ending.KillPatience(self.times)
        self.rung: Rung
        self.why_rung: str = self.granted["why_rung"]
        self.root = self.root_start = 0
        self.root_status: int | None = None
        self.cause: Cause | None = None
        self.kill_at: float | None = None
        self.round_at = 0.0
        self.killer = descendants.DescentKiller(self.pid, self.strangers)
        self.biggest = self.ended = 0
        self.report_at = self.began
        self.report_pause = REPORT_FIRST
        self.foreground: int | None = None
        self.tmp = TmpFolder(spec)
        self.escapes = EscapeWatch(self.pid, self.granted["cgroups"], self.strangers, spec["state"], self.began)

    # -- start ---------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Raises StartFailed, once even the last rung has failed."""
        name, paths, limit = self.granted["rung"], self.granted["cgroups"], self.limits.memory
        processes: int | None = self.granted["processes"]
        self.rung = build_rung(name, paths, limit, processes, self.strangers, self._enough())
        self.tmp.make()
        try:
            self.rung.make()
            self._fork()
        except OSError as error:
            if self.rung.name == "subreaper" or (isinstance(error, StartFailed) and error.stage == "exec"):
                raise
            self._fall_through(error)
            self._fork()

    def _fall_through(self, error: OSError) -> None:
        self.why_rung = f"fell through from {self.rung.name}: {error.strerror}"
        self.rung.close()
        self.rung.remove()
        self.rung = Subreaper(self.strangers, self._enough())

    def _enough(self) -> int | None:
        """More processes than that need not be counted."""
        limit: int | None = self.granted["processes"]
        return None if limit is None else far_over(limit)

    def _fork(self) -> None:
        environment = {"OOMLESS_TREE": self.granted["marker"], **self.tmp.environment()}
        before, tied = self.signals.before, self.spec["tied"]
        self.root = child.start_command(self.command, self.rung, environment, self.same_group, before, tied)
        self.root_start = proc.start_of(self.root) or 0
        child.close_inherited(0, 1)

    # -- the loop ------------------------------------------------------------------------------------------

    def watch(self) -> None:
        """Returns when the root is gone and no other process is left (or can be reached)."""
        poll = select.poll()
        owner = self._owner_fd()
        fixed = [self.signals.fd, *self.rung.events()] + ([owner] if owner is not None else [])
        for fd in fixed:
            poll.register(fd, select.POLLIN | select.POLLPRI)
        foreground = self.foreground
        if foreground is not None:
            poll.register(foreground, 0)  # POLLERR comes unasked: the reader is gone
        linked: int | None = None
        while not self.is_over():
            linked = self.link.follow(poll, linked)
            ready = {fd for fd, _ in poll.poll(self._pause())}
            now = time.monotonic()
            self._handle_signals()
            if foreground is not None and (foreground in ready or self.foreground is None):
                poll.unregister(foreground)
                foreground = None
                self.foreground_gone()
            if owner in ready:
                poll.unregister(owner)
                owner = None
                self.owner_gone(now)
            if linked in ready:
                for message in self.link.receive(now):
                    self._obey(message, now)
            self._look(now)

    def _owner_fd(self) -> int | None:
        """Readable when the tree's owner is gone: its lifeline pipe, or the pidfd of its process."""
        lifeline: int | None = self.spec["lifeline_fd"]
        if lifeline is not None or self.spec["owner"] is None:
            return lifeline
        pid, start = self.spec["owner"]
        fd = proc.open_verified(pid, start)
        if fd is None:
            self.owner_gone(time.monotonic())
        return fd

    def _pause(self) -> float | None:
        """Milliseconds until something is due; None: only events."""
        kill_at = None if self.kill_at is None else max(self.kill_at, self.round_at)
        due = [at for at in (self.link.retry_at, kill_at) if at is not None]
        if self.kill_at is not None or (self.root_status is not None and self.is_final()):
            due.append(time.monotonic() + 0.01)
        else:
            due += self.limits.due(self.rung) + (self.escapes.due(self.rung) if self.is_final() else [])
            due += [] if self.rung.reachable else [self.report_at]
        return min(LONGEST_PAUSE, max(0.0, min(due) - time.monotonic())) * 1000 if due else None

    def _handle_signals(self) -> None:
        for number, code in self.signals.read():
            if number == signal.SIGCHLD:
                self._reap()
            elif number == signal.SIGINT and self.same_group and code != SI_USER:
                continue  # Ctrl-C on a terminal: the command has it already, and may live on
            else:
                self.signalled(number, code)

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
                self.root_gone()

    def _stopped(self, pid: int) -> None:
        """The command suspended itself: on a terminal the shell must see its job stop, and that job is us."""
        if pid == self.root and self.same_group and not self.limits.is_holding:
            os.kill(self.pid, signal.SIGSTOP)
            proc.send(self.root, self.root_start, signal.SIGCONT)

    def _obey(self, message: dict[str, Any], now: float) -> None:
        if message.get("op") == "end" and self.cause is None:
            reason, victim = str(message.get("reason", "ended by request")), message.get("victim") is True
            self.end(now, Cause("killed", 137, reason, tells_freed=victim, victim=victim))
        elif message.get("op") == "unknown":
            self.link.give_up()
        elif message.get("op") == "adopted":
            self.link.send(self._started(), now)

    def _look(self, now: float) -> None:
        if self.link.retry_at is not None and now >= self.link.retry_at:
            self.link.reconnect({"tree": self.granted["tree"], **self._identities()}, now)
        if self.cause is None and (self.root_status is None or not self.is_final()):
            self._check_escapes(now)
            cause = self.limits.find_exceeded(self.rung, now)
            if cause is not None:
                self.end(now, cause)
            elif not self.rung.reachable and now >= self.report_at:
                self._report(now)
        else:
            self.limits.resume(self.rung)
        self.kill_at = self.patience.postpone(self.kill_at, now)
        if self.kill_at is not None and now >= max(self.kill_at, self.round_at):
            self.strangers |= ending.daemon_below(self.spec["state"], self.pid)
            self.kill()
            self.round_at = ending.next_round(now, self.rung.reachable, self.times)

    def _check_escapes(self, now: float) -> None:
        """Not of a tool shell's tree, of which a process that has moved has detached on purpose."""
        message = self.escapes.look(self.rung, now) if self.is_final() else None
        if message is not None:
            self.link.send(message, now)

    def members(self) -> list[ProcessId]:
        """The members of the tree, wherever they are."""
        return [*self.rung.members(), *self.escapes.outside]

    def _report(self, now: float) -> None:
        self.report_at = now + self.report_pause
        self.report_pause = min(REPORT_EVERY, self.report_pause * 2)
        members = self.rung.members()
        self.link.send({"op": "usage", "used": self.rung.usage(), "members": members}, now)

    # -- how it ends (a tool shell's differs) --------------------------------------------------------------

    def is_final(self) -> bool:
        """Whether the root's end is the tree's."""
        return True

    def foreground_gone(self) -> None:
        """Only a tool shell has a foreground."""

    def root_gone(self) -> None:
        self.strangers |= ending.daemon_below(self.spec["state"], self.pid)
        if self.kill_at is None:
            others = self.members()
            self.ended = len(others)
            if others:
                self.reclaimed.begin(self.rung, None)
                ending.signal_all(others, signal.SIGTERM)
            self.kill_at = time.monotonic() + self.times.grace

    def owner_gone(self, now: float) -> None:
        if self.cause is None and self.root_status is None:
            self.end(now, Cause("killed", 137, "its owner is gone", by_owner=True))

    def signalled(self, number: int, code: int) -> None:
        """Passed on, and the end of the tree after the grace."""
        if not (self.same_group and code != SI_USER):
            group = None if self.same_group else self.root
            ending.forward_signal(number, group, self.root, self.root_start if self.root_status is None else None)
        if self.cause is None and self.root_status is None:
            self.cause = causes.from_signal(number)
            self.reclaimed.begin(self.rung, self.cause)
            self.kill_at = time.monotonic() + self.times.grace

    def end(self, now: float, cause: Cause) -> None:
        """Starts the end of the tree: TERM now, KILL when the grace is over, or at once."""
        self.cause = cause
        self.reclaimed.begin(self.rung, cause)
        self.kill_at = now if cause.at_once else now + self.times.grace
        if not cause.at_once:
            self.strangers |= ending.daemon_below(self.spec["state"], self.pid)
            ending.signal_all(self.members(), signal.SIGTERM)

    def kill(self) -> None:
        """One round, repeated until no process is left: the rung's own, and from the second on by descent, for those
        that moved itself out of its group (hosts do that to scopes)."""
        self.rung.kill()
        if self.rung.reachable and self.round_at:
            self.killer.round()

    def is_over(self) -> bool:
        """Whether no process of the tree is left, or can be reached."""
        if self.root_status is None:
            return False
        self._reap()
        self.rung.disband()
        if ending.is_empty(self.pid, self.strangers, self.spec["state"]) and not self.rung.members():
            return True
        return self.kill_at is not None and self.patience.is_over(self.members, self.kill_at, time.monotonic())

    # -- the record ----------------------------------------------------------------------------------------

    def _identities(self) -> dict[str, int]:
        return {
            "shim_pid": self.pid,
            "shim_start": proc.start_of(self.pid) or 0,
            "root_pid": self.root,
            "root_start": self.root_start,
        }

    def _started(self) -> dict[str, object]:
        return {"op": "started", **self._identities(), "rung": self.rung.name, "why_rung": self.why_rung}

    def run(self) -> int:
        """The exit code for our caller."""
        try:
            self.start()
        except OSError as error:
            return self._finish(causes.not_started(error, self.command[0]), [])
        self.link.send(self._started(), time.monotonic())
        if not self.rung.reachable:
            self.rung.usage()
        self.watch()
        kernel = self.limits.find_kernel_kill(self.rung, time.monotonic()) if self.cause is None else None
        cause = kernel or causes.resolve(self.cause, self.root_status or 0, self.spec["owner"] is not None)
        left = exit_record.describe_survivors(self.rung.members(), self.pid, self.strangers)
        return self._finish(cause, left)

    def _finish(self, cause: Cause, left: list[exit_record.Record]) -> int:
        record = self._compose_record(cause, left)
        record["private_tmp"] = self.tmp.finish(bool(left))
        self.rung.close()
        ending.remove_rung(self.rung)
        name, exits = self.granted["tree"], self.granted["exits"]
        self.say(cause)
        for path in [f"{exits}/{name}.json", *self.spec["reports"]]:
            error = exit_record.write(path, record)
            if error is not None:
                ending.print_line(
                    f"oomless: cannot write {path}; {error.strerror}; the record went to the daemon only"
                )
        self.link.last({"op": "ended", "record": record})
        return cause.code

    def _compose_record(self, cause: Cause, left: list[exit_record.Record]) -> exit_record.Record:
        if self.root:
            self.reclaimed.finish(self.rung, cause, bool(left), time.monotonic())
        return {
            "schema": "oomless.run/1",
            "tree": self.granted["tree"],
            "name": self.spec["name"],
            **exit_record.describe_end(cause),
            "rung": self.rung.name,
            "why_rung": self.why_rung,
            **exit_record.describe_memory(self.rung, self.biggest, self.reclaimed),
            "limit_bytes": self.limits.memory,
            "reserved_bytes": self.granted["reserved"],
            "seconds": round(time.monotonic() - self.began, 3),
            "survivors": len(left),
            "left": left,
            "ended": self.ended,
            "started_at": self.started_at,
            "escaped": self.escapes.rows(),
            **self.spec["extra"],
            **self.record_extra(),
        }

    def say(self, cause: Cause) -> None:
        """One line in the command's output. A host's server or shell prints nothing for what the host has done."""
        silent = self.spec["quiet"] or (cause.by_owner and self.spec["owner"] is not None)
        if cause.reason and not silent:
            ending.print_line(f"oomless: {self.spec['name']}: {cause.reason}")

    def record_extra(self) -> dict[str, object]:
        return {}


def main(argv: list[str]) -> None:
    """``boot.py SPEC_FD TREE -- COMMAND...``"""
    with open(int(argv[1]), encoding="utf-8") as file:
        spec = loads(file.read())
    try:
        code = Shim(spec, argv[4:]).run()
    except BaseException as error:  # noqa: BLE001  its exit tells the daemon, which sweeps the tree
        ending.print_line(f"oomless: the shim failed; {type(error).__name__}: {error}; please report this")
        code = 125
    os._exit(code)
