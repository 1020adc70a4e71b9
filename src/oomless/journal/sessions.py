"""The journal's rows about hosts' sessions: which are watched, and what was done about what they left.

Over an open ``Journal`` (``store.py``), with its promises: each method is one transaction, and one that fails raises
JournalError and changes nothing.
"""

from __future__ import annotations

from typing import TypeVar

import msgspec

from oomless.errors import JournalError
from oomless.journal.database import Journal
from oomless.journal.facts import HostSession, ReapRow
from oomless.model import Identity, Survivor

_T = TypeVar("_T")
_LIST = tuple[Survivor, ...]
_REAP_COLUMNS = "host, session, process, at, ended, left_alive, left_running, bytes_freed, refused, bytes_source, why"
_INSERT_REAP = f"INSERT INTO reaps ({_REAP_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"


def _values(reap: ReapRow) -> tuple[str | int | float, ...]:
    """In the order of the columns."""
    lists = (reap.ended, reap.left, reap.left_running, reap.refused)
    ended, left, running, refused = (msgspec.json.encode(part).decode() for part in lists)
    process = msgspec.json.encode(reap.process).decode()
    sums = (reap.bytes_freed, refused, reap.bytes_source, reap.why)
    return (reap.host, reap.session, process, reap.at, ended, left, running, *sums)


class SessionRows:
    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def register(self, session: HostSession) -> None:
        """Told again it changes nothing, but that an ended row of that very process is open again."""
        who = session.process
        self._journal._write(
            "INSERT INTO sessions (host, session, boot_id, pid, start, cwd, at) VALUES (?, ?, ?, ?, ?, ?, ?)"
            " ON CONFLICT (host, session, boot_id, pid, start) DO UPDATE SET ended_at = NULL",
            (session.host, session.session, who.boot_id, who.pid, who.start, session.cwd, session.at),
        )

    def open(self) -> list[HostSession]:
        """All whose process nobody has seen end, oldest first."""
        rows = self._journal._read(
            "SELECT host, session, boot_id, pid, start, cwd, at FROM sessions WHERE ended_at IS NULL ORDER BY seq"
        )
        return [
            HostSession(
                host=host,
                session=session,
                process=Identity(boot_id=boot_id, pid=pid, start=start),
                cwd=cwd,
                at=at,
            )
            for host, session, boot_id, pid, start, cwd, at in rows
        ]

    def ended(self, process: Identity, at: float, reap: ReapRow | None = None) -> None:
        """The process is gone, and with it every session that ran in it."""
        with self._journal._transaction() as db:
            db.execute(
                "UPDATE sessions SET ended_at = ? WHERE boot_id = ? AND pid = ? AND start = ? AND ended_at IS NULL",
                (at, process.boot_id, process.pid, process.start),
            )
            if reap is not None:
                db.execute(_INSERT_REAP, _values(reap))

    def reaped(self, reap: ReapRow) -> None:
        """What somebody asked for, not the death of a session."""
        self._journal._write(_INSERT_REAP, _values(reap))

    def reaps(self, limit: int = 50) -> list[ReapRow]:
        """Newest first."""
        rows = self._journal._read(f"SELECT {_REAP_COLUMNS} FROM reaps ORDER BY seq DESC LIMIT ?", limit)
        return [
            ReapRow(
                host=host,
                session=session,
                process=self._parse(process, Identity),
                at=at,
                ended=self._parse(ended, _LIST),
                left=self._parse(left, _LIST),
                left_running=self._parse(running, _LIST),
                bytes_freed=freed,
                refused=self._parse(refused, _LIST),
                bytes_source=source,
                why=why,
            )
            for host, session, process, at, ended, left, running, freed, refused, source, why in rows
        ]

    def prune(self, keep_rows: int) -> int:
        """Keeps the newest ``keep_rows`` sessions that ended and as many reaps, and every open session. Returns how
        many rows went."""
        with self._journal._transaction() as db:
            sessions = db.execute(
                "DELETE FROM sessions WHERE ended_at IS NOT NULL AND seq NOT IN"
                " (SELECT seq FROM sessions WHERE ended_at IS NOT NULL ORDER BY seq DESC LIMIT ?)",
                (keep_rows,),
            ).rowcount
            reaps = db.execute(
                "DELETE FROM reaps WHERE seq NOT IN (SELECT seq FROM reaps ORDER BY seq DESC LIMIT ?)", (keep_rows,)
            ).rowcount
        return sessions + reaps

    def _parse(self, text: str, type: type[_T]) -> _T:
        try:
            return msgspec.json.decode(text, type=type)
        except msgspec.MsgspecError as error:
            raise JournalError(
                f"cannot read the journal {self._journal.path}", f"a row of it is damaged ({error})", "move it aside"
            ) from None
