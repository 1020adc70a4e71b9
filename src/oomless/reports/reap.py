"""What ``oomless reap`` proposes and answers, as data.

Processes are proposed by their verdicts, a server's all together or not at all. Killing is the daemon's work. The
dry run on a saved listing is in ``listing.py``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import msgspec

from oomless.census.attribution import Attributed
from oomless.protocol.reap_views import (
    PROVEN,
    ReapAnswer,
    ReapedProcess,
    ReapItem,
    ReapRequest,
    RefusedProcess,
    SurvivingProcess,
)
from oomless.reports.scan import ProcessRow

if TYPE_CHECKING:
    from oomless.reports.look import Scan

#: Less is not proven: to a server that was replaced by order of start alone (``census/verdicts.py``: 0.6) its client
#: may still speak.
SURE = 0.9
_OFF = 'the settings say reap = "off": leftovers that the daemon remembers are only listed'


class HeldBack(msgspec.Struct, frozen=True, kw_only=True):
    """Would be proposed, but for ``why``."""

    pid: int
    start: int | None
    why: str


class ReapReport(msgspec.Struct, frozen=True, kw_only=True):
    """``bytes_recoverable`` is the sum of what is proposed, as far as it is known, None if nothing of it is;
    ``bytes_freed`` what the killed processes used. ``notes``: what could not be read, and why."""

    schema: str = "oomless.reap/1"
    dry_run: bool
    proposed: tuple[ProcessRow, ...]
    held_back: tuple[HeldBack, ...] = ()
    bytes_recoverable: int | None
    ended: tuple[ReapedProcess, ...] = ()
    left: tuple[SurvivingProcess, ...] = ()
    refused: tuple[RefusedProcess, ...] = ()
    bytes_freed: int = 0
    bytes_source: str = "pss"
    notes: tuple[str, ...] = ()


#: What may be killed, and what is held back.
Proposal = tuple[tuple[ProcessRow, ...], tuple[HeldBack, ...]]


def propose(scan: Scan, verdicts: Iterable[str]) -> Proposal:
    """Of one look at this machine. With ``reap = "off"`` in the settings nothing is proposed that the daemon
    remembers; what was asked for by name is."""
    proposed, held = select_rows(scan.report.processes, scan.attributed, verdicts)
    known = {(leftover.pid, leftover.start) for leftover in scan.status.leftovers}
    off = [row for row in proposed if row.verdict in PROVEN and (row.pid, row.start) in known]
    if not off or scan.status.reap != "off":
        return proposed, held
    rest = tuple(row for row in proposed if row not in off)
    return rest, (*held, *(HeldBack(pid=row.pid, start=row.start, why=_OFF) for row in off))


def select_rows(
    rows: Iterable[ProcessRow], attributed: Mapping[int, Attributed], verdicts: Iterable[str]
) -> Proposal:
    """The rows that have one of the verdicts, instance by instance: a server of which some process has another
    verdict is held back as a whole, for it would go on without the rest; so is a verdict that is not proven."""
    wanted, proposed, held = frozenset(verdicts), [], []
    others = {
        process.instance: process
        for process in attributed.values()
        if process.instance is not None and process.verdict not in wanted
    }
    for row in rows:
        if row.verdict not in wanted:
            continue
        reason = _hold_reason(row, others.get(row.instance) if row.instance is not None else None)
        if reason:
            held.append(HeldBack(pid=row.pid, start=row.start, why=reason))
        else:
            proposed.append(row)
    return tuple(proposed), tuple(held)


def _hold_reason(row: ProcessRow, other: Attributed | None) -> str:
    if row.verdict in PROVEN and row.confidence < SURE:
        return f"{row.verdict} with confidence {row.confidence:.0%} only; {'; '.join(row.evidence[:1])}"
    return f"part of the server {row.instance}, of which {other.process.pid} is {other.verdict}" if other else ""


def sum_recoverable(proposed: Iterable[ProcessRow]) -> int | None:
    """Bytes: the sum of what is known; None if nothing is, of those that there are."""
    sizes = [row.bytes_recoverable for row in proposed]
    known = [size for size in sizes if size is not None]
    return None if sizes and not known else sum(known)


def make_request(proposed: Iterable[ProcessRow], include: tuple[str, ...]) -> ReapRequest:
    """What the daemon is asked to kill."""
    items = tuple(
        ReapItem(pid=row.pid, start=row.start, verdict=row.verdict, evidence=row.evidence)
        for row in proposed
        if row.start is not None
    )
    return ReapRequest(processes=items, why="oomless reap --yes", include=include)


def build_reap(proposal: Proposal, answer: ReapAnswer | None = None, notes: tuple[str, ...] = ()) -> ReapReport:
    """``answer``: the daemon's, None for a dry run."""
    proposed, held = proposal
    done = answer or ReapAnswer()
    return ReapReport(
        dry_run=answer is None,
        proposed=proposed,
        held_back=held,
        bytes_recoverable=sum_recoverable(proposed),
        ended=done.ended,
        left=done.left,
        refused=done.refused,
        bytes_freed=done.bytes_freed,
        bytes_source=done.bytes_source,
        notes=notes,
    )
