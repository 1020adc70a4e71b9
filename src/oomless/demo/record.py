"""What the demo finds out, as frozen facts: this is ``demo --json``.

How it is measured: ``measure.py``; what is concluded from it: ``verdict.py``.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from oomless.model import FootprintSource

ActName = Literal["parallel", "sequential", "parallel-killed", "governed", "governed-killed"]
ACTS: tuple[ActName, ...] = ("parallel", "sequential", "parallel-killed", "governed", "governed-killed")


class Point(msgspec.Struct, frozen=True, kw_only=True):
    """One sample. ``bytes`` is the act's own memory, ``overhead_bytes`` that of oomless (daemon, shims, batch)."""

    seconds: float
    bytes: int
    agents: int
    processes: int
    overhead_bytes: int = 0


class Left(msgspec.Struct, frozen=True, kw_only=True):
    """A survivor as it was found, before any clean-up."""

    pid: int
    start: int
    role: str
    bytes: int


class ActRecord(msgspec.Struct, frozen=True, kw_only=True):
    """``seconds``: to the end of the last agent (governed: until ``batch`` returned). ``killed``: agents that the
    demo ended by SIGKILL. ``repeated``: results that were made a second time. ``ended``: what the clean-up ended."""

    name: ActName
    agents_peak: int
    processes_peak: int
    peak_bytes: int
    footprint_source: FootprintSource
    budget_bytes: int | None
    finished: int
    seconds: float
    survivors: int
    survivors_bytes: int
    left: tuple[Left, ...]
    ended: int
    killed: int
    repeated: int
    overhead_bytes: int
    points: tuple[Point, ...]


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """What the governed acts must show, and whether they did."""

    name: str
    passed: bool
    detail: str


class DemoRecord(msgspec.Struct, frozen=True, kw_only=True):
    schema: str = "oomless.demo/1"
    agents: int
    agent_bytes: int
    child_bytes: int
    agent_seconds: float
    shrunk_from: int | None
    acts: tuple[ActRecord, ...]
    checks: tuple[Check, ...]
    conclusion: tuple[str, ...]
    ok: bool
