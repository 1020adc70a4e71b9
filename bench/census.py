"""What reading the process table costs, at 100, 500 and 2,000 processes: ours, a bare loop, and other programs.

    python bench/census.py [--json FILE] [--reads N]

Each reader runs in a process of its own, over the same sleeping processes, of which one in twenty changes between two
reads. A figure is the median CPU time (user and system, getrusage) of a read, five reads a second, after three that
are not counted. The others are installed into a virtual environment that is thrown away, and left out where they
cannot be: psutil as monitors use it, procpath with the file that it cannot do without and with those that it records
by default, glances' list of processes.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from _others import install_packages

SIZES = (100, 500, 2000)
PACKAGES = {"psutil": "psutil==7.2.2", "procpath": "Procpath==1.15.1", "glances": "glances==4.5.8"}
OTHERS = {"psutil": "psutil", "procpath": "procpath", "procpath_default": "procpath", "glances": "glances"}
OURS = ("bare", "sampler", "daemon")
PAUSE, WARM = 0.2, 3
TARGETS = {"of_bare": 1.2, "cheapest_other": 2.5, "core_percent_at_500": 1.0}


# -- readers, each in its own process ----------------------------------------------------------------------------


def bare() -> Callable[[], object]:
    """Reads every stat line and makes nothing of it."""

    def read_table() -> None:
        for name in os.listdir("/proc"):
            if name.isdigit():
                try:
                    fd = os.open(f"/proc/{name}/stat", os.O_RDONLY)
                except OSError:
                    continue
                os.read(fd, 1024)
                os.close(fd)

    return read_table


def sampler() -> Callable[[], object]:
    from oomless.platform.table_reader import TableReader

    return TableReader().read


def daemon() -> Callable[[], object]:
    """All that the daemon does for a sample, with one session whose ancestry and CPU time it remembers: the parent of
    this process."""
    from oomless.daemon.sessions.discovery import HostRecogniser
    from oomless.daemon.sessions.idle import IdleTracker
    from oomless.daemon.sessions.sampling import ProcessSample
    from oomless.platform import proc
    from oomless.platform.table_reader import TableReader
    from oomless.processes.descent import Descendants
    from oomless.processes.ids import ProcessId

    reader, recogniser, parent = TableReader(), HostRecogniser(), os.getppid()
    descendants = Descendants(ProcessId(parent, proc.start_of(parent) or 0))
    idle = IdleTracker(lambda: [descendants])

    def read_table() -> None:
        table = reader.read()
        recogniser.recognise(table)
        descendants.observe(table)
        idle.observe(ProcessSample(table))

    return read_table


def psutil() -> Callable[[], object]:
    import psutil  # type: ignore[import-not-found, import-untyped, unused-ignore]

    fields = ["pid", "ppid", "name", "create_time", "cpu_times", "memory_info"]
    return lambda: list(psutil.process_iter(fields))


def procpath(*more: str) -> Callable[[], object]:
    from procpath import procfile, proctree  # type: ignore[import-not-found, import-untyped, unused-ignore]

    readers = {name: procfile.registry[name] for name in ("stat", *more)}
    return proctree.Forest(readers).get_roots  # type: ignore[no-any-return, unused-ignore]


def procpath_default() -> Callable[[], object]:
    return procpath("cmdline")


def glances() -> Callable[[], object]:
    from glances.processes import (  # type: ignore[import-not-found, import-untyped, unused-ignore]
        glances_processes,
    )

    return glances_processes.update  # type: ignore[no-any-return, unused-ignore]


def cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def run_probe(name: str, reads: int) -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    read_table, taken = globals()[name](), []
    for _ in range(WARM + reads):
        before = cpu_seconds()
        read_table()
        taken.append((cpu_seconds() - before) * 1000)
        time.sleep(PAUSE)
    print(json.dumps(taken[WARM:]))


# -- what is read ------------------------------------------------------------------------------------------------


def run_fleet(count: int) -> None:
    """``count`` children, killed at the end of our input. One in twenty changes its name, five times a second."""
    children = []
    for number in range(count):
        child = os.fork()
        if child == 0:
            os.close(0)
            run_sleeper(number % 20 == 0)
        children.append(child)
    print("ready", flush=True)
    sys.stdin.read()
    for child in children:
        os.kill(child, 9)


def run_sleeper(changes: bool) -> None:
    turn = 0
    while os.getppid() != 1:
        time.sleep(PAUSE if changes else 600)
        turn += 1
        with open("/proc/self/comm", "w", encoding="ascii") as file:
            file.write(f"turn {turn % 10}")
    os._exit(0)


# -- all together ------------------------------------------------------------------------------------------------


def measure(reads: int) -> dict[str, float]:
    figures: dict[str, float] = {}
    me = os.path.abspath(__file__)
    with tempfile.TemporaryDirectory(prefix="oob", dir="/tmp") as folder:
        other, installed = install_packages(folder, PACKAGES)
        readers = [(name, sys.executable) for name in OURS]
        readers += [(name, other) for name, package in OTHERS.items() if package in installed]
        for size in SIZES:
            more = max(size - sum(name.isdigit() for name in os.listdir("/proc")) - 2, 0)
            command = [sys.executable, "-S", me, "--fleet", str(more)]
            with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as running:
                assert running.stdout
                if running.stdout.readline() != b"ready\n":
                    raise SystemExit(f"the {more} processes to look at could not be started")
                figures[f"processes_{size}"] = sum(name.isdigit() for name in os.listdir("/proc"))
                for name, python in readers:
                    output = subprocess.check_output([python, me, "--probe", name, "--reads", str(reads)])
                    figures[f"{name}_{size}_ms"] = statistics.median(json.loads(output))
    return figures


def judge_claims(figures: dict[str, float]) -> list[tuple[str, float, float, bool]]:
    """Each claim: name, measured, target, whether it holds."""
    found = []
    for size in SIZES:
        ours = figures[f"sampler_{size}_ms"]
        share = ours / figures[f"bare_{size}_ms"]
        found.append((f"{size}: of the bare loop", share, TARGETS["of_bare"], share <= TARGETS["of_bare"]))
        others = [figures[key] for name in OTHERS if (key := f"{name}_{size}_ms") in figures]
        if others:
            times = min(others) / ours
            found.append((f"{size}: cheapest other / ours", times, TARGETS["cheapest_other"], times >= 2.5))
    percent = figures["daemon_500_ms"] / 10
    limit = TARGETS["core_percent_at_500"]
    return [*found, ("500: % of a core at 1 Hz, all that the daemon does", percent, limit, percent <= limit)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--json", default="bench/results/census.json", help="where the figures go as JSON")
    parser.add_argument("--reads", type=int, default=15, help="how many reads of each reader count")
    parser.add_argument("--probe", help=argparse.SUPPRESS)
    parser.add_argument("--fleet", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.fleet is not None:
        run_fleet(arguments.fleet)
        return 0
    if arguments.probe:
        run_probe(arguments.probe, arguments.reads)
        return 0
    figures = measure(arguments.reads)
    print(f"{'CPU ms a read':20}" + "".join(f"{size:>10}" for size in SIZES))
    for name in (*OURS, *OTHERS):
        if f"{name}_{SIZES[0]}_ms" in figures:
            print(f"{name:20}" + "".join(f"{figures[f'{name}_{size}_ms']:10.2f}" for size in SIZES))
    claims = judge_claims(figures)
    print(f"\n{'claim':52} {'measured':>9} {'target':>7}")
    for claim, value, target, holds in claims:
        print(f"{claim:52} {value:9.2f} {target:7} {'' if holds else 'missed'}")
    Path(arguments.json).parent.mkdir(parents=True, exist_ok=True)
    Path(arguments.json).write_text(json.dumps({"figures": figures, "targets": TARGETS}, indent=1) + "\n")
    return int(not all(holds for *_, holds in claims))


if __name__ == "__main__":
    sys.exit(main())
