"""What must hold after each round of a soak, whoever was killed in it.

Covers: bringing the round to its end as a user would, and then: nobody lives on, the books are closed, no result is
lost, nobody else was touched. Waiting is bounded, and on events where there are any. Not here: the faults
(``faults.py``), the rounds together and their figures (``__main__.py``).
"""

from __future__ import annotations

import json
import os
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from helpers import wait_for, wait_gone
from oomless.contain.rungs import choose
from oomless.journal.journal import Journal
from oomless.model import ExitRecord
from oomless.platform import cgroup, proc
from oomless.protocol import log_file, spawn

from .faults import Hits, tell
from .scene import OOMLESS, Scene, Who, Work

#: Seconds that things may take before they count as stuck. A grant that nobody took up is given up after 10 s.
COMMAND, GONE, ROWS = 60.0, 10.0, 25.0


@dataclass
class Counts:
    """All must stay 0; the tally's ``problems`` say what each one is."""

    survivors: int = 0
    open_rows: int = 0
    exit_files: int = 0
    cgroups: int = 0
    temp_folders: int = 0
    lost_results: int = 0
    wrong_signals: int = 0
    stuck: int = 0
    daemon_errors: int = 0


@dataclass
class Tally:
    """``beyond_reach`` names what no rung claims to reach (``rungs.base.SUBREAPER_GAP``); it counts as no failure."""

    counts: Counts = field(default_factory=Counts)
    trees: int = 0
    members: int = 0
    jobs: int = 0
    resumed: int = 0
    bystanders: int = 0
    beyond_reach: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


class Checks:
    """``seen`` holds what has been counted in an earlier round, ``daemons`` the pids of those that became ready and
    were not killed by us."""

    def __init__(self, scene: Scene, tally: Tally) -> None:
        self.scene, self.tally = scene, tally
        self.title = ""
        self.hits = Hits()
        self.weak = False
        self.seen: set[str] = set()
        self.daemons: set[int] = set()
        self._log_read = 0

    def found(self, kind: str, what: str) -> None:
        if what not in self.seen:
            self.seen.add(what)
            setattr(self.tally.counts, kind, getattr(self.tally.counts, kind) + 1)
            self.tally.problems.append(f"{self.title}: {kind}: {what}")

    def settle(self, title: str, hits: Hits, rung: str) -> None:
        self.title, self.hits = title, hits
        chosen = choose.RungChooser(self.scene.install).choose(proc.cgroups("self"), rung)
        self.weak = chosen.name == "subreaper"
        works = self.scene.works
        self.restart()
        for work in works:
            tell(work)
        for work in works:
            if work.cut_short():
                self.scene.resume(work)
            self.finish(work)
        self.nobody_left()
        self.books()
        for work in works:
            (self.run_result if work.batch is None else self.batch_result)(work)
        self.others()

    # -- the end of the round ------------------------------------------------------------------------------

    def oomless(self, *argv: str) -> tuple[int, bytes, str]:
        """Runs it to its end; exit code, output and errors."""
        out = self.scene.place(argv[0])
        process = self.scene.spawn([*OOMLESS, *argv], out)
        who = process.pid, proc.start_of(process.pid) or 0
        if not wait_gone(*who, COMMAND):
            self.found("stuck", f"oomless {' '.join(argv)}")
            proc.kill(*who)
        return process.wait(), out.read_bytes(), errors_of(out)

    def restart(self) -> None:
        code, _, err = self.oomless("daemon", "start")
        if code:
            self.found("stuck", f"daemon start: exit {code}; {err}")

    def finish(self, work: Work) -> None:
        if not wait_gone(*work.who, COMMAND):
            self.found("stuck", f"{work.name} does not end")
            proc.kill(*work.who)
            work.killed = True
        code = work.process.wait()
        if code < 0 and not work.killed and not (work.told and code == -signal.SIGTERM):
            self.found("wrong_signals", f"{work.name} was ended by signal {-code}")

    # -- nobody is left ------------------------------------------------------------------------------------

    def nobody_left(self) -> None:
        """By the rosters, and by descent from us: who lives on though its tree has ended."""
        listed = self.scene.listed()
        self.tally.members += len(listed)
        until = time.monotonic() + GONE
        spared = self.spared()
        for who in listed.keys() - spared:
            wait_gone(*who, until - time.monotonic())
        wait_for(lambda: not self.strays() - self.spared(), until - time.monotonic())
        spared = self.spared()
        for who in self.strays():
            self.name_and_end(who, listed.get(who, "unlisted"), who in spared)

    def name_and_end(self, who: Who, kind: str, spared: bool) -> None:
        tree = self.scene.tree_of(who)
        name = tree[1] if tree else "no tree"
        command = " ".join(proc.cmdline(who[0]))[-150:]
        if proc.kill(*who) == proc.GONE:
            return
        if spared:
            self.tally.beyond_reach.append(f"{self.title}: {kind} {who[0]} of {name}")
        else:
            self.found("survivors", f"{kind} {who[0]} of {name}: {command}")
        wait_gone(*who, GONE)

    def strays(self) -> set[Who]:
        crowd = self.scene.crowd()
        return {*crowd.members, *crowd.shims, *crowd.clients, *crowd.others}

    def spared(self) -> set[Who]:
        """Members that no rung claims to reach; they are known by their arguments, for all else is wiped."""
        if not self.weak:
            return set()
        found = set()
        for who in self.scene.crowd().members:
            argv = proc.cmdline(who[0])
            if argv[5:6] and argv[5].startswith("wiped:") and Path(argv[4]) in self.hits.excused:
                found.add(who)
        return found

    # -- the books are closed ------------------------------------------------------------------------------

    def books(self) -> None:
        journal = Journal.open(self.scene.paths.journal)
        try:
            wait_for(lambda: not journal.trees.open(), ROWS)
            for row in journal.trees.open():
                self.found("open_rows", f"{row.intent.terms.name} {row.intent.tree}")
        finally:
            journal.close()
        exits = self.scene.paths.exits
        wait_for(lambda: not os.listdir(exits), GONE)
        for name in os.listdir(exits):
            self.found("exit_files", name)
        wait_for(lambda: not cgroups(self.scene.install), GONE)
        for path in cgroups(self.scene.install):
            self.found("cgroups", path)
        tmp = self.scene.paths.tmp
        wait_for(lambda: not listed(tmp), GONE)
        for name in listed(tmp):
            self.found("temp_folders", name)

    # -- no result is lost ---------------------------------------------------------------------------------

    def run_result(self, work: Work) -> None:
        """A ``run`` in whose tree we killed nobody has a report, and its exit code is the one in there."""
        self.tally.trees += 1
        code = work.process.returncode
        if work.killed or work.hurt or code < 0:
            return
        record = record_of(work.report())
        if record is not None:
            self.known(work.name, record, code)
        elif not self.never_ran(work, code):
            self.found("lost_results", f"{work.name} has no report; exit {code}; {errors_of(work.out)[-300:]}")

    def never_ran(self, work: Work, code: int) -> bool:
        """It was ended while it waited, or the daemon was killed while it asked: it says so."""
        text = errors_of(work.out)
        return (work.told and "while waiting" in text) or (
            code == 125 and self.hits.daemon_at is not None and "the daemon" in text
        )

    def batch_result(self, work: Work) -> None:
        """A batch in whose jobs we killed nobody is complete when its (newest) command ends, any other one after a
        further ``--resume``."""
        if work.process.returncode and work.hurt:
            self.scene.resume(work)
            self.finish(work)
        self.tally.resumed += work.resumed
        answer, code, err = work.out.read_bytes(), work.process.returncode, errors_of(work.out)
        if code:
            self.found("lost_results", f"{work.name}, resumed {work.resumed} times: exit {code}; {err[-300:]}")
        ran = text_of(work.runs()).split()
        for name in work.rosters:
            self.job_result(name, jobs_of(answer, name), ran.count(name), name in work.hurt)

    def job_result(self, name: str, results: list[dict[str, Any]], ran: int, hurt: bool) -> None:
        """One result and one record for each job, and one run for each that was left alone."""
        self.tally.jobs += 1
        self.tally.trees += ran
        if [(job["status"], job["survivors"]) for job in results] != [("done", 0)]:
            self.found("lost_results", f"{name}: {results}")
            return
        if ran != 1 and not hurt:
            self.found("lost_results", f"{name} ran {ran} times and was never hurt; {results}")
        record = record_of(Path(results[0]["stdout"]).with_suffix(".json"))
        if record is None:
            self.found("lost_results", f"{name} has no record")
        else:
            self.known(name, record, 0)

    def known(self, name: str, record: ExitRecord, code: int) -> None:
        """The journal has the same record, and it says that nobody is left. A command may return a moment before the
        daemon has written that down."""
        journal = Journal.open(self.scene.paths.journal)
        try:
            wait_for(lambda: (row := journal.trees.get(record.tree)) is not None and row.record is not None, GONE)
            row = journal.trees.get(record.tree)
        finally:
            journal.close()
        if row is None or row.record is None or row.ended_at is None:
            self.found("lost_results", f"{name} {record.tree} is not in the journal")
        if (record.survivors, record.exit_code) != (0, code):
            self.found("lost_results", f"{name}: {record.survivors} left, exit {record.exit_code} and not {code}")

    # -- nobody else was touched ---------------------------------------------------------------------------

    def others(self) -> None:
        """Bystanders, and the daemons: each one that became ready still runs, or we killed it."""
        self.tally.bystanders += len(self.scene.crowd().bystanders)
        for line in self.scene.harmed_bystanders():
            self.found("wrong_signals", f"bystander {line}")
        for entry in self.new_log():
            if entry.level == "error":
                self.found("daemon_errors", f"{entry.text[:300]} {entry.fields}")
            if entry.text == "ready":
                self.daemons.add(int(str(entry.fields["pid"])))
        self.daemons -= {pid for pid, _ in self.hits.killed}
        now = spawn.running(self.scene.paths)
        for pid in self.daemons - {now.pid if now else 0}:
            self.found("wrong_signals", f"the daemon {pid} ended by itself")

    def new_log(self) -> list[log_file.Line]:
        raw = proc.read_file(self.scene.paths.log) or b""
        if len(raw) < self._log_read:  # it was rotated
            self._log_read = 0
        fresh, self._log_read = raw[self._log_read :], len(raw)
        return [log_file.parse(line) for line in fresh.splitlines()]


def listed(folder: str) -> list[str]:
    return os.listdir(folder) if os.path.isdir(folder) else []


def record_of(path: Path) -> ExitRecord | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=ExitRecord)
    except (OSError, msgspec.DecodeError):
        return None


def jobs_of(answer: bytes, name: str) -> list[dict[str, Any]]:
    """A batch's results for one job, out of what ``--json`` printed."""
    try:
        return [job for job in json.loads(answer)["jobs"] if job["name"] == name]
    except ValueError:
        return []


def text_of(path: Path) -> str:
    return (proc.read_file(str(path)) or b"").decode(errors="replace")


def errors_of(out: Path) -> str:
    return text_of(out.with_suffix(".err")).strip()


def cgroups(install: str) -> list[str]:
    """Groups of this installation, anywhere below the mounts that oomless uses."""
    found = []
    for mount in set(cgroup.mount_points().values()):
        for folder, names, _ in os.walk(mount):
            found += [os.path.join(folder, name) for name in names if name.startswith(f"oomless-{install}-")]
    return found
