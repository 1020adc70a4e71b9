"""``oomless reap``: what is proven to be only left, and with ``--yes`` its end.

Covers the options and the live machine. Who is proposed is ``proposal.py``, how it is shown ``reap_view.py``, a saved
listing ``reap_listed.py``. The verdicts are the census' (``census/``), looking is ``scanner.py``, the ending is the
daemon's work (``daemon/reaping.py``), which looks at each process once more.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

import typer

from oomless.cli.output import guard, print_json
from oomless.cli.reap_view import ReapReport, show
from oomless.errors import UnsupportedPlatform, UsageError
from oomless.paths import Paths
from oomless.platform import current
from oomless.protocol.client import Client
from oomless.protocol.reap_views import INCLUDABLE, PROVEN, ReapAnswer, ReapItem, ReapRequest
from oomless.reports.look import Scan, Scanner
from oomless.reports.reap_proposal import HeldBack, Proposed, proposed_of, recoverable

_OFF = 'the settings say reap = "off": what the daemon knows of sessions that are gone is only listed'
_NOT_READ = "who holds a standard input is not read on this system, so nothing is proven to be left"


@guard()
def command(
    source: Annotated[
        str | None,
        typer.Option("--from", metavar="FILE|-", help="Read saved output of ps or top; a dry run only."),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="End what is proposed.")] = False,
    include: Annotated[
        str | None, typer.Option(metavar="VERDICT,...", help="Propose detached or duplicate as well.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Propose leftover processes to kill; with --yes, kill them."""
    verdicts = _verdicts(include)
    if source is not None:
        _from(source, yes, verdicts, json)
        return
    platform = current()
    if yes and platform.name != "linux":
        why = f"ending is written for Linux only so far, this is {platform.name}"
        raise UnsupportedPlatform("reap cannot end anything here", why, "leave --yes out")
    scanner = Scanner(platform, Paths())
    proposed, held = propose(scanner.scan(scanner.status()), (*PROVEN, *verdicts))
    answer = _end(proposed, verdicts) if yes and proposed else ReapAnswer()
    report = _report(proposed, held, answer, yes, () if platform.name == "linux" else (_NOT_READ,))
    if json:
        print_json(report)
    else:
        show(report, "oomless reap --yes does it" if platform.name == "linux" else "nothing here ends them yet")
    if report.left or report.refused:
        raise typer.Exit(1)


def _from(source: str, yes: bool, verdicts: tuple[str, ...], json: bool) -> None:
    if yes:
        why = "a listing is of another time or machine: nothing of it can be signalled"
        raise UsageError("--yes cannot end what a listing names", why, "leave --yes out, or --from")
    from oomless.cli import reap_listing

    found = reap_listing.report(source, (*PROVEN, *verdicts))
    if json:
        print_json(found)
    else:
        reap_listing.tell(found)


def _verdicts(text: str | None) -> tuple[str, ...]:
    found = tuple(dict.fromkeys(word.strip() for word in (text or "").split(",") if word.strip()))
    for word in found:
        if word not in INCLUDABLE:
            why = (
                "it is never ended"
                if word in ("protected", "owned", "escaped", "idle", "unknown")
                else "there is no such verdict to include"
            )
            raise UsageError(f"cannot include {word!r}", why, f"--include takes {' and '.join(INCLUDABLE)}")
    if text is not None and not found:
        raise UsageError("--include names no verdict", "", f"it takes {' and '.join(INCLUDABLE)}")
    return found


def propose(scan: Scan, verdicts: Iterable[str]) -> tuple[tuple[Proposed, ...], tuple[HeldBack, ...]]:
    """Of one look at this machine. With ``reap = "off"`` in the settings nothing is proposed for what the daemon
    remembers; what was asked for by name is."""
    proposed, held = proposed_of(scan.report.processes, scan.attributed, verdicts)
    known = {(one.pid, one.start) for one in scan.status.leftovers} if scan.status.reap == "off" else set()
    off = [one for one in proposed if one.verdict in PROVEN and (one.pid, one.start) in known]
    if not off:
        return proposed, held
    rest = tuple(one for one in proposed if one not in off)
    return rest, (*held, *(HeldBack(pid=one.pid, start=one.start, why=_OFF) for one in off))


def _end(proposed: tuple[Proposed, ...], include: tuple[str, ...]) -> ReapAnswer:
    items = tuple(
        ReapItem(pid=one.pid, start=one.start, verdict=one.verdict, evidence=one.evidence)
        for one in proposed
        if one.start is not None
    )
    return Client(Paths(), start=True).reap(ReapRequest(processes=items, why="oomless reap --yes", include=include))


def _report(
    proposed: tuple[Proposed, ...],
    held: tuple[HeldBack, ...],
    answer: ReapAnswer,
    yes: bool,
    notes: tuple[str, ...],
) -> ReapReport:
    return ReapReport(
        dry_run=not yes,
        proposed=proposed,
        held_back=held,
        bytes_recoverable=recoverable(proposed),
        ended=answer.ended,
        left=answer.left,
        refused=answer.refused,
        bytes_freed=answer.bytes_freed,
        bytes_source=answer.bytes_source,
        notes=notes,
    )
