"""Ends what a dead session left, as far as ``left.py`` allows: TERM, a second's grace, KILL, and proof that it is
gone.

Covers: reading the facts about each candidate, signals through verified identities, rounds until nobody is left, and
the account of it. Everything is looked at anew in each round, for what is being ended may still fork.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable
from functools import cache

assert sys.platform == "linux"

import msgspec

from oomless.census import catalog
from oomless.census.redact import command_line
from oomless.census.snapshot import SESSION
from oomless.contain.rungs import proportional_sum
from oomless.contain.spare import ignores_hangup
from oomless.daemon.left import OWN_SESSION, Facts, Memory, Who, judge
from oomless.model import Survivor
from oomless.platform import proc

GRACE = 1.0
GIVE_UP_AFTER = 5.0
ROUND_EVERY = 0.02
QUIET_ROUNDS = 3
#: A listener's state in /proc/net/tcp (include/net/tcp_states.h: TCP_LISTEN).
_LISTEN = b"0A"
_COMMAND_KEPT = 200


class Cleared(msgspec.Struct, frozen=True, kw_only=True):
    """``left`` could not be ended; ``left_running`` was spared, or is not proven to be the session's."""

    ended: tuple[Survivor, ...]
    left: tuple[Survivor, ...]
    left_running: tuple[Survivor, ...]
    bytes_freed: int


class Clearing:
    """``ids``: the host's for the session. ``governed``: whether a pid is in a tree of ours; ``roots`` are the shims
    and requesters of those."""

    def __init__(
        self,
        memory: Memory,
        ids: tuple[str, ...],
        governed: Callable[[int], bool],
        roots: Callable[[], set[Who]],
    ) -> None:
        self._memory = memory
        self._ids = ids
        self._governed = governed
        self._roots = roots
        self._facts: dict[Who, Facts] = {}
        self._commands: dict[Who, str] = {}
        self._spared: dict[Who, str] = {}
        self._termed: set[Who] = set()
        self._ended: dict[Who, str] = {}
        self._freed = 0

    async def run(self) -> Cleared:
        began, quiet, doomed = time.monotonic(), 0, self._look()
        self._freed = proportional_sum(list(doomed.values()))
        while quiet < QUIET_ROUNDS and time.monotonic() - began < GIVE_UP_AFTER:
            self._signal(doomed, hard=time.monotonic() - began >= GRACE)
            await asyncio.sleep(ROUND_EVERY)
            doomed = self._look()
            quiet = 0 if doomed else quiet + 1
        return self._account(doomed)

    def _look(self) -> dict[Who, proc.Stat]:
        """Who lives and is not spared; what was found out about somebody once stays so."""
        table = proc.table()
        self._memory.look(table, self._roots())
        found = self._memory.candidates(table)
        found = {who: stat for who, stat in found.items() if who[0] != os.getpid() and not self._governed(who[0])}
        for who, stat in found.items():
            if who not in self._facts:
                argv = tuple(proc.cmdline(who[0]))
                self._facts[who] = self._read(stat, argv)
                self._commands[who] = (command_line(argv) or stat.comm)[:_COMMAND_KEPT]
        traces = self._memory.traces
        self._spared = judge(traces, {who: f for who, f in self._facts.items() if who in traces}, self._spared)
        return {who: stat for who, stat in found.items() if who not in self._spared}

    def _read(self, stat: proc.Stat, argv: tuple[str, ...]) -> Facts:
        known = known_programs().recognise(argv) if argv else None
        program = known.program if known is not None else None
        return Facts(
            sid=stat.sid,
            leads=stat.sid == stat.pid,
            ignores_hangup=ignores_hangup(stat.pid),
            listens=listens(stat.pid),
            protected=program.title if program is not None and program.kind in catalog.PROTECTED else "",
            host=program is not None and program.host,
        )

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
        spared = {who: why for who, why in self._spared.items() if _lives(table, who)}
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
            if who in known or who[0] == os.getpid() or self._governed(who[0]):
                continue
            self._commands[who] = (command_line(tuple(proc.cmdline(who[0]))) or stat.comm)[:_COMMAND_KEPT]
            found[who] = OWN_SESSION if stat.sid == stat.pid else "only a mark in its environment says whose it is"
        return found

    def _survivor(self, who: Who, why: str) -> Survivor:
        return Survivor(pid=who[0], start=who[1], command=self._commands.get(who, ""), why=why)


@cache
def known_programs() -> catalog.Catalog:
    return catalog.load()


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


def listens(pid: int) -> bool:
    """Whether it holds a listening TCP socket, in whatever network namespace it is. Unreadable counts as yes, but
    not if it is ending: without its memory it belongs to root in /proc (fs/proc/base.c, task_dump_owner)."""
    try:
        names = os.listdir(f"/proc/{pid}/fd")
    except PermissionError:
        return not (proc.read_file(f"/proc/{pid}/statm") or b"0 ").startswith(b"0 ")
    except OSError:
        return False  # gone
    sockets = set()
    for name in names:
        try:
            target = os.readlink(f"/proc/{pid}/fd/{name}")
        except OSError:
            continue
        if target.startswith("socket:["):
            sockets.add(target[8:-1].encode())
    return bool(sockets) and not sockets.isdisjoint(listening(pid))


def listening(pid: int) -> set[bytes]:
    """Inodes of the listening TCP sockets in its network namespace."""
    found = set()
    for family in ("tcp", "tcp6"):
        for line in (proc.read_file(f"/proc/{pid}/net/{family}") or b"").splitlines()[1:]:
            fields = line.split()
            if len(fields) > 9 and fields[3] == _LISTEN:
                found.add(fields[9])
    return found
