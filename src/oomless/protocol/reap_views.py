"""Request and answer of ``POST /v1/reap``, as frozen structs that go to JSON as they are."""

from __future__ import annotations

import msgspec

#: Verdicts on what is killed without being included, and verdicts that may be included.
PROVEN = ("orphan", "superseded")
INCLUDABLE = ("detached", "duplicate")
#: What a client of an earlier version calls them.
FORMER_VERDICTS = {"left-running": "detached"}


class ReapItem(msgspec.Struct, frozen=True, kw_only=True):
    """One process with its verdict."""

    pid: int
    start: int
    verdict: str
    evidence: tuple[str, ...] = ()


class ReapRequest(msgspec.Struct, frozen=True, kw_only=True):
    """``why`` goes to the journal; ``include``: verdicts to be killed besides the proven ones."""

    processes: tuple[ReapItem, ...]
    why: str
    include: tuple[str, ...] = ()


class ReapedProcess(msgspec.Struct, frozen=True, kw_only=True):
    """``how``: by SIGTERM, by SIGKILL, or by itself before. ``bytes`` is what it used before, 0 if it was gone."""

    pid: int
    start: int
    command: str
    how: str
    bytes: int = 0


class SurvivingProcess(msgspec.Struct, frozen=True, kw_only=True):
    """Could not be killed."""

    pid: int
    start: int
    command: str
    why: str


class RefusedProcess(msgspec.Struct, frozen=True, kw_only=True):
    """Was not signalled."""

    pid: int
    start: int
    why: str


class ReapAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """``bytes_freed``: what the killed processes used, measured before; ``bytes_source``: its source."""

    ended: tuple[ReapedProcess, ...] = ()
    left: tuple[SurvivingProcess, ...] = ()
    refused: tuple[RefusedProcess, ...] = ()
    bytes_freed: int = 0
    bytes_source: str = "pss"
