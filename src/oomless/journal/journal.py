"""The journal: what survives a crash. One writer, the daemon."""

from __future__ import annotations

from oomless.journal.ancestry import AncestryRows
from oomless.journal.database import Database
from oomless.journal.decisions import DecisionRows
from oomless.journal.sessions import SessionRows
from oomless.journal.trees import TreeRows


class Journal:
    """Use ``Journal.open(path)``."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.trees = TreeRows(database)
        self.decisions = DecisionRows(database)
        self.sessions = SessionRows(database)
        self.ancestry = AncestryRows(database)

    @classmethod
    def open(cls, path: str, patience: float = 2.0) -> Journal:
        """As ``Database.open``."""
        return cls(Database.open(path, patience))

    def close(self) -> None:
        self.database.close()

    def prune(self, keep_rows: int) -> int:
        """Keeps the newest ``keep_rows`` trees that ended (with their sweeps) and as many decisions, and every open
        tree. Returns how many rows went."""
        with self.database.transaction() as connection:
            trees = connection.execute(
                "DELETE FROM trees WHERE ended_at IS NOT NULL AND seq NOT IN"
                " (SELECT seq FROM trees WHERE ended_at IS NOT NULL ORDER BY seq DESC LIMIT ?)",
                (keep_rows,),
            ).rowcount
            decisions = connection.execute(
                "DELETE FROM decisions WHERE seq NOT IN (SELECT seq FROM decisions ORDER BY seq DESC LIMIT ?)",
                (keep_rows,),
            ).rowcount
        return trees + decisions
