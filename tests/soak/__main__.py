"""Kills daemon, shims, clients and members of trees at random moments, and looks for what is left.

    python -m tests.soak [--faults N] [--seed N] [--json FILE] [--keep]

Exits with 1 if anything was found that must not be, with 130 after Ctrl-C; it leaves nothing itself, whatever
happens to it: a guard, the subreaper above all that is started here, ends who is left. The same seed makes the same
choices, but processes race, so that no two runs are the same. The parts: ``scene.py`` (who there is),
``faults.py`` (who is killed), ``checks.py`` (what must hold), ``sight.py`` (that it would be
seen if it did not).
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from helpers import wait_for
from oomless.paths import Paths
from oomless.platform import cgroup, proc
from oomless.processes import descendants

from . import sight as soak_sight
from .checks import Checks, Tally, cgroups
from .faults import KINDS, Faults
from .scene import Scene

SAY_EVERY = 10.0
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Told(BaseException):
    """A signal asked us to end."""

    def __init__(self, number: int) -> None:
        self.code = 128 + number


class Soak:
    def __init__(self, folder: Path, faults: int, seed: int) -> None:
        self.scene = Scene(folder, os.getppid())
        self.wanted, self.seed = faults, seed
        self.rng = random.Random(seed)
        self.tally = Tally()
        self.checks = Checks(self.scene, self.tally)
        self.faults = dict.fromkeys(KINDS, 0)
        self.rounds = 0
        self.blind: list[str] = []
        self.began, self.seconds = time.monotonic(), 0.0

    def run(self) -> None:
        with Show(self) as show:
            self.innocents()
            lasting = set(self.scene.crowd().bystanders)
            while self.struck() < self.wanted and self.rounds < 2 * self.wanted + 10:
                self.round(show)
                self.scene.dismiss(lasting)
                self.scene.works.clear()
        self.blind = soak_sight.blind(self.scene)
        code, _, err = self.checks.oomless("daemon", "stop")
        if code:
            self.checks.found("stuck", f"daemon stop: exit {code}; {err}")
        self.scene.dismiss(set())
        self.scene.close()
        self.seconds = time.monotonic() - self.began

    def round(self, show: Show) -> None:
        rung = self.scene.rungs[self.rounds % len(self.scene.rungs)]
        self.rounds += 1
        self.scene.use_rung(rung)
        faults = Faults(self.scene, self.rng, self.faults, show.update)
        faults.play(min(self.rng.randint(3, 12), self.wanted - self.struck()))
        self.checks.settle(f"round {self.rounds}, rung {rung}", faults.hits, rung)
        show.update()

    def innocents(self) -> None:
        """Bystanders that stay for all rounds: unmarked ones, another installation's, and a mark of a tree of ours
        that is none."""
        for mark in (None, None, "ffffffff:t00000000", "ffffffff:t00000001/t00000002", f"{self.scene.install}:t0"):
            self.scene.bystander(**({} if mark is None else {"OOMLESS_TREE": mark}))

    def struck(self) -> int:
        return sum(self.faults.values())

    def bad(self) -> int:
        return sum(asdict(self.tally.counts).values())

    def line(self) -> str:
        beyond = f", {len(self.tally.beyond_reach)} beyond reach" if self.tally.beyond_reach else ""
        return f"round {self.rounds}, {self.tally.members} members, {self.bad()} problems{beyond}"


class Show:
    """Bars on a terminal, a plain line every 10 s otherwise; problems at once."""

    def __init__(self, soak: Soak) -> None:
        self.soak = soak
        self.console = Console(stderr=True, markup=False, highlight=False)
        self.said = time.monotonic()
        self.problems = 0
        self.progress: Progress | None = None
        self._stack = ExitStack()

    def __enter__(self) -> Show:
        self.console.print(f"soak: {self.soak.wanted} faults, seed {self.soak.seed}", soft_wrap=True)
        if self.console.is_terminal:
            columns = (TextColumn("faults"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
            text = TextColumn("{task.description}", markup=False)
            self.progress = self._stack.enter_context(Progress(*columns, text, console=self.console))
            self.progress.add_task("", total=self.soak.wanted)
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def update(self) -> None:
        soak = self.soak
        for line in soak.tally.problems[self.problems :]:
            self.console.print(f"soak: {line}", soft_wrap=True)
        self.problems = len(soak.tally.problems)
        if self.progress is not None:
            self.progress.update(self.progress.task_ids[0], completed=soak.struck(), description=soak.line())
        elif time.monotonic() - self.said >= SAY_EVERY:
            self.said = time.monotonic()
            seconds = self.said - soak.began
            self.console.print(
                f"soak: {soak.struck()} of {soak.wanted} faults, {soak.line()}, {seconds:.0f} s", soft_wrap=True
            )


def report(soak: Soak, file: str | None) -> None:
    counts = asdict(soak.tally.counts)
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column()
    table.add_column(justify="right")
    for kind, number in soak.faults.items():
        words = {"both": "daemon and shim", "several": "several at once"}
        table.add_row(f"killed: {words.get(kind, kind)}", str(number))
    for name in ("trees", "members", "jobs", "resumed", "bystanders"):
        table.add_row(name, str(getattr(soak.tally, name)))
    for name, number in counts.items():
        table.add_row(name.replace("_", " "), str(number))
    table.add_row("beyond reach", str(len(soak.tally.beyond_reach)))
    table.add_row("planted and not found", ", ".join(soak.blind) or "0")
    console = Console(markup=False, highlight=False)
    console.print(table)
    for line in (*soak.tally.beyond_reach, *soak.tally.problems):
        console.print(line, soft_wrap=True)
    console.print(f"{soak.struck()} faults in {soak.rounds} rounds and {soak.seconds:.0f} s, seed {soak.seed}")
    if file:
        facts = {
            "seed": soak.seed,
            "folder": str(soak.scene.folder),
            "seconds": round(soak.seconds, 1),
            "rounds": soak.rounds,
            "faults": soak.faults,
            "rungs": soak.scene.rungs,
            "blind": soak.blind,
        }
        answer = {"schema": "oomless.soak/1", **facts, **asdict(soak.tally)}
        Path(file).write_text(json.dumps(answer, indent=1) + "\n", encoding="utf-8")


# -- the guard -----------------------------------------------------------------------------------------------


def guarded(work: Callable[[], int], install: Callable[[], str]) -> int:
    """Runs ``work`` in a child. We are the subreaper above everything that it starts, reap what is orphaned, as init
    would, and when the child is gone end whoever is left, and remove their groups."""
    proc.become_subreaper()
    child: list[tuple[int, int]] = []

    def forward(number: int, _: object) -> None:
        for who in child:
            proc.send(*who, number)

    before = {number: signal.signal(number, forward) for number in ENDING}
    pid = os.fork()
    if pid == 0:
        for number, handler in before.items():
            signal.signal(number, handler)
        _become(work)
    child.append((pid, proc.start_of(pid) or 0))
    status = 0
    while True:
        reaped, ended = os.wait()
        if reaped == pid:
            status = ended
            break
    left = end_everybody()
    wait_for(lambda: all(map(cgroup.remove, cgroups(install()))), 2)
    code = os.waitstatus_to_exitcode(status)
    if left and code in (0, 1):
        print(f"soak: {left} processes were left after the last round", file=sys.stderr)
        return 1
    return code if code >= 0 else 125


def _become(work: Callable[[], int]) -> None:
    def stop(number: int, _: object) -> None:
        for ignored in ENDING:
            signal.signal(ignored, signal.SIG_IGN)
        raise Told(number)

    code = 125
    try:
        for number in ENDING:
            signal.signal(number, stop)
        code = work()
    except Told as told:
        code = told.code
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        if code == 125:
            import traceback

            traceback.print_exc()
        os._exit(code)


def end_everybody() -> int:
    """All below us by identity, round by round until we have no child (ECHILD is proof for a subreaper)."""
    ended: set[tuple[int, int]] = set()

    def nobody() -> bool:
        for stat in descendants.walk(os.getpid()):
            if proc.kill(stat.pid, stat.start) == proc.SENT:
                ended.add((stat.pid, stat.start))
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return True
        return False

    if not wait_for(nobody, 20):
        print(f"soak: these do not end: {[stat.pid for stat in descendants.walk(os.getpid())]}", file=sys.stderr)
    return len(ended)


def main() -> int:
    parser = argparse.ArgumentParser(description="Kill at random, and look for what is left.")
    parser.add_argument("--faults", type=int, default=200, metavar="N", help="how many (default 200)")
    parser.add_argument("--seed", type=int, default=None, metavar="N", help="repeat the choices of that run")
    parser.add_argument("--json", metavar="FILE", help="write the figures to FILE")
    parser.add_argument("--keep", action="store_true", help="keep the folder (logs, outputs) if something was found")
    options = parser.parse_args()
    seed = random.SystemRandom().randrange(10**6) if options.seed is None else options.seed
    folder = Path(tempfile.mkdtemp(prefix="oosoak", dir="/tmp"))

    def work() -> int:
        soak = Soak(folder, options.faults, seed)
        soak.run()
        report(soak, options.json)
        return 1 if soak.bad() or soak.blind else 0

    def install() -> str:
        return Paths({"XDG_STATE_HOME": str(folder / "s"), "HOME": str(folder)}).install_id()

    code = 125
    try:
        code = guarded(work, install)
    finally:
        if options.keep and code:
            print(f"soak: kept {folder}", file=sys.stderr)
        else:
            shutil.rmtree(folder, ignore_errors=True)
    return code


if __name__ == "__main__":
    sys.exit(main())
