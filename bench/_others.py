"""The programs that a benchmark compares with, pinned, installed into an environment that is thrown away."""

from __future__ import annotations

import subprocess
import sys
import venv
from collections.abc import Mapping


def install_packages(folder: str, packages: Mapping[str, str]) -> tuple[str, set[str]]:
    """Returns the interpreter of a new environment, and the names of the packages (name to requirement) that were
    installed into it. Prints which were not."""
    venv.create(folder, with_pip=True)
    python = f"{folder}/bin/python"
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    installed = {
        name
        for name, pinned in packages.items()
        if subprocess.run([*pip, pinned], capture_output=True).returncode == 0
    }
    for name in sorted(packages.keys() - installed):
        print(f"{name} cannot be installed here and is left out", file=sys.stderr)
    return python, installed
