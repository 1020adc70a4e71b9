"""The stage that all acts share (the throwaway folder, the clock, signals, how an act is opened and closed), and the
acts: three without oomless, and two with the same agents through the real ``oomless batch``.

An act is closed in two moves: its survivors are counted and written down, then killed. On any error they are killed
too, so that nothing outlives the demo. A signal handler only leaves a note, and the next tick raises Interrupted: a
second Ctrl-C cannot break a clean-up.
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
from typing import Self

assert sys.platform == "linux"

import msgspec

from oomless.demo.agents import Place, Real, Synthetic, find_error
from oomless.demo.record import BUDGET_SHARE, ActName, ActRecord, Member, Passed
from oomless.demo.sampler import MARK, ActSampler
from oomless.demo.show import Progress
from oomless.demo.watchdog import state_folder
from oomless.errors import Interrupted, OomlessError
from oomless.journal.journal import Journal
from oomless.model import TreeKind
from oomless.paths import Paths
from oomless.platform import proc
from oomless.platform.base import Platform
from oomless.processes.ids import ProcessId
from oomless.units import format_size

OOMLESS = (sys.executable, "-m", "oomless")
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
#: Seconds after its last agent's end from which a process counts as a survivor.
LINGER = 5.0
#: Of the journal, newest first: more than five acts could make.
ROWS = 2000


class Stage:
    """The folder is short enough for a socket's path; it goes with everything in it at the end. ``environ`` is what
    the agents inherit with XDG folders in there: none of them can meet the user's own daemon, and the watchdog
    recognises all of them. The daemon of the governed acts lives there too, and is stopped at the end."""

    def __init__(self, agents: Synthetic | Real, platform: Platform, report: Progress) -> None:
        self.agents, self.platform, self.report = agents, platform, report
        self.folder = ""
        self.environ: dict[str, str] = {}
        self._daemon: ProcessId | None = None
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
        # In a session of its own: a signal to the demo's group or terminal must not end the watchdog too.
        self._watchdog = subprocess.Popen(
            [sys.executable, "-m", "oomless.demo.watchdog", self.folder],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
        for number in SIGNALS:
            self._handlers[number] = signal.signal(number, self._note_signal)
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop_daemon()
        for number, handler in self._handlers.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
        shutil.rmtree(self.folder, ignore_errors=True)
        try:
            self._watchdog.communicate(b".")
        except BrokenPipeError:
            pass  # it was killed, and has nothing to do any more

    def daemon(self) -> ProcessId | None:
        """The stage's own daemon, once there is one."""
        facts = msgspec.json.decode(proc.read_file(Paths(self.environ).daemon_file) or b"{}")
        if "start" in facts:
            self._daemon = ProcessId(facts["pid"], facts["start"])
        return self._daemon

    def _stop_daemon(self) -> None:
        daemon, command = self.daemon(), [*OOMLESS, "daemon", "stop"]
        if daemon is not None:
            try:
                subprocess.run(command, env=self.environ, timeout=15, capture_output=True, check=False)
            except subprocess.TimeoutExpired:
                pass
            proc.kill(*daemon)

    def _note_signal(self, number: int, _frame: FrameType | None) -> None:
        self._signal = number

    def check_signal(self) -> None:
        if self._signal is not None:
            error = Interrupted("interrupted", "", "what the demo had started is killed")
            error.exit_code = 128 + self._signal
            raise error


class Act:
    """One act while it runs."""

    def __init__(self, stage: Stage, name: ActName, what: str, budget: int | None = None) -> None:
        self.stage, self.name, self.budget = stage, name, budget
        self.mark = secrets.token_hex(16)
        self.folder = os.path.join(stage.folder, name)
        os.mkdir(self.folder, 0o700)
        self.place = Place(folder=self.folder, governed=budget is not None, environ=stage.environ)
        self.sampler = ActSampler(self.mark, stage.agents.role, stage.platform)
        self.killed: set[str] = set()
        self._started: dict[str, subprocess.Popen[bytes]] = {}
        stage.report.act(name, what)
        try:
            stage.agents.open(self.place)
        except OomlessError:
            stage.check_signal()  # a Ctrl-C reaches what is started for it too: then that is the reason
            raise
        self._begin = self._next = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.sampler.kill_survivors()
        for agent in self._started.values():
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
        self._started[name] = agent
        return agent

    def step(self, overhead: Collection[int] = ()) -> tuple[Member, ...]:
        """One sample, then the rest of the tick."""
        self.stage.check_signal()
        members = self.sampler.sample(self.elapsed(), overhead)
        self.stage.report.tick(self.sampler.points[-1], self._count(".json"))
        tick = self.stage.agents.tick
        self._next = max(self._next + tick, time.monotonic() + tick / 2)
        time.sleep(max(0.0, self._next - time.monotonic()))
        return members

    def elapsed(self) -> float:
        return time.monotonic() - self._begin

    def check_time(self) -> None:
        if self.elapsed() > self.stage.agents.longest:
            missing = [name for name in self.stage.agents.names if not self._has_file(name, ".json")]
            why = f"after {self.elapsed():.0f} s there is no result of {', '.join(missing)}"
            raise OomlessError(f"{self.name} does not end", why)

    def close(self, linger: float = 0.0) -> ActRecord:
        """When the last agent has ended: samples for ``linger`` seconds, counts the survivors, and kills them."""
        seconds, until = self.elapsed(), time.monotonic() + linger
        for name, agent in self._started.items():
            if name not in self.killed and not self._has_file(name, ".json"):
                output = last_line(os.path.join(self.folder, f"{name}.out"))
                self.stage.report.note(f"{name}: no result, exit code {agent.wait()}{output and ': ' + output}")

        while time.monotonic() < until:
            self.step()
        left, points = self.sampler.survivors(), tuple(self.sampler.points)
        record = ActRecord(
            name=self.name,
            agents_peak=max((point.agents for point in points), default=0),
            processes_peak=max((point.processes for point in points), default=0),
            peak_bytes=max((point.bytes for point in points), default=0),
            footprint_source=self.sampler.source,
            budget_bytes=self.budget,
            finished=self._count(".json"),
            seconds=round(seconds, 3),
            survivors=len(left),
            survivors_bytes=sum(member.bytes for member in left),
            left=left,
            ended=self.sampler.kill_survivors(),
            killed=len(self.killed),
            repeated=self._count(".again"),
            overhead_bytes=max((point.overhead_bytes for point in points), default=0),
            agent_bytes=self.sampler.agent_peak,
            at_peak=self.sampler.at_peak,
            points=points,
        )
        self.stage.report.done(record)
        return record

    def kill_halfway(self) -> None:
        """SIGKILL to each agent's root that is half-way, once: an agent that is tried again is left alone."""
        due = {name for name in self.stage.agents.names if self._has_file(name, ".half")} - self.killed
        for name, root in self.sampler.agents() if due else []:
            if name in due and proc.kill(*root) == proc.SENT:
                self.killed.add(name)

    def _count(self, ending: str) -> int:
        return sum(self._has_file(name, ending) for name in self.stage.agents.names)

    def _has_file(self, name: str, ending: str) -> bool:
        return os.path.exists(os.path.join(self.folder, name + ending))


def last_line(path: str) -> str:
    return find_error((proc.read_file(path) or b"").decode("utf-8", "replace"))


def play_parallel(stage: Stage, *, kill: bool = False) -> ActRecord:
    """What the incident did; with ``kill``, what an abort leaves."""
    what = "all at once, each agent SIGKILLed half-way" if kill else "all at once, without oomless"
    with Act(stage, "parallel-killed" if kill else "parallel", what) as act:
        agents = [act.start(name) for name in stage.agents.names]
        # Each is polled each time: an agent that is not reaped would be a zombie, not a survivor.
        while [agent for agent in agents if agent.poll() is None]:
            act.check_time()
            act.step()
            if kill:
                act.kill_halfway()
        return act.close(LINGER)


def play_sequential(stage: Stage) -> ActRecord:
    """What was tried instead."""
    with Act(stage, "sequential", "one after another, without oomless") as act:
        for name in stage.agents.names:
            agent = act.start(name)
            while agent.poll() is None:
                act.check_time()
                act.step()
        return act.close(LINGER)


def choose_budget(need: int, first_peak: int, hint: str) -> int:
    """60 % of the first act's peak. Raises, with ``hint``, if two agents at once would not fit in it."""
    budget = int(first_peak * BUDGET_SHARE)
    if 2 * need > budget:
        peak, size = format_size(first_peak), format_size(need)
        why = f"its peak was {peak}, and two agents of {size} do not fit in {BUDGET_SHARE:.0%} of it"
        raise OomlessError("the first act is no measure for the governed ones", why, hint)
    return budget


def play_governed(stage: Stage, need: int, budget: int, *, kill: bool = False) -> ActRecord:
    what = f"oomless batch, budget {format_size(budget)}" + (", each agent SIGKILLed half-way once" if kill else "")
    began = time.time()
    with Act(stage, "governed-killed" if kill else "governed", what, budget) as act:
        jobs = os.path.join(stage.folder, f"{act.name}.jsonl")
        with open(jobs, "wb") as file:
            file.write(msgspec.json.Encoder().encode_lines(make_jobs(act, need, budget, retries=1 if kill else 0)))
        with Batch(act, jobs, budget) as batch:
            while batch.running():
                act.step(batch.overhead())
                if kill:
                    act.kill_halfway()
            record = act.close()
            batch.report()
    if stage.agents.form == "real":
        return msgspec.structs.replace(record, passed=count_passed(Paths(stage.environ).journal, began))
    return record


def make_jobs(act: Act, need: int, budget: int, retries: int) -> list[dict[str, object]]:
    """The lines of the batch file. The need was measured from outside and is an estimate; so the limit is the whole
    budget. The mark goes to the jobs only: ``batch`` itself is not part of the act."""
    terms = {"memory": str(budget), "expect": str(need), "retries": retries}
    jobs: list[dict[str, object]] = []
    for name in act.stage.agents.names:
        start = act.stage.agents.start(act.place, name)
        env = {**start.env, MARK: act.mark}
        jobs.append({"name": name, "command": start.command, "env": env, "cwd": start.cwd, **terms})
    return jobs


def count_passed(path: str, began: float) -> Passed:
    """What the journal at ``path`` has since ``began`` (seconds since the epoch)."""
    journal = Journal.open(path)
    try:
        trees = [row.intent for row in journal.trees.recent(ROWS) if row.started_at]
        decisions = [row for row in journal.decisions.recent(ROWS) if row.at >= began and row.verdict == "admitted"]
    finally:
        journal.close()
    kinds = [intent.kind for intent in trees if intent.intended_at >= began]
    subagents = sum(decision.name.startswith("Agent:") for decision in decisions)
    return Passed(subagents=subagents, servers=kinds.count(TreeKind.SERVER), shells=kinds.count(TreeKind.SHELL))


class Batch:
    """One ``oomless batch`` while it runs. In a process group of its own: Ctrl-C reaches it once, through us."""

    def __init__(self, act: Act, jobs: str, budget: int) -> None:
        self._act, self._out, self._err = act, jobs + ".out", jobs + ".err"
        with open(self._out, "wb") as out, open(self._err, "wb") as err:
            self._process = subprocess.Popen(
                [*OOMLESS, "batch", jobs, "--budget", str(budget), "--json"],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env=act.stage.environ,
                cwd=act.folder,
                process_group=0,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
            if self._process.poll() is None:
                self._process.send_signal(number)
                try:
                    self._process.wait(timeout=10)
                except subprocess.TimeoutExpired:
                    pass

    def running(self) -> bool:
        """Raises when it takes too long."""
        if self._process.poll() is not None:
            return False
        try:
            self._act.check_time()
        except OomlessError as error:
            raise OomlessError("oomless batch does not end", f"{error.why}; {self._last_error()}") from None
        return True

    def overhead(self) -> set[int]:
        """The pids of batch and daemon."""
        daemon = self._act.stage.daemon()
        return {self._process.pid, daemon.pid if daemon else self._process.pid}

    def report(self) -> None:
        """Notes each job that did not end well; raises if batch itself failed."""
        code = self._process.wait()
        raw = proc.read_file(self._out) or b""
        if code not in (0, 1) or not raw:
            what = f"oomless batch failed with exit code {code}"
            raise OomlessError(what, self._last_error(), "see: oomless doctor")
        for job in msgspec.json.decode(raw)["jobs"]:
            if job["status"] != "done":
                line = f"{job['name']}: {job['status']}, exit code {job['exit_code']}; {job.get('reason') or ''}"
                self._act.stage.report.note(line.rstrip("; "))

    def _last_error(self) -> str:
        """With the last line of the daemon's log, which goes with the folder."""
        logged = last_line(Paths(self._act.stage.environ).log)
        return f"{last_line(self._err) or 'no output'}; last line of the daemon's log: {logged or 'none'}"
