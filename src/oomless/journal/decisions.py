"""The journal's rows about what admission decided."""

from __future__ import annotations

from typing import Literal

import msgspec

from oomless.journal.database import Database, insert


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """What admission said, and why. ``tree`` is the id of the request: one that never ran has no tree."""

    at: float
    tree: str
    name: str
    verdict: Literal["admitted", "waiting", "refused", "withdrawn"]
    reason: str


class DecisionRows:
    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, decision: Decision) -> None:
        self._database.write(_ADD, **msgspec.structs.asdict(decision))

    def recent(self, limit: int = 50, name: str | None = None) -> list[Decision]:
        """Newest first; ``name``: only those about trees of that name."""
        where = "" if name is None else "WHERE name = :name "
        query = f"SELECT {', '.join(_COLUMNS)} FROM decisions {where}ORDER BY seq DESC LIMIT :limit"
        return [Decision(**row) for row in self._database.read(query, limit=limit, name=name)]


_COLUMNS = Decision.__struct_fields__
_ADD = insert("decisions", *_COLUMNS)
