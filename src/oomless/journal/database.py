"""The journal: what was intended, what runs, what ended, and what was decided.

Every method is one transaction. A write is on its way to the disk before the method returns, and one that fails
(a full disk) raises JournalError, changes nothing and leaves the journal usable. One process writes, from one
thread. How the file is opened and migrated is in ``opening.py``.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import msgspec

from oomless.errors import JournalError
from oomless.journal.facts import Decision, OpenTree, Session, SweepRow, TreeIntent, TreeRow
from oomless.journal.opening import journal_error, open_database
from oomless.model import ExitRecord, Identity, Survivor, Terms, TreeKind

_T = TypeVar("_T")
_TREES = (
    "SELECT tree, kind, name, klass, owner, argv, cwd, boot_id, parent, in_group, reserved, limit_bytes, processes,"
    " rung, cgroups, marker, requester, intended_at, shim, root, contained_by, why_rung, started_at, ended_at,"
    " record, session, group_budget, group_parallel"
    " FROM trees "
)


class Journal:
    """Use ``Journal.open(path)``."""

    def __init__(self, db: sqlite3.Connection, path: str) -> None:
        self._db = db
        self.path = path

    @classmethod
    def open(cls, path: str, patience: float = 2.0) -> Journal:
        return cls(open_database(path, patience), path)

    def close(self) -> None:
        self._db.close()

    # Trees

    def intend(self, intent: TreeIntent) -> None:
        """To be called before anything is forked."""
        self._write(
            "INSERT INTO trees (tree, kind, name, klass, owner, argv, cwd, boot_id, parent, in_group, reserved,"
            " limit_bytes, processes, rung, cgroups, marker, requester, intended_at, session, group_budget,"
            " group_parallel)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                intent.tree,
                intent.kind.value,
                intent.terms.name,
                intent.terms.class_name,
                intent.owner,
                _json(intent.argv),
                intent.cwd,
                intent.boot_id,
                intent.terms.parent,
                intent.terms.group,
                _size(intent.reserved),
                _size(intent.terms.limit),
                intent.terms.processes,
                intent.rung,
                _json(intent.cgroups),
                intent.marker,
                _json(intent.requester),
                intent.intended_at,
                _json(intent.session) if intent.session else None,
                _size(intent.terms.group_budget),
                _size(intent.terms.group_parallel),
            ),
        )

    def started(self, tree: str, shim: Identity, root: Identity, rung: str, why_rung: str = "", *, at: float) -> bool:
        """Told again after an adoption it changes nothing but the identities. False: no such tree."""
        return self._write(
            "UPDATE trees SET shim = ?, root = ?, contained_by = ?, why_rung = ?,"
            " started_at = coalesce(started_at, ?) WHERE tree = ?",
            (_json(shim), _json(root), rung, why_rung, at, tree),
        )

    def ended(self, tree: str, record: ExitRecord, at: float) -> bool:
        """The shim's word. The first one stays, and a record that comes after a sweep is kept with it. False: no
        such tree."""
        return self._write(
            "UPDATE trees SET ended_at = coalesce(ended_at, ?), record = coalesce(record, ?) WHERE tree = ?",
            (at, _json(record), tree),
        )

    def swept(
        self,
        tree: str,
        at: float,
        reason: str,
        ended: int,
        left: tuple[Survivor, ...] = (),
        bytes_freed: int | None = None,
        left_running: tuple[Survivor, ...] = (),
    ) -> bool:
        """Ends a tree whose shim is gone; it does not come back as open, and who is left is named. False: no such
        tree."""
        with self._transaction() as db:
            cursor = db.execute("UPDATE trees SET ended_at = coalesce(ended_at, ?) WHERE tree = ?", (at, tree))
            if not cursor.rowcount:
                return False
            db.execute(
                "INSERT INTO sweeps (tree, at, reason, ended, left_alive, bytes_freed, left_running)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)",
                (tree, at, reason, ended, _json(left), bytes_freed, _json(left_running)),
            )
            return True

    def released(self, slot: str, at: float) -> bool:
        """A slot was given back. False: no such slot."""
        return self._write(
            "UPDATE trees SET ended_at = coalesce(ended_at, ?) WHERE tree = ? AND kind = 'slot'", (at, slot)
        )

    def open_trees(self) -> list[OpenTree]:
        """All whose end nobody has reported, slots too, oldest first."""
        rows = [self._row(row) for row in self._read(_TREES + "WHERE ended_at IS NULL ORDER BY seq")]
        return [
            OpenTree(
                intent=row.intent,
                shim=row.shim,
                root=row.root,
                rung=row.rung,
                why_rung=row.why_rung,
                started_at=row.started_at,
            )
            for row in rows
        ]

    def tree(self, tree: str) -> TreeRow | None:
        return self._first(_TREES + "WHERE tree = ?", tree)

    def find(self, name: str) -> TreeRow | None:
        """The newest of that name."""
        return self._first(_TREES + "WHERE name = ? ORDER BY seq DESC LIMIT 1", name)

    def recent(self, limit: int = 50) -> list[TreeRow]:
        """Newest first, open ones included."""
        rows = self._read(_TREES + "ORDER BY seq DESC LIMIT ?", limit)
        return [msgspec.structs.replace(self._row(row), sweep=self._sweep(row[0])) for row in rows]

    # Decisions

    def decide(self, decision: Decision) -> None:
        self._write(
            "INSERT INTO decisions (at, tree, name, verdict, reason) VALUES (?, ?, ?, ?, ?)",
            (decision.at, decision.tree, decision.name, decision.verdict, decision.reason),
        )

    def decisions(self, limit: int = 50, name: str | None = None) -> list[Decision]:
        """Newest first."""
        where, values = ("", ()) if name is None else ("WHERE name = ? ", (name,))
        query = f"SELECT at, tree, name, verdict, reason FROM decisions {where}ORDER BY seq DESC LIMIT ?"
        rows = self._read(query, *values, limit)
        return [Decision(at=r[0], tree=r[1], name=r[2], verdict=r[3], reason=r[4]) for r in rows]

    def prune(self, keep_rows: int) -> int:
        """Keeps the newest ``keep_rows`` trees that ended (with their sweeps) and as many decisions, and every open
        tree. Returns how many rows went."""
        with self._transaction() as db:
            trees = db.execute(
                "DELETE FROM trees WHERE ended_at IS NOT NULL AND seq NOT IN"
                " (SELECT seq FROM trees WHERE ended_at IS NOT NULL ORDER BY seq DESC LIMIT ?)",
                (keep_rows,),
            ).rowcount
            decisions = db.execute(
                "DELETE FROM decisions WHERE seq NOT IN (SELECT seq FROM decisions ORDER BY seq DESC LIMIT ?)",
                (keep_rows,),
            ).rowcount
        return trees + decisions

    # SQLite

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """All or nothing. On a full disk SQLite may have rolled back by itself already."""
        try:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
                self._db.execute("COMMIT")
            finally:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
        except sqlite3.Error as error:
            raise journal_error(self.path, error) from None

    def _write(self, statement: str, values: tuple[Any, ...]) -> bool:
        """True if a row was written."""
        with self._transaction() as db:
            return db.execute(statement, values).rowcount > 0

    def _read(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        try:
            return self._db.execute(query, values).fetchall()
        except sqlite3.Error as error:
            raise journal_error(self.path, error, "read") from None

    def _first(self, query: str, *values: Any) -> TreeRow | None:
        rows = self._read(query, *values)
        if not rows:
            return None
        return msgspec.structs.replace(self._row(rows[0]), sweep=self._sweep(rows[0][0]))

    def _sweep(self, tree: str) -> SweepRow | None:
        rows = self._read(
            "SELECT at, reason, ended, left_alive, bytes_freed, left_running FROM sweeps WHERE tree = ?"
            " ORDER BY seq DESC LIMIT 1",
            tree,
        )
        if not rows:
            return None
        at, reason, ended, left, bytes_freed, running = rows[0]
        return SweepRow(
            tree=tree,
            at=at,
            reason=reason,
            ended=ended,
            left=self._parse(left, tuple[Survivor, ...]),
            left_running=self._parse(running, tuple[Survivor, ...]),
            bytes_freed=bytes_freed,
        )

    def _row(self, row: tuple[Any, ...]) -> TreeRow:
        intent = TreeIntent(
            tree=row[0],
            kind=TreeKind(row[1]),
            terms=Terms(
                name=row[2],
                class_name=row[3],
                parent=row[8],
                group=row[9],
                limit=row[11],
                processes=row[12],
                group_budget=row[26],
                group_parallel=row[27],
            ),
            owner=row[4],
            argv=self._parse(row[5], tuple[str, ...]),
            cwd=row[6],
            boot_id=row[7],
            reserved=row[10],
            rung=row[13],
            cgroups=self._parse(row[14], dict[str, str]),
            marker=row[15],
            requester=self._parse(row[16], Identity),
            intended_at=row[17],
            session=self._parse(row[25], Session) if row[25] else None,
        )
        return TreeRow(
            intent=intent,
            shim=self._parse(row[18], Identity) if row[18] else None,
            root=self._parse(row[19], Identity) if row[19] else None,
            rung=row[20] or row[13],
            why_rung=row[21],
            started_at=row[22],
            ended_at=row[23],
            record=self._parse(row[24], ExitRecord) if row[24] else None,
        )

    def _parse(self, text: str, type: type[_T]) -> _T:
        try:
            return msgspec.json.decode(text, type=type)
        except msgspec.MsgspecError as error:
            raise JournalError(
                f"cannot read the journal {self.path}", f"a row of it is damaged ({error})", "move it aside"
            ) from None


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()


def _size(value: int | None) -> int | None:
    """SQLite's integers end at 2^63 - 1, what people write after --memory does not."""
    return None if value is None else min(value, 2**63 - 1)
