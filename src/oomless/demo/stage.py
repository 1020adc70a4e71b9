"""What all acts share: the throwaway folder, the clock and its ticks, signals, and how an act is opened and closed.

An act is closed in two moves: what is left is counted and written down, then ended by identity. On any error the
second move is made as well, so that nothing outlives the demo. Signals raise nothing in mid-air: the handler
leaves a note, and the next tick raises Interrupted (at most 0.1 s later); a second Ctrl-C cannot break a clean-up.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection
from types import FrameType
from typing import Protocol, Self

assert sys.platform == "linux"

from oomless.demo import samples
from oomless.demo.agents import Agents, Place
from oomless.demo.keeper import state_folder
from oomless.demo.measure import MARK, Watch
from oomless.demo.record import ActName, ActRecord, Point
from oomless.demo.samples import Sample
from oomless.errors import Interrupted, OomlessError
from oomless.platform import proc
from oomless.platform.base import Platform

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Report(Protocol):
    """Who is told what happens; ``show.py`` prints it."""

    def act(self, name: ActName, what: str) -> None: ...

    def tick(self, point: Point, finished: int) -> None: ...

    def done(self, record: ActRecord) -> None: ...

    def note(self, line: str) -> None: ...


class Stage:
    """The folder is short enough for a socket's path; it goes with everything in it at the end. ``environ`` is what
    the agents inherit with XDG folders in there: nobody can meet the user's own daemon, and the keeper knows who is
    ours."""

    def __init__(self, agents: Agents, platform: Platform, report: Report) -> None:
        self.agents, self.platform, self.report = agents, platform, report
        self.folder = ""
        self.environ: dict[str, str] = {}
        self.samples: dict[ActName, list[Sample]] = {}
        self._signal: int | None = None
        self._handlers: dict[int, object] = {}

    def __enter__(self) -> Self:
        self.folder = tempfile.mkdtemp(prefix="oomless-demo-")
        folders = {
            "XDG_CONFIG_HOME": os.path.join(self.folder, "c"),
            "XDG_STATE_HOME": state_folder(self.folder),
            "XDG_RUNTIME_DIR": os.path.join(self.folder, "r"),
        }
        for folder in folders.values():
            os.mkdir(folder, 0o700)
        self.environ = {**self.agents.inherited, **folders}
        self._keeper = _start_keeper(self.folder)
        for number in SIGNALS:
            self._handlers[number] = signal.signal(number, self._note_signal)
        return self

    def __exit__(self, *exc: object) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
        shutil.rmtree(self.folder, ignore_errors=True)
        try:
            self._keeper.communicate(b".")
        except BrokenPipeError:
            pass  # somebody ended it: it has nothing to do any more

    def _note_signal(self, number: int, _frame: FrameType | None) -> None:
        self._signal = number

    def check(self) -> None:
        if self._signal is not None:
            error = Interrupted("interrupted", "", "what the demo had started is ended")
            error.exit_code = 128 + self._signal
            raise error

    @property
    def names(self) -> tuple[str, ...]:
        return self.agents.names


def _start_keeper(folder: str) -> subprocess.Popen[bytes]:
    """In a session of its own: a signal to the demo's group or terminal must not end it too."""
    command = [sys.executable, "-m", "oomless.demo.keeper", folder]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, start_new_session=True)


class Act:
    """One act while it runs."""

    def __init__(self, stage: Stage, name: ActName, what: str, budget: int | None = None) -> None:
        self.stage, self.name, self.budget = stage, name, budget
        self.mark = secrets.token_hex(16)
        self.folder = os.path.join(stage.folder, name)
        os.mkdir(self.folder, 0o700)
        self.place = Place(folder=self.folder, governed=budget is not None, environ=stage.environ)
        self.watch = Watch(self.mark, stage.agents.role, stage.platform)
        self.killed: set[str] = set()
        self.samples: list[Sample] = stage.samples.setdefault(name, [])
        self._agents: dict[str, subprocess.Popen[bytes]] = {}
        self._seconds: float | None = None
        stage.report.act(name, what)
        self._open()
        self._begin = self._next = time.monotonic()

    def _open(self) -> None:
        """A Ctrl-C reaches what is started for it too: then that is the reason."""
        try:
            self.stage.agents.open(self.place)
        except OomlessError:
            self.stage.check()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.watch.end_left()
        for agent in self._agents.values():
            agent.wait()

    def start(self, name: str) -> subprocess.Popen[bytes]:
        """What it prints goes to ``NAME.out``, and is shown if it fails."""
        start = self.stage.agents.start(self.place, name)
        with open(os.path.join(self.folder, f"{name}.out"), "wb") as out:
            agent = subprocess.Popen(
                start.command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env={**self.stage.environ, **start.env, MARK: self.mark},
                cwd=start.cwd,
            )
        self._agents[name] = agent
        return agent

    def step(self, overhead: Collection[int] = ()) -> None:
        """One sample, then the rest of the tick."""
        self.stage.check()
        sample = self.watch.sample(self.elapsed(), overhead)
        self.samples.append(sample)
        self.stage.report.tick(samples.point(sample), self._count(".json"))
        tick = self.stage.agents.tick
        self._next = max(self._next + tick, time.monotonic() + tick / 2)
        time.sleep(max(0.0, self._next - time.monotonic()))

    def elapsed(self) -> float:
        return time.monotonic() - self._begin

    def check_time(self) -> None:
        if self.elapsed() > self.stage.agents.longest:
            missing = [name for name in self.stage.names if not self._there(name, ".json")]
            raise OomlessError(
                f"{self.name} does not end",
                f"after {self.elapsed():.0f} s there is no result of {', '.join(missing)}",
            )

    def agents_over(self) -> None:
        """The last agent has ended: that is the act's length, whatever is sampled afterwards."""
        self._seconds = self.elapsed()
        for name, agent in self._agents.items():
            if name not in self.killed and not self._there(name, ".json"):
                said = last_line(os.path.join(self.folder, f"{name}.out"))
                self.stage.report.note(f"{name}: no result, exit code {agent.wait()}{said and ': ' + said}")

    def linger(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self.step()

    def kill_halfway(self) -> None:
        """SIGKILL to each agent's root that is half-way, once: whoever tries again is left alone."""
        due = {name for name in self.stage.names if self._there(name, ".half")} - self.killed
        for member in self.watch.agents() if due else []:
            if member.agent in due and proc.kill(member.pid, member.start) == proc.SENT:
                self.killed.add(member.agent)

    def close(self) -> ActRecord:
        """Counts what is left, then ends it."""
        left = self.watch.left()
        points = tuple(samples.point(sample) for sample in self.samples)
        record = ActRecord(
            name=self.name,
            agents_peak=max((p.agents for p in points), default=0),
            processes_peak=max((p.processes for p in points), default=0),
            peak_bytes=max((p.bytes for p in points), default=0),
            footprint_source=self.watch.source,
            budget_bytes=self.budget,
            finished=self._count(".json"),
            seconds=round(self.elapsed() if self._seconds is None else self._seconds, 3),
            survivors=len(left),
            survivors_bytes=sum(one.bytes for one in left),
            left=left,
            ended=self.watch.end_left(),
            killed=len(self.killed),
            repeated=self._count(".again"),
            overhead_bytes=max((p.overhead_bytes for p in points), default=0),
            agent_bytes=samples.agent_peak(self.samples),
            at_peak=samples.at_peak(self.samples),
            points=points,
        )
        self.stage.report.done(record)
        return record

    def _count(self, ending: str) -> int:
        return sum(self._there(name, ending) for name in self.stage.names)

    def _there(self, name: str, ending: str) -> bool:
        return os.path.exists(os.path.join(self.folder, name + ending))


def last_line(path: str) -> str:
    lines = (proc.read_file(path) or b"").decode("utf-8", "replace").strip().splitlines()
    return lines[-1] if lines else ""
