"""How surely and how fast a tree is killed: every rung of this machine beside killpg, psutil, circus and supervisord.

    python bench/contain.py [--runs N] [--full] [--quick] [--json FILE]

Two tables. *Kill*: milliseconds from the request to the death of the last member, and how many were missed (alive 2 s
later), for trees of 50 and 500 processes whose root lives or is gone, with and without a daemon in it that is
another process every 2 ms, alone and beside 2,000 processes of no tree. *Breach*: a process that
grows at 50, 200 or 1,000 MB/s from 400 MB on, under a limit of 512 MB: the most that it held as a share of the limit,
and the time from when it passed that (or, where the kernel holds it there, stopped growing) to its death. What is
started, and how it is asked to end, is in ``_tree.py`` and ``_ways.py``. ``--full``: every way in every case.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import _ways
from _contained import EaterTree, MeasuredTree
from _others import install_packages

PACKAGES = {
    "circus": "circus==0.19.0",
    "supervisor": "supervisor==4.3.0",
    "superlance": "superlance==2.0.0",
}
SIZES, FOREIGN = (50, 500), 2000
CASES = {"alive": "root alive", "left": "root gone", "rabbit": "re-forks", "hare": "re-forks, setsid"}
LIMIT, BEGIN, TOP = 512 * 10**6, 400, 2048
RATES = (50, 200, 1000)
#: A limit that takes longer than this to act is none.
BREACH_SECONDS = 15.0
GRACE = 1.0
KILL_MS, BESIDE, KERNEL, POLLED = 10.0, 1.25, 1.02, {50: 1.05, 200: 1.05, 1000: 1.08}

Row = dict[str, Any]


def show_progress(text: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


# -- kill --------------------------------------------------------------------------------------------------------


def measure_kill(way: _ways.Way, count: int, case: str) -> tuple[float, int]:
    """Milliseconds and misses."""
    with MeasuredTree("members", str(count), case) as tree:
        way.start(tree)
        try:
            tree.wait_ready(count)
            if isinstance(way, _ways.Supervisor):
                way.connect()
            if case == "left":
                asked = tree.end_root()
                if not isinstance(way, _ways.Oomless):  # which notices it by itself
                    way.end()
            else:
                asked = way.end()
            seconds, missed = tree.measure_end(asked)
        finally:
            tree.close()
            way.close()
    return seconds * 1000, missed


def is_wanted(way: _ways.Way, count: int, case: str, beside: bool, full: bool) -> bool:
    """Unless all is asked for: not what is too many steps away from 50 processes, alone, whose root lives. What is
    missed does not depend on the size, nor on who is beside."""
    steps = (count != SIZES[0]) + (case != "alive") + beside
    return full or steps <= (2 if isinstance(way, _ways.Oomless) else 1)


def measure_kills(ways: list[_ways.Way], beside: bool, options: argparse.Namespace) -> Iterator[Row]:
    for count in SIZES[: 1 if options.quick else None]:
        runs = options.runs if options.full or count == SIZES[0] else max(1, options.runs // 3)
        for case in CASES:
            chosen = [way for way in ways if is_wanted(way, count, case, beside, options.full)]
            taken: dict[str, list[tuple[float, int]]] = {way.name: [] for way in chosen}
            for run in range(runs):
                for way in chosen:
                    if options.full or isinstance(way, _ways.Oomless) or run == 0:
                        show_progress(
                            f"{count} processes, {CASES[case]}{', beside others' * beside}: {way.name} ({run + 1})"
                        )
                        taken[way.name].append(measure_kill(way, count, case))
            for name, found in taken.items():
                yield {
                    "way": name,
                    "processes": count,
                    "case": case,
                    "beside": beside,
                    "ms": statistics.median(ms for ms, _ in found),
                    "missed": max(missed for _, missed in found),
                    "runs": len(found),
                }


def measure_run(beside: bool, options: argparse.Namespace) -> Row:
    """``oomless run`` with a daemon, as users have it: from SIGTERM to its end, tree, record, groups and all, less
    the grace that the tree is given."""
    with tempfile.TemporaryDirectory(prefix="oob", dir="/tmp") as folder:
        places = {f"XDG_{name}": f"{folder}/{name}" for name in ("CONFIG_HOME", "STATE_HOME", "RUNTIME_DIR")}
        for place in places.values():
            os.mkdir(place, 0o700)
        env = {**os.environ, **places}
        oomless = [sys.executable, "-m", "oomless"]
        taken = []
        try:
            for _ in range(options.runs):
                with MeasuredTree("members", str(SIZES[0]), "alive") as tree:
                    process = _ways.start_quietly([*oomless, "run", "--", *tree.command], env=env)
                    tree.wait_ready(SIZES[0])
                    asked = time.monotonic()
                    process.send_signal(signal.SIGTERM)
                    process.wait(20)
                    taken.append((time.monotonic() - asked - GRACE) * 1000)
        finally:
            subprocess.run([*oomless, "daemon", "stop"], env=env, check=True, stdout=subprocess.DEVNULL)
    return {"way": "oomless run, whole", "beside": beside, "ms": statistics.median(taken), "runs": len(taken)}


@contextmanager
def foreign_processes() -> Iterator[None]:
    with MeasuredTree("foreign", str(FOREIGN)) as tree:
        process = _ways.start_quietly(tree.command)
        try:
            show_progress(f"starting {FOREIGN} others")
            tree.wait_ready(FOREIGN + 1, 120)
            yield
        finally:
            tree.close()
            process.wait(60)


# -- breach ------------------------------------------------------------------------------------------------------


def measure_breach(way: _ways.Way, rate: int) -> tuple[float, float, int]:
    """Share of the limit, milliseconds, and 1 if it was not killed."""
    with EaterTree(rate, BEGIN, TOP, LIMIT) as eater:
        way.start(eater)
        try:
            eater.wait_ready(1)
            eater.signal_root()
            ended = eater.wait_ended(time.monotonic() + BREACH_SECONDS)
            now = time.monotonic()
        finally:
            eater.close()
            way.close()
        return eater.peak / LIMIT, (now - eater.passed) * 1000, int(not ended)


def measure_breaches(ways: list[_ways.Way], options: argparse.Namespace) -> Iterator[Row]:
    for rate in RATES[1:] if options.quick else RATES:
        taken: dict[str, list[tuple[float, float, int]]] = {way.name: [] for way in ways}
        kernel = {way.name: isinstance(way, _ways.Oomless) and bool(way.offer.bases) for way in ways}
        for run in range(options.runs):
            for way in ways:
                if options.full or isinstance(way, _ways.Oomless) or run == 0:
                    show_progress(f"growing at {rate} MB/s: {way.name} ({run + 1})")
                    taken[way.name].append(measure_breach(way, rate))
        for name, found in taken.items():
            yield {
                "way": name,
                "kernel": kernel[name],
                "rate": rate,
                "share": statistics.median(share for share, _, _ in found),
                "most": max(share for share, _, _ in found),
                "ms": statistics.median(ms for _, ms, _ in found),
                "missed": sum(missed for *_, missed in found),
                "runs": len(found),
            }


# -- results ------------------------------------------------------------------------------------------------


def print_table(rows: list[Row], across: str, columns: list[Any], titles: list[str], cell: str) -> None:
    names = list(dict.fromkeys(row["way"] for row in rows))
    print(f"{'':26}" + "".join(f"{title:>20}" for title in titles))
    for name in names:
        found = {row[across]: cell.format(**row) for row in rows if row["way"] == name}
        print(f"{name:26}" + "".join(f"{found.get(column, ''):>20}" for column in columns))


def print_results(killed: list[Row], wholes: list[Row], breached: list[Row]) -> None:
    for beside in (False, True):
        for count in SIZES:
            rows = [row for row in killed if row["processes"] == count and row["beside"] == beside]
            if rows:
                print(f"\n{count} processes{f', beside {FOREIGN:,} others' * beside}: ms to the last death, missed")
                for row in rows:
                    row["shown"] = (
                        f"{row['ms']:.1f}, {row['missed']}" if not row["missed"] else f"- , {row['missed']}"
                    )
                print_table(rows, "case", list(CASES), list(CASES.values()), "{shown}")
    print()
    for row in wholes:
        print(f"{row['way']}{', beside others' * bool(row['beside'])}: {row['ms']:.1f} ms beyond the grace")
    if breached:
        print(f"\nlimit {LIMIT // 10**6} MB, growing at: most held / limit, ms to its death")
        titles = [f"{rate} MB/s" for rate in RATES]
        print_table(breached, "rate", list(RATES), titles, "{share:.3f}, {ms:.0f}")


def list_claims(killed: list[Row], breached: list[Row]) -> list[tuple[str, float, float]]:
    """Each claim with its figure and the most that it may be."""
    ours = [row for row in killed if row["way"].startswith("oomless")]
    by_group = [row for row in ours if "subreaper" not in row["way"]]
    by_descent = [row for row in ours if "subreaper" in row["way"] and row["case"] != "hare"]
    found = [
        ("missed on the rungs with a group or a namespace", count_missed(by_group), 0.0),
        ("missed on the subreaper rung, but for what re-forks with setsid", count_missed(by_descent), 0.0),
    ]
    plain = [row for row in by_group if (row["processes"], row["case"]) == (SIZES[0], "alive")]
    by_kill = {(row["way"], row["beside"]): row["ms"] for row in plain if "cgroup2" in row["way"]}
    for (way, beside), ms in by_kill.items():
        where = f"beside {FOREIGN:,}" if beside else "alone"
        found.append((f"{SIZES[0]} processes, {way}, {where}: ms", ms, KILL_MS))
        if beside:
            found.append((f"{SIZES[0]} processes, {way}, {where} / alone", ms / by_kill[way, False], BESIDE))
    for row in breached:
        way, rate = row["way"], row["rate"]
        if way.startswith("oomless"):
            most = KERNEL if row["kernel"] else POLLED[rate]
            found.append((f"{rate} MB/s, {way}: most held / limit", row["share"], most))
    return found


def count_missed(rows: list[Row]) -> float:
    return float(max((row["missed"] for row in rows), default=0))


def measure_all(options: argparse.Namespace) -> tuple[list[Row], list[Row], list[Row]]:
    with tempfile.TemporaryDirectory(prefix="oob", dir="/tmp") as folder:
        show_progress("installing circus and supervisord")
        python, installed = install_packages(folder, PACKAGES)
        ways = _ways.list_ways(python, installed)
        killed, wholes = list(measure_kills(ways, False, options)), [measure_run(False, options)]
        with foreign_processes():
            killed += measure_kills(ways, True, options)
            wholes.append(measure_run(True, options))
        breached = list(measure_breaches(_ways.list_limiters(python, installed, LIMIT), options))
    show_progress("")
    return killed, wholes, breached


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument(
        "--runs",
        type=int,
        default=3,
        help="runs of oomless in each case (a third with 500 processes; of the others: 1)",
    )
    parser.add_argument("--full", action="store_true", help="as many runs of the others, and in every case")
    parser.add_argument("--quick", action="store_true", help="one run, small trees")
    parser.add_argument("--json", default="bench/results/contain.json", help="where the figures go as JSON")
    options = parser.parse_args()
    options.runs = 1 if options.quick else options.runs
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    killed, wholes, breached = measure_all(options)
    _ways.check_cgroups_gone()
    print_results(killed, wholes, breached)
    claims = list_claims(killed, breached)
    print(f"\n{'claim':66} {'measured':>9} {'target':>7}")
    for claim, value, most in claims:
        print(f"{claim:66} {value:9.3f} {most:7} {'' if value <= most else 'missed'}")
    Path(options.json).parent.mkdir(parents=True, exist_ok=True)
    rows = {"kill": killed, "whole": wholes, "breach": breached}
    Path(options.json).write_text(json.dumps(rows, indent=1) + "\n")
    return int(any(value > most for _, value, most in claims))


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
