"""What oomless itself costs: the idle daemon, one shim, and the time that ``run`` adds to a command.

    python bench/footprint.py [--json FILE]

Memory is read from ``/proc/N/smaps_rollup`` with another process of the same interpreter running beside, since pages
shared with nobody else would count as private. Times are medians of paired runs, the bare command and the governed
one in turn, so that a machine that changes its speed changes it for both.
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

from _figures import print_figures

PAIRS = 21
TARGETS = {"daemon_private_dirty_mb": 18.0, "shim_uss_mb": 5.0, "run_adds_ms": 50.0}
OOMLESS = [os.path.join(os.path.dirname(sys.executable), "oomless")]


def smaps(pid: int) -> dict[str, float]:
    """MB per field."""
    found = {}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
        name, _, value = line.partition(":")
        found[name] = int(value.split()[0]) * 1024 / 1e6
    return found


def uss(pid: int) -> float:
    fields = smaps(pid)
    return fields["Private_Clean"] + fields["Private_Dirty"]


def daemon(env: dict[str, str]) -> dict[str, float]:
    """Idle, after it has admitted, run and recorded a few trees."""
    for _ in range(3):
        subprocess.run([*OOMLESS, "run", "--", "true"], env=env, check=True)
    view = json.loads(subprocess.check_output([*OOMLESS, "daemon", "status", "--json"], env=env))
    fields = smaps(view["pid"])
    return {"daemon_private_dirty_mb": fields["Private_Dirty"], "daemon_pss_mb": fields["Pss"]}


def shim(env: dict[str, str]) -> dict[str, float]:
    """Two beside each other, each around a ``sleep``: the shim is the very process that was started."""
    command = [*OOMLESS, "run", "--", "sh", "-c", "echo ready; exec sleep 30"]
    shims = [subprocess.Popen(command, env=env, stdout=subprocess.PIPE) for _ in range(2)]
    try:
        for process in shims:
            assert process.stdout
            process.stdout.readline()
        return {"shim_uss_mb": uss(shims[0].pid), "shim_pss_mb": smaps(shims[0].pid)["Pss"]}
    finally:
        for process in shims:
            process.terminate()
            process.communicate(timeout=20)


def seconds(command: list[str], env: dict[str, str]) -> float:
    began = time.perf_counter()
    subprocess.run(command, env=env, check=True)
    return time.perf_counter() - began


def added(env: dict[str, str]) -> dict[str, float]:
    bare, governed = ["true"], [*OOMLESS, "run", "--", "true"]
    pairs = [(seconds(bare, env), seconds(governed, env)) for _ in range(PAIRS)]
    extra = [(b - a) * 1000 for a, b in pairs]
    return {
        "run_adds_ms": statistics.median(extra),
        "run_adds_ms_min": min(extra),
        "run_adds_ms_max": max(extra),
        "bare_ms": statistics.median(a for a, _ in pairs) * 1000,
    }


def measure() -> dict[str, float]:
    with tempfile.TemporaryDirectory(prefix="oob", dir="/tmp") as folder:
        places = {f"XDG_{kind}_HOME": f"{folder}/{kind.lower()}" for kind in ("CONFIG", "STATE")}
        places["XDG_RUNTIME_DIR"] = f"{folder}/run"
        for place in places.values():
            os.mkdir(place, 0o700)
        env = {**os.environ, **places}
        beside = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
        try:
            return {**daemon(env), **shim(env), **added(env)}
        finally:
            beside.communicate(timeout=20)
            subprocess.run([*OOMLESS, "daemon", "stop"], env=env, check=True, stdout=subprocess.DEVNULL)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--json", default="bench/results/footprint.json", help="where the figures go as JSON")
    arguments = parser.parse_args()
    return print_figures(measure(), TARGETS, arguments.json)


if __name__ == "__main__":
    sys.exit(main())
