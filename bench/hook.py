"""What the hook at the start of a session costs: ``oomless hook claude-code session-start`` with a daemon that runs.

    python bench/hook.py [--runs N] [--json FILE]

Times are medians, the command as ``install`` writes it, as earlier versions wrote it, and the bare interpreter in
turn, as in ``footprint.py``.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
import time

from _figures import print_figures
from footprint import OOMLESS
from oomless.hosts.claude_code import settings

TARGETS = {"hook_ms": 30.0}
COMMANDS = {
    "hook": shlex.split(settings.session_start_command(sys.executable)),
    "hook_by_module": [sys.executable, "-I", "-m", "oomless", "hook", "claude-code", "session-start"],
    "bare_interpreter": [sys.executable, "-I", "-S", "-E", "-c", ""],
}
EVENT = json.dumps({"hook_event_name": "SessionStart", "session_id": "bench", "cwd": "/", "source": "startup"})


def seconds(command: list[str], env: dict[str, str]) -> float:
    began = time.perf_counter()
    done = subprocess.run(command, input=EVENT.encode(), env=env, capture_output=True, check=True)
    took = time.perf_counter() - began
    if done.stderr:
        raise SystemExit(done.stderr.decode())
    return took


def measure(runs: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory(prefix="oob", dir="/tmp") as folder:
        places = {name: f"{folder}/{name}" for name in ("XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_RUNTIME_DIR")}
        for place in places.values():
            os.mkdir(place, 0o700)
        env = {**os.environ, **places, "CLAUDE_PID": str(os.getpid())}
        subprocess.run([*OOMLESS, "daemon", "start"], env=env, check=True, stdout=subprocess.DEVNULL)
        try:
            rounds = [[seconds(command, env) for command in COMMANDS.values()] for _ in range(runs + 1)][1:]
        finally:
            subprocess.run([*OOMLESS, "daemon", "stop"], env=env, check=True, stdout=subprocess.DEVNULL)
    figures = {}
    for name, taken in zip(COMMANDS, zip(*rounds, strict=True), strict=True):
        figures[f"{name}_ms"] = statistics.median(taken) * 1000
        figures[f"{name}_ms_p90"] = statistics.quantiles(taken, n=10)[-1] * 1000
    return figures


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--runs", type=int, default=41, help="runs per command")
    parser.add_argument("--json", default="bench/results/hook.json", help="where the figures go as JSON")
    arguments = parser.parse_args()
    return print_figures(measure(arguments.runs), TARGETS, arguments.json)


if __name__ == "__main__":
    sys.exit(main())
