"""The recorded descendants of hosts' sessions, kept in the journal for the next daemon.

Those of a dead session are written at once, for nobody can find out again whose its leftovers are. Those of living
sessions are written twice a minute if one of them has come or gone, and when the daemon stops. So the ancestry of a
session that dies while no daemon runs is known too, except for the last half minute of a daemon that was killed. What
is in a governed tree is left out. A failed write is logged, and only the next daemon misses it.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Mapping

import msgspec

assert sys.platform == "linux"

from oomless.daemon.logs import Log
from oomless.daemon.sessions.sampling import ProcessSample
from oomless.errors import JournalError
from oomless.journal.ancestry import AncestryRow, AncestryRows, RecordedDescendant
from oomless.model import Identity
from oomless.processes.descent import Descendants, Descent
from oomless.processes.detach import DAEMON
from oomless.processes.ids import ProcessId

CHECKPOINT_EVERY = 30.0


class StoredAncestry(msgspec.Struct, frozen=True, kw_only=True):
    """``detached`` are the reasons of those that were left alone. ``died_at`` is None for a session that lived when
    this was written."""

    host: str
    session: str
    descendants: Descendants
    detached: dict[ProcessId, str]
    died_at: float | None


class AncestryStore:
    def __init__(self, rows: AncestryRows, boot_id: str, log: Log) -> None:
        self._rows = rows
        self._boot_id = boot_id
        self._log = log

    def save(
        self,
        host: str,
        session: str,
        descendants: Descendants,
        detached: Mapping[ProcessId, str],
        died_at: float | None,
    ) -> None:
        """Replaces what is stored of the session's process."""
        reasons = dict.fromkeys(descendants.daemons, DAEMON) | dict(detached)
        members = tuple(
            RecordedDescendant(
                pid=process.pid,
                start=process.start,
                above=descent.above,
                shell_sid=descent.shell_sid,
                spared=reasons.get(process, ""),
            )
            for process, descent in descendants.descents.items()
            if process not in descendants.governed
        )
        root = self._identity(descendants.root)
        row = AncestryRow(host=host, session=session, process=root, died_at=died_at, members=members)
        self._write(lambda: self._rows.keep(row))

    def forget(self, root: ProcessId) -> None:
        self._write(lambda: self._rows.forget(self._identity(root)))

    def load(self) -> list[StoredAncestry]:
        """Returns what is stored of this boot; nothing, with a line in the log, if the journal is damaged."""
        try:
            return [_from_row(row) for row in self._rows.of_boot(self._boot_id)]
        except JournalError as error:
            self._log.error(error.line())
            return []

    def _identity(self, process: ProcessId) -> Identity:
        return Identity(boot_id=self._boot_id, pid=process.pid, start=process.start)

    def _write(self, write: Callable[[], None]) -> None:
        try:
            write()
        except JournalError as error:
            self._log.error(error.line())


def _from_row(row: AncestryRow) -> StoredAncestry:
    descendants = Descendants(ProcessId.of(row.process))
    descendants.descents = {
        ProcessId.of(member): Descent(
            above=tuple(ProcessId(pid, start) for pid, start in member.above), shell_sid=member.shell_sid
        )
        for member in row.members
    }
    detached = {ProcessId.of(member): member.spared for member in row.members if member.spared}
    descendants.daemons = {process for process, reason in detached.items() if reason == DAEMON}
    return StoredAncestry(
        host=row.host, session=row.session, descendants=descendants, detached=detached, died_at=row.died_at
    )


class AncestryCheckpoint:
    """An observer of the sampler's, after those that remember descendants.

    ``living`` yields host, id and descendants of each session that lives; ``has_leftovers`` says whether something is
    stored of a dead one.
    """

    def __init__(
        self,
        store: AncestryStore,
        living: Callable[[], Iterable[tuple[str, str, Descendants]]],
        has_leftovers: Callable[[ProcessId], bool],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._living = living
        self._has_leftovers = has_leftovers
        self._clock = clock
        self._due = 0.0
        self._written: dict[ProcessId, tuple[str, frozenset[ProcessId], frozenset[ProcessId]]] = {}

    def __bool__(self) -> bool:
        return False

    def observe(self, sample: ProcessSample) -> None:
        now = self._clock()
        if now >= self._due:
            self._due = now + CHECKPOINT_EVERY
            self.write()

    def write(self) -> None:
        """Writes what has changed since the last time."""
        living = {descendants.root: (host, session, descendants) for host, session, descendants in self._living()}
        for root in self._written.keys() - living.keys():
            del self._written[root]
            if not self._has_leftovers(root):
                self._store.forget(root)
        for root, (host, session, descendants) in living.items():
            state = session, frozenset(descendants.descents), frozenset(descendants.daemons)
            if self._written.get(root) != state:
                self._written[root] = state
                self._store.save(host, session, descendants, {}, None)
