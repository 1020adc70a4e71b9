"""How long the commands take that people wait for, beside the bare interpreter and other checkouts of this project.

    python bench/commands.py [--against CHECKOUT]... [--runs N] [--json FILE]

Figures are medians in milliseconds. In each round every command runs once in every checkout, one directly after the
other, so that a machine that changes its speed changes it for all. Each checkout has a daemon and folders of its own;
``CHECKOUT`` is one with a virtual environment in ``.venv``. ``run`` is what it adds to the command it runs.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

#: The bin folder of the interpreter that runs this file, whatever the checkout is called.
THIS = os.path.dirname(sys.executable)
TARGETS = {"--help": 150.0, "status": 100.0, "scan": 150.0, "run adds": 50.0}
COMMANDS = {
    "--help": ["--help"],
    "--version": ["--version"],
    "status --help": ["status", "--help"],
    "batch --help": ["batch", "--help"],
    "run --help": ["run", "--help"],
    "status": ["status"],
    "status --json": ["status", "--json"],
    "scan": ["scan"],
    "run": ["run", "--", "true"],
}
INTERPRETER = {"python -c pass": ["-c", "pass"], "python -I -S -c pass": ["-I", "-S", "-c", "pass"]}


class Checkout:
    """One installation with folders, and so a daemon, of its own."""

    def __init__(self, name: str, bin_folder: str, folder: str) -> None:
        self.name = name
        self._bin = bin_folder
        places = {variable: f"{folder}/{variable.lower()}" for variable in ("XDG_CONFIG_HOME", "XDG_STATE_HOME")}
        places["XDG_RUNTIME_DIR"] = f"{folder}/run"
        for place in places.values():
            os.makedirs(place, mode=0o700)
        self.env = {**os.environ, **places}
        self.taken: dict[str, list[float]] = {}

    def oomless(self, *arguments: str) -> list[str]:
        return [f"{self._bin}/oomless", *arguments]

    def daemon(self, action: str) -> None:
        subprocess.run(self.oomless("daemon", action), env=self.env, check=True, stdout=subprocess.DEVNULL)

    def measure(self, name: str, command: list[str]) -> float:
        """Milliseconds until the command has ended, kept under ``name``."""
        began = time.perf_counter()
        done = subprocess.run(command, env=self.env, stdin=subprocess.DEVNULL, capture_output=True, check=False)
        took = (time.perf_counter() - began) * 1000
        if done.returncode or done.stderr:
            raise SystemExit(f"{' '.join(command)} ended with {done.returncode}: {done.stderr.decode()}")
        self.taken.setdefault(name, []).append(took)
        return took

    def measure_interpreter(self) -> None:
        for name, arguments in INTERPRETER.items():
            self.measure(name, [f"{self._bin}/python", *arguments])

    def measure_command(self, name: str, arguments: list[str]) -> None:
        took = self.measure(name, self.oomless(*arguments))
        if name == "run":
            self.taken.setdefault("run adds", []).append(took - self.measure("true", ["true"]))

    def figures(self) -> dict[str, float]:
        """The median of each, without the first, which finds no compiled files."""
        return {name: round(statistics.median(taken[1:]), 2) for name, taken in self.taken.items()}


def measure(checkouts: list[Checkout], runs: int) -> None:
    started = []
    try:
        for checkout in checkouts:
            checkout.daemon("start")
            started.append(checkout)
        for turn in range(runs + 1):
            order = checkouts[:: 1 if turn % 2 else -1]
            for checkout in order:
                checkout.measure_interpreter()
            for name, arguments in COMMANDS.items():
                for checkout in order:
                    checkout.measure_command(name, arguments)
    finally:
        for checkout in started:
            checkout.daemon("stop")


def report(checkouts: list[Checkout], path: str) -> int:
    """Prints the table and writes the JSON; 1 if this checkout passes a target, else 0."""
    ours, *others = [checkout.figures() for checkout in checkouts]
    print(f"{'median, ms':22} {'this':>8} {'target':>7}" + "".join(f" {c.name[-24:]:>24}" for c in checkouts[1:]))
    for name, value in ours.items():
        beside = "".join(f" {figures[name]:24.1f}" for figures in others)
        print(f"{name:22} {value:8.1f} {TARGETS.get(name, ''):>7}{beside}")
    facts = {"figures": ours, "targets": TARGETS, "against": {c.name: c.figures() for c in checkouts[1:]}}
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(json.dumps(facts, indent=1) + "\n")
    return int(any(ours[name] > target for name, target in TARGETS.items()))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--against", action="append", default=[], metavar="CHECKOUT", help="another checkout")
    parser.add_argument("--runs", type=int, default=21, help="rounds")
    parser.add_argument("--json", default="bench/results/commands.json", help="where the figures go as JSON")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="oob", dir="/tmp") as folder:
        checkouts = [Checkout("this", THIS, f"{folder}/0")]
        for number, path in enumerate(arguments.against, 1):
            checkouts.append(Checkout(path, f"{os.path.abspath(path)}/.venv/bin", f"{folder}/{number}"))
        measure(checkouts, arguments.runs)
    return report(checkouts, arguments.json)


if __name__ == "__main__":
    sys.exit(main())
