"""Trees that run wild beside others, on every rung of this machine, with a daemon: one that leaks, one that forks.

What must hold beside what ``test_limits.py`` has: the others finish, nothing outside of the tree is ended by anybody,
the kernel included, and the machine can still be looked at. Sizes and lives are bounded, lest a test that fails take
the machine along.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from helpers import alive, run_oomless, wait_for
from oomless.contain.rungs.choose import RungChooser
from oomless.paths import Paths
from oomless.platform import cgroup, files, proc
from oomless.protocol.client import Client
from trees import BOMB

pytestmark = pytest.mark.machine

MB = 10**6
OFFERS = [offer for offer in RungChooser("storm").offers(proc.cgroups("self")) if offer.usable]
WITHOUT_GROUPS = {offer.name for offer in OFFERS if not offer.bases}
LIMIT, MOST = 300 * MB, 2_000 * MB

#: 1 GB/s, each page touched.
LEAKS = f"""
import time
held, began, step = [], time.monotonic(), 4_000_000
while len(held) * step < {MOST}:
    held.append(bytearray(b"x") * step)
    time.sleep(max(0, began + len(held) * step / 1e9 - time.monotonic()))
time.sleep(20)
"""
#: Says that it is there, and works until the file is there.
GOOD = """
import os, sys, time
held = bytearray(b"x") * 20_000_000
print("there", flush=True)
while not os.path.exists(sys.argv[1]):
    time.sleep(0.01)
print(sum(held[::4096]), flush=True)
"""


@pytest.fixture(params=[offer.name for offer in OFFERS])
def rung(request: pytest.FixtureRequest) -> str:
    file = Path(os.environ["XDG_CONFIG_HOME"]) / "oomless" / "config.toml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f'rung = "{request.param}"\n')
    run_oomless("daemon", "start")
    return str(request.param)


def start(name: str, report: Path, code: str, *args: str, options: tuple[str, ...] = ()) -> subprocess.Popen[str]:
    argv = [sys.executable, "-m", "oomless", "run", "--name", name, "--report", str(report), "--expect", "50MB"]
    argv += [*options, "--", sys.executable, "-I", "-S", "-c", code, *args]
    return subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def kernel_kills() -> dict[str, int | None]:
    """By the kernel for want of memory, in our own group and those around it, theirs alone: the machine's figure
    (``oom_kill`` in /proc/vmstat) is of others as well."""
    found = {}
    for mount in cgroup.read_mounts():
        name = "memory.oom_control" if mount.controller else "memory.events.local"
        path = proc.cgroups("self").get(mount.controller, "/")
        while True:
            found[f"{mount.point}{path}"] = files.read_field(f"{mount.point}{path}/{name}", "oom_kill")
            if path in ("", "/"):
                break
            path = os.path.dirname(path)
    return found


def test_a_tree_that_leaks_ends_alone(rung: str, tmp_path: Path) -> None:
    bystander = subprocess.Popen(["sleep", "60"])
    start_of = proc.start_of(bystander.pid) or 0
    before, go = kernel_kills(), tmp_path / "go"
    good = [start(f"good{n}", tmp_path / f"good{n}.json", GOOD, str(go)) for n in range(9)]
    for process in good:
        assert process.stdout
        assert process.stdout.readline() == "there\n"
    leak = start("leak", tmp_path / "leak.json", LEAKS, options=("--memory", str(LIMIT)))
    _, said = leak.communicate(timeout=30)
    kills = kernel_kills()
    go.touch()
    for process in good:
        out, _ = process.communicate(timeout=30)
        assert (process.returncode, out) == (0, f"{(20 * MB // 4096 + 1) * ord('x')}\n")
    record = json.loads((tmp_path / "leak.json").read_text())
    assert (leak.returncode, record["status"], record["rung"], record["survivors"]) == (137, "killed", rung, 0)
    assert record["peak_bytes"] < 1.5 * LIMIT
    assert record["reason"] in said
    assert kills == before
    assert any(count is not None for count in kills.values())
    assert alive(bystander.pid, start_of)
    assert {json.loads((tmp_path / f"good{n}.json").read_text())["status"] for n in range(9)} == {"done"}
    bystander.kill()
    bystander.wait()


def test_a_fork_bomb_is_ended_and_can_be_looked_at_meanwhile(rung: str, tmp_path: Path) -> None:
    before = proc.table()
    bomb = start("bomb", tmp_path / "bomb.json", BOMB, options=("--processes", "60"))
    client = Client(Paths(), start=False)
    assert wait_for(lambda: bomb.poll() is not None or any(t.pid for t in client.status().trees), 20)
    began = time.monotonic()
    if rung not in WITHOUT_GROUPS:
        seen = run_oomless("scan", "--json", timeout=30)
        assert seen.returncode == 0
        assert time.monotonic() - began < 4.0  # 0.5 s; 9 s where nobody holds the bomb still
    _, said = bomb.communicate(timeout=60)
    record = json.loads((tmp_path / "bomb.json").read_text())
    assert (bomb.returncode, record["status"], record["rung"], record["survivors"]) == (137, "killed", rung, 0), (
        record
    )
    assert "limit of 60" in record["reason"]
    assert record["reason"] in said
    newer = [stat for pid, stat in proc.table().items() if pid not in before and stat.alive]
    left = [stat.pid for stat in newer if BOMB in proc.cmdline(stat.pid)]
    assert left == []


def test_a_storm_that_gives_in_goes_on(rung: str, tmp_path: Path) -> None:
    """It was held still meanwhile, and runs again: whoever forks in vain for half a second is not ended."""
    if rung in WITHOUT_GROUPS:
        pytest.skip("nobody refuses forks there")
    code = """
import os, time
children = []
until = time.monotonic() + 0.5
while time.monotonic() < until:
    try:
        child = os.fork()
    except OSError:
        continue
    if child == 0:
        time.sleep(30)
        os._exit(0)
    children.append(child)
time.sleep(1.5)
print(len(children))
"""
    run = start("storm", tmp_path / "storm.json", code, options=("--processes", "20"))
    out, said = run.communicate(timeout=30)
    assert (run.returncode, out, said) == (0, "19\n", "")
