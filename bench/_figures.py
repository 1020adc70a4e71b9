"""The results of a benchmark of oomless' own costs: a table of figure, measured and target, and a JSON file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path


def print_figures(figures: Mapping[str, float], targets: Mapping[str, float], path: str) -> int:
    """Prints the table and writes the file. Returns 1 if a target is exceeded, else 0."""
    print(f"{'figure':28} {'measured':>9} {'target':>7}")
    for name, value in figures.items():
        target = targets.get(name)
        print(f"{name:28} {value:9.2f} {target if target is not None else '':>7}")
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(json.dumps({"figures": dict(figures), "targets": dict(targets)}, indent=1) + "\n")
    return int(any(figures[name] > target for name, target in targets.items()))
