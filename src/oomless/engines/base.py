"""What the parts of a batch tell each other, and the Protocol of whatever runs one.

Covers: the plan, the events while it runs, the result of each job. Not here: the batch file (``jobs.py``), the
engine of this machine (``local.py``), printing (``cli/batch.py``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, Protocol

import msgspec

from oomless.engines.jobs import Job
from oomless.model import ExitRecord, FootprintSource, Status


class Plan(msgspec.Struct, frozen=True, kw_only=True):
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
    """``started_at`` and ``signal`` are for the job log; they are no part of the result."""

    result: JobResult
    started_at: float = 0.0
    signal: int | None = None
    #: Ended because the user interrupted the batch, or done in an earlier run of it.
    interrupted: bool = False
    earlier: bool = False


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """``seq`` counts the jobs of the plan from 0. ``text`` is the reason of a ``waiting`` or ``retry``."""

    seq: int
    kind: Literal["waiting", "running", "retry", "finished"]
    tree: str = ""
    attempt: int = 0
    text: str = ""
    finished: Finished | None = None


Tell = Callable[[Event], None]


class Engine(Protocol):
    name: str

    async def run(self) -> list[Finished | None]:
        """A result for each job of the plan, in its order; None for those that an interruption kept from
        starting. Returns when nothing of the batch runs any more."""
        ...

    def interrupt(self) -> None:
        """Starts no more jobs and ends those that run; ``run`` then returns. May be called again."""
        ...


def result_of(record: ExitRecord, name: str, attempts: int, verified: bool, stdout: str, stderr: str) -> JobResult:
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
