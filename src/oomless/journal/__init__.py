"""What survives a crash: trees, decisions, sessions and ancestry, in SQLite (WAL)."""
