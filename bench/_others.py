"""Other programs that a benchmark compares with: installed, pinned, into an environment that is thrown away."""

from __future__ import annotations

import subprocess
import sys
import venv
from collections.abc import Mapping


def install(folder: str, packages: Mapping[str, str]) -> tuple[str, set[str]]:
    """The interpreter of a new environment, and which of the packages (name to what pip is told) went into it. Which
    did not is said."""
    venv.create(folder, with_pip=True)
    python = f"{folder}/bin/python"
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    there = {
        name
        for name, pinned in packages.items()
        if subprocess.run([*pip, pinned], capture_output=True).returncode == 0
    }
    for name in sorted(packages.keys() - there):
        print(f"{name} cannot be installed here and is left out", file=sys.stderr)
    return python, there
