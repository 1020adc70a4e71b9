"""What is remembered of sessions' descendants, kept in the journal for the next daemon.

Of a dead session that is done at once, for nobody can find out again whose its leftovers are (``leftovers.py``). Of
the living ones it is done twice a minute, if somebody has come or gone, and when the daemon stops: so the lineage of
one that dies while no daemon runs is known too, but for the last half a minute where the daemon was killed. What is
in a governed tree is not of it. What cannot be written is only not there for the next one.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Container, Iterable, Mapping

assert sys.platform == "linux"

import msgspec

from oomless.daemon.logs import Log
from oomless.errors import JournalError
from oomless.journal.ancestry import LineageRows
from oomless.journal.facts import LineageRow, Remembered
from oomless.model import Identity
from oomless.platform.proc import Stat
from oomless.processes.descent import DAEMON, Memory, Trace, Who

EVERY = 30.0


class Recalled(msgspec.Struct, frozen=True, kw_only=True):
    """``died_at`` is None for a session that lived when this was written."""

    host: str
    session: str
    memory: Memory
    spared: dict[Who, str]
    died_at: float | None


class Lineages:
    def __init__(self, rows: LineageRows, boot_id: str, log: Log) -> None:
        self._rows = rows
        self._boot_id = boot_id
        self._log = log

    def keep(self, host: str, session: str, memory: Memory, spared: Mapping[Who, str], died_at: float | None) -> None:
        told = dict.fromkeys(memory.daemons, DAEMON) | dict(spared)
        members = tuple(
            Remembered(
                pid=who[0], start=who[1], above=trace.above, shell_sid=trace.shell_sid, spared=told.get(who, "")
            )
            for who, trace in memory.traces.items()
            if who not in memory._ours
        )
        process = self._identity(memory.root)
        row = LineageRow(host=host, session=session, process=process, died_at=died_at, members=members)
        self._write(lambda: self._rows.keep(row))

    def forget(self, root: Who) -> None:
        self._write(lambda: self._rows.forget(self._identity(root)))

    def recall(self) -> list[Recalled]:
        try:
            return [_recalled(row) for row in self._rows.of_boot(self._boot_id)]
        except JournalError as error:
            self._log.error(error.line())
            return []

    def _identity(self, who: Who) -> Identity:
        return Identity(boot_id=self._boot_id, pid=who[0], start=who[1])

    def _write(self, write: Callable[[], None]) -> None:
        try:
            write()
        except JournalError as error:
            self._log.error(error.line())


def _recalled(row: LineageRow) -> Recalled:
    memory = Memory((row.process.pid, row.process.start))
    memory.traces = {(one.pid, one.start): Trace(above=one.above, shell_sid=one.shell_sid) for one in row.members}
    spared = {(one.pid, one.start): one.spared for one in row.members if one.spared}
    memory.daemons = {who for who, why in spared.items() if why == DAEMON}
    return Recalled(host=row.host, session=row.session, memory=memory, spared=spared, died_at=row.died_at)


class Keeper:
    """An eye of the lookout's, to be asked after those that remember. ``living``: host, id and memory of each session
    that lives; ``left``: whether something is kept of one that is dead."""

    def __init__(
        self,
        lineages: Lineages,
        living: Callable[[], Iterable[tuple[str, str, Memory]]],
        left: Callable[[Who], bool],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._lineages = lineages
        self._living = living
        self._left = left
        self._clock = clock
        self._due = 0.0
        self._written: dict[Who, tuple[str, frozenset[Who], frozenset[Who]]] = {}

    def __bool__(self) -> bool:
        return False

    def look(
        self,
        table: Mapping[int, Stat],
        ours: set[Who],
        lines: Mapping[int, tuple[int, ...]],
        executed: Container[int] = (),
    ) -> None:
        now = self._clock()
        if now >= self._due:
            self._due = now + EVERY
            self.write()

    def write(self) -> None:
        """What has changed since it was written last."""
        living = {memory.root: (host, session, memory) for host, session, memory in self._living()}
        for root in self._written.keys() - living.keys():
            del self._written[root]
            if not self._left(root):
                self._lineages.forget(root)
        for root, (host, session, memory) in living.items():
            state = session, frozenset(memory.traces), frozenset(memory.daemons)
            if self._written.get(root) != state:
                self._written[root] = state
                self._lineages.keep(host, session, memory, {}, None)
