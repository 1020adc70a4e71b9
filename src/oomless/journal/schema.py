"""The tables, as the steps that made them. ``PRAGMA user_version`` is the number of steps applied.

A step that was released is never changed: the next change is a new step. Identities, argument lists, cgroups and
exit records are JSON, by the structs of ``model.py`` and of the modules beside.
"""

from __future__ import annotations

#: Each step is a list of statements.
MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        """
        CREATE TABLE trees (
            seq INTEGER PRIMARY KEY,
            tree TEXT NOT NULL UNIQUE,
            kind TEXT NOT NULL CHECK (kind IN ('tree', 'slot', 'shell', 'server')),
            name TEXT NOT NULL,
            klass TEXT,
            owner TEXT NOT NULL,
            argv TEXT NOT NULL,
            cwd TEXT NOT NULL,
            boot_id TEXT NOT NULL,
            parent TEXT,
            in_group TEXT,
            reserved INTEGER NOT NULL,
            limit_bytes INTEGER,
            processes INTEGER,
            rung TEXT NOT NULL,
            cgroups TEXT NOT NULL,
            marker TEXT NOT NULL,
            requester TEXT NOT NULL,
            session TEXT,
            intended_at REAL NOT NULL,
            shim TEXT,
            root TEXT,
            contained_by TEXT,
            why_rung TEXT NOT NULL DEFAULT '',
            started_at REAL,
            ended_at REAL,
            record TEXT
        )
        """,
    ),
    (
        """
        CREATE TABLE decisions (
            seq INTEGER PRIMARY KEY,
            at REAL NOT NULL,
            tree TEXT NOT NULL,
            name TEXT NOT NULL,
            verdict TEXT NOT NULL CHECK (verdict IN ('admitted', 'waiting', 'refused', 'withdrawn')),
            reason TEXT NOT NULL
        )
        """,
    ),
    (
        """
        CREATE TABLE sweeps (
            seq INTEGER PRIMARY KEY,
            tree TEXT NOT NULL REFERENCES trees (tree) ON DELETE CASCADE,
            at REAL NOT NULL,
            reason TEXT NOT NULL,
            ended INTEGER NOT NULL,
            left_alive TEXT NOT NULL,
            left_running TEXT NOT NULL DEFAULT '[]',
            bytes_freed INTEGER
        )
        """,
        "CREATE INDEX sweeps_tree ON sweeps (tree)",
        "CREATE INDEX trees_open ON trees (seq) WHERE ended_at IS NULL",
        "CREATE INDEX trees_name ON trees (name)",
        "CREATE INDEX decisions_name ON decisions (name)",
    ),
    (
        """
        CREATE TABLE sessions (
            seq INTEGER PRIMARY KEY,
            host TEXT NOT NULL,
            session TEXT NOT NULL,
            boot_id TEXT NOT NULL,
            pid INTEGER NOT NULL,
            start INTEGER NOT NULL,
            cwd TEXT NOT NULL,
            at REAL NOT NULL,
            ended_at REAL,
            UNIQUE (host, session, boot_id, pid, start)
        )
        """,
        """
        CREATE TABLE reaps (
            seq INTEGER PRIMARY KEY,
            host TEXT NOT NULL,
            session TEXT NOT NULL,
            process TEXT NOT NULL,
            at REAL NOT NULL,
            ended TEXT NOT NULL,
            left_alive TEXT NOT NULL,
            left_running TEXT NOT NULL,
            bytes_freed INTEGER NOT NULL
        )
        """,
        "CREATE INDEX sessions_open ON sessions (seq) WHERE ended_at IS NULL",
    ),
    (
        "ALTER TABLE reaps ADD COLUMN refused TEXT NOT NULL DEFAULT '[]'",
        "ALTER TABLE reaps ADD COLUMN bytes_source TEXT NOT NULL DEFAULT 'pss'",
        "ALTER TABLE reaps ADD COLUMN why TEXT NOT NULL DEFAULT ''",
    ),
    (
        """
        CREATE TABLE lineages (
            seq INTEGER PRIMARY KEY,
            boot_id TEXT NOT NULL,
            pid INTEGER NOT NULL,
            start INTEGER NOT NULL,
            host TEXT NOT NULL,
            session TEXT NOT NULL,
            died_at REAL,
            members TEXT NOT NULL,
            UNIQUE (boot_id, pid, start)
        )
        """,
    ),
    (
        "ALTER TABLE trees ADD COLUMN group_budget INTEGER",
        "ALTER TABLE trees ADD COLUMN group_parallel INTEGER",
    ),
)

VERSION = len(MIGRATIONS)
