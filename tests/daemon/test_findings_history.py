"""The daemon weighs the processes of a session."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from helpers import wait_for
from hosting import Host, began, finished
from oomless.census.findings.sessions import fit_growth
from oomless.reports.look import daemon_facts

assert sys.platform == "linux"


MB, GB = 10**6, 10**9


@pytest.fixture
def growing_process() -> Iterator[subprocess.Popen[bytes]]:
    """Takes 8 MB more for each byte that it is sent, and says so."""
    code = (
        "import sys\nkept = []\nwhile sys.stdin.buffer.read(1):\n kept.append(b'x' * 8_000_000)\n print(flush=True)"
    )
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
    )
    yield process
    process.send_signal(signal.SIGKILL)
    process.wait()
    for pipe in (process.stdin, process.stdout):
        assert pipe is not None
        pipe.close()


def test_the_daemon_weighs_a_sessions_process_when_a_subagent_ends(growing_process: subprocess.Popen[bytes]) -> None:
    host = Host()
    assert host.register("s-1", growing_process.pid) == 200
    assert growing_process.stdin is not None
    assert growing_process.stdout is not None
    for number in range(1, 9):
        host.tell(began("s-1", f"a{number}"))
        growing_process.stdin.write(b"x")
        growing_process.stdout.readline()
        host.tell(finished("s-1", f"a{number}"))
    (session,) = host.status().sessions
    assert [end.ended for end in session.ends] == list(range(1, 9))
    (session,) = daemon_facts(host.status()).sessions
    line = fit_growth(session.ends)
    assert line is not None
    assert 7.5 * MB < line.slope < 8.5 * MB
    assert line.share > 0.99
    host.tell(finished("s-1", "unknown"))
    assert len(host.status().sessions[0].ends) == 8, "nobody that ran has ended"
    growing_process.kill()
    assert wait_for(lambda: not host.status().sessions, 5.0)
