"""``oomless diagnose`` as a command."""

from __future__ import annotations

import subprocess
import sys

import pytest


def test_closed_standard_input_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """As ``scan --from`` has it: Python has no standard input then."""
    command = f"exec <&-; exec {sys.executable} -m oomless diagnose --from -"
    result = subprocess.run(["sh", "-c", command], capture_output=True, text=True)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith("oomless: error: cannot read standard input: it is closed")
