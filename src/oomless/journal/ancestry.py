"""The journal's rows about who descends from hosts' sessions, living ones and dead: one row a session's process.

Over an open ``Journal`` (``store.py``), with its promises. A row is written again as a whole when something of it has
changed, and goes when nobody of it lives; so there are as many as there are sessions and what they left. What is made
of them is in ``daemon/sessions/ancestry_store.py``.
"""

from __future__ import annotations

import msgspec

from oomless.errors import JournalError
from oomless.journal.database import Journal
from oomless.journal.facts import LineageRow, Remembered
from oomless.model import Identity


class LineageRows:
    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def keep(self, row: LineageRow) -> None:
        """In the place of what was kept of that process before."""
        who, members = row.process, msgspec.json.encode(row.members).decode()
        self._journal._write(
            "INSERT INTO lineages (boot_id, pid, start, host, session, died_at, members) VALUES (?, ?, ?, ?, ?, ?, ?)"
            " ON CONFLICT (boot_id, pid, start) DO UPDATE SET host = excluded.host, session = excluded.session,"
            " died_at = excluded.died_at, members = excluded.members",
            (who.boot_id, who.pid, who.start, row.host, row.session, row.died_at, members),
        )

    def forget(self, process: Identity) -> None:
        self._journal._write(
            "DELETE FROM lineages WHERE boot_id = ? AND pid = ? AND start = ?",
            (process.boot_id, process.pid, process.start),
        )

    def of_boot(self, boot_id: str) -> list[LineageRow]:
        """Oldest first. Those of another boot are gone for good."""
        self._journal._write("DELETE FROM lineages WHERE boot_id <> ?", (boot_id,))
        rows = self._journal._read(
            "SELECT pid, start, host, session, died_at, members FROM lineages WHERE boot_id = ? ORDER BY seq", boot_id
        )
        return [
            LineageRow(
                host=host,
                session=session,
                process=Identity(boot_id=boot_id, pid=pid, start=start),
                died_at=died_at,
                members=self._members(members),
            )
            for pid, start, host, session, died_at, members in rows
        ]

    def _members(self, text: str) -> tuple[Remembered, ...]:
        try:
            return msgspec.json.decode(text, type=tuple[Remembered, ...])
        except msgspec.MsgspecError as error:
            raise JournalError(
                f"cannot read the journal {self._journal.path}", f"a row of it is damaged ({error})", "move it aside"
            ) from None
