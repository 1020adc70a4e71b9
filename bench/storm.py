"""A fork bomb under a limit of processes, and how long ``oomless scan`` takes meanwhile.

    python bench/storm.py [--runs N] [--json FILE]

By rung and limit: the median and the longest time of a ``scan`` that begins when the bomb has nine tenths of what it
may have, how long the command took from its start to the bomb's end, and what was left of it then: by themselves the
bomb's processes live for 8 s. A rung without a limit of processes is asked for 100. ``scan_alone_ms`` is of the same
rounds, before the bomb.
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
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec

from _figures import print_figures
from footprint import OOMLESS
from oomless.contain.rungs.choose import RungChooser
from oomless.platform import proc

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "support"))
from trees import BOMB

LIMITS = (100, 200, 500)
BOMBER = [sys.executable, "-I", "-S", "-c", BOMB]


class Storm(msgspec.Struct, frozen=True):
    """Seconds. ``scanned``: begun with the bomb beside, None if that was over before."""

    alone: float
    scanned: float | None
    lived: float
    left: int
    rung: str


def time_scan(env: dict[str, str]) -> float:
    began = time.perf_counter()
    subprocess.run([*OOMLESS, "scan", "--json"], env=env, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def count_bombs() -> int:
    commands = (proc.cmdline(pid) for pid, stat in proc.table().items() if stat.alive)
    return sum(argv == BOMBER for argv in commands)


def measure_round(limit: int, env: dict[str, str], folder: Path) -> Storm:
    alone, report = time_scan(env), folder / "report.json"
    argv = [*OOMLESS, "run", "--processes", str(limit), "--expect", "50MB", "--report", str(report), "--", *BOMBER]
    began = time.perf_counter()
    bomb = subprocess.Popen(argv, env=env, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    with ThreadPoolExecutor(1) as waits:
        ended = waits.submit(lambda: (bomb.wait(60), time.perf_counter() - began, count_bombs()))
        while not ended.done() and count_bombs() < 0.9 * limit:
            time.sleep(0.02)
        took = None if ended.done() else time_scan(env)
        _, lived, left = ended.result()
    record = json.loads(report.read_text())
    return Storm(alone, took, lived, left + record["survivors"], record["rung"])


def measure_rung(name: str, limit: int, runs: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory(prefix="oob", dir="/tmp") as at:
        places = {key: f"{at}/{key}" for key in ("XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_RUNTIME_DIR")}
        for place in places.values():
            os.mkdir(place, 0o700)
        env = {**os.environ, **places}
        (Path(at) / "XDG_CONFIG_HOME" / "oomless").mkdir()
        (Path(at) / "XDG_CONFIG_HOME" / "oomless" / "config.toml").write_text(f'rung = "{name}"\n')
        subprocess.run([*OOMLESS, "daemon", "start"], env=env, check=True, stdout=subprocess.DEVNULL)
        try:
            rounds = [measure_round(limit, env, Path(at)) for _ in range(runs)]
        finally:
            subprocess.run([*OOMLESS, "daemon", "stop"], env=env, check=True, stdout=subprocess.DEVNULL)
    if {storm.rung for storm in rounds} != {name}:
        raise SystemExit(f"asked for the rung {name}, got {sorted({storm.rung for storm in rounds})}")
    return summarize_rounds(f"{name}_{limit}", rounds)


def summarize_rounds(prefix: str, rounds: list[Storm]) -> dict[str, float]:
    beside = [storm.scanned * 1000 for storm in rounds if storm.scanned is not None]
    figures = {
        f"{prefix}_scan_alone_ms": statistics.median(storm.alone for storm in rounds) * 1000,
        f"{prefix}_lived_ms": statistics.median(storm.lived for storm in rounds) * 1000,
        f"{prefix}_left": float(sum(storm.left for storm in rounds)),
    }
    if beside:
        figures |= {f"{prefix}_scan_ms": statistics.median(beside), f"{prefix}_scan_ms_longest": max(beside)}
    return figures


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--runs", type=int, default=5, help="bombs per rung and limit")
    parser.add_argument("--json", default="bench/results/storm.json", help="where the figures go as JSON")
    arguments = parser.parse_args()
    results: dict[str, float] = {}
    targets: dict[str, float] = {}
    for offer in RungChooser("storm").offers(proc.cgroups("self")):
        if offer.usable:
            for limit in LIMITS if offer.bases else LIMITS[:1]:
                results |= measure_rung(offer.name, limit, arguments.runs)
                targets |= {f"{offer.name}_{limit}_scan_ms": 1000.0} if offer.bases else {}
                targets[f"{offer.name}_{limit}_left"] = 0.0
    return print_figures(results, {name: most for name, most in targets.items() if name in results}, arguments.json)


if __name__ == "__main__":
    sys.exit(main())
