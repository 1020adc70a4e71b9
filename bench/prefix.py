"""What the shell prefix costs: the time that it adds to a tool shell's command, and the memory of what stays.

    python bench/prefix.py [--pairs N] [--json FILE]

Times are medians of paired runs, the bare shell and the one behind the prefix in turn, as in ``footprint.py``. Memory
is read with two shells and two servers beside each other, so that pages which only they share count for neither.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "support"))

import sessions
from _figures import print_figures
from footprint import OOMLESS, smaps, uss
from oomless.hosts.claude_code import prefix
from oomless.paths import Paths
from oomless.platform import proc

TARGETS = {
    "true_adds_ms": 30.0,
    "git_version_adds_ms": 30.0,
    "background_shim_uss_mb": 5.0,
    "server_shim_uss_mb": 5.0,
}
COMMANDS = {
    "true": "true",
    "git_version": "git --version",
    "pipe": "ls / | wc -l",
    "background": "sleep 0.2 > /dev/null 2>&1 &",
}


def seconds(program: str | None, command: str, folder: str) -> float:
    began = time.perf_counter()
    process = sessions.shell(
        program, command, f"{folder}/cwd", stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, cwd=folder
    )
    process.communicate(timeout=30)
    took = time.perf_counter() - began
    if process.returncode:
        raise SystemExit(f"{command!r} ended with {process.returncode}")
    return took


def added(program: str, folder: str, pairs: int) -> dict[str, float]:
    figures = {}
    for name, command in COMMANDS.items():
        seconds(program, command, folder)
        taken = [(seconds(None, command, folder), seconds(program, command, folder)) for _ in range(pairs)]
        extra = [(ours - bare) * 1000 for bare, ours in taken]
        figures[f"{name}_adds_ms"] = statistics.median(extra)
        figures[f"{name}_adds_ms_p90"] = statistics.quantiles(extra, n=10)[-1]
        figures[f"{name}_bare_ms"] = statistics.median(bare for bare, _ in taken) * 1000
    return figures


def children(pid: int) -> list[int]:
    return [stat.pid for stat in proc.table().values() if stat.ppid == pid and stat.alive]


def only_child(pid: int) -> int:
    """Waits for nothing: it is there already, and alone."""
    pids = children(pid)
    if len(pids) != 1:
        raise SystemExit(f"one process was expected, not {pids}")
    return pids[0]


def shells(program: str, folder: str) -> dict[str, float]:
    """Two shells that run on, then both background shims of what they leave."""
    command = "sleep 60 > /dev/null 2>&1 & echo $!; read -r x < go"
    os.mkfifo(f"{folder}/go")
    hold = os.open(f"{folder}/go", os.O_RDWR)
    running = [
        sessions.shell(program, command, f"{folder}/cwd{n}", stdin=-3, stdout=-1, cwd=folder, text=True)
        for n in range(2)
    ]
    sleeps = [int(process.stdout.readline()) for process in running if process.stdout]
    foreground = running[0].pid
    background_shim = parent(parent(sleeps[0]))
    ours = {foreground, background_shim, *children(foreground)}
    figures = {
        "shell_running_processes": float(len(ours)),
        "foreground_uss_mb": uss(foreground),
        "background_shim_running_uss_mb": uss(background_shim),
        "shell_running_uss_mb": sum(uss(pid) for pid in ours),
        "shell_running_pss_mb": sum(smaps(pid)["Pss"] for pid in ours),
    }
    os.write(hold, b"\n\n")
    for process in running:
        process.communicate(timeout=20)
    os.close(hold)
    figures["background_shim_uss_mb"] = uss(background_shim)
    figures["background_shim_pss_mb"] = smaps(background_shim)["Pss"]
    for pid in sleeps:
        proc.kill(pid, proc.start_of(pid) or 0)
    return figures


def parent(pid: int) -> int:
    stat = proc.read_stat(pid)
    if stat is None:
        raise SystemExit(f"process {pid} is gone")
    return stat.ppid


def servers(program: str) -> dict[str, float]:
    """Two idle ones beside each other; ``server_adds_processes`` counts what is there besides the server itself."""
    echo = ["sh", "-c", "echo ready; read -r x"]
    running = [sessions.server(program, echo, stdout=subprocess.PIPE) for _ in range(2)]
    for process in running:
        if process.stdout:
            process.stdout.readline()
    shim = running[0].pid
    server = only_child(shim)
    if proc.cmdline(server) != echo:
        raise SystemExit(f"the server is {proc.cmdline(server)}")
    figures = {
        "server_adds_processes": 1.0,
        "server_shim_uss_mb": uss(shim),
        "server_shim_pss_mb": smaps(shim)["Pss"],
    }
    for process in running:
        process.communicate(b"\n", timeout=20)
    return figures


def measure(pairs: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory(prefix="oob", dir="/tmp") as folder:
        for variable in ("XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_RUNTIME_DIR"):
            os.environ[variable] = f"{folder}/{variable.lower()}"
            os.mkdir(os.environ[variable], 0o700)
        program = prefix.write(Paths(), None)
        try:
            return {**added(program, folder, pairs), **shells(program, folder), **servers(program)}
        finally:
            subprocess.run([*OOMLESS, "daemon", "stop"], check=True, stdout=subprocess.DEVNULL)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--pairs", type=int, default=41, help="pairs of runs per command")
    parser.add_argument("--json", default="bench/results/prefix.json", help="where the figures go as JSON")
    arguments = parser.parse_args()
    return print_figures(measure(arguments.pairs), TARGETS, arguments.json)


if __name__ == "__main__":
    sys.exit(main())
