"""Whether a soak would see what it looks for: one of each is planted, and must be counted.

A soak that finds nothing says something only if it can see. This is done at the end of each, on its own stage; the
tests in ``test_soak.py`` do the same for each check by itself.
"""

from __future__ import annotations

import os
import signal
import time
from dataclasses import asdict
from pathlib import Path

import trees
from helpers import wait_for, wait_gone
from intents import bare_intent
from oomless.contain.rungs import empty_groups
from oomless.journal.journal import Journal
from oomless.journal.trees import SweepRow
from oomless.model import Identity
from oomless.platform import cgroup, proc

from . import checks as soak_checks
from .checks import Checks, Tally
from .scene import PYTHON, Scene, read


def blind(scene: Scene) -> list[str]:
    """What was planted and not found: names of ``checks.Counts``."""
    patience = soak_checks.GONE, soak_checks.ROWS
    soak_checks.GONE = soak_checks.ROWS = 0.1
    checks = Checks(scene, Tally())
    checks.new_log()  # of the rounds before
    tree = "t" + os.urandom(4).hex()
    expected = ["survivors", "open_rows", "exit_files", "temp_folders", "wrong_signals"]
    try:
        group = _plant(scene, tree)
        expected += ["cgroups"] if group else []
        checks.nobody_left()
        checks.books()
        checks.others()
        checks.job_result("planted", [], 1, False)
    finally:
        soak_checks.GONE, soak_checks.ROWS = patience
        _clear(scene, tree)
    counts = asdict(checks.tally.counts)
    return [name for name in (*expected, "lost_results") if not counts[name]]


def _plant(scene: Scene, tree: str) -> str | None:
    """An ungoverned stray, an open row, an exit record, a TMPDIR, a bystander that is signalled, and a group."""
    out = scene.place("planted")
    roster = out.with_suffix(".roster")
    scene.add([*PYTHON, trees.__file__, str(roster), "stay", "plain"], out, {out.stem: roster})
    wait_for(lambda: len(read(roster)) == 2, 20)
    me = Identity(boot_id=proc.boot_id(), pid=os.getpid(), start=proc.start_of(os.getpid()) or 0)
    journal = Journal.open(scene.paths.journal)
    journal.trees.intend(bare_intent(tree, me, f"x:{tree}"))
    journal.close()
    (Path(scene.paths.exits) / f"{tree}.json").touch()
    (Path(scene.paths.tmp) / tree).mkdir(parents=True)
    scene.bystander()
    one = max(scene.crowd().bystanders, key=lambda who: who[1])
    proc.send(*one, signal.SIGTERM)
    wait_for(lambda: (scene.folder / "by" / f"{one[0]}.signals").stat().st_size, 10)
    base = next(iter(scene.bases.values()), None)
    if base is not None:
        os.mkdir(f"{base}/oomless-{scene.install}-{tree}")
    return base


def _clear(scene: Scene, tree: str) -> None:
    for path in empty_groups.list_groups(cgroup.folders_around(proc.cgroups("self")), scene.install):
        cgroup.remove(path)
    os.unlink(f"{scene.paths.exits}/{tree}.json")
    os.rmdir(f"{scene.paths.tmp}/{tree}")
    journal = Journal.open(scene.paths.journal)
    journal.trees.add_sweep(SweepRow(tree=tree, at=time.time(), reason="it was only planted", ended=0))
    journal.close()
    for work in scene.works:
        wait_gone(*work.who, 10)
        work.process.wait()
