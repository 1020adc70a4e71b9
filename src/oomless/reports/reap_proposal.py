"""What ``oomless reap`` proposes: who may be ended, instance by instance, and who is held back.

Pure, of one look: of the machine (``reap.py``) or of a saved listing (``reap_listed.py``). The verdicts are the
census' (``census/``); ending is the daemon's work.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from oomless.census.attribution import Attributed
from oomless.protocol.reap_views import PROVEN
from oomless.reports.listing_scan import ListedRow
from oomless.reports.scan import ProcessRow

#: Less is not proven: to a server that was replaced by order of start alone (``census/verdicts.py``: 0.6) its client
#: may still speak.
SURE = 0.9


class Proposed(msgspec.Struct, frozen=True, kw_only=True):
    """``instance``: the root of the server that it is part of. ``bytes_recoverable``: what would be free for certain
    if it ended, its own private memory; what it shares with others that end comes on top. ``start``, the footprint
    and that are None where nobody tells them (a listing)."""

    pid: int
    start: int | None
    verdict: str
    evidence: tuple[str, ...]
    command: str
    kind: str
    host: str | None
    session: str | None
    server: str | None
    instance: int | None
    footprint_bytes: int | None
    footprint_source: str
    bytes_recoverable: int | None


class HeldBack(msgspec.Struct, frozen=True, kw_only=True):
    """Would be proposed, but for ``why``."""

    pid: int
    start: int | None
    why: str


Row = ProcessRow | ListedRow


def proposed_of(
    rows: Iterable[Row], attributed: Mapping[int, Attributed], verdicts: Iterable[str]
) -> tuple[tuple[Proposed, ...], tuple[HeldBack, ...]]:
    """Whoever has one of the verdicts, instance by instance: a server of which some process has another verdict is
    held back as a whole, for it would go on without the rest; so is a verdict that is not proven."""
    wanted, proposed, held = frozenset(verdicts), [], []
    others = {
        one.instance: one for one in attributed.values() if one.instance is not None and one.verdict not in wanted
    }
    for row in rows:
        if row.verdict not in wanted:
            continue
        instance = attributed[row.pid].instance
        why = _held_back(row, instance, others.get(instance) if instance is not None else None)
        if why:
            held.append(HeldBack(pid=row.pid, start=row.start, why=why))
        else:
            proposed.append(_proposed(row, instance))
    return tuple(proposed), tuple(held)


def _held_back(row: Row, instance: int | None, other: Attributed | None) -> str:
    if row.verdict in PROVEN and row.confidence < SURE:
        return f"{row.verdict} with a confidence of {row.confidence:.0%} only; {'; '.join(row.evidence[:1])}"
    return f"part of the server {instance}, of which {other.process.pid} is {other.verdict}" if other else ""


def _proposed(row: Row, instance: int | None) -> Proposed:
    return Proposed(
        pid=row.pid,
        start=row.start,
        verdict=row.verdict,
        evidence=row.evidence,
        command=row.command,
        kind=row.kind,
        host=row.host,
        session=row.session,
        server=row.server,
        instance=instance,
        footprint_bytes=row.footprint_bytes,
        footprint_source=row.footprint_source,
        bytes_recoverable=row.bytes_recoverable,
    )


def recoverable(proposed: Iterable[Proposed]) -> int | None:
    """The sum of what is known; None if nothing is, of those that there are."""
    sizes = [one.bytes_recoverable for one in proposed]
    known = [size for size in sizes if size is not None]
    return None if sizes and not known else sum(known)
