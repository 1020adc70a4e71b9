"""Who moves out of its tree's groups is found within two seconds, moved back or named, and ended with the tree."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from contained import OFFERS, PYTHON, read_roster
from helpers import SLOWNESS, alive, run_oomless, wait_for, wait_gone
from oomless.contain import escape_watch
from oomless.paths import Paths
from oomless.platform import cgroup, files, proc
from oomless.processes import descendants
from oomless.protocol import spawn
from running import OOMLESS, finish, kill, open_trees, running, start

#: To be found in, after it has happened; and for what has to happen three times.
SOON = 2.5 * SLOWNESS
THRICE = 15.0 * SLOWNESS
BASES = OFFERS[0].bases
pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(not BASES, reason="no control groups can be made here"),
]

#: Moves to the groups around the tree's, forks twice, and stays as a daemon without any mark. With ``again`` it moves
#: whenever it has been moved back.
LEAVER = """
import os, sys, time
sys.path.insert(0, {tests!r})
import trees
roster, how = sys.argv[1:3]
targets = {targets!r}
def leave():
    for target in targets:
        with open(target, "w") as file:
            file.write(str(os.getpid()))
leave()
for _ in range(2):
    if os.fork():
        os._exit(0)
    os.setsid()
trees.report(roster, "leaver")
while how == "again":
    leave()
    time.sleep(0.05)
time.sleep(60)
"""


@pytest.fixture
def leaver(tmp_path: Path) -> list[str]:
    return leaver_to("", tmp_path)


def leaver_to(group: str, tmp_path: Path) -> list[str]:
    """The command, but for how: it moves to the groups around the tree's, or to those of that name in them."""
    script = tmp_path / "leaver.py"
    targets = [f"{base}/{group}/cgroup.procs" for base in BASES.values()]
    script.write_text(LEAVER.format(tests=str(Path(__file__).parents[1] / "support"), targets=targets))
    return ["env", "-i", *PYTHON, str(script), str(tmp_path / "roster")]


@pytest.fixture
def roster(tmp_path: Path) -> Path:
    return tmp_path / "roster"


def tree_of(leaver: list[str], how: str, report: Path) -> subprocess.Popen[str]:
    """A root that stays, with the one that leaves."""
    script = f"{' '.join(leaver)} {how} & exec sleep 60"
    process = start("--name", "tree", "--report", str(report), "--", "sh", "-c", script)
    assert wait_for(lambda: "leaver" in read_roster(Path(leaver[-1])) and running("tree"), 30)
    return process


def inside(pid: int, leaf: str) -> set[str]:
    """The controllers in which it is in the tree's group."""
    return {name for name, path in proc.cgroups(pid).items() if leaf in path.split("/")}


def leaf() -> str:
    (tree,) = open_trees()
    return f"oomless-{Paths().install_id()}-{tree.tree}"


def test_one_that_moved_out_is_moved_back(leaver: list[str], roster: Path, tmp_path: Path) -> None:
    process = tree_of(leaver, "once", tmp_path / "report")
    pid, began = read_roster(roster)["leaver"]
    assert wait_for(lambda: inside(pid, leaf()) == set(BASES), SOON)
    assert alive(pid, began)
    process.terminate()
    finish(process)
    assert not alive(pid, began)
    record = json.loads((tmp_path / "report").read_text())
    assert record["survivors"] == 0
    (found,) = [one for one in record["escaped"] if one["pid"] == pid]
    assert found == {
        "pid": pid,
        "start": began,
        "command": found["command"],
        "to": found["to"],
        "back": True,
        "why": "",
    }
    assert "leaver.py" in found["command"]
    assert not found["to"].endswith(record["tree"])


def test_one_that_moves_out_again_and_again_is_named(leaver: list[str], roster: Path, tmp_path: Path) -> None:
    process = tree_of(leaver, "again", tmp_path / "report")
    pid, began = read_roster(roster)["leaver"]

    def told() -> list[Any]:
        return [one for one in running("tree").escaped if one.pid == pid]  # type: ignore[union-attr]

    assert wait_for(told, THRICE)
    assert told()[0].why == escape_watch.AGAIN
    shown = run_oomless("status").stdout
    assert f"pid {pid} " in shown
    assert escape_watch.AGAIN in " ".join(shown.split())
    rows = json.loads(run_oomless("scan", "--json").stdout)["processes"]
    (row,) = [one for one in rows if one["pid"] == pid]
    assert row["verdict"] == "escaped"
    assert any("escaped the tree's cgroup" in line for line in row["evidence"])
    process.terminate()
    finish(process)
    assert not alive(pid, began)
    record = json.loads((tmp_path / "report").read_text())
    assert (record["survivors"], [one["back"] for one in record["escaped"] if one["pid"] == pid]) == (0, [False])


def test_one_that_is_out_is_swept_when_the_shim_was_killed(leaver: list[str], roster: Path, tmp_path: Path) -> None:
    """It has no mark, is in no group of the tree's, and its parent is gone."""
    process = tree_of(leaver, "again", tmp_path / "report")
    who = read_roster(roster)["leaver"]
    assert wait_for(lambda: running("tree").escaped, THRICE)  # type: ignore[union-attr]
    kill(process)
    assert wait_gone(*who, 5)
    assert wait_for(lambda: not open_trees(), 5)


def test_a_containers_processes_are_named_and_left_where_they_are(tmp_path: Path) -> None:
    """Its manager put them into a group of their own; the one that is in our namespaces is moved back."""
    targets = " ".join(f"{base}/cgroup.procs" for base in BASES.values())
    inner = tmp_path / "inner"
    inner.write_text("sleep 60")
    script = f"for file in {targets}; do echo $$ > $file; done; exec unshare --pid --fork sh {inner}"
    (tmp_path / "outer").write_text(script)
    report = tmp_path / "report"
    process = start(
        "--name", "tree", "--report", str(report), "--", "sh", "-c", f"sh {tmp_path}/outer & exec sleep 60"
    )
    assert wait_for(lambda: running("tree"), 30)
    assert wait_for(lambda: running("tree").escaped, SOON)  # type: ignore[union-attr]
    found = running("tree")
    assert found
    assert {one.why for one in found.escaped} == {escape_watch.CONTAINER}
    assert all(inside(one.pid, leaf()) == set() for one in found.escaped)
    process.terminate()
    finish(process)
    rows = json.loads(report.read_text())["escaped"]
    assert {(one["command"].split()[0], one["back"]) for one in rows} >= {("sh", False), ("unshare", True)}
    assert not any(alive(one["pid"], one["start"]) for one in rows)


def test_a_tree_in_the_tree_may_have_its_groups_beside_it(tmp_path: Path, roster: Path) -> None:
    """So it is where each group has its controllers from the one above (v2)."""
    group = f"oomless-{os.urandom(4).hex()}-t1"
    for base in BASES.values():
        os.mkdir(f"{base}/{group}")
    try:
        process = tree_of(leaver_to(group, tmp_path), "once", tmp_path / "report")
        who = read_roster(roster)["leaver"]
        assert not wait_for(lambda: inside(who[0], group) != set(BASES), SOON)
        process.terminate()
        finish(process)
        assert not alive(*who)
        assert json.loads((tmp_path / "report").read_text())["escaped"] == []
    finally:
        for base in BASES.values():
            assert wait_for(lambda base=base: cgroup.remove(f"{base}/{group}"), 5)  # type: ignore[misc]


def test_a_daemon_that_left_is_not_moved_back(tmp_path: Path) -> None:
    """It was started by a command in the tree, and moved out by itself."""
    pid = f"import json; print(json.load(open('{Paths().daemon_file}'))['pid'])"
    script = f'kill -9 $({sys.executable} -c "{pid}"); {OOMLESS} daemon start; sleep {SOON}'
    report = tmp_path / "report"
    done = run_oomless("run", "--report", str(report), "--", "sh", "-c", script)
    assert done.returncode == 0, done.stderr
    daemon = spawn.running(Paths())
    assert daemon
    assert not any("oomless-" in path for path in proc.cgroups(daemon.pid).values())
    record = json.loads(report.read_text())
    assert (record["escaped"], record["survivors"]) == ([], 0)


def test_nor_is_what_a_daemon_has_put_elsewhere(tmp_path: Path) -> None:
    """Below one that is not known yet: whoever keeps its scope."""
    born = tmp_path / "born.py"
    born.write_text("import subprocess; subprocess.run(['sleep', '60'])")
    inner = [*PYTHON, str(born), "-m", "oomless.daemon"]
    report = tmp_path / "report"
    process = start("--name", "tree", "--report", str(report), "--", *inner)
    assert wait_for(lambda: running("tree"), 30)
    mine = leaf()
    targets = [f"{base}/cgroup.procs" for base in BASES.values()]

    def below() -> list[int]:
        return [stat.pid for stat in descendants.walk(process.pid) if "sleep" in proc.cmdline(stat.pid)[:1]]

    assert wait_for(below, 10)
    (sleeper,) = below()
    for target in targets:
        files.write(target, str(sleeper))
    assert not wait_for(lambda: inside(sleeper, mine), SOON)
    process.terminate()
    finish(process)
    assert json.loads(report.read_text())["escaped"] == []


def test_a_look_at_a_tree_costs_little(tmp_path: Path) -> None:
    """CPU time of the shim of 50 that sleep, over three looks."""
    script = "for i in $(seq 50); do sleep 60 & done; touch $READY; wait"
    ready = tmp_path / "ready"
    process = start("--name", "tree", "--", "sh", "-c", script, env={**os.environ, "READY": str(ready)})
    assert wait_for(lambda: ready.exists() and running("tree"), 30)
    before = proc.read_stat(process.pid)
    assert before
    wait_for(lambda: False, 3 * escape_watch.EVERY)
    after = proc.read_stat(process.pid)
    assert after
    ticks = os.sysconf("SC_CLK_TCK")
    assert (after.cpu_ticks - before.cpu_ticks) / ticks < 0.1
    process.terminate()
    finish(process)
