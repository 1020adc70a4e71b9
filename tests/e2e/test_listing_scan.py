"""``oomless scan --from`` as a command."""

from __future__ import annotations

import json
import os
import subprocess
import sys


def test_closed_standard_input() -> None:
    command = [sys.executable, "-m", "oomless", "scan", "--from", "-"]
    result = subprocess.run(command, stderr=subprocess.PIPE, preexec_fn=lambda: os.close(0), check=False)
    assert result.returncode == 2
    assert result.stderr.startswith(b"oomless: error: cannot read standard input: it is closed")


def test_the_real_ps_through_a_pipe() -> None:
    with subprocess.Popen(["ps", "aux"], stdout=subprocess.PIPE, env={**os.environ, "LC_ALL": "C"}) as ps:
        command = [sys.executable, "-m", "oomless", "scan", "--from", "/dev/stdin", "--json"]
        result = subprocess.run(command, stdin=ps.stdout, stdout=subprocess.PIPE, check=True)
    assert json.loads(result.stdout)["unreadable"] == []
