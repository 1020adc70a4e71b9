"""The real ps prints its forest as we read it."""

from __future__ import annotations

import subprocess
import sys

from oomless.listing import parse_listing


def test_the_real_ps() -> None:
    """A shell that waits for a child of its own, drawn below this process and with its parent printed."""
    command = "import subprocess, sys; subprocess.run(['cat']); sys.exit()"
    with subprocess.Popen([sys.executable, "-c", command], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        process.stdin.write(b"there\n")
        process.stdin.flush()
        assert process.stdout is not None
        process.stdout.readline()  # by then cat runs
        drawn = subprocess.run(["ps", "auxfww"], stdout=subprocess.PIPE, text=True, check=True).stdout
        printed = subprocess.run(["ps", "-eo", "pid,ppid"], stdout=subprocess.PIPE, text=True, check=True).stdout
        process.stdin.close()
    told = {one.pid: one.ppid for one in parse_listing(drawn).rows}
    real = {int(pid): int(ppid) for pid, ppid in (line.split() for line in printed.splitlines()[1:])}
    below = [pid for pid, parent in real.items() if parent == process.pid]
    assert len(below) == 1
    assert (told[below[0]], told[process.pid]) == (process.pid, real[process.pid])
