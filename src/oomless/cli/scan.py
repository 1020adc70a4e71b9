"""``oomless scan`` as typer knows it: its options and their help. What it prints is in ``scan_view.py``, of a saved
listing in ``listing.py``; going on with it is ``watch.py``."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from oomless.census.findings import at_least
from oomless.cli.output import guard, print_json
from oomless.cli.scan_view import print_scan
from oomless.errors import UsageError
from oomless.paths import Paths
from oomless.units import parse_duration

#: Less would cost more than it shows.
SHORTEST_INTERVAL = 0.1


@guard()
def command(
    source: Annotated[
        str | None,
        typer.Option("--from", metavar="FILE|-", help="Read saved output of ps or top instead of the machine."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object; with --watch one a line.")] = False,
    fail_on: Annotated[
        Literal["warning", "critical"] | None,
        typer.Option("--fail-on", help="Exit with 1 if there is a finding as severe as that."),
    ] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Go on looking; without a terminal as JSON lines.")] = False,
    interval: Annotated[str | None, typer.Option(metavar="TIME", help="With --watch: how often (1s).")] = None,
    count: Annotated[int | None, typer.Option(min=1, help="With --watch: end after so many looks.")] = None,
) -> None:
    """Show sessions, their servers and tool shells, and their memory."""
    if not watch and (interval is not None or count is not None):
        raise UsageError("--interval and --count are for --watch", "", "add --watch")
    if source is not None and watch:
        raise UsageError("--from is for one look at what was saved", "", "leave --watch out")
    if source is not None:
        failed = _scan_listing(source, json, fail_on)
    elif watch:
        from oomless.cli.watch import run

        failed = run(json, _parse_interval(interval or "1s"), count, fail_on)
    else:
        print_scan(json, fail_on)
        failed = False
    if failed:
        raise typer.Exit(1)


def _scan_listing(source: str, json: bool, fail_on: Literal["warning", "critical"] | None) -> bool:
    from oomless import catalog
    from oomless.census.listing import attribute_listing
    from oomless.cli.listing import show_listing
    from oomless.reports.listing import read_listing, scan_listing

    listing = read_listing(source)
    report = scan_listing(listing, attribute_listing(listing, catalog.load(Paths().catalog_file)))
    if json:
        print_json(report)
    else:
        show_listing(report)
    return fail_on is not None and at_least(report.findings, fail_on)


def _parse_interval(text: str) -> float:
    seconds = parse_duration(text, "the interval")
    if seconds < SHORTEST_INTERVAL:
        raise UsageError(f"the interval {text!r} is too short", "", f"{SHORTEST_INTERVAL:.0g}s is the least")
    return seconds
