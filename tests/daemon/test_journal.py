"""The journal: what is written comes back, whatever kills the writer, and no file is spoilt that cannot be used."""

from __future__ import annotations

import os
import signal
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from intents import identity, intent
from oomless.errors import JournalError
from oomless.journal import database, schema
from oomless.journal.decisions import Decision
from oomless.journal.journal import Journal
from oomless.journal.trees import SweepRow, TreeRow
from oomless.model import ExitRecord, Survivor, TreeKind


def record(tree: str = "t1", **changes: Any) -> ExitRecord:
    fields: dict[str, Any] = {
        "tree": tree,
        "name": "build",
        "status": "done",
        "exit_code": 0,
        "rung": "cgroup2",
        "peak_bytes": 123_000_000,
        "peak_source": "cgroup",
        "reserved_bytes": 300_000_000,
        "seconds": 2.5,
        "survivors": 0,
        "started_at": 1001.0,
    }
    return ExitRecord(**{**fields, **changes})


def sweep(tree: str, at: float, reason: str = "gone", ended: int = 0, **more: Any) -> SweepRow:
    return SweepRow(tree=tree, at=at, reason=reason, ended=ended, **more)


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "journal.db")


@pytest.fixture
def journal(path: str) -> Iterator[Journal]:
    opened = Journal.open(path)
    yield opened
    opened.close()


# Trees


def test_an_intent_is_open_until_its_end_is_reported(journal: Journal) -> None:
    journal.trees.intend(intent())
    assert journal.trees.open() == [TreeRow(intent=intent(), rung="cgroup2")]
    assert journal.trees.mark_started("t1", identity(200), identity(201), "subreaper", "cgroup2: busy", at=1001.0)
    assert journal.trees.open() == [
        TreeRow(
            intent=intent(),
            shim=identity(200),
            root=identity(201),
            rung="subreaper",
            why_rung="cgroup2: busy",
            started_at=1001.0,
        )
    ]
    assert journal.trees.mark_ended("t1", record(), 1003.5)
    assert journal.trees.open() == []
    row = journal.trees.get("t1")
    assert row is not None
    assert (row.intent, row.shim, row.root, row.rung) == (intent(), identity(200), identity(201), "subreaper")
    assert (row.started_at, row.ended_at, row.record, row.sweep) == (1001.0, 1003.5, record(), None)


def test_open_trees_come_oldest_first(journal: Journal) -> None:
    for n in (3, 1, 2):
        journal.trees.intend(intent(f"t{n}"))
    journal.trees.mark_ended("t1", record("t1"), 1.0)
    assert [t.intent.tree for t in journal.trees.open()] == ["t3", "t2"]


def test_an_adoption_renews_the_identities_and_not_the_start(journal: Journal) -> None:
    journal.trees.intend(intent())
    journal.trees.mark_started("t1", identity(200), identity(201), "cgroup2", at=1001.0)
    journal.trees.mark_started("t1", identity(300), identity(201), "cgroup2", at=5000.0)
    (tree,) = journal.trees.open()
    assert (tree.shim, tree.started_at) == (identity(300), 1001.0)


def test_the_first_record_stays(journal: Journal) -> None:
    journal.trees.intend(intent())
    journal.trees.mark_ended("t1", record(exit_code=3, status="failed"), 1003.0)
    journal.trees.mark_ended("t1", record(), 1004.0)
    row = journal.trees.get("t1")
    assert row is not None
    assert row.record is not None
    assert (row.record.exit_code, row.ended_at) == (3, 1003.0)


def test_a_swept_tree_is_closed_and_names_who_is_left(journal: Journal) -> None:
    journal.trees.intend(intent())
    left = (Survivor(pid=7, start=70, command="sleep 9", why="another user's"),)
    assert journal.trees.add_sweep(
        sweep("t1", 1002.0, "its shim was killed", ended=4, left=left, bytes_freed=5_000_000)
    )
    assert journal.trees.open() == []
    row = journal.trees.get("t1")
    assert row is not None
    assert row.ended_at == 1002.0
    assert row.record is None
    assert row.sweep == SweepRow(
        tree="t1", at=1002.0, reason="its shim was killed", ended=4, left=left, bytes_freed=5_000_000
    )
    assert journal.trees.recent() == [row]


def test_a_record_that_comes_after_a_sweep_is_kept_with_it(journal: Journal) -> None:
    journal.trees.intend(intent())
    journal.trees.add_sweep(sweep("t1", 1002.0, "its shim was killed"))
    journal.trees.mark_ended("t1", record(), 1005.0)
    row = journal.trees.get("t1")
    assert row is not None
    assert (row.ended_at, row.record) == (1002.0, record())
    assert row.sweep is not None


def test_a_slot_is_released(journal: Journal) -> None:
    journal.trees.intend(intent("s1", kind=TreeKind.SLOT, argv=(), cgroups={}))
    journal.trees.intend(intent("t1"))
    assert journal.trees.mark_released("s1", 1009.0)
    assert not journal.trees.mark_released("t1", 1009.0), "a tree is no slot"
    assert [t.intent.tree for t in journal.trees.open()] == ["t1"]


def test_find_gives_the_newest_of_a_name(journal: Journal) -> None:
    journal.trees.intend(intent("t1"))
    journal.trees.intend(intent("t2"))
    journal.trees.intend(intent("t3", name="other"))
    found = journal.trees.find("build")
    assert found is not None
    assert found.intent.tree == "t2"
    assert journal.trees.find("nobody") is None
    assert [row.intent.tree for row in journal.trees.recent(2)] == ["t3", "t2"]


def test_unknown_trees_are_told_and_harm_nothing(journal: Journal) -> None:
    assert not journal.trees.mark_started("x", identity(1), identity(2), "cgroup2", at=1.0)
    assert not journal.trees.mark_ended("x", record("x"), 1.0)
    assert not journal.trees.add_sweep(sweep("x", 1.0))
    assert journal.trees.get("x") is None


def test_a_tree_is_intended_once(journal: Journal) -> None:
    journal.trees.intend(intent())
    with pytest.raises(JournalError, match="UNIQUE"):
        journal.trees.intend(intent(name="again"))
    assert journal.trees.find("again") is None
    journal.trees.intend(intent("t2"))


def test_a_size_beyond_what_sqlite_can_hold_is_cut(journal: Journal) -> None:
    journal.trees.intend(intent(reserved=10**30))
    (tree,) = journal.trees.open()
    assert tree.intent.reserved == 2**63 - 1


# Decisions, pruning


def decision(n: int, name: str = "build") -> Decision:
    return Decision(at=float(n), tree=f"t{n}", name=name, verdict="admitted", reason=f"reason {n}")


def test_decisions_newest_first_and_by_name(journal: Journal) -> None:
    for n in range(5):
        journal.decisions.add(decision(n, "even" if n % 2 == 0 else "odd"))
    assert [d.tree for d in journal.decisions.recent(3)] == ["t4", "t3", "t2"]
    assert journal.decisions.recent(name="odd") == [decision(3, "odd"), decision(1, "odd")]


def test_pruning_keeps_the_newest_and_everything_open(journal: Journal) -> None:
    for n in range(6):
        journal.trees.intend(intent(f"t{n}"))
        journal.decisions.add(decision(n))
        if n not in (0, 5):
            journal.trees.add_sweep(sweep(f"t{n}", 1.0))
    assert journal.prune(2) == 2 + 4
    assert [row.intent.tree for row in journal.trees.recent()] == ["t5", "t4", "t3", "t0"]
    assert [d.tree for d in journal.decisions.recent()] == ["t5", "t4"]
    assert [tuple(row) for row in journal.database.read("SELECT tree FROM sweeps ORDER BY seq")] == [("t3",), ("t4",)]


# The file


def test_only_its_owner_may_read_it(path: str) -> None:
    old = os.umask(0)
    try:
        opened = Journal.open(path)
    finally:
        os.umask(old)
    opened.trees.intend(intent())
    try:
        for name in (path, path + "-wal", path + "-shm"):
            assert stat.S_IMODE(os.stat(name).st_mode) == 0o600
    finally:
        opened.close()


@pytest.mark.parametrize(
    ("pragma", "value"),
    [("journal_mode", "wal"), ("synchronous", 1), ("foreign_keys", 1), ("cache_size", -256), ("busy_timeout", 2000)],
)
def test_settings_of_the_connection(journal: Journal, pragma: str, value: object) -> None:
    assert [tuple(row) for row in journal.database.read(f"PRAGMA {pragma}")] == [(value,)]


def test_no_environment_is_stored(journal: Journal) -> None:
    columns = {row[1] for row in journal.database.read("PRAGMA table_info(trees)")}
    assert "argv" in columns
    assert not [c for c in columns if "env" in c]


def test_rows_are_there_after_closing(path: str) -> None:
    for n in range(3):
        opened = Journal.open(path)
        opened.trees.intend(intent(f"t{n}"))
        assert len(opened.trees.open()) == n + 1
        opened.close()


def test_an_intent_outlives_a_writer_that_is_killed_right_after_it(path: str) -> None:
    """With another row half written, and no chance to close anything."""
    code = f"""
import os, signal
from intents import intent
from oomless.journal.journal import Journal
journal = Journal.open({path!r})
journal.trees.intend(intent("kept"))
with journal.database.transaction() as connection:
    connection.execute("UPDATE trees SET name = 'half'")
    os.kill(os.getpid(), signal.SIGKILL)
"""
    environ = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1] / "support")}
    done = subprocess.run([sys.executable, "-c", code], env=environ, check=False, timeout=60)
    assert done.returncode == -signal.SIGKILL
    opened = Journal.open(path)
    assert [t.intent for t in opened.trees.open()] == [intent("kept")]
    opened.close()


# Schemas


def make_old(path: str, version: int) -> None:
    db = sqlite3.connect(path)
    for statements in schema.MIGRATIONS[:version]:
        for statement in statements:
            db.execute(statement)
    db.execute(
        "INSERT INTO trees (tree, kind, name, owner, argv, cwd, boot_id, reserved, rung, cgroups, marker, requester,"
        " intended_at) VALUES ('old', 'tree', 'build', 'run', '[]', '/', 'b', 5, 'cgroup2', '{}', 'm',"
        """ '{"boot_id": "b", "pid": 1, "start": 2}', 1.0)"""
    )
    db.execute(f"PRAGMA user_version = {version}")
    db.commit()
    db.close()


def layout(path: str) -> list[tuple[str, str]]:
    db = sqlite3.connect(path)
    rows: list[tuple[str, str]] = db.execute("SELECT name, sql FROM sqlite_master ORDER BY name").fetchall()
    db.close()
    return rows


@pytest.mark.parametrize("version", range(1, schema.VERSION))
def test_an_older_schema_is_copied_and_brought_up(path: str, tmp_path: Path, version: int) -> None:
    make_old(path, version)
    opened = Journal.open(path)
    assert [t.intent.tree for t in opened.trees.open()] == ["old"]
    opened.decisions.add(decision(1))
    opened.trees.add_sweep(sweep("old", 2.0))
    assert [tuple(row) for row in opened.database.read("PRAGMA user_version")] == [(schema.VERSION,)]
    opened.close()

    copy = f"{path}.v{version}.bak"
    assert stat.S_IMODE(os.stat(copy).st_mode) == 0o600
    kept = sqlite3.connect(copy)
    assert kept.execute("PRAGMA user_version").fetchone() == (version,)
    assert kept.execute("SELECT tree, ended_at FROM trees").fetchall() == [("old", None)]
    kept.close()

    new = str(tmp_path / "new.db")
    Journal.open(new).close()
    assert layout(path) == layout(new)
    assert not os.path.exists(new + ".v0.bak")


def test_a_migration_that_fails_changes_nothing(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    make_old(path, 1)
    before = layout(path)
    broken = (*schema.MIGRATIONS, ("CREATE TABLE more (x)", "CREATE TABLE trees (x)"))
    monkeypatch.setattr(database, "MIGRATIONS", broken)
    monkeypatch.setattr(database, "VERSION", len(broken))
    with pytest.raises(JournalError, match="table trees already exists"):
        Journal.open(path)
    assert layout(path) == before
    monkeypatch.undo()
    opened = Journal.open(path)
    assert len(opened.trees.open()) == 1
    opened.close()


def test_a_copy_that_cannot_be_kept_stops_the_migration(path: str) -> None:
    make_old(path, 1)
    before = Path(path).read_bytes()
    os.mkdir(f"{path}.v1.bak")
    with pytest.raises(JournalError) as caught:
        Journal.open(path)
    assert "cannot keep a copy of the journal of schema 1" in caught.value.line()
    assert layout(path)[0][0] != "decisions"
    assert len(Path(path).read_bytes()) == len(before)
    assert not os.path.exists(f"{path}.v1.bak.draft")


# Files that cannot be used: one line, and not a byte of them changed


def refused(path: str, **options: Any) -> str:
    before = Path(path).read_bytes()
    with pytest.raises(JournalError) as caught:
        Journal.open(path, **options)
    assert Path(path).read_bytes() == before
    assert caught.value.exit_code == 125
    line = caught.value.line()
    assert line
    assert caught.value.why
    assert caught.value.hint
    assert "\n" not in line
    return line


def test_a_newer_schema(path: str) -> None:
    Journal.open(path).close()
    db = sqlite3.connect(path)
    db.execute("PRAGMA user_version = 9")
    db.close()
    line = refused(path)
    assert f"journal schema 9 is newer than this oomless knows ({schema.VERSION})" in line
    assert line.endswith(f"upgrade oomless, or move {path} aside")


@pytest.mark.parametrize("content", [b"x", b"this is a text and no database, and it is long enough" * 20])
def test_not_a_database(path: str, content: bytes) -> None:
    Path(path).write_bytes(content)
    assert "it is not a journal, or damaged; move it aside" in refused(path)


def test_another_programs_database(path: str) -> None:
    db = sqlite3.connect(path)
    db.execute("CREATE TABLE theirs (x)")
    db.close()
    assert "it is another program's database" in refused(path)


@pytest.mark.parametrize("keep", [0.5, 1.0])
def test_a_damaged_journal(path: str, keep: float) -> None:
    """Cut off in the middle, and with its second half overwritten."""
    opened = Journal.open(path)
    for n in range(200):
        opened.trees.intend(intent(f"t{n}"))
    opened.close()
    content = Path(path).read_bytes()
    half = len(content) // 2
    Path(path).write_bytes(content[:half] + (b"\xff" * half if keep == 1.0 else b""))
    assert "damaged" in refused(path)


def test_a_journal_that_another_process_has_locked(path: str) -> None:
    Journal.open(path).close()
    code = f"""
import sqlite3, sys
db = sqlite3.connect({path!r}, isolation_level=None)
db.execute("BEGIN IMMEDIATE")
print("locked", flush=True)
sys.stdin.read()
"""
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        try:
            assert other.stdout is not None
            assert other.stdout.readline() == b"locked\n"
            assert "another process has locked it; end the program that has it open" in refused(path, patience=0.01)
        finally:
            other.communicate()
    Journal.open(path).close()


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(JournalError, match="No such file or directory; make it writable"):
        Journal.open(str(tmp_path / "no" / "journal.db"))


@pytest.mark.as_user
def test_a_read_only_file(path: str) -> None:
    Journal.open(path).close()
    os.chmod(path, 0o400)
    if os.access(path, os.W_OK):
        pytest.skip("this user may write everything")
    assert "Permission denied" in refused(path)


def test_a_path_with_signs_that_mean_something_in_a_uri(tmp_path: Path) -> None:
    path = str(tmp_path / "a?mode=memory#%41.db")
    opened = Journal.open(path)
    opened.trees.intend(intent())
    opened.close()
    assert os.path.getsize(path) > 4096


# A full disk


def fill(journal: Journal) -> list[str]:
    """Intends until it fails for want of space; returns what was accepted."""
    accepted: list[str] = []
    full = f"^cannot write the journal {journal.database.path}: the disk is full; free disk space$"
    with pytest.raises(JournalError, match=full):  # noqa: PT012 (how many fit is the result)
        for n in range(100_000):
            journal.trees.intend(intent(f"t{n}", argv=("x" * 2000,)))
            accepted.append(f"t{n}")
    return accepted


def exhaust(folder: Path) -> None:
    with (folder / "ballast").open("wb", buffering=0) as file:
        while file.write(b"x" * 4096):
            pass


def test_a_full_disk_loses_nothing_and_the_journal_goes_on(journal: Journal) -> None:
    (pages,) = journal.database.read("PRAGMA page_count")[0]
    journal.database.read(f"PRAGMA max_page_count = {pages + 20}")
    accepted = fill(journal)
    assert accepted
    with pytest.raises(JournalError, match="the disk is full"):
        journal.decisions.add(Decision(at=1.0, tree="t", name="n", verdict="refused", reason="x" * 200_000))
    assert [t.intent.tree for t in journal.trees.open()] == accepted
    assert journal.decisions.recent() == []
    assert journal.trees.mark_ended("t0", record("t0", reason="small enough to fit"), 5.0), (
        "the journal is still usable"
    )
    journal.database.read("PRAGMA max_page_count = 1000000")
    journal.trees.intend(intent("after"))
    assert len(journal.trees.open()) == len(accepted)


@pytest.mark.root
def test_a_file_system_that_is_full(tmp_path: Path) -> None:
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"no mount: {mounted.stderr.strip()}")
    try:
        journal = Journal.open(str(folder / "journal.db"))
        try:
            accepted = fill(journal)
            assert accepted
            assert [t.intent.tree for t in journal.trees.open()] == accepted
        finally:
            journal.close()
        again = Journal.open(str(folder / "journal.db"))
        try:
            assert [t.intent.tree for t in again.trees.open()] == accepted
        finally:
            again.close()
        with pytest.raises(OSError, match="No space left"):
            exhaust(folder)
        with pytest.raises(JournalError):
            Journal.open(str(folder / "other.db"))
    finally:
        subprocess.run(["umount", str(folder)], check=True)
