"""A stage: processes that a scene starts, each of whom carries a role, and what is true of each role.

A role is a variable in the environment of whatever the stage starts. It is inherited by all that is below, also when
its parents are gone, and the census never reads it: so the stage knows of every process what it was started as. What
a role is worth (``say``) is written by the scene. Not here: reading the processes for the record (``record.py``),
hosts (``stage_host.py``), servers and tools (``stage_parts.py``).
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import msgspec

from oomless.census.attribution import Verdict
from oomless.census.daemon_facts import DaemonFacts
from oomless.daemon.sessions.sampling import SAMPLE_EVERY, SAMPLE_IDLE_EVERY
from oomless.model import ProcessInfo
from oomless.paths import Paths
from oomless.platform import current, proc
from oomless.platform.base import Platform
from oomless.processes.ids import ProcessId
from oomless.protocol import spawn
from oomless.protocol.client import Client
from oomless.reports.look import daemon_facts

from . import machine
from .scene import Label

assert sys.platform == "linux"

ROLE = "STAGE_ROLE"
#: Seconds: how long nothing may change until it counts as settled; with the daemon, until it has looked twice.
QUIET, LOOKED_TWICE = 1.0, 2 * SAMPLE_EVERY + 0.5
#: Nothing on a stage lives longer by itself.
LIFE = 600.0
ACTORS = str(Path(__file__).with_name("stage_actors.py"))


class StageFailed(Exception):
    """The stage did not get to where it was to be; its processes are named."""


class Play(msgspec.Struct, frozen=True, kw_only=True):
    """A scene to be recorded. ``needs``: ``claude``, ``servers``, ``tools``, as ``stage_parts.py`` has them.
    ``tried``: the rules were looked at with its processes in mind, so that no record of it is held out any more.
    ``machine``: it is played on the machine itself (``machine.py``), not in a pid namespace."""

    name: str
    tried: bool
    machine: bool = False
    title: str
    needs: tuple[str, ...]
    run: Callable[[Stage], None]


PLAYS: dict[str, Play] = {}


Run = Callable[["Stage"], None]


def play(title: str, *needs: str, tried: bool = True, machine: bool = False) -> Callable[[Run], Run]:
    """The function's name is the scene's."""

    def enter(function: Run) -> Run:
        name = function.__name__.replace("_", "-")
        PLAYS[name] = Play(name=name, title=title, needs=needs, tried=tried, machine=machine, run=function)
        return function

    return enter


def unseen(title: str, *needs: str, machine: bool = False) -> Callable[[Run], Run]:
    """A scene that was first recorded when the rules were frozen."""
    return play(title, *needs, tried=False, machine=machine)


class Stage:
    """``folder`` is removed with all in it by whoever made it. The environment of this process is the stage's.
    ``group``: on the machine itself, whose members are of the stage; else all processes that there are."""

    def __init__(self, folder: Path, group: machine.Group | None = None) -> None:
        self.folder, self.home, self.group = folder, folder / "home", group
        for name, variable in (
            ("home", "HOME"),
            ("config", "XDG_CONFIG_HOME"),
            ("state", "XDG_STATE_HOME"),
            ("run", "XDG_RUNTIME_DIR"),
            ("tmp", "TMPDIR"),
        ):
            (folder / name).mkdir(mode=0o700, exist_ok=True)
            os.environ[variable] = str(folder / name)
        self.work = self.home / "work"
        self.work.mkdir(exist_ok=True)
        self.programs: dict[str, None] = {}
        self.rubbish: list[Path] = []
        #: Kept to the end: what nobody refers to any more closes its ends of pipes and sockets.
        self.kept: list[object] = []
        self._said: list[tuple[str, Label]] = []
        self._said_of: dict[ProcessId, Label] = {}
        self._roles: dict[ProcessId, str] = {}
        self._own = {os.getppid(): "it adopts orphans, and started none", 1: "the init"}
        self._own[os.getpid()] = "it only starts hosts, as a terminal would"
        self._daemon = self._noticed = self._looks = False
        self._daemon_pid = 0

    # -- starting ---------------------------------------------------------------------------------------------------

    def uses(self, *programs: str) -> None:
        self.programs.update(dict.fromkeys(programs))

    def own(self, pid: int, why: str) -> None:
        """Belongs to no session, and carries no role."""
        self._own[pid] = why

    def environment(self, role: str, extra: Mapping[str, str] | None = None) -> dict[str, str]:
        kept = {name: os.environ[name] for name in ("HOME", "TMPDIR", "OOMLESS_TEST") if name in os.environ}
        return {"PATH": "/usr/local/bin:/usr/bin:/bin", "SHELL": "/bin/bash", **kept, **(extra or {}), ROLE: role}

    def start(self, role: str, *argv: str, **options: Any) -> subprocess.Popen[bytes]:
        """In a process session of its own, with nothing on its stdin unless the options say otherwise."""
        nothing = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        env = self.environment(role, options.pop("env", None))
        started = subprocess.Popen(argv, cwd=self.work, env=env, start_new_session=True, **{**nothing, **options})
        self.kept.append(started)
        return started

    def daemon(self) -> None:
        """Starts oomless' daemon, which records ancestry from now on."""
        spawn.ensure(Paths())
        pid = Client(Paths(), start=False).status().pid
        assert pid is not None
        self.own(pid, "oomless' own daemon")
        self._daemon, self._daemon_pid = True, pid
        self.uses("oomless' daemon")

    def notice(self) -> float:
        """Seconds until the daemon knows of a session that starts now, and hears what it starts. Without one, and in
        a namespace, where it hears nothing, there is nothing to wait for."""
        if not self._daemon or self.group is None:
            return 0.0
        first, self._looks = not self._looks, True
        return SAMPLE_EVERY + (SAMPLE_IDLE_EVERY if first else SAMPLE_EVERY)

    def heard(self) -> None:
        """Raises StageFailed if the daemon does not listen to the kernel while a session lives. It stops for a minute
        where more is started on the machine than it can follow (``sampling.py``); then it would know less
        than on a user's machine."""
        if self._daemon and self.group is not None and self._daemon_pid not in machine.listeners():
            raise StageFailed("the daemon does not listen: too much is started on this machine; try again later")

    # -- who is there -----------------------------------------------------------------------------------------------

    def platform(self) -> Platform:
        """What there is to be recorded."""
        return current() if self.group is None else machine.platform(self.group, self._adopters())

    def _adopters(self) -> set[int]:
        return {machine.INIT, os.getppid()}

    def _table(self) -> dict[int, proc.Stat]:
        if self.group is None:
            return proc.table()
        found = ((pid, proc.read_stat(pid)) for pid in self.group.members() | self._adopters())
        return {pid: stat for pid, stat in found if stat is not None}

    def look(self) -> dict[int, proc.Stat]:
        """All that live, their roles noted."""
        table = {pid: stat for pid, stat in self._table().items() if stat.alive}
        for pid, stat in table.items():
            role = _role(pid)
            if role and pid not in self._own:
                self._roles[ProcessId.of(stat)] = role
        return table

    def role(self, pid: int, table: Mapping[int, proc.Stat]) -> str:
        """Its own, or that of the nearest above it (Chromium writes over the environment of its helpers)."""
        at = table.get(pid)
        while at is not None and at.pid not in self._own:
            found = self._roles.get(ProcessId.of(at))
            if found:
                return found
            at = table.get(at.ppid)
        return ""

    def those(self, role: str, *words: str) -> dict[int, int]:
        """Pids and start times of those who have a role of that pattern and such words in their command lines."""
        table = self.look()
        return {
            pid: stat.start
            for pid, stat in table.items()
            if fnmatchcase(self.role(pid, table), role) and all(word in " ".join(proc.cmdline(pid)) for word in words)
        }

    def one(self, role: str, *words: str) -> ProcessId:
        """The oldest of those; there must be one within a minute."""
        self.wait(lambda: self.those(role, *words), 60, f"{role} {words}")
        found = (ProcessId(pid, start) for pid, start in self.those(role, *words).items())
        return min(found, key=lambda process: (process.start, process.pid))

    def wait(self, condition: Callable[[], object], seconds: float, what: str) -> None:
        """Polls: most of what a stage waits for sends no event to it."""
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                raise StageFailed(f"{what}: not within {seconds:.0f} s\n{self.describe_table()}")
            time.sleep(0.05)

    def await_quiet(self, most: float = 30.0) -> None:
        """Waits until no process has started, ended or changed its program for a while, or for ``most`` seconds. The
        daemon samples seldom as long as it knows of no session."""
        before: object = None
        quiet = LOOKED_TWICE if self._daemon else QUIET
        if self._daemon and not self._noticed:
            self._noticed, quiet = True, SAMPLE_IDLE_EVERY + LOOKED_TWICE
        since, deadline = time.monotonic(), time.monotonic() + most
        while time.monotonic() < min(since + quiet, deadline):
            now = {(pid, stat.start, tuple(proc.cmdline(pid))) for pid, stat in self.look().items()}
            if now != before:
                before, since = now, time.monotonic()
            time.sleep(0.05)

    def describe_table(self) -> str:
        table = self.look()
        rows = (f"{p} {s.ppid} {self.role(p, table)} {' '.join(proc.cmdline(p))[:150]}" for p, s in table.items())
        return "\n".join(rows)

    # -- the truth --------------------------------------------------------------------------------------------------

    def say(self, roles: str, verdict: Verdict, why: str) -> None:
        """Labels all processes with a role of that pattern; a later label replaces an earlier one."""
        self._said.append((roles, Label(verdict=verdict, why=why)))

    def say_of(self, processes: Iterable[ProcessId], verdict: Verdict, why: str) -> None:
        """Labels these processes, whatever is said of their roles."""
        self._said_of.update(dict.fromkeys(processes, Label(verdict=verdict, why=why)))

    def labels(self, processes: Iterable[ProcessInfo]) -> dict[int, Label]:
        """By pid. Raises StageFailed if a process has no label."""
        table = self.look()
        return {process.pid: self._label(process, table) for process in processes}

    def _label(self, process: ProcessInfo, table: Mapping[int, proc.Stat]) -> Label:
        own = self._own.get(process.pid)
        if own:
            return Label(verdict="unknown", why=own)
        found = self._said_of.get(ProcessId.of(process))
        role = self.role(process.pid, table)
        for pattern, label in reversed(self._said):
            if found is None and fnmatchcase(role, pattern):
                found = label
        if found is None:
            raise StageFailed(f"nothing is known of {process.pid} ({role!r}): {' '.join(process.command)[:200]}")
        return found

    def daemon_facts(self) -> DaemonFacts:
        found = daemon_facts(Client(Paths(), start=False).status()) if self._daemon else DaemonFacts()
        return found if self.group is None else machine.of_these(found, self.group.members())

    def expect(self, role: str, least: int = 1) -> None:
        """So many must be there to be recorded, or the scene shows nothing."""
        self.wait(lambda: len(self.those(role)) >= least, 30, f"{least} of {role}")


def _role(pid: int) -> str:
    name = f"{ROLE}=".encode()
    found = (entry for entry in proc.environ(pid).split(b"\0") if entry.startswith(name))
    return next((entry[len(name) :].decode() for entry in found), "")
