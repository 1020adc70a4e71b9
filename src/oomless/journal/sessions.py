"""The journal's rows about hosts' sessions: which are registered, and what was done about what they left.

Times are seconds since the epoch.
"""

from __future__ import annotations

import msgspec

from oomless.journal.database import Database, encode, insert
from oomless.model import Identity, Survivor


class HostSession(msgspec.Struct, frozen=True, kw_only=True):
    """A host's session as its own hook registered it: the host's id and the process that it runs in. One process may
    have several ids, one after another."""

    host: str
    session: str
    process: Identity
    cwd: str
    at: float


class ReapRow(msgspec.Struct, frozen=True, kw_only=True):
    """What was done about what a dead session left: which processes were killed (``ended``), survive (``left``) or
    are detached (``left_running``), each with the reason. ``bytes_freed`` is the proportional set of those that were
    ended, ``bytes_source`` where the figure is from. Where it was requested (``why``), host and session are
    empty, ``process`` is the daemon, and ``refused`` are those that it did not signal."""

    host: str
    session: str
    process: Identity
    at: float
    ended: tuple[Survivor, ...] = ()
    left: tuple[Survivor, ...] = ()
    left_running: tuple[Survivor, ...] = ()
    bytes_freed: int = 0
    refused: tuple[Survivor, ...] = ()
    bytes_source: str = "pss"
    why: str = ""


class SessionRows:
    def __init__(self, database: Database) -> None:
        self._database = database

    def register(self, session: HostSession) -> None:
        """Again for the same process it changes nothing, but that an ended row is open again."""
        process = session.process
        self._database.write(
            _REGISTER,
            host=session.host,
            session=session.session,
            boot_id=process.boot_id,
            pid=process.pid,
            start=process.start,
            cwd=session.cwd,
            at=session.at,
        )

    def open(self) -> list[HostSession]:
        """All whose process has not been seen to end, oldest first."""
        return [
            HostSession(
                host=row["host"],
                session=row["session"],
                process=Identity(boot_id=row["boot_id"], pid=row["pid"], start=row["start"]),
                cwd=row["cwd"],
                at=row["at"],
            )
            for row in self._database.read("SELECT * FROM sessions WHERE ended_at IS NULL ORDER BY seq")
        ]

    def mark_ended(self, process: Identity, at: float, reap: ReapRow | None = None) -> None:
        """The process is gone, and with it every session that ran in it."""
        values = {"at": at, "boot_id": process.boot_id, "pid": process.pid, "start": process.start}
        with self._database.transaction() as connection:
            connection.execute(
                "UPDATE sessions SET ended_at = :at"
                " WHERE boot_id = :boot_id AND pid = :pid AND start = :start AND ended_at IS NULL",
                values,
            )
            if reap is not None:
                connection.execute(_REAP, encode(_columns(reap)))

    def add_reap(self, reap: ReapRow) -> None:
        """By a request, not by the death of a session."""
        self._database.write(_REAP, **_columns(reap))

    def reaps(self, limit: int = 50) -> list[ReapRow]:
        """Newest first."""
        decode, survivors = self._database.decode, tuple[Survivor, ...]
        return [
            ReapRow(
                host=row["host"],
                session=row["session"],
                process=decode(row["process"], Identity),
                at=row["at"],
                ended=decode(row["ended"], survivors),
                left=decode(row["left_alive"], survivors),
                left_running=decode(row["left_running"], survivors),
                bytes_freed=row["bytes_freed"],
                refused=decode(row["refused"], survivors),
                bytes_source=row["bytes_source"],
                why=row["why"],
            )
            for row in self._database.read("SELECT * FROM reaps ORDER BY seq DESC LIMIT :limit", limit=limit)
        ]

    def prune(self, keep_rows: int) -> int:
        """Keeps the newest ``keep_rows`` sessions that ended and as many reaps, and every open session. Returns how
        many rows went."""
        with self._database.transaction() as connection:
            sessions = connection.execute(
                "DELETE FROM sessions WHERE ended_at IS NOT NULL AND seq NOT IN"
                " (SELECT seq FROM sessions WHERE ended_at IS NOT NULL ORDER BY seq DESC LIMIT ?)",
                (keep_rows,),
            ).rowcount
            reaps = connection.execute(
                "DELETE FROM reaps WHERE seq NOT IN (SELECT seq FROM reaps ORDER BY seq DESC LIMIT ?)", (keep_rows,)
            ).rowcount
        return sessions + reaps


def _columns(reap: ReapRow) -> dict[str, object]:
    values = msgspec.structs.asdict(reap)
    return values | {"left_alive": values.pop("left")}


_REGISTER = (
    insert("sessions", "host", "session", "boot_id", "pid", "start", "cwd", "at")
    + " ON CONFLICT (host, session, boot_id, pid, start) DO UPDATE SET ended_at = NULL"
)
_REAP = insert(
    "reaps",
    *("host", "session", "process", "at", "ended", "left_alive", "left_running", "bytes_freed"),
    *("refused", "bytes_source", "why"),
)
