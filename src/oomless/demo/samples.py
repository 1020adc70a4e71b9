"""What is computed from an act's samples: its curve, and whose the bytes were. Pure.

Who is sampled: ``measure.py``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from oomless.demo.record import Point, Share


class Used(msgspec.Struct, frozen=True, kw_only=True):
    """One process in one sample. ``agent``: whose it is."""

    pid: int
    start: int
    role: str
    agent: str
    bytes: int


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """``at``: seconds since the machine's start, as processes' start times are."""

    seconds: float
    at: float
    used: tuple[Used, ...]
    overhead_bytes: int = 0

    @property
    def bytes(self) -> int:
        return sum(one.bytes for one in self.used)


def point(sample: Sample) -> Point:
    return Point(
        seconds=sample.seconds,
        bytes=sample.bytes,
        agents=len({one.agent for one in sample.used if one.role == "agent"}),
        processes=len(sample.used),
        overhead_bytes=sample.overhead_bytes,
    )


def highest(samples: Iterable[Sample]) -> Sample | None:
    return max(samples, key=lambda sample: sample.bytes, default=None)


def agent_peak(samples: Iterable[Sample]) -> int:
    """The most that one agent and all that it started took at a time."""
    return max((size for sample in samples for size in by_agent(sample.used).values()), default=0)


def by_agent(used: Iterable[Used]) -> dict[str, int]:
    found: dict[str, int] = {}
    for one in used:
        if one.agent:
            found[one.agent] = found.get(one.agent, 0) + one.bytes
    return found


def shares(used: Iterable[Used]) -> tuple[Share, ...]:
    """By role, the largest first."""
    found: dict[str, list[int]] = {}
    for one in used:
        found.setdefault(one.role, []).append(one.bytes)
    rows = [Share(role=role, processes=len(sizes), bytes=sum(sizes)) for role, sizes in found.items()]
    return tuple(sorted(rows, key=lambda share: (-share.bytes, share.role)))


def at_peak(samples: Sequence[Sample]) -> tuple[Share, ...]:
    top = highest(samples)
    return shares(top.used) if top is not None else ()
