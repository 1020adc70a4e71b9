"""The limits of one tree, on every rung that this machine offers to this user, without a daemon: how many processes,
how much memory, and what the line says that tells why it was ended."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

import pytest

from helpers import wait_for
from oomless.contain.ladder import Offer
from test_contain import OFFERS, PYTHON, Run

LIMIT = 12

#: Starts so many children that stay, says how many it could, and ends them when its standard input... a file appears.
FILLS = """
import os, sys, time
wanted, go = int(sys.argv[1]), sys.argv[2]
children, refused = [], 0
for _ in range(wanted):
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
#: Goes on forking at a moderate pace.
FORKS = """
import os, time
while True:
    try:
        if os.fork() == 0:
            time.sleep(30)
            os._exit(0)
    except OSError:
        pass
    time.sleep(0.02)
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
    run = Run(tmp_path, offer, [*PYTHON, "-c", FILLS, str(LIMIT + 2), str(go)], processes=LIMIT)
    assert run.process.stdout
    assert run.process.stdout.readline() == f"{LIMIT - 1} 3\n"
    with pytest.raises(TimeoutError):
        _ended_within(run, 1.8)
    go.touch()
    record = run.finish()
    assert (record.exit_code, record.survivors, record.ended) == (0, 0, LIMIT - 1)


def test_a_tree_that_is_held_at_its_process_limit_is_ended(offer: Offer, tmp_path: Path) -> None:
    began = time.monotonic()
    run = Run(tmp_path, offer, [*PYTHON, "-c", FORKS], processes=LIMIT)
    record = run.finish()
    assert (record.status, record.exit_code, record.survivors) == ("killed", 137, 0)
    assert time.monotonic() - began > 1.0
    said = (
        "at its limit of 12 processes for 1.* s, while * forks failed"
        if counts(offer)
        else "over its limit of 12 for 1.* s"
    )
    assert re.search(re.escape(said).replace(r"\*", "[0-9]+"), record.reason), record.reason
    assert record.reason in run.err


def test_one_more_than_the_limit_is_too_many_where_nobody_refuses_forks(tmp_path: Path) -> None:
    offer = OFFERS[-1]
    assert not counts(offer)
    run = Run(tmp_path, offer, [*PYTHON, "-c", FILLS, str(LIMIT), str(tmp_path / "go")], processes=LIMIT)
    record = run.finish()
    assert (record.status, record.exit_code, record.survivors) == ("killed", 137, 0)
    assert re.match(r"13 processes, over its limit of 12 for 1\.\d s", record.reason)


def test_far_more_than_the_limit_is_ended_at_once_where_nobody_refuses_forks(tmp_path: Path) -> None:
    run = Run(tmp_path, OFFERS[-1], [*PYTHON, "-c", FILLS, "90", str(tmp_path / "go")], processes=LIMIT)
    record = run.finish()
    assert (record.status, record.exit_code, record.survivors) == ("killed", 137, 0)
    assert "far over its limit of 12" in record.reason
    assert record.seconds < 1.0
