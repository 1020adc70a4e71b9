"""What ``POST /v1/reap`` is asked and answers, as frozen structs that go to JSON as they are. Who is ended and how:
``reaping.py``."""

from __future__ import annotations

import msgspec

#: What is ended without being asked for by name, and what may be asked for.
PROVEN = ("orphan", "superseded")
INCLUDABLE = ("detached", "duplicate")


class ReapItem(msgspec.Struct, frozen=True, kw_only=True):
    """One process, the verdict on it and why. ``start`` makes the pid an identity."""

    pid: int
    start: int
    verdict: str
    evidence: tuple[str, ...] = ()


class ReapRequest(msgspec.Struct, frozen=True, kw_only=True):
    """``why`` goes to the record; ``include``: verdicts to be ended besides the proven ones."""

    processes: tuple[ReapItem, ...]
    why: str
    include: tuple[str, ...] = ()


class Ended(msgspec.Struct, frozen=True, kw_only=True):
    """``how``: by SIGTERM, by SIGKILL, or by itself before. ``bytes`` is what it used before, 0 if it was gone."""

    pid: int
    start: int
    command: str
    how: str
    bytes: int = 0


class Left(msgspec.Struct, frozen=True, kw_only=True):
    """Could not be ended."""

    pid: int
    start: int
    command: str
    why: str


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """Was not signalled."""

    pid: int
    start: int
    why: str


class ReapAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """``bytes_freed``: what those used that were ended, read before; ``bytes_source`` where the figure is from."""

    ended: tuple[Ended, ...] = ()
    left: tuple[Left, ...] = ()
    refused: tuple[Refusal, ...] = ()
    bytes_freed: int = 0
    bytes_source: str = "pss"
