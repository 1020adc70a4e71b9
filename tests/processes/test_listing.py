"""What the real ps and top print agrees with /proc."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from oomless.listing import parse_listing
from oomless.platform import proc

KIB, MIB, GIB = 2**10, 2**20, 2**30


REAL = [
    ["aux"],
    ["auxww"],
    ["-ef"],
    ["-efww"],
    ["axjf"],
    ["-el"],
    ["-eo", "pid,ppid,pgid,sid,rss,args"],
    ["-eo", "user:20,pid,lstart,etime,cputimes,tname,comm,args"],
    ["-eo", "args,pid,rss,ppid"],
    ["-eo", "pid,args:60,start,ppid,pgid"],
    ["-eo", "pid,pss,uss,cgroup,wchan,ni,ppid,comm"],
]


def resident(pid: int) -> int:
    """The exact figure, which ps and top read as well; that of the stat line lags behind."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) * KIB


@pytest.fixture
def child() -> Any:
    """A process that all listings below must have, and that does not change while it is looked at."""
    with subprocess.Popen(
        [sys.executable, "-c", "import sys; print(flush=True); sys.stdin.read()", "one of ours"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as started:
        assert started.stdout is not None
        assert started.stdin is not None
        started.stdout.readline()
        yield started
        started.stdin.close()


@pytest.mark.parametrize("options", REAL, ids=[" ".join(one) for one in REAL])
def test_the_real_ps_agrees_with_proc(options: list[str], child: subprocess.Popen[bytes]) -> None:
    environ = {**os.environ, "LC_ALL": "C", "COLUMNS": "5000"}
    text = subprocess.run(["ps", *options], env=environ, stdout=subprocess.PIPE, check=True).stdout.decode()
    found = parse_listing(text)
    assert found.unreadable == ()
    assert len(found.rows) == text.count("\n") - 1
    row = next(row for row in found.rows if row.pid == child.pid)
    stat = proc.read_stat(child.pid)
    assert stat is not None
    assert row.ppid in (None, os.getpid())
    assert row.pgid in (None, stat.pgid)
    assert row.sid in (None, stat.sid)
    assert row.rss_bytes in (None, resident(child.pid))
    whole = f"{sys.executable} -c import sys; print(flush=True); sys.stdin.read() one of ours"
    assert whole.startswith(row.command) or row.command == stat.comm


def test_the_real_top_agrees_with_proc(child: subprocess.Popen[bytes]) -> None:
    command = ["top", "-b", "-n", "1", "-p", str(child.pid)]
    text = subprocess.run(
        command, env={**os.environ, "LC_ALL": "C"}, stdout=subprocess.PIPE, check=True
    ).stdout.decode()
    found = parse_listing(text)
    assert [(row.pid, row.rss_bytes) for row in found.rows] == [(child.pid, resident(child.pid))]
    assert found.memory is not None
    assert found.memory.total_bytes == pytest.approx(
        os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGESIZE"), rel=0.01
    )
