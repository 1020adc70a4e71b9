"""The limits of one tree, on every rung that this machine offers to this user, without a daemon: how many processes,
how much memory, and what the line says that tells why it was ended."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

import pytest

from contained import FORKS, OFFERS, PYTHON, Run
from helpers import wait_for
from oomless.contain import ending
from oomless.contain.limits import process_limit
from oomless.contain.rungs.choose import Offer
from oomless.platform import cgroup, files, proc
from oomless.processes.ids import ProcessId
from oomless.processes.kill_times import KillTimes

pytestmark = pytest.mark.as_user

LIMIT = 12

#: Starts so many children that stay, says how many it could, and ends when a file appears.
FILLS = """
import os, sys, time
wanted, go = int(sys.argv[1]), sys.argv[2]
pause_after = int(sys.argv[3]) if len(sys.argv) > 3 else None
children, refused = [], 0
for n in range(wanted):
    if n == pause_after:
        time.sleep(1.5)
    try:
        child = os.fork()
    except BlockingIOError:
        refused += 1
        continue
    if child == 0:
        time.sleep(30)
        os._exit(0)
    children.append(child)
print(len(children), refused, flush=True)
os.close(1)
while not os.path.exists(go):
    time.sleep(0.01)
"""
#: Forks as fast as it can for 3 s.
STORMS = """
import os, time
until = time.monotonic() + 3
while time.monotonic() < until:
    try:
        if os.fork() == 0:
            time.sleep(30)
            os._exit(0)
    except OSError:
        pass
"""
#: 80 MB that ten children have too, for as long as the file is not there.
INHERITS = """
import os, sys, time
held = bytearray(b"x") * 80_000_000
for _ in range(10):
    if os.fork() == 0:
        break
print("there", flush=True)
while not os.path.exists(sys.argv[1]):
    time.sleep(0.01)
"""


def counts(offer: Offer) -> bool:
    """Whether the kernel refuses forks on this rung."""
    return "pids" in offer.bases or ("" in offer.bases and os.path.exists(os.path.join(offer.bases[""], "pids.max")))


@pytest.fixture(params=OFFERS, ids=[offer.name for offer in OFFERS])
def offer(request: pytest.FixtureRequest) -> Offer:
    found = request.param
    assert isinstance(found, Offer)
    return found


def test_a_tree_at_its_process_limit_goes_on(offer: Offer, tmp_path: Path) -> None:
    """So many are allowed: nobody of it is refused, and it is not ended for being full."""
    go = tmp_path / "go"
    run = Run(tmp_path, offer, [*PYTHON, "-c", FILLS, str(LIMIT - 1), str(go)], processes=LIMIT)
    assert run.process.stdout
    assert run.process.stdout.readline() == f"{LIMIT - 1} 0\n"
    with pytest.raises(TimeoutError):
        _ended_within(run, 1.8)
    go.touch()
    assert run.finish().exit_code == 0


def _ended_within(run: Run, seconds: float) -> None:
    if not wait_for(lambda: run.process.poll() is not None, seconds):
        raise TimeoutError


def test_a_fork_beyond_the_limit_fails(offer: Offer, tmp_path: Path) -> None:
    """One refused fork is the answer to one fork too many, and no offence."""
    if not counts(offer):
        pytest.skip("no kernel counts processes on this rung")
    go = tmp_path / "go"
    filled = str(LIMIT - 1)  # for longer than it may go on like that once forks fail
    run = Run(tmp_path, offer, [*PYTHON, "-c", FILLS, str(LIMIT + 2), str(go), filled], processes=LIMIT)
    assert run.process.stdout
    assert run.process.stdout.readline() == f"{LIMIT - 1} 3\n"
    with pytest.raises(TimeoutError):
        _ended_within(run, 1.8)
    go.touch()
    record = run.finish()
    assert (record.exit_code, record.survivors, record.ended) == (0, 0, LIMIT - 1)


@pytest.mark.machine
def test_a_tree_that_is_held_at_its_process_limit_is_ended(offer: Offer, tmp_path: Path) -> None:
    began = time.monotonic()
    run = Run(tmp_path, offer, [*PYTHON, "-c", FORKS], processes=LIMIT)
    record = run.finish()
    assert (record.status, record.exit_code, record.survivors) == ("killed", 137, 0)
    assert time.monotonic() - began > 1.0
    said = (
        "at its limit of 12 processes for *.* s, while * forks failed"
        if counts(offer)
        else "over its limit of 12 for *.* s"
    )
    assert re.search(re.escape(said).replace(r"\*", "[0-9]+"), record.reason), record.reason
    assert record.reason in run.err


def test_one_more_than_the_limit_is_too_many_where_nobody_refuses_forks(tmp_path: Path) -> None:
    offer = OFFERS[-1]
    assert not counts(offer)
    run = Run(tmp_path, offer, [*PYTHON, "-c", FILLS, str(LIMIT), str(tmp_path / "go")], processes=LIMIT)
    record = run.finish()
    assert (record.status, record.exit_code, record.survivors) == ("killed", 137, 0)
    assert re.match(r"13 processes, over its limit of 12 for \d\.\d s", record.reason)


def test_far_more_than_the_limit_is_ended_at_once_where_nobody_refuses_forks(tmp_path: Path) -> None:
    run = Run(tmp_path, OFFERS[-1], [*PYTHON, "-c", FILLS, "90", str(tmp_path / "go")], processes=LIMIT)
    record = run.finish()
    assert (record.status, record.exit_code, record.survivors) == ("killed", 137, 0)
    assert "far over its limit of 12" in record.reason
    assert record.seconds < 1.0


def test_a_storm_is_held_still_by_turns(offer: Offer, tmp_path: Path) -> None:
    """What the machine gains by that is in ``limits/process_limit.py``: nobody waits for the locks of processes that
    get no turn. An emulated processor may be too slow for a storm: then the reason tells of fewer failed forks than
    make one."""
    if not counts(offer):
        pytest.skip("no kernel counts processes on this rung")
    run = Run(tmp_path, offer, [*PYTHON, "-c", STORMS], processes=LIMIT)

    def held() -> bool:
        if "" in run.cgroups:
            return files.read(f"{run.cgroups['']}/cgroup.freeze").strip() == "1"
        stats = [proc.read_stat(pid) for pid in cgroup.pids_in(run.cgroups["pids"])]
        return len(stats) == LIMIT and all(stat and stat.state == "T" for stat in stats)

    seen = wait_for(held, 5) and wait_for(lambda: not held(), 5) and wait_for(held, 5)
    record = run.finish()
    assert record.exit_code == 137
    told = re.search(r"for ([0-9.]+) s, while ([0-9]+) forks failed", record.reason)
    assert told, record.reason
    if not seen and int(told[2]) < 2 * process_limit.STORM / process_limit.COUNT_EVERY * float(told[1]):
        pytest.skip(f"too slow for a storm: {record.reason}")
    assert seen, record.reason


def test_what_many_have_inherited_is_counted_once(offer: Offer, tmp_path: Path) -> None:
    """Their RSS is 880 MB between them: a tree is not ended for memory that it does not use."""
    go = tmp_path / "go"
    run = Run(tmp_path, offer, [*PYTHON, "-c", INHERITS, str(go)], limit=200 * 10**6)
    assert run.process.stdout
    assert [run.process.stdout.readline() for _ in range(11)] == ["there\n"] * 11
    assert not wait_for(lambda: run.process.poll() is not None, 1.5)
    go.touch()
    assert run.finish().exit_code == 0


@pytest.mark.machine
def test_a_tree_of_many_that_grow_is_ended(offer: Offer, tmp_path: Path) -> None:
    """10 MB each, one after the other; what is told is what was used, for how long, and what came back."""
    code = "import os, time\nfor _ in range(40):\n    if os.fork() == 0:\n        x = bytearray(b'x') * 10_000_000\n"
    code += "        time.sleep(30)\n        os._exit(0)\n    time.sleep(0.03)\ntime.sleep(30)"
    record = Run(tmp_path, offer, [*PYTHON, "-c", code], limit=200 * 10**6).finish()
    assert (record.status, record.exit_code, record.survivors, record.bytes_after) == ("killed", 137, 0, 0)
    told = re.fullmatch(
        r"used (2\d\d) MB of its 200 MB memory limit \(.*\) for 0\.\d s; (2\d\d) MB freed", record.reason
    )
    assert told, record.reason
    assert record.bytes_before is not None
    assert 200 <= int(told[1]) <= 260
    assert 199 * 10**6 <= record.bytes_before <= 260 * 10**6  # whole pages


def test_who_is_dying_is_waited_for_as_long_as_they_get_fewer() -> None:
    class Dying:
        left = 100

        def members(self) -> list[ProcessId]:
            return [ProcessId(pid, 1) for pid in range(self.left)]

    rung, patience = Dying(), ending.KillPatience(KillTimes())

    def over(now: float) -> bool:
        return patience.is_over(rung.members, 10.0, now)

    assert [over(now) for now in (10.0, 15.0, 15.1, 15.6)] == [False] * 4
    rung.left = 50
    assert [over(16.2), over(17.0)] == [False, False]
    assert over(17.3)  # still 50
    patience, rung.left = ending.KillPatience(KillTimes()), 100
    for second in range(15, 40):
        rung.left -= 1
        assert not over(second + 0.5)
    rung.left -= 1
    assert over(41.0)
