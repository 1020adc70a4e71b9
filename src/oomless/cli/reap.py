"""``oomless reap``: what is proven to be only left, and with ``--yes`` its end.

Covers what is proposed and how it is shown. The verdicts are the census' (``census/``), looking is ``scanner.py``,
the ending is the daemon's work (``daemon/reaping.py``), which looks at each process once more.
"""

from __future__ import annotations

import sys

assert sys.platform == "linux"

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from oomless.census.attribute import Attributed
from oomless.census.report import ProcessRow
from oomless.cli.output import console, guard, print_json, printable
from oomless.cli.scanner import Scan, Scanner
from oomless.daemon.client import Client
from oomless.daemon.reap_views import INCLUDABLE, PROVEN, Ended, Left, ReapAnswer, ReapItem, ReapRequest, Refusal
from oomless.errors import UsageError
from oomless.paths import Paths
from oomless.platform import current
from oomless.units import format_size

if TYPE_CHECKING:
    from rich.table import Table

_WHAT_WIDTH = 44
#: Less is not proven: to a server that was replaced by order of start alone (``census/verdicts.py``: 0.6) its client
#: may still speak.
SURE = 0.9


class Proposed(msgspec.Struct, frozen=True, kw_only=True):
    """``instance``: the root of the server that it is part of. ``bytes_recoverable``: what would be free for certain
    if it ended, its own private memory; what it shares with others that end comes on top."""

    pid: int
    start: int
    verdict: str
    evidence: tuple[str, ...]
    command: str
    kind: str
    host: str | None
    session: str | None
    server: str | None
    instance: int | None
    footprint_bytes: int
    footprint_source: str
    bytes_recoverable: int


class HeldBack(msgspec.Struct, frozen=True, kw_only=True):
    """Would be proposed, but for ``why``."""

    pid: int
    start: int
    why: str


class ReapReport(msgspec.Struct, frozen=True, kw_only=True):
    """``bytes_recoverable`` is the sum of what is proposed; ``bytes_freed`` what those used that were ended."""

    schema: str = "oomless.reap/1"
    dry_run: bool
    proposed: tuple[Proposed, ...]
    held_back: tuple[HeldBack, ...] = ()
    bytes_recoverable: int
    ended: tuple[Ended, ...] = ()
    left: tuple[Left, ...] = ()
    refused: tuple[Refusal, ...] = ()
    bytes_freed: int = 0
    bytes_source: str = "pss"


@guard()
def command(
    yes: Annotated[bool, typer.Option("--yes", help="End what is proposed.")] = False,
    include: Annotated[
        str | None, typer.Option(metavar="VERDICT,...", help="Propose left-running or duplicate as well.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Show what may be ended, and why; with --yes, end it."""
    verdicts = _verdicts(include)
    scanner = Scanner(current(), Paths())
    proposed, held = propose(scanner.scan(scanner.status()), (*PROVEN, *verdicts))
    answer = _end(proposed, verdicts) if yes and proposed else ReapAnswer()
    report = _report(proposed, held, answer, yes)
    if json:
        print_json(report)
    else:
        _show(report)
    if report.left or report.refused:
        raise typer.Exit(1)


def _verdicts(text: str | None) -> tuple[str, ...]:
    found = tuple(dict.fromkeys(word.strip() for word in (text or "").split(",") if word.strip()))
    for word in found:
        if word not in INCLUDABLE:
            why = (
                "it is never ended"
                if word in ("protected", "owned", "unknown")
                else "there is no such verdict to include"
            )
            raise UsageError(f"cannot include {word!r}", why, f"--include takes {' and '.join(INCLUDABLE)}")
    if text is not None and not found:
        raise UsageError("--include names no verdict", "", f"it takes {' and '.join(INCLUDABLE)}")
    return found


# What is proposed


def propose(scan: Scan, verdicts: Iterable[str]) -> tuple[tuple[Proposed, ...], tuple[HeldBack, ...]]:
    """Whoever has one of the verdicts, instance by instance: a server of which some process has another verdict is
    held back as a whole, for it would go on without the rest; so is a verdict that is not proven."""
    wanted, proposed, held = frozenset(verdicts), [], []
    others = _others(scan.attributed.values(), wanted)
    for row in scan.report.processes:
        if row.verdict not in wanted or row.start is None:
            continue
        instance = scan.attributed[row.pid].instance
        why = _held_back(row, instance, others.get(instance) if instance is not None else None)
        if why:
            held.append(HeldBack(pid=row.pid, start=row.start, why=why))
        else:
            proposed.append(_proposed(row, row.start, instance))
    return tuple(proposed), tuple(held)


def _held_back(row: ProcessRow, instance: int | None, other: Attributed | None) -> str:
    if row.verdict in PROVEN and row.confidence < SURE:
        return f"{row.verdict} with a confidence of {row.confidence:.0%} only; {'; '.join(row.evidence[:1])}"
    return f"part of the server {instance}, of which {other.process.pid} is {other.verdict}" if other else ""


def _others(found: Iterable[Attributed], wanted: frozenset[str]) -> Mapping[int, Attributed]:
    return {one.instance: one for one in found if one.instance is not None and one.verdict not in wanted}


def _proposed(row: ProcessRow, start: int, instance: int | None) -> Proposed:
    return Proposed(
        pid=row.pid,
        start=start,
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


def _end(proposed: tuple[Proposed, ...], include: tuple[str, ...]) -> ReapAnswer:
    items = tuple(
        ReapItem(pid=one.pid, start=one.start, verdict=one.verdict, evidence=one.evidence) for one in proposed
    )
    return Client(Paths(), start=True).reap(ReapRequest(processes=items, why="oomless reap --yes", include=include))


def _report(proposed: tuple[Proposed, ...], held: tuple[HeldBack, ...], answer: ReapAnswer, yes: bool) -> ReapReport:
    return ReapReport(
        dry_run=not yes,
        proposed=proposed,
        held_back=held,
        bytes_recoverable=sum(one.bytes_recoverable for one in proposed),
        ended=answer.ended,
        left=answer.left,
        refused=answer.refused,
        bytes_freed=answer.bytes_freed,
        bytes_source=answer.bytes_source,
    )


# For people


def _show(report: ReapReport) -> None:
    out = console()
    for held in report.held_back:
        out.print(f"{held.pid} is held back: {printable(held.why)}", soft_wrap=True)
    if not report.proposed:
        out.print("nothing is proven to be only left", soft_wrap=True)
        return
    how = {(one.pid, one.start): one.how for one in report.ended}
    how |= {(one.pid, one.start): f"still there: {one.why}" for one in report.left}
    how |= {(one.pid, one.start): f"not signalled: {one.why}" for one in report.refused}
    out.print(_table(report.proposed, how if not report.dry_run else None))
    size, count = format_size(report.bytes_recoverable), len(report.proposed)
    many = "1 process" if count == 1 else f"{count} processes"
    if report.dry_run:
        out.print(
            f"{many} would be ended, {size} or more would come back; oomless reap --yes does it", soft_wrap=True
        )
        return
    named = {(one.pid, one.start) for one in report.proposed}
    for one in report.ended:
        if (one.pid, one.start) not in named:
            out.print(f"{one.pid}, started meanwhile by one of them: {one.how}", soft_wrap=True)
    freed = f"{format_size(report.bytes_freed)} came back ({report.bytes_source} of those that were ended, before)"
    out.print(f"{len(report.ended)} ended, {len(report.left) + len(report.refused)} not; {freed}", soft_wrap=True)


def _table(rows: Iterable[Proposed], how: Mapping[tuple[int, int], str] | None) -> Table:
    """One section an instance; the evidence in full, for it is what the decision is made on."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("PID", justify="right")
    table.add_column("WHAT", overflow="ellipsis", no_wrap=True, max_width=_WHAT_WIDTH)
    table.add_column("VERDICT", no_wrap=True)
    table.add_column("FREES", justify="right", no_wrap=True)
    table.add_column("WHY" if how is None else "WHY, AND HOW IT ENDED", overflow="fold")
    last: int | None = None
    for row in sorted(rows, key=lambda row: (row.instance or row.pid, row.pid)):
        if last is not None and last != (row.instance or row.pid):
            table.add_section()
        last = row.instance or row.pid
        what = f"{row.server}: {row.command}" if row.server else row.command
        why = "; ".join(row.evidence)
        if how is not None:
            why = f"{why}; {how.get((row.pid, row.start), 'no word of it')}"
        cells = (str(row.pid), printable(what), row.verdict, format_size(row.bytes_recoverable), printable(why))
        table.add_row(*cells)
    return table
