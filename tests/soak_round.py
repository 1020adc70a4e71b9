"""One round of a soak: commands are started, faults strike at random moments, and then everything must be in order.

Covers: choosing and striking, bringing the round to its end as a user would, the checks. Not here: what there is to
strike (``soak_scene.py``), the rounds together and their figures (``soak.py``).
"""

from __future__ import annotations

import json
import os
import random
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from helpers import alive, wait_for, wait_gone
from oomless.contain import ladder
from oomless.contain.launch import BOOT
from oomless.daemon.client import Client
from oomless.errors import OomlessError
from oomless.journal.store import Journal
from oomless.model import ExitRecord
from oomless.platform import proc
from soak_scene import OOMLESS, Scene, Who, Work, read

FAULTS = ("daemon", "shim", "client", "member", "both")
RUNS = ("stays", "stays", "leaves", "forks", "grows", "nested", "waits", "beside")
#: The seconds that things may take before they count as stuck. A grant that nobody took up is given up after 10 s.
COMMAND, GONE, ROWS = 60.0, 10.0, 25.0
#: Without cgroups a shim tells the daemon of its members after 0.1, 0.2, 0.4 and 0.8 s, and then once a second.
TOLD_AFTER = 2.5


@dataclass
class Tally:
    """``problems`` has a line for each thing counted; ``beyond_reach`` names what no rung claims to reach."""

    faults: dict[str, int] = field(default_factory=lambda: dict.fromkeys(FAULTS, 0))
    survivors: int = 0
    open_rows: int = 0
    exit_files: int = 0
    cgroups: int = 0
    lost_results: int = 0
    wrong_signals: int = 0
    stuck: int = 0
    trees: int = 0
    members: int = 0
    jobs: int = 0
    beyond_reach: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def total(self) -> int:
        return sum(self.faults.values())

    def found(self, kind: str, what: str) -> None:
        setattr(self, kind, getattr(self, kind) + 1)
        self.problems.append(f"{kind}: {what}")


class Round:
    """``lasting``: bystanders that stay from round to round."""

    def __init__(self, scene: Scene, tally: Tally, number: int, rng: random.Random, lasting: set[Who]) -> None:
        self.scene, self.tally, self.number, self.rng, self.lasting = scene, tally, number, rng, lasting
        self.rung = "subreaper" if number % 2 else "auto"
        install = ladder.Ladder(scene.install).choose(proc.cgroups("self"), self.rung)
        self.weak = install.name == "subreaper"
        self.daemon_killed: float | None = None
        self.daemons: set[Who] = set()
        self.killed: set[Who] = set()
        #: Environment-wiped members of trees whose shim we killed before they can have been told of.
        self.excused: set[Path] = set()

    def found(self, kind: str, what: str) -> None:
        self.tally.found(kind, f"round {self.number} ({self.rung}): {what}")

    # -- faults --------------------------------------------------------------------------------------------

    def play(self, faults: int) -> None:
        self.scene.use_rung(self.rung)
        self.start()
        for _ in range(faults):
            # The one sleep there is: the moment of a fault is what is random here.
            time.sleep(self.rng.uniform(0, 0.7) if self.rng.random() < 0.7 else self.rng.uniform(0.7, 3))
            if self.rng.random() < 0.3:
                self.tell(self.rng.choice(self.scene.works))
            if self.rng.random() < 0.3:
                self.mislead()
            self.strike()
        self.settle()

    def start(self) -> None:
        """Two to four commands at once, a batch among them more often than not."""
        for kind in self.rng.sample(RUNS, self.rng.randint(1, 3)):
            self.scene.run(kind, self.rng)
        if self.rng.random() < 0.7:
            self.scene.batch(self.rng)

    def tell(self, work: Work) -> None:
        """An ordinary end, so that faults meet trees that are ending. A batch is not told: it would be interrupted."""
        if work.batch is None and work.running():
            work.told = True
            proc.send(*work.who, signal.SIGTERM)

    def mislead(self) -> None:
        """Bystanders that look as if they were of a tree that runs: another installation's, and another variable."""
        try:
            trees = Client(self.scene.paths, start=False).status().trees
        except OomlessError:
            return  # no daemon at the moment
        tree = next((tree.tree for tree in trees if tree.state == "running"), None)
        if tree is not None:
            self.scene.bystander(OOMLESS_TREE=f"ffffffff:{tree}")
            self.scene.bystander(NO_OOMLESS_TREE=f"{self.scene.install}:{tree}")

    def strike(self) -> None:
        """The rarest fault so far that finds a victim now; none if everything has ended meanwhile."""
        crowd = self.scene.crowd()
        victims = {
            "daemon": [[crowd.daemon]],
            "shim": [[shim] for shim in crowd.shims],
            "client": [[client] for client in crowd.clients],
            "member": [[member] for member in crowd.members],
            "both": [self.rng.sample([crowd.daemon, shim], 2) for shim in crowd.shims],
        }
        kinds = sorted(FAULTS, key=lambda kind: (self.tally.faults[kind], self.rng.random()))
        for kind in kinds:
            possible = [found for some in victims[kind] if len(found := [who for who in some if who]) == len(some)]
            if possible:
                hit = [self.kill(who, crowd.daemon) for who in self.rng.choice(possible)]
                self.tally.faults[kind] += any(hit)
                return

    def kill(self, who: Who, daemon: Who | None) -> bool:
        """The books first: who is killed cannot be asked any more."""
        found = self.scene.tree_of(who)
        work = next((work for work in self.scene.works if work.who == who), None)
        shim = proc.cmdline(who[0])[4:5] == [BOOT]
        if proc.kill(*who) != proc.SENT:
            return False
        self.killed.add(who)
        now = time.monotonic()
        if who == daemon:
            self.daemon_killed = now
        if work is not None:
            work.killed = True
        if found is not None:
            found[0].hurt.add(found[1])
            if shim:
                self.excuse(found[0].rosters[found[1]])
        return True

    def excuse(self, roster: Path) -> None:
        """A daemon that started later may know of nobody, and an older one not of members so young."""
        since = time.clock_gettime(time.CLOCK_BOOTTIME) - TOLD_AFTER
        ticks = since * os.sysconf("SC_CLK_TCK")
        young = any(who[1] > ticks for who, kind in read(roster) if kind == "wiped-environment") or not read(roster)
        if young or self.daemon_killed is not None:
            self.excused.add(roster)

    # -- the end of the round ------------------------------------------------------------------------------

    def settle(self) -> None:
        self.restart()
        for work in self.scene.works:
            self.tell(work)
        for work in self.scene.works:
            self.finish(work)
        self.nobody_left()
        self.books()
        for work in self.scene.works:
            self.results(work)
        for line in self.scene.harmed_bystanders():
            self.found("wrong_signals", f"bystander {line}")
        self.unexpected()
        self.scene.dismiss(self.lasting)
        self.scene.works.clear()

    def oomless(self, *argv: str) -> tuple[int, bytes, str]:
        """Runs it to its end; exit code (-1: it was stuck), output and errors."""
        out = self.scene.folder / f"round-{self.number}-{argv[0]}-{time.monotonic_ns()}.out"
        process = self.scene.spawn([*OOMLESS, *argv], out)
        who = process.pid, proc.start_of(process.pid) or 0
        if not wait_gone(*who, COMMAND):
            self.found("stuck", f"oomless {' '.join(argv)}")
            proc.kill(*who)
        code = process.wait()
        return code, out.read_bytes(), out.with_suffix(".err").read_text(errors="replace").strip()

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

    def nobody_left(self) -> None:
        """By the rosters, and by descent from us: who lives on though its tree has ended."""
        listed = self.scene.listed()
        self.tally.members += len(listed)
        until = time.monotonic() + GONE
        for who in listed:
            if who not in self.wiped():
                wait_gone(*who, until - time.monotonic())
        wait_for(lambda: not self.strays() - self.wiped(), until - time.monotonic())
        for who in self.strays():
            argv = proc.cmdline(who[0])
            kind = listed.get(who, "unlisted")
            line = f"{kind} {who[0]} of {self.where(who)}: {' '.join(argv)[-120:]}"
            if who in self.wiped():
                self.tally.beyond_reach.append(f"round {self.number}: {line}")
            elif alive(*who):
                self.found("survivors", line)
            proc.kill(*who)
            wait_gone(*who, GONE)

    def strays(self) -> set[Who]:
        crowd = self.scene.crowd()
        return {*crowd.members, *crowd.shims, *crowd.clients, *crowd.others}

    def wiped(self) -> set[Who]:
        """Those that no rung claims to reach, once the shim above them was killed: see the ladder's gap."""
        if not self.weak:
            return set()
        found = set()
        for who in self.scene.crowd().members:
            argv = proc.cmdline(who[0])
            if argv[5:6] and argv[5].startswith("wiped:") and Path(argv[4]) in self.excused:
                found.add(who)
        return found

    def where(self, who: Who) -> str:
        found = self.scene.tree_of(who)
        return found[1] if found else "nobody's tree"

    # -- books and results ---------------------------------------------------------------------------------

    def books(self) -> None:
        journal = Journal.open(self.scene.paths.journal)
        try:
            wait_for(lambda: not journal.open_trees(), ROWS)
            for row in journal.open_trees():
                self.found("open_rows", f"{row.intent.name} {row.intent.tree}")
        finally:
            journal.close()
        exits = self.scene.paths.exits
        if not wait_for(lambda: not os.listdir(exits), GONE):
            for name in os.listdir(exits):
                self.found("exit_files", name)
                os.unlink(os.path.join(exits, name))
        if not wait_for(lambda: not cgroups(self.scene.install), GONE):
            for path in cgroups(self.scene.install):
                self.found("cgroups", path)

    def results(self, work: Work) -> None:
        if work.batch is not None:
            self.batch_results(work, work.batch)
            return
        self.tally.trees += 1
        if not work.killed and work.name not in work.hurt and work.process.returncode >= 0:
            record = record_of(work.report())
            if record is None:
                if not self.never_ran(work):
                    self.found("lost_results", f"{work.name}, exit {work.process.returncode}, has no report")
            else:
                self.known(work.name, record, work.process.returncode)

    def never_ran(self, work: Work) -> bool:
        """It was ended while it waited, or its daemon was killed while it asked: it says so."""
        text = work.out.with_suffix(".err").read_text(errors="replace")
        waiting = work.told and "while waiting" in text
        return waiting or (work.process.returncode == 125 and self.daemon_killed is not None and "daemon" in text)

    def batch_results(self, work: Work, file: Path) -> None:
        """A batch of which nobody was killed is complete at once, any other one after ``--resume``."""
        answer, whole = work.out.read_bytes(), not work.killed and not work.hurt
        if not whole and work.process.returncode:
            code, answer, err = self.oomless("batch", "--json", "--resume", str(file))
        else:
            code, err = work.process.returncode, work.out.with_suffix(".err").read_text(errors="replace").strip()
        try:
            jobs = json.loads(answer)["jobs"]
        except ValueError:
            jobs = []
        if code:
            self.found("lost_results", f"{work.name} ({'whole' if whole else 'resumed'}): exit {code}; {err[-300:]}")
        ran = [name for name in text_of(file.with_suffix(".runs")).split()]
        for name in work.rosters:
            mine = [job for job in jobs if job["name"] == name]
            self.job_result(work, name, mine, ran.count(name))

    def job_result(self, work: Work, name: str, mine: list[dict[str, object]], ran: int) -> None:
        self.tally.jobs += 1
        if [(job["status"], job["survivors"]) for job in mine] != [("done", 0)]:
            self.found("lost_results", f"{name}: {mine}")
            return
        if ran != 1 and name not in work.hurt:
            self.found("lost_results", f"{name} ran {ran} times and was never killed")
        record = record_of(Path(str(mine[0]["stdout"])).with_suffix(".json"))
        if record is None:
            self.found("lost_results", f"{name} has no record")
        else:
            self.known(name, record, 0)

    def known(self, name: str, record: ExitRecord, code: int) -> None:
        """The journal has the same record, and nobody is left by it."""
        journal = Journal.open(self.scene.paths.journal)
        try:
            row = journal.tree(record.tree)
        finally:
            journal.close()
        if row is None or row.record is None or row.ended_at is None:
            self.found("lost_results", f"{name} {record.tree} is not in the journal")
        if (record.survivors, record.exit_code) != (0, code):
            self.found("lost_results", f"{name}: {record.survivors} survivors, exit {record.exit_code}, not {code}")

    def unexpected(self) -> None:
        """Daemons that ended without us, and what they think is worth an error."""
        log = Path(self.scene.paths.log)
        for line in text_of(log).splitlines():
            if '"error"' in line or "Traceback" in line:
                self.found("stuck", f"the daemon's log: {line[:300]}")
        log.write_bytes(b"")
        ready = [line for line in ()]
        assert not ready


def record_of(path: Path) -> ExitRecord | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=ExitRecord)
    except (OSError, msgspec.DecodeError):
        return None


def text_of(path: Path) -> str:
    return (proc.read_file(str(path)) or b"").decode(errors="replace")


def cgroups(install: str) -> list[str]:
    """Groups of this installation, anywhere below the mounts that oomless uses."""
    found = []
    for mount in set(ladder.mounts().values()):
        for folder, names, _ in os.walk(mount):
            found += [os.path.join(folder, name) for name in names if name.startswith(f"oomless-{install}-")]
    return found
