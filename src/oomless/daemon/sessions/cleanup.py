"""Kills what a dead session left, as far as ``leftovers.py`` proves it: TERM, a second's grace, KILL, and proof that
it is gone.

Signals go through verified identities, in rounds until no leftover is found. Each round reads everything anew, for
what is being killed may still fork.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time

assert sys.platform == "linux"

import msgspec

from oomless import hosts
from oomless.daemon.governed_trees import GovernedTrees
from oomless.daemon.sessions.leftovers import LivingDescendants
from oomless.model import Survivor
from oomless.platform import system
from oomless.platform.system import Stat, sum_footprints
from oomless.processes.descendants import alive
from oomless.processes.descent import Descendants
from oomless.processes.detach import OWN_SESSION
from oomless.processes.ids import ProcessId
from oomless.processes.kill_times import KillTimes


class CleanupResult(msgspec.Struct, frozen=True, kw_only=True):
    """``left`` could not be killed; ``left_running`` is detached, or not proven to be the session's."""

    ended: tuple[Survivor, ...]
    left: tuple[Survivor, ...]
    left_running: tuple[Survivor, ...]
    bytes_freed: int


class Cleanup:
    """One dead session. ``session_ids`` are the host's for it."""

    def __init__(
        self,
        descendants: Descendants,
        session_ids: tuple[str, ...],
        trees: GovernedTrees,
        times: KillTimes | None = None,
    ) -> None:
        self._times = KillTimes(round_every=0.02) if times is None else times
        self._processes = LivingDescendants(descendants, trees)
        self._descendants = descendants
        self._session_ids = session_ids
        self._trees = trees
        self._terminated: set[ProcessId] = set()
        self._ended: dict[ProcessId, str] = {}
        self._freed = 0

    async def run(self) -> CleanupResult:
        times, began = self._times, time.monotonic()
        quiet, leftovers = 0, self._processes.classify()
        self._freed = sum_footprints(list(leftovers.values()))
        while quiet < times.quiet_rounds and time.monotonic() - began < times.give_up_after:
            self._signal(leftovers, hard=time.monotonic() - began >= times.grace)
            await asyncio.sleep(times.round_every)
            leftovers = self._processes.classify()
            quiet = 0 if leftovers else quiet + 1
        return self._result(leftovers)

    def _signal(self, leftovers: dict[ProcessId, Stat], *, hard: bool) -> None:
        for process in leftovers:
            if hard:
                sent = system.kill(*process)
            elif process not in self._terminated:
                self._terminated.add(process)
                sent = system.send(*process, signal.SIGTERM)
            else:
                continue
            if sent == system.SENT:
                self._ended.setdefault(process, "killed" if hard else "ended")
                if hard:
                    self._ended[process] = "killed"

    def _result(self, unkilled: dict[ProcessId, Stat]) -> CleanupResult:
        left = {
            process: "uninterruptible" if stat.state == "D" else "may not be signalled"
            for process, stat in unkilled.items()
        }
        ended = {process: how for process, how in self._ended.items() if process not in unkilled}
        table = system.table()
        detached = {p: reason for p, reason in self._processes.detached.items() if alive(p, table)}
        detached |= self._unproven(table, {*detached, *left})
        return CleanupResult(
            ended=self._rows(ended),
            left=self._rows(left),
            left_running=self._rows(detached),
            bytes_freed=self._freed,
        )

    def _unproven(self, table: dict[int, Stat], known: set[ProcessId]) -> dict[ProcessId, str]:
        """Returns processes with the session's mark that were never seen below it, as their shell had ended before
        any sample. They are reported and not touched: a multiplexer or a build daemon passes the mark on to what is
        not the session's."""
        found = {}
        for stat in find_marked(table, self._session_ids, since=self._descendants.root.start):
            process = ProcessId.of(stat)
            if process in known or process.pid == os.getpid() or self._trees.holds(process.pid):
                continue
            self._processes.record_command(process, tuple(system.cmdline(process.pid)), stat)
            found[process] = (
                OWN_SESSION if stat.sid == stat.pid else "only a mark in its environment says whose it is"
            )
        return found

    def _rows(self, reasons: dict[ProcessId, str]) -> tuple[Survivor, ...]:
        commands = self._processes.commands
        return tuple(
            Survivor(pid=process.pid, start=process.start, command=commands.get(process, ""), why=reason)
            for process, reason in reasons.items()
        )


def find_marked(table: dict[int, Stat], session_ids: tuple[str, ...], since: int) -> list[Stat]:
    """Returns the living processes that were started with one of these session ids in their environment, not earlier
    than ``since`` (a start time)."""
    names = [facts.session_mark for facts in hosts.known_facts() if facts.session_mark]
    marks = tuple(f"\0{name}={id}\0".encode() for name in names for id in session_ids)
    found = []
    for stat in table.values():
        if stat.alive and stat.start >= since:
            environ = b"\0" + system.environ(stat.pid) + b"\0"
            if any(mark in environ for mark in marks):
                found.append(stat)
    return found
