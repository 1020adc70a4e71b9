"""The journal's file: opened with care, migrated, read and written by name. The rows are in the modules beside.

Every method is one transaction. A write is on its way to the disk before the method returns, and one that fails
(a full disk) raises JournalError, changes nothing and leaves the file usable. One process writes, from one thread.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import msgspec

from oomless import atomicfile
from oomless.errors import JournalError
from oomless.journal.schema import MIGRATIONS, VERSION

_T = TypeVar("_T")
#: What SQLite's integers hold; what people write after --memory may be more.
_LARGEST = 2**63 - 1
_ASIDE = "move it aside, and a new one is made"
_BY_CODE = {
    sqlite3.SQLITE_FULL: ("the disk is full", "free disk space"),
    sqlite3.SQLITE_READONLY: ("it is read-only", "make it writable, or set XDG_STATE_HOME to a folder of yours"),
    sqlite3.SQLITE_BUSY: ("another process has locked it", "end the program that has it open"),
    sqlite3.SQLITE_CANTOPEN: ("it or its folder cannot be opened", "make its folder writable, with space left"),
    sqlite3.SQLITE_NOTADB: ("it is not a journal, or damaged", _ASIDE),
    sqlite3.SQLITE_CORRUPT: ("it is damaged", _ASIDE),
}


class Database:
    """Use ``Database.open``, or ``Database.open_read_only``."""

    def __init__(self, connection: sqlite3.Connection, path: str) -> None:
        self._connection = connection
        self._connection.row_factory = sqlite3.Row
        self.path = path

    @classmethod
    def open(cls, path: str, patience: float = 2.0) -> Database:
        """``path`` may name a file that is new, old, newer than this program, damaged, or something else altogether;
        raises JournalError. ``patience``: seconds to wait for another process's lock."""
        return cls(_open(path, patience), path)

    @classmethod
    def open_read_only(cls, path: str, patience: float = 2.0) -> Database:
        """As it is: its ``version`` may not be the present one."""
        try:
            return cls(_connect_read_only(path, patience), path)
        except sqlite3.Error as error:
            raise _journal_error(path, error, "open") from None

    def version(self) -> int:
        """The number of migrations that were applied."""
        return int(self.read("PRAGMA user_version")[0][0])

    def close(self) -> None:
        self._connection.close()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All or nothing. On a full disk SQLite may have rolled back by itself already."""
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            finally:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
        except sqlite3.Error as error:
            raise _journal_error(self.path, error) from None

    def write(self, statement: str, **values: Any) -> bool:
        """True if a row was written. Values are named in the statement (``:name``)."""
        with self.transaction() as connection:
            return connection.execute(statement, encode(values)).rowcount > 0

    def read(self, query: str, **values: Any) -> list[sqlite3.Row]:
        try:
            return self._connection.execute(query, encode(values)).fetchall()
        except sqlite3.Error as error:
            raise _journal_error(self.path, error, "read") from None

    def decode(self, text: str, type: type[_T]) -> _T:
        """A column that holds JSON; raises JournalError."""
        try:
            return msgspec.json.decode(text, type=type)
        except msgspec.MsgspecError as error:
            raise JournalError(
                f"cannot read the journal {self.path}", f"a row of it is damaged ({error})", "move it aside"
            ) from None


def encode(values: dict[str, Any]) -> dict[str, Any]:
    """Structs and collections as JSON, integers no larger than SQLite's."""
    return {name: _encode(value) for name, value in values.items()}


def _encode(value: Any) -> Any:
    if isinstance(value, int):
        return min(value, _LARGEST)
    if isinstance(value, tuple | dict | msgspec.Struct):
        return msgspec.json.encode(value).decode()
    return value


def insert(table: str, *columns: str) -> str:
    return f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({', '.join(f':{name}' for name in columns)})"


def _journal_error(path: str, error: sqlite3.Error, doing: str = "write") -> JournalError:
    """The extended result code's low byte is the kind of error (sqlite.org/rescode.html)."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    why, todo = _BY_CODE.get(code, (str(error), "check its folder and disk, or move it aside"))
    return JournalError(f"cannot {doing} the journal {path}", why, todo)


def _open(path: str, patience: float) -> sqlite3.Connection:
    """A connection to a journal of the present schema.

    A file that cannot be used is left as it is, byte for byte: it is read through a read-only connection first."""
    try:
        _create(path)
        version = _inspect(path, patience)
        db = _connect(path, patience)
    except sqlite3.Error as error:
        raise _journal_error(path, error, "open") from None
    try:
        _configure(db)
        if version < VERSION:
            _migrate(db, path)
        return db
    except BaseException as error:
        db.close()
        if isinstance(error, sqlite3.Error):
            raise _journal_error(path, error, "open") from None
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
    db = _connect_read_only(path, patience)
    try:
        version = int(db.execute("PRAGMA user_version").fetchone()[0])
        if version > VERSION:
            raise JournalError(
                f"journal schema {version} is newer than this oomless knows ({VERSION})",
                f"a newer oomless has written {path}",
                f"upgrade oomless, or move {path} aside",
            )
        problem = db.execute("PRAGMA quick_check(1)").fetchone()[0]
        if problem != "ok":
            raise JournalError(f"cannot open the journal {path}", f"it is damaged ({problem})", _ASIDE)
        if version == 0 and db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            raise JournalError(f"cannot open the journal {path}", "it is another program's database", _ASIDE)
        return version
    finally:
        db.close()


def _connect_read_only(path: str, patience: float) -> sqlite3.Connection:
    escaped = os.path.abspath(path).replace("%", "%25").replace("?", "%3f").replace("#", "%23")
    return sqlite3.connect(f"file:{escaped}?mode=ro", uri=True, timeout=patience, isolation_level=None)


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
    # Takes the write lock once, so that a read-only or locked file is an error now and not at the first tree.
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
        atomicfile.rename(draft, copy)
    except (OSError, sqlite3.Error) as error:
        atomicfile.remove(draft)
        raise JournalError(
            f"cannot keep a copy of the journal of schema {version} as {copy}", str(error), "free disk space"
        ) from None
    finally:
        source.close()
