"""The two governed acts: the same agents through the real ``oomless batch``, with a daemon of their own.

The daemon lives in throwaway XDG folders, so that the user's own is neither asked nor disturbed; it is stopped and
verified gone when ``Throwaway`` closes. The budget is 60 % of what the first act took: how it is kept is not the
demo's business. The acts without oomless: ``acts.py``.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import Self

assert sys.platform == "linux"

import msgspec

from oomless.demo.measure import MARK
from oomless.demo.record import ActRecord, Passed
from oomless.demo.sizing import BUDGET_SHARE
from oomless.demo.stage import Act, Stage, last_line
from oomless.errors import OomlessError
from oomless.journal.database import Journal
from oomless.paths import Paths
from oomless.platform import proc
from oomless.units import format_size

#: Of the journal, newest first: more than five acts could make.
ROWS = 2000
OOMLESS = (sys.executable, "-m", "oomless")


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """One job of ``batch --json``, as far as the demo needs it."""

    name: str
    status: str
    exit_code: int | None = None
    reason: str | None = None


class BatchResult(msgspec.Struct, frozen=True, kw_only=True):
    jobs: tuple[Job, ...]


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the batch file. The mark goes to the jobs only: ``batch`` itself is not part of the act."""

    name: str
    command: list[str]
    memory: str
    expect: str
    retries: int
    env: dict[str, str]
    cwd: str


def budget_of(need: int, first_peak: int, todo: str) -> int:
    """60 % of the first act's peak; raises if two agents at once, for which that much is reserved, would not fit."""
    budget = int(first_peak * BUDGET_SHARE)
    if 2 * need > budget:
        raise OomlessError(
            "the first act is no measure for the governed ones",
            f"its peak was {format_size(first_peak)}, and two agents of {format_size(need)} do not fit "
            f"in {BUDGET_SHARE:.0%} of it",
            todo,
        )
    return budget


class Throwaway:
    """The installation inside the stage's folder, which has a daemon of its own."""

    def __init__(self, stage: Stage) -> None:
        self.environ = stage.environ
        self.paths = Paths(self.environ)
        self._daemon: tuple[int, int] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        if self.daemon() is None:
            return
        try:
            subprocess.run(
                [*OOMLESS, "daemon", "stop"], env=self.environ, timeout=15, capture_output=True, check=False
            )
        except subprocess.TimeoutExpired:
            pass
        if self._daemon is not None:
            proc.kill(*self._daemon)

    def daemon(self) -> int | None:
        """The pid of its daemon, once there is one."""
        raw = proc.read_file(self.paths.daemon_file)
        if raw:
            facts = msgspec.json.decode(raw, type=dict[str, object])
            pid, start = facts.get("pid"), facts.get("start")
            if isinstance(pid, int) and isinstance(start, int):
                self._daemon = (pid, start)
        return self._daemon[0] if self._daemon else None


def governed(stage: Stage, home: Throwaway, need: int, budget: int, kill: bool) -> ActRecord:
    name = "governed-killed" if kill else "governed"
    what = f"oomless batch, budget {format_size(budget)}" + (", each agent SIGKILLed half-way once" if kill else "")
    began = time.time()
    with Act(stage, "governed-killed" if kill else "governed", what, budget) as act:
        jobs = os.path.join(stage.folder, f"{name}.jsonl")
        with open(jobs, "wb") as file:
            file.write(msgspec.json.Encoder().encode_lines(job_lines(act, need, budget, retries=1 if kill else 0)))
        with Batch(jobs, budget, home, act) as batch:
            while batch.runs():
                act.step(batch.overhead())
                if kill:
                    act.kill_halfway()
            act.agents_over()
            record = act.close()
            batch.report()
        return msgspec.structs.replace(record, passed=passed(home, began)) if stage.agents.form == "real" else record


def passed(home: Throwaway, began: float) -> Passed:
    """What the journal of the stage's daemon has since ``began`` (seconds since the epoch)."""
    journal = Journal.open(home.paths.journal)
    try:
        rows = [row.intent for row in journal.recent(ROWS) if row.intent.intended_at >= began and row.started_at]
        decisions = [one for one in journal.decisions(ROWS) if one.at >= began and one.verdict == "admitted"]
    finally:
        journal.close()
    return Passed(
        subagents=sum(one.name.startswith("Agent:") for one in decisions),
        servers=sum(row.kind == "server" for row in rows),
        shells=sum(row.kind == "shell" for row in rows),
    )


def job_lines(act: Act, need: int, budget: int, retries: int) -> list[Line]:
    """What is reserved was measured from outside and is an estimate; so the limit is the whole budget."""
    starts = {name: act.stage.agents.start(act.place, name) for name in act.stage.names}
    return [
        Line(
            name=name,
            command=list(start.command),
            memory=str(budget),
            expect=str(need),
            retries=retries,
            env={**start.env, MARK: act.mark},
            cwd=start.cwd,
        )
        for name, start in starts.items()
    ]


class Batch:
    """One ``oomless batch`` while it runs. In a process group of its own: Ctrl-C reaches it once, through us."""

    def __init__(self, jobs: str, budget: int, home: Throwaway, act: Act) -> None:
        self._home, self._act = home, act
        self._out, self._err = jobs + ".out", jobs + ".err"
        with open(self._out, "wb") as out, open(self._err, "wb") as err:
            self._process = subprocess.Popen(
                [*OOMLESS, "batch", jobs, "--budget", str(budget), "--json"],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env=home.environ,
                cwd=act.folder,
                process_group=0,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
            if self._process.poll() is not None:
                return
            self._process.send_signal(number)
            try:
                self._process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                pass

    def runs(self) -> bool:
        """Raises when it takes too long."""
        if self._process.poll() is not None:
            return False
        try:
            self._act.check_time()
        except OomlessError as error:
            raise OomlessError("oomless batch does not end", f"{error.why}; {self._last_error()}") from None
        return True

    def overhead(self) -> set[int]:
        daemon = self._home.daemon()
        return {self._process.pid} | ({daemon} if daemon is not None else set())

    def report(self) -> None:
        """Notes each job that did not end well; raises if batch itself failed."""
        code = self._process.wait()
        raw = proc.read_file(self._out) or b""
        if code not in (0, 1) or not raw:
            raise OomlessError(
                f"oomless batch failed with exit code {code}", self._last_error(), "see: oomless doctor"
            )
        for job in msgspec.json.decode(raw, type=BatchResult).jobs:
            if job.status != "done":
                self._act.stage.report.note(
                    f"{job.name}: {job.status}, exit code {job.exit_code}; {job.reason or ''}".rstrip("; ")
                )

    def _last_error(self) -> str:
        """With the last line of the daemon's log, which goes with the folder."""
        said = last_line(self._err).removeprefix("oomless: ") or "it said nothing"
        logged = last_line(self._home.paths.log)
        return f"{said}; the daemon's last word: {logged}" if logged else said
