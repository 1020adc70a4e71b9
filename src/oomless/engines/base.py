"""What the parts of a batch pass to each other (the plan, the events while it runs, the result of each job), and the
Protocol of an engine, which runs one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, Protocol

import msgspec

from oomless.engines.batch_file import Job
from oomless.model import ExitRecord, FootprintSource, Status


class BatchPlan(msgspec.Struct, frozen=True, kw_only=True):
    """``budget`` (bytes) and ``max_parallel`` bound the batch as a whole; None: as the machine allows."""

    batch: str
    jobs: tuple[Job, ...]
    budget: int | None = None
    max_parallel: int | None = None


class JobResult(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of ``jobs[]`` in ``batch --json``. ``stdout`` and ``stderr`` are files;
    ``survivors`` is None if the shim was killed and no daemon could say what became of its tree."""

    name: str
    status: Status
    exit_code: int
    attempts: int
    peak_bytes: int = 0
    peak_source: FootprintSource = "cgroup"
    seconds: float = 0.0
    survivors: int | None = 0
    stdout: str
    stderr: str
    reason: str = ""


class Finished(msgspec.Struct, frozen=True, kw_only=True):
    """A job's result, with what only the job log has."""

    result: JobResult
    started_at: float = 0.0
    signal: int | None = None
    #: Killed because the user interrupted the batch; done in an earlier run of it.
    interrupted: bool = False
    earlier: bool = False


class JobEvent(msgspec.Struct, frozen=True, kw_only=True):
    """``seq`` counts the jobs of the plan from 0. ``text`` is the reason of a ``waiting`` or ``retry``."""

    seq: int
    kind: Literal["waiting", "running", "retry", "finished"]
    tree: str = ""
    attempt: int = 0
    text: str = ""
    finished: Finished | None = None


OnEvent = Callable[[JobEvent], None]


class Engine(Protocol):
    name: str

    async def run(self) -> list[Finished | None]:
        """Returns a result for each job of the plan, in its order, when nothing of the batch runs any more; None for
        a job that an interruption kept from starting."""
        ...

    def interrupt(self) -> None:
        """Starts no more jobs and kills those that run; ``run`` then returns. May be called again."""
        ...


def make_result(record: ExitRecord, name: str, attempts: int, verified: bool, stdout: str, stderr: str) -> JobResult:
    return JobResult(
        name=name,
        status=record.status,
        exit_code=record.exit_code,
        attempts=attempts,
        peak_bytes=record.peak_bytes,
        peak_source=record.peak_source,
        seconds=record.seconds,
        survivors=record.survivors if verified else None,
        stdout=stdout,
        stderr=stderr,
        reason=record.reason,
    )
