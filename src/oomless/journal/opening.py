"""Opens the journal's file, which may be new, old, newer than this program, damaged, or something else altogether.

A file that is not to be used is left as it is, byte for byte: it is looked at through a read-only connection
first. Also here: SQLite's errors turned into one clear line. Reading and writing rows is ``store.py``'s.
"""

from __future__ import annotations

import os
import sqlite3

from oomless.errors import JournalError
from oomless.journal.schema import MIGRATIONS, VERSION

_ASIDE = "move it aside, and a new one is made"
_BY_CODE = {
    sqlite3.SQLITE_FULL: ("the disk is full", "free disk space"),
    sqlite3.SQLITE_READONLY: ("it is read-only", "make it writable, or set XDG_STATE_HOME to a folder of yours"),
    sqlite3.SQLITE_BUSY: ("another process has locked it", "end the program that has it open"),
    sqlite3.SQLITE_CANTOPEN: ("it or its folder cannot be opened", "make its folder writable, with space left"),
    sqlite3.SQLITE_NOTADB: ("it is not a journal, or damaged", _ASIDE),
    sqlite3.SQLITE_CORRUPT: ("it is damaged", _ASIDE),
}


def journal_error(path: str, error: sqlite3.Error, doing: str = "write") -> JournalError:
    """The extended result code's low byte is the kind of error (sqlite.org/rescode.html)."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    why, todo = _BY_CODE.get(code, (str(error), "look at its folder and disk, or move it aside"))
    return JournalError(f"cannot {doing} the journal {path}", why, todo)


def open_database(path: str, patience: float) -> sqlite3.Connection:
    """A connection to a journal of the present schema; raises JournalError. ``patience``: seconds to wait for
    another process's lock."""
    try:
        _create(path)
        version = _inspect(path, patience)
        db = _connect(path, patience)
    except sqlite3.Error as error:
        raise journal_error(path, error, "open") from None
    try:
        _configure(db)
        if version < VERSION:
            _migrate(db, path)
        return db
    except BaseException as error:
        db.close()
        if isinstance(error, sqlite3.Error):
            raise journal_error(path, error, "open") from None
        raise


def _create(path: str) -> None:
    """Ours alone from the first moment; SQLite gives its side files the same mode. Looks at the header too, so
    that SQLite never touches a file of another kind."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            header = os.read(fd, 16)
        finally:
            os.close(fd)
    except OSError as error:
        why = error.strerror or str(error)
        todo = "make it writable, or set XDG_STATE_HOME to a folder of yours"
        raise JournalError(f"cannot open the journal {path}", why, todo) from None
    if header and header != b"SQLite format 3\0":
        raise JournalError(f"cannot open the journal {path}", "it is not a journal, or damaged", _ASIDE)


def _inspect(path: str, patience: float) -> int:
    """The schema's version; raises JournalError for one that is not to be touched."""
    escaped = os.path.abspath(path).replace("%", "%25").replace("?", "%3f").replace("#", "%23")
    db = sqlite3.connect(f"file:{escaped}?mode=ro", uri=True, timeout=patience, isolation_level=None)
    try:
        version = int(db.execute("PRAGMA user_version").fetchone()[0])
        if version > VERSION:
            raise JournalError(
                f"journal schema {version} is newer than this oomless knows ({VERSION})",
                f"a newer oomless has written {path}",
                f"upgrade oomless, or move {path} aside",
            )
        found = db.execute("PRAGMA quick_check(1)").fetchone()[0]
        if found != "ok":
            raise JournalError(f"cannot open the journal {path}", f"it is damaged ({found})", _ASIDE)
        if version == 0 and db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            raise JournalError(f"cannot open the journal {path}", "it is another program's database", _ASIDE)
        return version
    finally:
        db.close()


def _connect(path: str, patience: float) -> sqlite3.Connection:
    # Autocommit: transactions are begun by name. No statement cache: it would keep up to 128 prepared statements.
    return sqlite3.connect(path, timeout=patience, isolation_level=None, cached_statements=0)


def _configure(db: sqlite3.Connection) -> None:
    """WAL with synchronous NORMAL survives any process's death; a power cut may cost the last commits, but no
    process outlives that. A checkpoint every 1 MB keeps the side file small."""
    db.execute("PRAGMA cache_size = -256")
    db.execute("PRAGMA journal_mode = WAL").fetchone()
    db.execute("PRAGMA synchronous = NORMAL")
    db.execute("PRAGMA wal_autocheckpoint = 256")
    db.execute("PRAGMA foreign_keys = ON")
    # Takes the write lock once, so that a read-only or locked file is told now and not at the first tree.
    db.execute("BEGIN IMMEDIATE")
    db.execute("ROLLBACK")


def _migrate(db: sqlite3.Connection, path: str) -> None:
    """All steps or none. The version is read again under the lock."""
    db.execute("BEGIN IMMEDIATE")
    try:
        version = int(db.execute("PRAGMA user_version").fetchone()[0])
        if 0 < version < VERSION:
            _keep_copy(path, version)
        for statements in MIGRATIONS[version:]:
            for statement in statements:
                db.execute(statement)
        db.execute(f"PRAGMA user_version = {max(version, VERSION)}")
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


def _keep_copy(path: str, version: int) -> None:
    """``<path>.v<N>.bak``, whole or not at all, through a connection of its own: the caller's is writing."""
    copy = f"{path}.v{version}.bak"
    draft = f"{copy}.draft"
    source = _connect(path, 0.0)
    try:
        os.close(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600))
        target = sqlite3.connect(draft)
        try:
            source.backup(target)
        finally:
            target.close()
        os.replace(draft, copy)
    except (OSError, sqlite3.Error) as error:
        _remove(draft)
        raise JournalError(
            f"cannot keep a copy of the journal of schema {version} as {copy}", str(error), "free disk space"
        ) from None
    finally:
        source.close()


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
