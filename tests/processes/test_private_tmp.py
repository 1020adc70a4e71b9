"""``--private-tmp``: a tree's own TMPDIR goes with the tree, and nothing else does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from contained import TREE, read_roster
from helpers import run_oomless, wait_for, wait_gone
from intents import bare_intent
from oomless import Governor
from oomless.contain import private_tmp
from oomless.contain.private_tmp import Removal, TmpFolder
from oomless.journal.journal import Journal
from oomless.journal.trees import SweepRow
from oomless.model import Identity, Survivor
from oomless.paths import Paths
from oomless.platform import proc
from oomless.protocol.client import Client
from running import kill, kill_daemon, open_trees, running, start

pytestmark = pytest.mark.as_user


def governed(script: str, tmp_path: Path, *options: str) -> dict[str, Any]:
    """The record of a shell's ``script`` under ``run --private-tmp``."""
    report = tmp_path / "report.json"
    done = run_oomless("run", "--private-tmp", "--report", str(report), *options, "--", "sh", "-ec", script)
    assert (done.returncode, done.stderr) == (0, "")
    found: dict[str, Any] = json.loads(report.read_text())
    return found


def remove(path: Path) -> Removal:
    removal = Removal(str(path))
    for _ in removal.steps():
        pass
    return removal


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    found = tmp_path / "state" / "tmp" / "t1"
    found.mkdir(parents=True)
    return found


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    found = tmp_path / "outside"
    (found / "deep").mkdir(parents=True)
    (found / "deep" / "kept").write_text("kept" * 250_000)
    return found


# -- a tree's life ---------------------------------------------------------------------------------------------


def test_the_command_has_it_to_itself_and_it_goes_with_it(tmp_path: Path) -> None:
    script = f"""
        echo "$TMPDIR $TMP $TEMP" > {tmp_path}/told
        stat -c "%a %u" "$TMPDIR" >> {tmp_path}/told
        head -c 1000000 /dev/urandom > "$(mktemp)"; mkdir -p "$TMPDIR/a/b"; touch "$TMPDIR/a/b/c"
    """
    record = governed(script, tmp_path)
    (tmpdir, *others), mode = (line.split() for line in (tmp_path / "told").read_text().splitlines())
    assert {tmpdir, *others} == {f"{Paths().tmp}/{record['tree']}"}
    assert mode == ["700", str(os.geteuid())]
    found = record["private_tmp"]
    assert 1_000_000 <= found.pop("bytes_removed") < 1_100_000
    assert found == {"path": tmpdir, "removed": True, "entries_removed": 5, "kept": ""}
    assert os.listdir(Paths().tmp) == []


def test_without_it_nothing_is_made(tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    done = run_oomless("run", "--report", str(report), "--", "sh", "-c", "echo $TMPDIR", env={"TMPDIR": "/tmp"})
    assert done.stdout == "/tmp\n"
    assert json.loads(report.read_text())["private_tmp"] is None
    assert not os.path.exists(Paths().tmp)


def test_one_that_cannot_be_made_is_said_and_nothing_runs(tmp_path: Path) -> None:
    Paths().make()
    Path(Paths().tmp).touch()
    done = run_oomless("run", "--private-tmp", "--", "touch", str(tmp_path / "ran"))
    assert done.returncode == 125
    assert "cannot make its TMPDIR; " in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "ran").exists()


def test_it_goes_though_the_command_cannot_run() -> None:
    assert run_oomless("run", "--private-tmp", "--", "/etc/passwd").returncode == 126
    assert run_oomless("run", "--private-tmp", "--timeout", "0.2s", "--", "sleep", "60").returncode == 124
    assert os.listdir(Paths().tmp) == []


@pytest.fixture
def tree(tmp_path: Path) -> subprocess.Popen[str]:
    process = start("--private-tmp", "--name", "tree", "--", *TREE, str(tmp_path / "roster"), "stay", "plain")
    assert wait_for(lambda: len(read_roster(tmp_path / "roster")) == 2 and running("tree"), 30)
    (home,) = os.listdir(Paths().tmp)
    (Path(Paths().tmp) / home / "file").write_bytes(bytes(50_000))
    return process


def test_it_is_swept_when_the_shim_was_killed(tree: subprocess.Popen[str]) -> None:
    kill(tree)
    assert wait_for(lambda: not open_trees(), 5)
    assert os.listdir(Paths().tmp) == []
    ended = Client(Paths(), start=False).tree("tree")
    assert ended
    assert "its TMPDIR was removed (53 kB)" in ended.reason


def test_it_is_swept_by_the_next_daemon_when_both_were_killed(tree: subprocess.Popen[str]) -> None:
    kill_daemon()
    kill(tree)
    run_oomless("daemon", "start")
    assert wait_for(lambda: not open_trees(), 10)
    assert os.listdir(Paths().tmp) == []


def test_a_batch_and_a_governor_have_it_too(tmp_path: Path) -> None:
    line = {"name": "a", "command": ["sh", "-c", "echo $TMPDIR"], "private_tmp": True}
    (tmp_path / "b.jsonl").write_text(json.dumps(line) + "\n")
    done = run_oomless("batch", "--json", str(tmp_path / "b.jsonl"))
    assert done.returncode == 0, done.stderr
    (job,) = json.loads(done.stdout)["jobs"]
    assert Path(job["stdout"]).read_text().startswith(Paths().tmp + "/t")

    async def once() -> None:
        async with Governor() as governor:
            result = await governor.run(["sh", "-c", "touch $TMPDIR/x; echo $TMPDIR"], private_tmp=True)
            assert result.record.private_tmp
            assert result.stdout.decode().strip() == result.record.private_tmp.path
            assert result.record.private_tmp.entries_removed == 2

    import asyncio

    asyncio.run(once())
    assert os.listdir(Paths().tmp) == []


# -- never while somebody lives --------------------------------------------------------------------------------


def test_it_is_kept_while_something_is_left_running(folder: Path) -> None:
    spec = {"private_tmp": True, "state": str(folder.parents[1]), "granted": {"tree": "t2"}}
    private = TmpFolder(spec)
    private.make()
    facts = private.finish(busy=True)
    assert facts
    assert (facts["removed"], facts["kept"]) == (False, "something is left running")
    assert (folder.parent / "t2").is_dir()


@pytest.fixture
def sleeper() -> Iterator[Identity]:
    """Whoever was left; it has the mark of t0a."""
    marked = {**os.environ, "OOMLESS_TREE": f"{Paths().install_id()}:t0a"}
    process = subprocess.Popen(["sleep", "60"], env=marked)
    yield Identity(boot_id=proc.boot_id(), pid=process.pid, start=proc.start_of(process.pid) or 0)
    process.kill()
    process.wait()


def test_a_start_removes_what_nobody_uses_any_more(sleeper: Identity, tmp_path: Path) -> None:
    """t0a: somebody has its mark; t0b: the journal says who was left; t0c: nobody knows it."""
    paths = Paths()
    paths.make()
    journal = Journal.open(paths.journal)
    journal.trees.intend(bare_intent("t0b", sleeper, f"{paths.install_id()}:t0b"))
    left = Survivor(pid=sleeper.pid, start=sleeper.start, command="sleep", why="may not be signalled")
    journal.trees.add_sweep(SweepRow(tree="t0b", at=time.time(), reason="its shim was killed", ended=0, left=(left,)))
    journal.close()
    for name in ("t0a", "t0b", "t0c"):
        os.makedirs(f"{paths.tmp}/{name}/in")
    run_oomless("daemon", "start")
    assert wait_for(lambda: sorted(os.listdir(paths.tmp)) == ["t0a", "t0b"], 5)
    run_oomless("daemon", "stop")
    proc.kill(sleeper.pid, sleeper.start)
    assert wait_gone(sleeper.pid, sleeper.start, 5)
    run_oomless("daemon", "start")
    assert wait_for(lambda: os.listdir(paths.tmp) == [], 5)


def test_it_is_kept_while_its_shim_lives_though_the_journal_is_lost(tmp_path: Path) -> None:
    """Nobody in the tree has a mark."""
    ready = tmp_path / "ready"
    command = ["env", "-i", "sh", "-c", f"touch {ready}; exec sleep 60"]
    process = start("--private-tmp", "--name", "tree", "--", *command)
    assert wait_for(lambda: ready.exists() and running("tree"), 30)
    kill_daemon()
    for path in Path(Paths().state).glob("journal.db*"):
        path.unlink()
    run_oomless("daemon", "start")
    assert not wait_for(lambda: os.listdir(Paths().tmp) == [], 1)
    process.terminate()
    process.communicate(timeout=20)
    assert os.listdir(Paths().tmp) == []


# -- and nothing else ------------------------------------------------------------------------------------------


def test_links_are_removed_and_never_followed(tmp_path: Path, outside: Path) -> None:
    record = governed(
        f'ln -s {outside} "$TMPDIR/link"; ln -s {outside}/deep/kept "$TMPDIR/file"; ln -s . "$TMPDIR/loop"; '
        f'mkdir "$TMPDIR/in"; ln {outside}/deep/kept "$TMPDIR/in/hard"; ln -s ../../../../outside "$TMPDIR/in/up"',
        tmp_path,
    )
    assert record["private_tmp"]["removed"]
    assert record["private_tmp"]["bytes_removed"] < 100_000  # the hard link's megabyte is still there
    assert (outside / "deep" / "kept").read_text().startswith("kept")


def test_a_link_in_its_place_is_not_followed(folder: Path, outside: Path) -> None:
    folder.rmdir()
    folder.symlink_to(outside)
    removal = remove(folder)
    assert removal.why == "Not a directory"
    assert folder.is_symlink()
    assert (outside / "deep" / "kept").exists()


@pytest.mark.root
def test_a_mount_inside_is_not_entered(tmp_path: Path, outside: Path) -> None:
    """Of the same file system, so that only the mount's id tells; the rest goes, and this once it is unmounted."""
    record = governed(
        f'mkdir -p "$TMPDIR/a/m" "$TMPDIR/b"; touch "$TMPDIR/b/x"; mount --bind {outside} "$TMPDIR/a/m"', tmp_path
    )
    found = record["private_tmp"]
    path = Path(found["path"])
    try:
        assert (found["removed"], found["kept"]) == (False, "a/m: another file system is mounted there")
        assert (outside / "deep" / "kept").read_text().startswith("kept")
        assert [str(one.relative_to(path)) for one in path.rglob("*")][:2] == ["a", "a/m"]
        assert not (path / "b").exists()
    finally:
        subprocess.run(["umount", path / "a" / "m"], check=True)
    run_oomless("daemon", "stop")
    run_oomless("daemon", "start")
    assert wait_for(lambda: not path.exists(), 5)
    assert (outside / "deep" / "kept").read_text().startswith("kept")


@pytest.mark.root
def test_a_mount_over_it_is_not_entered(folder: Path, outside: Path) -> None:
    subprocess.run(["mount", "--bind", outside, folder], check=True)
    try:
        assert remove(folder).why == "another file system is mounted there"
        assert (outside / "deep" / "kept").exists()
    finally:
        subprocess.run(["umount", folder], check=True)


def test_a_folder_that_is_moved_meanwhile_leads_nowhere(
    folder: Path, outside: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(private_tmp, "BATCH", 1)
    (folder / "in").mkdir()
    for number in range(5):
        (folder / "in" / str(number)).touch()
    removal = Removal(str(folder))
    steps = removal.steps()
    next(steps)
    (folder / "in").rename(outside / "moved")
    for _ in steps:
        pass
    assert removal.why == "in: it was moved while it was emptied"
    assert (outside / "deep" / "kept").exists()
    assert (outside / "moved").is_dir()


def test_a_removal_that_was_cut_short_is_gone_on_with(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(private_tmp, "BATCH", 1)
    for number in range(5):
        (folder / str(number)).touch()
    first = Removal(str(folder)).steps()
    next(first)
    first.close()  # type: ignore[attr-defined]
    assert len(list(folder.iterdir())) == 4
    assert remove(folder).facts()["removed"]
    assert remove(folder).facts() == {
        "path": str(folder),
        "removed": True,
        "bytes_removed": 0,
        "entries_removed": 0,
        "kept": "",
    }


def test_what_its_owner_may_not_write_goes_too(folder: Path) -> None:
    """Module caches are read-only; a program's lock folder may be closed altogether."""
    inner = folder / "cache" / "inner"
    inner.mkdir(parents=True)
    (inner / "file").touch(0o400)
    (folder / "closed").mkdir(0o000)
    inner.chmod(0o500)
    inner.parent.chmod(0o500)
    folder.chmod(0o500)
    assert remove(folder).facts()["removed"]


def test_a_deep_one_and_a_wide_one_take_few_descriptors(folder: Path) -> None:
    """Deeper than the longest path, and than there are descriptors."""
    code = f"import os\nos.chdir({str(folder)!r})\nfor _ in range(2000):\n    os.mkdir('d'); os.chdir('d')"
    subprocess.run([sys.executable, "-I", "-S", "-c", code], check=True)
    for number in range(3000):
        (folder / f"f{number}").touch()
    assert len(os.listdir("/proc/self/fd")) < 1000
    removal = remove(folder)
    assert (removal.facts()["removed"], removal.entries) == (True, 5001)
