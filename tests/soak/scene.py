"""The stage of a soak: a house of its own, what runs in it, and who of it is who at any moment.

Covers: folders and settings, starting commands, batches and bystanders, telling clients, shims, members and the
daemon apart. Not here: what is killed and what must hold afterwards (``faults.py``, ``checks.py``), and ending it all
(``__main__.py``). Everybody here descends from ``guard``, a subreaper, whatever becomes of the parents in between.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import trees
from helpers import alive, wait_for, wait_gone
from oomless.contain.launch import BOOT
from oomless.contain.rungs.choose import RungChooser
from oomless.paths import Paths
from oomless.platform import proc
from oomless.processes import descendants
from oomless.protocol import spawn

from . import tree as soak_tree

BUDGET = 1_000_000_000
OOMLESS = [sys.executable, "-m", "oomless"]
PYTHON = [sys.executable, "-I", "-S"]
#: The jobs' shell notes that it ran, starts its tree, and ends after a while; what the tree left is the shim's.
JOB = 'echo "$1" >> "$2"; nap=$3; shift 3; "$@"; sleep "$nap"'
#: A shell's job from before the command: not of its tree, though it is a child of the process that is the shim.
JOB_BEFORE = '"$1" -I -S "$2" "$3" bystander "$4" & shift 4; exec "$@"'

#: What is in a private TMPDIR when its tree is killed: folders, a file, and links that lead out of it.
USES_TMP = 'mkdir -p "$TMPDIR/a/b"; head -c 100000 /dev/zero > "$TMPDIR/a/b/c"; ln -s / "$TMPDIR/a/root"; exec "$@"'

Who = tuple[int, int]


@dataclass
class Work:
    """One command that we started. ``hurt``: names of its trees in which we have killed somebody; ``told``: we sent
    it SIGTERM as a user would; ``killed``: we killed its client."""

    name: str
    process: subprocess.Popen[bytes]
    who: Who
    out: Path
    rosters: dict[str, Path]
    batch: Path | None = None
    told: bool = False
    killed: bool = False
    resumed: int = 0
    hurt: set[str] = field(default_factory=set)

    def report(self) -> Path:
        return self.out.with_suffix(".report")

    def runs(self) -> Path:
        """Where a batch's jobs note that they run."""
        return (self.batch or self.out).with_suffix(".runs")

    def running(self) -> bool:
        return self.process.poll() is None

    def cut_short(self) -> bool:
        """A batch whose command we killed: its jobs go on, and ``--resume`` takes them over."""
        return self.batch is not None and self.killed and not self.running()


@dataclass
class Crowd:
    """Everybody below the guard that lives now, told apart by command line. Half-born daemons and commands that we
    did not start ourselves are in none of the lists but ``others``."""

    daemon: Who | None = None
    clients: list[Who] = field(default_factory=list)
    shims: list[Who] = field(default_factory=list)
    members: list[Who] = field(default_factory=list)
    bystanders: list[Who] = field(default_factory=list)
    others: list[Who] = field(default_factory=list)


class Scene:
    def __init__(self, folder: Path, guard: int) -> None:
        self.folder, self.guard = folder, guard
        names = {"HOME": "h", "XDG_CONFIG_HOME": "c", "XDG_STATE_HOME": "s", "XDG_RUNTIME_DIR": "r"}
        self.env = {**os.environ, **{variable: str(folder / name) for variable, name in names.items()}}
        self.env.pop("OOMLESS_TREE", None)
        for name in (*names.values(), "by"):
            (folder / name).mkdir(mode=0o700)
        self.paths = Paths(self.env)
        self.install = self.paths.install_id()
        self.fifo = folder / "lifeline"
        os.mkfifo(self.fifo)
        self._lifeline = os.open(self.fifo, os.O_RDWR | os.O_CLOEXEC)
        self.works: list[Work] = []
        offers = RungChooser(self.install).offers(proc.cgroups("self"))
        self.rungs = [offer.name for offer in offers if offer.usable]
        self.bases = next(offer.bases for offer in offers if offer.usable)
        self.rung = "auto"
        #: How often each kind of ``run`` was started, by rung.
        self.started: Counter[tuple[str, str]] = Counter()
        self._count = 0

    def close(self) -> None:
        """The bystanders end with this."""
        os.close(self._lifeline)

    def use_rung(self, rung: str) -> None:
        self.rung = rung
        settings = Path(self.paths.config_file)
        settings.parent.mkdir(exist_ok=True)
        settings.write_text(f'rung = "{rung}"\nbudget = {BUDGET}\n', encoding="ascii")

    # -- starting ------------------------------------------------------------------------------------------

    def spawn(self, argv: list[str], out: Path, **env: str) -> subprocess.Popen[bytes]:
        """In a session of its own, so that our terminal's Ctrl-C is ours alone; output in files."""
        with open(out, "ab") as stdout, open(out.with_suffix(".err"), "ab") as stderr:
            return subprocess.Popen(
                argv,
                cwd=self.folder,
                env={**self.env, **env},
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                start_new_session=True,
            )

    def place(self, kind: str) -> Path:
        self._count += 1
        return self.folder / f"{self._count:04}-{kind}.out"

    def add(self, argv: list[str], out: Path, rosters: dict[str, Path], batch: Path | None = None) -> Work:
        process = self.spawn(argv, out)
        who = process.pid, proc.start_of(process.pid) or 0
        work = Work(out.stem, process, who, out, rosters, batch)
        self.works.append(work)
        return work

    def run(self, kind: str, rng: random.Random) -> Work:
        """``oomless run`` of a tree: stubborn, leaving, forking, growing, nested, waiting or beside a job."""
        self.started[self.rung, kind] += 1
        out = self.place(kind)
        roster = out.with_suffix(".roster")
        options = ["--expect", "60MB", "--name", out.stem]
        tree = [*PYTHON, trees.__file__, str(roster), "stay", *kinds(rng)]
        if kind == "leaves":
            tree[5] = str(rng.choice((0, 5)))
        if kind in ("forks", "grows"):
            tree = [*PYTHON, soak_tree.__file__, str(roster), kind]
            options[:2] = ["--memory", "150MB"]
        if kind == "waits":
            options[:2] = ["--expect", str(BUDGET - 20_000_000), "--wait", "60s"]
        if rng.random() < 0.5:
            options.append("--private-tmp")
            tree = ["sh", "-c", USES_TMP, "sh", *tree]
        if kind == "nested":
            tree = [*OOMLESS, "run", "--expect", "30MB", "--", *tree]
        argv = [*OOMLESS, "run", "--report", str(out.with_suffix(".report")), *options, "--", *tree]
        if kind == "beside":
            before = [sys.executable, soak_tree.__file__, str(self.folder / "by"), str(self.fifo)]
            argv = ["sh", "-c", JOB_BEFORE, "sh", *before, *argv]
        return self.add(argv, out, {out.stem: roster})

    def batch(self, rng: random.Random) -> Work:
        out = self.place("batch")
        file, runs = out.with_suffix(".jsonl"), out.with_suffix(".runs")
        rosters, lines = {}, []
        for number in range(rng.randint(2, 4)):
            name = f"{out.stem}-{number}"
            rosters[name] = out.with_name(f"{name}.roster")
            tree = [*PYTHON, trees.__file__, str(rosters[name]), "0", *kinds(rng)]
            nap = f"{rng.uniform(0, 2):.2f}"
            command = ["sh", "-c", JOB, "sh", name, str(runs), nap, *tree]
            private = rng.random() < 0.5
            if private:
                command = ["sh", "-c", USES_TMP, "sh", *command]
            line = {"name": name, "command": command, "expect": "40MB", "private_tmp": private}
            lines.append({**line, "retries": rng.choice((0, 0, 2))})
        file.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
        argv = [*OOMLESS, "batch", "--json", "--max-parallel", str(rng.randint(1, 3)), str(file)]
        return self.add(argv, out, rosters, file)

    def resume(self, work: Work) -> None:
        out = self.place(f"resume-{work.name}")
        work.process = self.spawn([*OOMLESS, "batch", "--json", "--resume", str(work.batch)], out)
        work.who = work.process.pid, proc.start_of(work.process.pid) or 0
        work.out, work.killed, work.resumed = out, False, work.resumed + 1

    def bystander(self, **env: str) -> None:
        """Returns when it watches."""
        argv = [*PYTHON, soak_tree.__file__, str(self.folder / "by"), "bystander", str(self.fifo)]
        process = self.spawn(argv, self.folder / "bystanders.out", **env)
        if not wait_for(lambda: read(self.folder / "by" / str(process.pid)), 20):
            raise RuntimeError("a bystander does not start")

    def dismiss(self, keep: set[Who]) -> None:
        """Ends the bystanders but those, once it has been looked at them."""
        for who in set(self.crowd().bystanders) - keep:
            proc.kill(*who)
            wait_gone(*who, 5)
            for path in (self.folder / "by").glob(f"{who[0]}*"):
                path.unlink()

    # -- who is who ----------------------------------------------------------------------------------------

    def crowd(self) -> Crowd:
        found = Crowd()
        named = spawn.DaemonFile.read(self.paths.daemon_file)
        clients = {work.who for work in self.works}
        table = proc.table()
        for stat in descendants.descendants(table, self.guard):
            if stat.alive and stat.pid != os.getpid():
                who = stat.pid, stat.start
                if named and who == (named.pid, named.start):
                    found.daemon = who
                else:
                    self._sort(found, who, clients)
        return found

    def _sort(self, found: Crowd, who: Who, clients: set[Who]) -> None:
        argv = proc.cmdline(who[0])
        if argv[3:4] == [soak_tree.__file__] and argv[5:6] == ["bystander"]:
            found.bystanders.append(who)
        elif argv[4:5] == [BOOT]:
            found.shims.append(who)
        elif who in clients:
            found.clients.append(who)
        elif "oomless.daemon" in argv or "oomless" in argv[:3]:
            found.others.append(who)
        else:
            found.members.append(who)

    def tree_of(self, who: Who) -> tuple[Work, str] | None:
        """The command and the name of the tree that a shim or a member is of: its arguments have the roster, or those
        of whoever is above it (a shell's ``sleep`` has none)."""
        pid = who[0]
        while pid not in (0, 1, self.guard):
            argv = proc.cmdline(pid)
            for work in self.works:
                for name, roster in work.rosters.items():
                    if str(roster) in argv:
                        return work, name
            stat = proc.read_stat(pid)
            pid = stat.ppid if stat is not None else 0
        return None

    def listed(self) -> dict[Who, str]:
        """All that any roster of this round names, with their kinds."""
        return {who: kind for work in self.works for roster in work.rosters.values() for who, kind in read(roster)}

    def harmed_bystanders(self) -> list[str]:
        """Those that have been ended or signalled; nobody may."""
        found = []
        for path in (self.folder / "by").iterdir():
            if path.suffix == ".signals":
                if path.stat().st_size:
                    found.append(f"{path.stem} was sent the signals {list(path.read_bytes())}")
            else:
                found += [f"{who[0]} was ended" for who, _ in read(path) if not alive(*who)]
        return found


def read(roster: Path) -> list[tuple[Who, str]]:
    """A roster's lines; empty if it is not there (yet)."""
    text = (proc.read_file(str(roster)) or b"").decode()
    rows = [line.split() for line in text.splitlines()]
    return [((int(pid), int(start)), kind) for kind, pid, start in rows]


def kinds(rng: random.Random) -> list[str]:
    return rng.sample(trees.KINDS, rng.randint(2, len(trees.KINDS)))
