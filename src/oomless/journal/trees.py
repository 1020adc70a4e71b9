"""The journal's rows about trees and slots: what was intended, what runs, what ended, and what was swept.

Times are seconds since the epoch. No row holds an environment: those have secrets in them.
"""

from __future__ import annotations

import sqlite3

import msgspec

from oomless.journal.database import Database, encode, insert
from oomless.model import ExitRecord, Identity, Survivor, Terms, TreeKind


class TreeSession(msgspec.Struct, frozen=True, kw_only=True):
    """The process that a tool shell or a server belongs to, and the process session (setsid) that its shell leads:
    what is in another one has detached on purpose."""

    owner: Identity
    sid: int


class TreeIntent(msgspec.Struct, frozen=True, kw_only=True):
    """What is written before anything is forked: enough to find a tree again that was never reported.

    ``requester`` becomes the shim of a ``run`` by exec; ``rung`` is the one intended; ``argv`` names survivors."""

    tree: str
    kind: TreeKind = TreeKind.TREE
    terms: Terms
    owner: str
    argv: tuple[str, ...] = ()
    cwd: str = "/"
    boot_id: str
    reserved: int
    rung: str
    cgroups: dict[str, str]
    marker: str
    requester: Identity
    intended_at: float
    session: TreeSession | None = None


class SweepRow(msgspec.Struct, frozen=True, kw_only=True):
    """A tree whose members were killed by the daemon because its shim was gone: how many were (``ended``), and which
    survive (``left``)."""

    tree: str
    at: float
    reason: str
    ended: int
    left: tuple[Survivor, ...] = ()
    left_running: tuple[Survivor, ...] = ()
    bytes_freed: int | None = None


class TreeRow(msgspec.Struct, frozen=True, kw_only=True):
    """Everything about one tree. ``ended_at`` None: open. ``record`` is its shim's (None for a slot, and where
    the shim was killed), ``sweep`` the newest one."""

    intent: TreeIntent
    shim: Identity | None = None
    root: Identity | None = None
    rung: str
    why_rung: str = ""
    started_at: float | None = None
    ended_at: float | None = None
    record: ExitRecord | None = None
    sweep: SweepRow | None = None


class TreeRows:
    def __init__(self, database: Database) -> None:
        self._database = database

    def intend(self, intent: TreeIntent) -> None:
        """To be called before anything is forked."""
        terms = intent.terms
        self._database.write(
            _INTEND,
            tree=intent.tree,
            kind=intent.kind.value,
            name=terms.name,
            klass=terms.class_name,
            owner=intent.owner,
            argv=intent.argv,
            cwd=intent.cwd,
            boot_id=intent.boot_id,
            parent=terms.parent,
            in_group=terms.group,
            group_budget=terms.group_budget,
            group_parallel=terms.group_parallel,
            reserved=intent.reserved,
            limit_bytes=terms.limit,
            processes=terms.processes,
            rung=intent.rung,
            cgroups=intent.cgroups,
            marker=intent.marker,
            requester=intent.requester,
            intended_at=intent.intended_at,
            session=intent.session,
        )

    def mark_started(
        self, tree: str, shim: Identity, root: Identity, rung: str, why_rung: str = "", *, at: float
    ) -> bool:
        """Written again after an adoption it changes nothing but the identities. False: no such tree."""
        return self._database.write(
            "UPDATE trees SET shim = :shim, root = :root, contained_by = :rung, why_rung = :why_rung,"
            " started_at = coalesce(started_at, :at) WHERE tree = :tree",
            shim=shim,
            root=root,
            rung=rung,
            why_rung=why_rung,
            at=at,
            tree=tree,
        )

    def mark_ended(self, tree: str, record: ExitRecord, at: float) -> bool:
        """The shim's record. The first one stays, and one that comes after a sweep is kept with it. False: no such
        tree."""
        return self._database.write(
            "UPDATE trees SET ended_at = coalesce(ended_at, :at), record = coalesce(record, :record)"
            " WHERE tree = :tree",
            at=at,
            record=record,
            tree=tree,
        )

    def add_sweep(self, sweep: SweepRow) -> bool:
        """Ends a tree whose shim is gone; it does not come back as open, and survivors are named. False: no such
        tree."""
        values = encode(
            {
                "tree": sweep.tree,
                "at": sweep.at,
                "reason": sweep.reason,
                "ended": sweep.ended,
                "left_alive": sweep.left,
                "left_running": sweep.left_running,
                "bytes_freed": sweep.bytes_freed,
            }
        )
        with self._database.transaction() as connection:
            end = "UPDATE trees SET ended_at = coalesce(ended_at, :at) WHERE tree = :tree"
            if not connection.execute(end, values).rowcount:
                return False
            connection.execute(_SWEEP, values)
            return True

    def mark_released(self, slot: str, at: float) -> bool:
        """A slot was given back. False: no such slot."""
        return self._database.write(
            "UPDATE trees SET ended_at = coalesce(ended_at, :at) WHERE tree = :slot AND kind = 'slot'",
            at=at,
            slot=slot,
        )

    def open(self) -> list[TreeRow]:
        """All without an end, slots too, oldest first."""
        return [self._row(row) for row in self._database.read(f"{_TREES} WHERE ended_at IS NULL ORDER BY seq")]

    def get(self, tree: str) -> TreeRow | None:
        return self._first(self._database.read(f"{_TREES} WHERE tree = :tree", tree=tree))

    def find(self, name: str) -> TreeRow | None:
        """The newest of that name."""
        return self._first(self._database.read(f"{_TREES} WHERE name = :name ORDER BY seq DESC LIMIT 1", name=name))

    def recent(self, limit: int = 50) -> list[TreeRow]:
        """Newest first, open ones included."""
        rows = self._database.read(f"{_TREES} ORDER BY seq DESC LIMIT :limit", limit=limit)
        return [self._with_sweep(row) for row in rows]

    def _first(self, rows: list[sqlite3.Row]) -> TreeRow | None:
        return self._with_sweep(rows[0]) if rows else None

    def _with_sweep(self, row: sqlite3.Row) -> TreeRow:
        return msgspec.structs.replace(self._row(row), sweep=self._newest_sweep(row["tree"]))

    def _newest_sweep(self, tree: str) -> SweepRow | None:
        rows = self._database.read("SELECT * FROM sweeps WHERE tree = :tree ORDER BY seq DESC LIMIT 1", tree=tree)
        if not rows:
            return None
        row, decode = rows[0], self._database.decode
        return SweepRow(
            tree=tree,
            at=row["at"],
            reason=row["reason"],
            ended=row["ended"],
            left=decode(row["left_alive"], tuple[Survivor, ...]),
            left_running=decode(row["left_running"], tuple[Survivor, ...]),
            bytes_freed=row["bytes_freed"],
        )

    def _row(self, row: sqlite3.Row) -> TreeRow:
        decode = self._database.decode
        intent = TreeIntent(
            tree=row["tree"],
            kind=TreeKind(row["kind"]),
            terms=Terms(
                name=row["name"],
                class_name=row["klass"],
                parent=row["parent"],
                group=row["in_group"],
                group_budget=row["group_budget"],
                group_parallel=row["group_parallel"],
                limit=row["limit_bytes"],
                processes=row["processes"],
            ),
            owner=row["owner"],
            argv=decode(row["argv"], tuple[str, ...]),
            cwd=row["cwd"],
            boot_id=row["boot_id"],
            reserved=row["reserved"],
            rung=row["rung"],
            cgroups=decode(row["cgroups"], dict[str, str]),
            marker=row["marker"],
            requester=decode(row["requester"], Identity),
            intended_at=row["intended_at"],
            session=decode(row["session"], TreeSession) if row["session"] else None,
        )
        return TreeRow(
            intent=intent,
            shim=decode(row["shim"], Identity) if row["shim"] else None,
            root=decode(row["root"], Identity) if row["root"] else None,
            rung=row["contained_by"] or row["rung"],
            why_rung=row["why_rung"],
            started_at=row["started_at"],
            ended_at=row["ended_at"],
            record=decode(row["record"], ExitRecord) if row["record"] else None,
        )


_TREES = "SELECT * FROM trees"
_INTEND = insert(
    "trees",
    *("tree", "kind", "name", "klass", "owner", "argv", "cwd", "boot_id", "parent", "in_group", "group_budget"),
    *("group_parallel", "reserved", "limit_bytes", "processes", "rung", "cgroups", "marker", "requester"),
    *("intended_at", "session"),
)
_SWEEP = insert("sweeps", "tree", "at", "reason", "ended", "left_alive", "left_running", "bytes_freed")
