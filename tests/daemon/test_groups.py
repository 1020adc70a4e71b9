"""The empty groups of an installation: whoever of its daemon and shims was killed, they do not stay."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from contained import OFFERS, TREE, read_roster
from helpers import alive, run_oomless, wait_for, wait_gone
from oomless.contain.rungs import empty_groups
from oomless.daemon.logs import Log
from oomless.daemon.trees import stale_files
from oomless.journal.journal import Journal
from oomless.paths import Paths
from oomless.platform import cgroup, files, proc
from oomless.protocol import spawn
from running import kill, kill_daemon, open_rows, running, start

BASES = list(OFFERS[0].bases.values())
pytestmark = pytest.mark.skipif(not BASES, reason="no control groups can be made here")


@pytest.fixture
def made() -> Iterator[list[str]]:
    """Removed afterwards, if they are there."""
    paths: list[str] = []
    yield paths
    for path in paths:
        cgroup.remove(path)


def make(made: list[str], name: str) -> list[str]:
    found = [f"{base}/{name}" for base in BASES]
    for path in found:
        os.mkdir(path)
    made += found
    return found


@pytest.fixture
def ended_pid() -> int:
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


def left() -> list[str]:
    return empty_groups.list_groups(cgroup.folders_around(proc.cgroups("self")), Paths().install_id())


def test_a_start_removes_what_the_journal_does_not_know(made: list[str], ended_pid: int) -> None:
    """Its rows may have been pruned, or the id outlived the journal; and a probe whose process was killed."""
    install = Paths().install_id()
    forgotten = make(made, f"oomless-{install}-t1") + make(made, f"oomless-{install}-t1/oomless-{install}-t2")
    forgotten += make(made, f"oomless-{install}-probe-{ended_pid}")
    foreign = make(made, f"oomless-{os.urandom(4).hex()}-t1")
    tried = make(made, f"oomless-{install}-probe-{os.getpid()}")
    run_oomless("daemon", "start")
    assert [path for path in forgotten if os.path.exists(path)] == []
    assert [path for path in (*foreign, *tried) if not os.path.exists(path)] == []


def test_the_groups_of_a_tree_that_lives_are_kept(tmp_path: Path) -> None:
    """They are empty for a moment at its start, and here for good: its members have moved away."""
    roster = tmp_path / "roster"
    process = start("--name", "tree", "--", *TREE, str(roster), "stay", "plain")
    assert wait_for(lambda: len(read_roster(roster)) == 2 and running("tree"), 30)
    mine = left()
    assert len(mine) == len(BASES)
    for path in mine:
        for pid in cgroup.pids_in(path):
            files.write(f"{os.path.dirname(path)}/cgroup.procs", str(pid))
    assert not any(cgroup.pids_in(path) for path in mine)
    kill_daemon()
    run_oomless("daemon", "start")
    assert left() == mine
    process.terminate()
    process.communicate(timeout=20)
    assert not any(alive(*who) for who in read_roster(roster).values())
    assert wait_for(lambda: left() == [], 5)


def test_daemon_and_shim_killed_together_leave_no_groups(tmp_path: Path) -> None:
    roster = tmp_path / "roster"
    process = start("--name", "tree", "--", *TREE, str(roster), "stay", "plain")
    assert wait_for(lambda: len(read_roster(roster)) == 2 and running("tree"), 30)
    kill_daemon()
    kill(process)
    for who in read_roster(roster).values():
        proc.kill(*who)
        assert wait_gone(*who, 5)
    assert len(left()) == len(BASES)
    run_oomless("daemon", "start")
    run_oomless("daemon", "stop")
    assert left() == []
    assert open_rows() == []


def test_a_daemon_that_is_told_to_stop_brings_its_sweep_to_an_end(tmp_path: Path) -> None:
    roster = tmp_path / "roster"
    process = start("--name", "tree", "--", *TREE, str(roster), "stay")
    assert wait_for(lambda: "root" in read_roster(roster) and running("tree"), 30)
    daemon = spawn.running(Paths())
    assert daemon
    kill(process)
    assert proc.send(daemon.pid, daemon.start, 15) == proc.SENT
    assert wait_gone(daemon.pid, daemon.start, 10)
    assert [kind for kind, who in read_roster(roster).items() if alive(*who)] == []
    assert left() == []
    assert open_rows() == []


def test_members_that_are_long_in_dying_are_waited_for(made: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Their tree is over; its groups cannot be removed yet, nor its TMPDIR."""
    monkeypatch.setattr(stale_files, "LATE_EVERY", 0.02)
    paths = Paths()
    paths.make()
    groups_of_it = make(made, f"oomless-{paths.install_id()}-t1")
    os.makedirs(f"{paths.tmp}/t1")
    with subprocess.Popen(["sleep", "60"]) as dying:
        for path in groups_of_it:
            files.write(f"{path}/cgroup.procs", str(dying.pid))
        journal = Journal.open(paths.journal)
        late = stale_files.StaleFiles(paths, journal, Log())

        async def wait() -> None:
            task = asyncio.create_task(late.clear_late("t1", {str(n): path for n, path in enumerate(groups_of_it)}))
            await asyncio.sleep(0.1)
            assert not task.done()
            assert os.path.exists(f"{paths.tmp}/t1")
            dying.kill()
            await asyncio.wait_for(task, 10)

        asyncio.run(wait())
        journal.close()
    assert not late.has_any("t1", {"": groups_of_it[0]})
    assert left() == []
