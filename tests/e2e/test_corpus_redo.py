"""The recorded scenes of the corpus played again for real: each process gets the verdict that it got in the record.

Each takes 20 to 60 s, so only some are played here; ``OOMLESS_REDO=all`` plays every one, which needs the developers'
tools as well. A pid namespace of the test's own is needed (for some, root), and the real programs but for the
stand-in. How well the
verdicts of the records agree with the truth: ``test_corpus.py``.
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from pathlib import Path

import pytest

from corpus import record, scene, whole
from corpus.stage import ACTORS, Stage, StageFailed
from helpers import wait_gone
from oomless.platform import current, proc
from oomless.processes.command import base_name, parse_command
from oomless.processes.ids import ProcessId

assert sys.platform == "linux"

#: What is played without being asked: each end of a session at least once, with and without the daemon's memory.
USUAL = ("stand-in-killed", "one-of-two-killed", "jobs-left-remembered", "servers-reconnected", "ended-by-term")
ALL = os.environ.get("OOMLESS_REDO") == "all"
#: Without the one that takes half an hour (``corpus/idle.py``).
RECORDED = sorted({path.stem for path in scene.SCENES.glob("*.json")} - {"servers-idle"})
#: What it was, what is true of it, and what the census said.
Row = tuple[str, str, str]


def rows(one: scene.Scene) -> Counter[Row]:
    """Nothing of them differs from run to run: no pids, no paths."""
    commands = {row.process.pid: parse_command(row.process.command) for row in one.processes}
    found: Counter[Row] = Counter()
    for judged in whole.judged([one], []):
        command = commands[judged.pid]
        what = base_name(command.script) or command.module.rpartition(".")[2] or command.program
        found[(what, judged.label, "right" if judged.right else judged.verdict)] += 1
    return found


@pytest.fixture
def stage(house: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    """Outside of a namespace: only for what it knows of those whom it started."""
    for name in ("HOME", "XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_RUNTIME_DIR", "TMPDIR"):
        monkeypatch.setenv(name, str(house))  # the stage sets them anew, and here they are set back
    (house / "stage").mkdir()
    return Stage(house / "stage")


def test_a_role_is_known_when_the_parents_are_gone(stage: Stage) -> None:
    stage.start("one:keep-daemon", sys.executable, "-I", "-S", ACTORS, "build-daemon", f"{stage.folder}/port").wait(
        20
    )
    port = stage.folder / "port"  # written when the processes in between have forked; they may not have ended yet
    stage.wait(lambda: port.exists() and len(stage.those("one:keep-daemon")) == 1, 20, "the daemon")
    pid, start = stage.one("one:keep-daemon")
    try:
        (process,) = (one for one in current().processes() if one.pid == pid)
        with pytest.raises(StageFailed, match=f"nothing is known of {pid} .*one:keep-daemon"):
            stage.labels([process])
        stage.say("one:*", "orphan", "first")
        stage.say("one:keep-*", "detached", "then")
        assert stage.labels([process])[pid] == scene.Label(verdict="detached", why="then")
        stage.say_of([ProcessId(pid, start)], "superseded", "of this one")
        assert stage.labels([process])[pid].verdict == "superseded"
    finally:
        proc.kill(pid, start)
        wait_gone(pid, start, 10)


def test_no_place_of_the_machine_is_left() -> None:
    places = [("/tmp/oox1/home", "/home/dev"), ("/tmp/oox1", "/tmp/scene"), ("/root", "/home/dev")]
    found = record.elsewhere("/tmp/oox1/home/work /tmp/oox1/t /tmp/oox12 /root/.cache /rooted /tmp/scene/x", places)
    assert found == "/home/dev/work /tmp/scene/t /tmp/scene/oox12 /home/dev/.cache /rooted /tmp/scene/x"


def test_every_record_has_its_stage() -> None:
    assert set(RECORDED) <= set(record.plays())
    assert set(USUAL) <= set(RECORDED)


@pytest.mark.machine  # where much is started, a daemon stops listening to the kernel for a minute
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name.startswith("stand-in") else pytest.mark.parts) for name in RECORDED]
)
def test_played_again(name: str) -> None:
    if name not in USUAL and not ALL:
        pytest.skip("set OOMLESS_REDO=all to play this one too")
    why = record.impossible(name)
    if why:
        pytest.skip(why)
    record.prepared(name)
    again, before = rows(record.record(name)), rows(scene.load(scene.SCENES / f"{name}.json"))
    assert again == before, f"more now: {again - before}; less now: {before - again}"
