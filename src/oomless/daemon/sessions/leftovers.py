"""What dead sessions left that nobody has asked us to end: told for as long as each lives, with what spares it.

The same judgement as where we end (``remains.py``, ``left.judge``), made anew for each view, for a socket may have
been opened since. The journal has it too, for the next daemon (``lineages.py``). Not here: noticing the death
(``unregistered.py``), and ending anything.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping

assert sys.platform == "linux"

from oomless.census.snapshot import SESSION
from oomless.daemon.sessions.ancestry_store import Lineages, Recalled
from oomless.model import Leftover
from oomless.platform import proc
from oomless.platform.proc import Stat
from oomless.processes.descent import Memory, Trees, Who

#: Only its servers have a session's id in their environment that says whose they are.
_MARKING = "claude-code"


class Dead:
    """One session whose process is gone."""

    def __init__(self, host: str, session: str, memory: Memory, trees: Trees, since: float) -> None:
        # It loads what recognises programs: not before it is needed.
        from oomless.daemon.sessions.remains import Remains

        self.host, self.session, self.root, self.since = host, session, memory.root, since
        self.remains = Remains(memory, trees)
        self.written: tuple[frozenset[Who], dict[Who, str]] | None = None

    def lives(self, table: Mapping[int, Stat]) -> bool:
        return _anybody(self.remains.memory, table)

    def state(self) -> tuple[frozenset[Who], dict[Who, str]]:
        """What the journal must know: who lives, and who of them is spared."""
        living = self.remains.memory.traces
        return frozenset(living), {who: why for who, why in self.remains.spared.items() if who in living}


class Leftovers:
    """``living``: the processes of hosts' sessions that live, and their names. Such a one is never only left, nor
    what it started."""

    def __init__(self, trees: Trees, living: Callable[[], Mapping[Who, str]], lineages: Lineages) -> None:
        self._trees = trees
        self._living = living
        self._lineages = lineages
        self._dead: list[Dead] = []

    def __bool__(self) -> bool:
        return bool(self._dead)

    def add(self, host: str, session: str, memory: Memory) -> int:
        """How many are proven to be only left."""
        dead = Dead(host, session, memory, self._trees, time.time())
        table = proc.table()
        proven = self._judge(dead, table, anew=False)
        dead.session = session or _marked(host, memory) or "{}:{}".format(*memory.root)
        if dead.lives(table):
            self._dead.append(dead)
            self._write(dead)
        return len(proven)

    def take_up(self, one: Recalled, table: Mapping[int, Stat]) -> None:
        """What another daemon has remembered, as far as it lives: by pid and start time, in the same boot."""
        one.memory.look(table, self._trees.roots())
        if not _anybody(one.memory, table):
            self._lineages.forget(one.memory.root)
            return
        since = time.time() if one.died_at is None else one.died_at
        session = one.session or _marked(one.host, one.memory) or "{}:{}".format(*one.memory.root)
        dead = Dead(one.host, session, one.memory, self._trees, since)
        dead.remains.spared = dict(one.spared)
        self._dead.append(dead)
        self._write(dead)

    def holds(self, root: Who) -> bool:
        return any(dead.root == root for dead in self._dead)

    def look(self, table: Mapping[int, Stat], ours: set[Who], lines: Mapping[int, tuple[int, ...]]) -> None:
        """They may go on forking; of whom nobody is left, nothing is told any more."""
        for dead in self._dead:
            dead.remains.memory.look(table, ours, lines)
            if not dead.lives(table):
                self._lineages.forget(dead.root)
            elif dead.state() != dead.written:
                self._write(dead)
        self._dead = [dead for dead in self._dead if dead.lives(table)]

    def _write(self, dead: Dead) -> None:
        dead.written = dead.state()
        self._lineages.keep(dead.host, dead.session, dead.remains.memory, dead.remains.spared, dead.since)

    def views(self) -> tuple[Leftover, ...]:
        """Who descends from two dead sessions, one within the other, is told of once: below the nearer."""
        found: dict[Who, Leftover] = {}
        table = proc.table() if self._dead else {}
        for dead in self._dead:
            proven = self._judge(dead, table, anew=True)
            spared = {who: why for who, why in dead.remains.spared.items() if _lives(table, who)}
            for who, why in (spared | dict.fromkeys(proven, "")).items():
                view = _view(dead, who, why)
                if who not in found or len(view.above) < len(found[who].above):
                    found[who] = view
        return tuple(found.values())

    def _judge(self, dead: Dead, table: dict[int, Stat], *, anew: bool) -> dict[Who, Stat]:
        also = {who: f"it is a session of {host} itself" for who, host in self._living().items() if who != dead.root}
        return dead.remains.look(table, anew=anew, also=also)


def _view(dead: Dead, who: Who, why: str) -> Leftover:
    return Leftover(
        pid=who[0],
        start=who[1],
        command=dead.remains.commands.get(who, ""),
        host=dead.host,
        session=dead.session,
        root=dead.root[0],
        above=tuple(pid for pid, _ in dead.remains.memory.traces[who].above),
        spared=why,
        since=dead.since,
    )


def _anybody(memory: Memory, table: Mapping[int, Stat]) -> bool:
    """Whether one of those remembered lives; who is only not waited for yet starts nobody any more."""
    return any(_lives(table, who) for who in memory.traces)


def _lives(table: Mapping[int, Stat], who: Who) -> bool:
    stat = table.get(who[0])
    return stat is not None and stat.start == who[1] and stat.alive


def _marked(host: str, memory: Memory) -> str:
    """The id that a direct child of the session's was started with."""
    name = SESSION.encode() + b"="
    for who, trace in memory.traces.items() if host == _MARKING else ():
        if not trace.above:
            for entry in proc.environ(who[0]).split(b"\0"):
                if entry.startswith(name):
                    return entry[len(name) :].decode("utf-8", "replace")
    return ""
