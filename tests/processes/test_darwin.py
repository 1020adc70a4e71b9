"""Importing the macOS side on Linux."""

from __future__ import annotations

import subprocess
import sys


class TestDarwin:
    def test_importing_opens_no_library(self) -> None:
        code = (
            "import ctypes; ctypes.CDLL = None; import oomless.platform.darwin, sys;"
            "print([m for m in ('psutil', 'typer', 'rich', 'oomless.cli') if m in sys.modules])"
        )
        answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert answer.stdout == "[]\n"
