"""The journal's rows about the descendants of hosts' sessions, living and dead: one row for each session's process.

A row is written again as a whole when something of it has changed, and deleted when no process of it lives; so there
are as many as there are sessions and dead sessions with survivors.
"""

from __future__ import annotations

import msgspec

from oomless.journal.database import Database, insert
from oomless.model import Identity


class RecordedDescendant(msgspec.Struct, frozen=True, kw_only=True):
    """A descendant of a session's process: ``above`` are pid and start time of those in between, the nearest to the
    session first; ``shell_sid`` as in ``processes/descent.py``; ``spared`` why it would be left alone, or ""."""

    pid: int
    start: int
    above: tuple[tuple[int, int], ...]
    shell_sid: int | None
    spared: str = ""


class AncestryRow(msgspec.Struct, frozen=True, kw_only=True):
    """The descendants of the session's process ``process``; ``died_at`` is None as long as that lives."""

    host: str
    session: str
    process: Identity
    died_at: float | None
    members: tuple[RecordedDescendant, ...]


class AncestryRows:
    def __init__(self, database: Database) -> None:
        self._database = database

    def keep(self, row: AncestryRow) -> None:
        """In the place of what was kept of that process before."""
        process = row.process
        self._database.write(
            _KEEP,
            boot_id=process.boot_id,
            pid=process.pid,
            start=process.start,
            host=row.host,
            session=row.session,
            died_at=row.died_at,
            members=row.members,
        )

    def forget(self, process: Identity) -> None:
        self._database.write(
            "DELETE FROM lineages WHERE boot_id = :boot_id AND pid = :pid AND start = :start",
            boot_id=process.boot_id,
            pid=process.pid,
            start=process.start,
        )

    def of_boot(self, boot_id: str) -> list[AncestryRow]:
        """Oldest first. Those of another boot are deleted."""
        self._database.write("DELETE FROM lineages WHERE boot_id <> :boot_id", boot_id=boot_id)
        query = "SELECT * FROM lineages WHERE boot_id = :boot_id ORDER BY seq"
        return [
            AncestryRow(
                host=row["host"],
                session=row["session"],
                process=Identity(boot_id=boot_id, pid=row["pid"], start=row["start"]),
                died_at=row["died_at"],
                members=self._database.decode(row["members"], tuple[RecordedDescendant, ...]),
            )
            for row in self._database.read(query, boot_id=boot_id)
        ]


_KEEP = (
    insert("lineages", "boot_id", "pid", "start", "host", "session", "died_at", "members")
    + " ON CONFLICT (boot_id, pid, start) DO UPDATE SET host = excluded.host, session = excluded.session,"
    " died_at = excluded.died_at, members = excluded.members"
)
