"""What tests share: running the command, and waiting for processes by identity (pid and start time)."""

from __future__ import annotations

import os
import select
import subprocess
import sys
import time
from collections.abc import Callable, Mapping

from oomless.platform import proc

#: How many times as long as usual things take on an emulated CPU (``tests/vm/guest.py``). For time-outs only.
SLOWNESS = float(os.environ.get("OOMLESS_TEST_SLOWNESS", "1"))


def run_oomless(
    *args: str, env: Mapping[str, str] | None = None, timeout: float = 60, cwd: str | os.PathLike[str] | None = None
) -> subprocess.CompletedProcess[str]:
    """``oomless ARGS`` with this interpreter, an empty stdin and captured output; ``env`` is added to ours."""
    return subprocess.run(
        [sys.executable, "-m", "oomless", *args],
        env={**os.environ, **(env or {})},
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout * SLOWNESS,
        check=False,
    )


def alive(pid: int, start: int) -> bool:
    """Whether that very process lives; a zombie does not."""
    stat = proc.read_stat(pid)
    return stat is not None and stat.start == start and stat.alive


def wait_gone(pid: int, start: int, timeout: float) -> bool:
    """Waits on the process's pidfd; False if it still lives after ``timeout`` seconds."""
    fd = proc.open_verified(pid, start)
    if fd is None:
        return True
    try:
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        return bool(poll.poll(max(timeout, 0) * SLOWNESS * 1000))
    finally:
        os.close(fd)


def wait_for(predicate: Callable[[], object], timeout: float) -> bool:
    """Polls every 10 ms, only for what sends no event (a file that appears, a cgroup's counter)."""
    deadline = time.monotonic() + timeout * SLOWNESS
    while not predicate():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def is_error_report(stderr: str) -> bool:
    """Whether this is one error as every command prints it: ``oomless: error: ...`` and at most one ``hint: ...``."""
    error, *hints = stderr.splitlines()
    hinted = not hints or (len(hints) == 1 and hints[0].startswith("hint: "))
    return error.startswith("oomless: error: ") and hinted and stderr.endswith("\n")
