"""``oomless reap``: the leftover processes, and with ``--yes`` their end. Options and printing."""

from __future__ import annotations

from typing import Annotated

import typer

from oomless.cli.output import guard, print_json
from oomless.cli.reap_view import show_reap
from oomless.errors import UnsupportedPlatform, UsageError
from oomless.paths import Paths
from oomless.platform import current
from oomless.protocol.client import Client
from oomless.protocol.reap_views import INCLUDABLE, PROVEN, ReapAnswer
from oomless.reports import reap
from oomless.reports.look import Scanner

_NOT_READ = "standard inputs are not read on this system, so no leftover is proven"


@guard()
def command(
    source: Annotated[
        str | None,
        typer.Option("--from", metavar="FILE|-", help="Read saved output of ps or top; a dry run only."),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Kill what is proposed.")] = False,
    include: Annotated[
        str | None, typer.Option(metavar="VERDICT,...", help="Propose detached or duplicate as well.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Propose leftover processes to kill; with --yes, kill them."""
    verdicts = _parse_verdicts(include)
    if source is not None:
        _reap_listing(source, yes, verdicts, json)
        return
    platform = current()
    if yes and platform.name != "linux":
        why = f"killing is written for Linux only so far, this is {platform.name}"
        raise UnsupportedPlatform("reap cannot kill anything here", why, "leave --yes out")
    scanner = Scanner(platform, Paths())
    proposal = reap.propose(scanner.scan(scanner.status()), (*PROVEN, *verdicts))
    answer = _request_kill(proposal, verdicts) if yes else None
    report = reap.build_reap(proposal, answer, () if platform.name == "linux" else (_NOT_READ,))
    if json:
        print_json(report)
    else:
        show_reap(
            report, "kill with oomless reap --yes" if platform.name == "linux" else "killing is for Linux only so far"
        )
    if report.left or report.refused:
        raise typer.Exit(1)


def _reap_listing(source: str, yes: bool, verdicts: tuple[str, ...], json: bool) -> None:
    if yes:
        why = "its processes are of another time or machine"
        raise UsageError("--yes cannot kill what a listing names", why, "leave --yes out, or --from")
    from oomless import catalog
    from oomless.census.listing import attribute_listing
    from oomless.cli.listing import show_unreadable
    from oomless.reports.listing import read_listing, reap_listing

    listing = read_listing(source)
    census = attribute_listing(listing, catalog.load(Paths().catalog_file))
    report = reap_listing(listing, census, (*PROVEN, *verdicts))
    if json:
        print_json(report)
        return
    show_reap(report, "nothing of a listing is signalled, it is of another time or machine")
    show_unreadable(report.unreadable)


def _request_kill(proposal: reap.Proposal, include: tuple[str, ...]) -> ReapAnswer:
    proposed, _ = proposal
    return Client(Paths(), start=True).reap(reap.make_request(proposed, include)) if proposed else ReapAnswer()


def _parse_verdicts(text: str | None) -> tuple[str, ...]:
    verdicts = tuple(dict.fromkeys(word.strip() for word in (text or "").split(",") if word.strip()))
    for word in verdicts:
        if word not in INCLUDABLE:
            why = (
                "it is never killed"
                if word in ("protected", "owned", "escaped", "idle", "unknown")
                else "there is no such verdict to include"
            )
            raise UsageError(f"cannot include {word!r}", why, f"--include takes {' and '.join(INCLUDABLE)}")
    if text is not None and not verdicts:
        raise UsageError("--include names no verdict", "", f"it takes {' and '.join(INCLUDABLE)}")
    return verdicts
