"""A short soak (``make soak`` is the long one), so that it cannot rot; and that it would notice.

What a soak says is worth only as much as what it would find: here strays, rows, files, groups and signals are
planted, and must be counted.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

import trees
from helpers import run_oomless, wait_for, wait_gone
from intents import bare_intent
from leaks import descendants
from oomless.journal.journal import Journal
from oomless.model import Identity
from oomless.platform import cgroup, proc
from soak import checks as soak_checks
from soak import sight as soak_sight
from soak.checks import Checks, Tally
from soak.scene import PYTHON, Scene, Work, read

ROOT = Path(__file__).parents[2]
SOAK = [sys.executable, "-m", "tests.soak"]


def start(*options: str) -> subprocess.Popen[str]:
    command = [*SOAK, *options]
    nothing, pipe = subprocess.DEVNULL, subprocess.PIPE
    return subprocess.Popen(command, cwd=ROOT, stdin=nothing, stdout=pipe, stderr=pipe, text=True)


def test_a_short_soak_finds_nothing_and_leaves_nothing(tmp_path: Path) -> None:
    file = tmp_path / "soak.json"
    process = start("--faults", "12", "--json", str(file))
    out, err = process.communicate(timeout=180)  # it takes 30 s, alone on two processors
    assert process.returncode == 0, out + err
    found = json.loads(file.read_text())
    assert set(found["counts"].values()) == {0}
    assert sum(found["faults"].values()) == 12
    assert min(found["faults"].values()) >= 1
    assert found["blind"] == []
    assert found["members"] > 10
    assert found["bystanders"] >= 5 * found["rounds"]
    assert not os.path.exists(found["folder"])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_soak_that_is_stopped_leaves_nothing(number: signal.Signals) -> None:
    """SIGKILL goes to the one that works; the guard above it stays to clean up."""
    process = start("--faults", "100")
    assert wait_for(lambda: len(members_below(process.pid)) >= 3, 30)
    everybody = descendants(process.pid)
    if number is signal.SIGKILL:
        worker = next(pid for pid in everybody if proc.cmdline(pid) == proc.cmdline(process.pid))
        assert proc.kill(worker, everybody[worker]) == proc.SENT
    else:
        process.send_signal(number)
    _, err = process.communicate(timeout=30)
    assert process.returncode == (125 if number is signal.SIGKILL else 128 + number)
    assert "Traceback" not in err
    assert [pid for pid, start in everybody.items() if not wait_gone(pid, start, 0)] == []


def members_below(pid: int) -> list[int]:
    return [member for member in descendants(pid) if trees.__file__ in proc.cmdline(member)[3:4]]


# -- what is planted is found --------------------------------------------------------------------------------


@pytest.fixture
def checks(house: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Checks]:
    """On a stage of its own, below this process; it does not wait for what will not come."""
    for name in ("GONE", "ROWS"):
        monkeypatch.setattr(soak_checks, name, 0.1)
    folder = house / "x"
    folder.mkdir()
    scene = Scene(folder, os.getpid())
    assert run_oomless("daemon", "start", env=scene.env).returncode == 0
    yield Checks(scene, Tally())
    scene.dismiss(set())
    scene.close()
    assert run_oomless("daemon", "stop", env=scene.env).returncode == 0


def counted(checks: Checks) -> dict[str, int]:
    return {name: number for name, number in asdict(checks.tally.counts).items() if number}


def ungoverned(checks: Checks) -> Work:
    """A tree that nobody ends: a root and one child."""
    scene = checks.scene
    out = scene.place("stray")
    roster = out.with_suffix(".roster")
    work = scene.add([*PYTHON, trees.__file__, str(roster), "stay", "plain"], out, {out.stem: roster})
    assert wait_for(lambda: len(read(roster)) == 2, 20)
    return work


def test_survivors_are_counted_and_ended(checks: Checks) -> None:
    work = ungoverned(checks)
    members = [who for who, _ in read(work.rosters[work.name])]
    checks.nobody_left()
    work.process.wait(10)
    assert counted(checks) == {"survivors": 2}
    assert all(wait_gone(*who, 0) for who in members)


def test_open_rows_files_and_groups_are_counted(checks: Checks) -> None:
    paths = checks.scene.paths
    me = Identity(boot_id=proc.boot_id(), pid=os.getpid(), start=proc.start_of(os.getpid()) or 0)
    journal = Journal.open(paths.journal)
    journal.trees.intend(bare_intent("t1", me, "x:t1"))
    journal.close()
    (Path(paths.exits) / "t1.json").touch()
    checks.books()
    assert counted(checks) == {"open_rows": 1, "exit_files": 1}


def test_groups_are_counted(checks: Checks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cgroup, "mount_points", lambda: {"": str(tmp_path)})
    (tmp_path / "a" / f"oomless-{checks.scene.install}-t1").mkdir(parents=True)
    (tmp_path / "a" / "oomless-ffffffff-t1").mkdir()
    checks.books()
    assert counted(checks) == {"cgroups": 1}


def test_temp_folders_are_counted(checks: Checks) -> None:
    os.makedirs(f"{checks.scene.paths.tmp}/t1")
    checks.books()
    assert counted(checks) == {"temp_folders": 1}


def test_each_soak_looks_whether_it_sees(checks: Checks, monkeypatch: pytest.MonkeyPatch) -> None:
    """It finds all that it plants, and leaves nothing of it; one that is blind says in which eye."""
    assert soak_sight.blind(checks.scene) == []
    checks.nobody_left()
    checks.books()
    assert counted(checks) == {}
    monkeypatch.setattr(Checks, "others", lambda self: None)
    assert soak_sight.blind(checks.scene) == ["wrong_signals"]
    monkeypatch.setattr(Checks, "books", lambda self: None)
    eyes = {"open_rows", "exit_files", "temp_folders", "wrong_signals"} | (
        {"cgroups"} if checks.scene.bases else set()
    )
    assert set(soak_sight.blind(checks.scene)) == eyes


def test_who_is_killed_belongs_to_the_tree_that_is_above_it(checks: Checks) -> None:
    """A shell's ``sleep`` does not say whose it is."""
    work = checks.scene.run("nested", random.Random(1))
    roster = next(iter(work.rosters.values()))
    assert wait_for(lambda: any(kind == "root" for _, kind in read(roster)), 30)
    below = [(pid, start) for pid, start in descendants(work.process.pid).items()]
    assert below
    found = [checks.scene.tree_of(who) for who in below]
    assert {(one[0].name, one[1]) if one else None for one in found} == {(work.name, work.name)}
    work.process.terminate()
    work.process.wait(20)


def test_a_signal_to_a_bystander_is_counted(checks: Checks) -> None:
    """One is signalled and one ended; the third is left alone."""
    for _ in range(3):
        checks.scene.bystander()
    one, other, _ = checks.scene.crowd().bystanders
    proc.send(*one, signal.SIGTERM)
    signals = checks.scene.folder / "by" / f"{one[0]}.signals"
    assert wait_for(lambda: signals.stat().st_size, 10)
    proc.kill(*other)
    assert wait_gone(*other, 10)
    checks.others()
    assert counted(checks) == {"wrong_signals": 2}


def test_a_daemon_that_ends_by_itself_is_counted(checks: Checks) -> None:
    checks.others()
    assert counted(checks) == {}
    run_oomless("daemon", "stop", env=checks.scene.env)
    checks.others()
    assert counted(checks) == {"wrong_signals": 1}


DONE: dict[str, Any] = {"status": "done", "survivors": 0, "stdout": "/nowhere/001.out"}


@pytest.mark.parametrize(
    ("results", "ran", "hurt", "lost"),
    [
        ([], 1, False, 1),
        ([DONE, DONE], 1, False, 1),
        ([{**DONE, "status": "failed"}], 1, True, 1),
        ([{**DONE, "survivors": None}], 1, True, 1),
        ([DONE], 2, False, 2),  # and there is no record
        ([DONE], 2, True, 1),
    ],
)
def test_lost_results_are_counted(
    checks: Checks, results: list[dict[str, Any]], ran: int, hurt: bool, lost: int
) -> None:
    checks.job_result("job", results, ran, hurt)
    assert counted(checks) == {"lost_results": lost}
