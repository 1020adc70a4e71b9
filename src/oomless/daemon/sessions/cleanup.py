"""Ends what a dead session left, as far as ``left.py`` allows: TERM, a second's grace, KILL, and proof that it is
gone.

Covers: signals through verified identities, rounds until nobody is left, and the account of it. Who is there is read
in ``remains.py``. Everything is looked at anew in each round, for what is being ended may still fork.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time

assert sys.platform == "linux"

import msgspec

from oomless.census.snapshot import SESSION
from oomless.daemon.sessions.remains import Remains
from oomless.model import Survivor
from oomless.platform import proc
from oomless.platform.pss import proportional_sum
from oomless.processes.descent import OWN_SESSION, Memory, Trees, Who

GRACE = 1.0
GIVE_UP_AFTER = 5.0
ROUND_EVERY = 0.02
QUIET_ROUNDS = 3


class Cleared(msgspec.Struct, frozen=True, kw_only=True):
    """``left`` could not be ended; ``left_running`` was spared, or is not proven to be the session's."""

    ended: tuple[Survivor, ...]
    left: tuple[Survivor, ...]
    left_running: tuple[Survivor, ...]
    bytes_freed: int


class Clearing:
    """``ids``: the host's for the session."""

    def __init__(self, memory: Memory, ids: tuple[str, ...], trees: Trees) -> None:
        self._remains = Remains(memory, trees)
        self._memory = memory
        self._ids = ids
        self._trees = trees
        self._termed: set[Who] = set()
        self._ended: dict[Who, str] = {}
        self._freed = 0

    async def run(self) -> Cleared:
        began, quiet, doomed = time.monotonic(), 0, self._remains.look()
        self._freed = proportional_sum(list(doomed.values()))
        while quiet < QUIET_ROUNDS and time.monotonic() - began < GIVE_UP_AFTER:
            self._signal(doomed, hard=time.monotonic() - began >= GRACE)
            await asyncio.sleep(ROUND_EVERY)
            doomed = self._remains.look()
            quiet = 0 if doomed else quiet + 1
        return self._account(doomed)

    def _signal(self, doomed: dict[Who, proc.Stat], *, hard: bool) -> None:
        for who in doomed:
            if hard:
                sent = proc.kill(*who)
            elif who not in self._termed:
                self._termed.add(who)
                sent = proc.send(*who, signal.SIGTERM)
            else:
                continue
            if sent == proc.SENT:
                self._ended.setdefault(who, "killed" if hard else "ended")
                if hard:
                    self._ended[who] = "killed"

    def _account(self, still: dict[Who, proc.Stat]) -> Cleared:
        left = {
            who: "uninterruptible" if stat.state == "D" else "may not be signalled" for who, stat in still.items()
        }
        ended = {who: how for who, how in self._ended.items() if who not in still}
        table = proc.table()
        spared = {who: why for who, why in self._remains.spared.items() if _lives(table, who)}
        spared |= self._unproven(table, {*spared, *left})
        parts = (tuple(self._survivor(who, why) for who, why in part.items()) for part in (ended, left, spared))
        ended_rows, left_rows, spared_rows = parts
        return Cleared(ended=ended_rows, left=left_rows, left_running=spared_rows, bytes_freed=self._freed)

    def _unproven(self, table: dict[int, proc.Stat], known: set[Who]) -> dict[Who, str]:
        """Whoever was never seen below the session, and has its mark: its shell had ended before we looked. It is
        told and not touched, for a multiplexer or a build daemon hands the mark on to what is not the session's."""
        found = {}
        for stat in marked(table, self._ids, since=self._memory.root[1]):
            who = (stat.pid, stat.start)
            if who in known or who[0] == os.getpid() or self._trees.holds(who[0]):
                continue
            self._remains.tell(who, tuple(proc.cmdline(who[0])), stat)
            found[who] = OWN_SESSION if stat.sid == stat.pid else "only a mark in its environment says whose it is"
        return found

    def _survivor(self, who: Who, why: str) -> Survivor:
        return Survivor(pid=who[0], start=who[1], command=self._remains.commands.get(who, ""), why=why)


def _lives(table: dict[int, proc.Stat], who: Who) -> bool:
    stat = table.get(who[0])
    return stat is not None and stat.start == who[1] and stat.alive


def marked(table: dict[int, proc.Stat], ids: tuple[str, ...], since: int) -> list[proc.Stat]:
    """Who carries one of these session ids in the environment that it was started with."""
    marks = tuple(b"\0" + SESSION.encode() + b"=" + id.encode() + b"\0" for id in ids)
    found = []
    for stat in table.values():
        if stat.alive and stat.start >= since:
            environ = b"\0" + proc.environ(stat.pid) + b"\0"
            if any(mark in environ for mark in marks):
                found.append(stat)
    return found
