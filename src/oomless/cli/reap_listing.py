"""``oomless reap --from``: the dry run on a saved listing.

A listing shows nobody's standard input and remembers nothing, and those two prove what is left. So it proposes what
it is asked for with ``--include``, holds back what order of start alone suggests, and says what it cannot tell.
Nothing of it is ever signalled: its numbers are of another time, if not of another machine.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from oomless import catalog
from oomless.catalog import Catalog
from oomless.census.findings.finding import listed as in_words
from oomless.census.listing import ListingCensus, attribute_listing
from oomless.cli.listing import read
from oomless.cli.reap_view import ReapReport, show
from oomless.listing import Listing, Unreadable
from oomless.paths import Paths
from oomless.reports.listing_scan import ListedRow, report_of, unreadable
from oomless.reports.reap_proposal import proposed_of, recoverable

_ON_THE_MACHINE = "on the machine itself, oomless reap looks at that"


class ListedReapReport(ReapReport, frozen=True, kw_only=True):
    unreadable: tuple[Unreadable, ...]


def report(source: str, verdicts: Iterable[str]) -> ListedReapReport:
    """Raises UsageError."""
    return dry_run(read(source), catalog.load(Paths().catalog_file), verdicts)


def dry_run(listing: Listing, known: Catalog, verdicts: Iterable[str]) -> ListedReapReport:
    found = attribute_listing(listing, known)
    rows = report_of(listing, found).processes
    attributed = {one.process.pid: one for one in found.processes}
    proposed, held = proposed_of(rows, attributed, verdicts)
    return ListedReapReport(
        dry_run=True,
        proposed=proposed,
        held_back=held,
        bytes_recoverable=recoverable(proposed),
        bytes_source="listing",
        notes=tuple(_notes(rows, found)),
        unreadable=unreadable(listing),
    )


def tell(found: ListedReapReport) -> None:
    from oomless.cli.listing import show_unreadable

    show(found, "a listing is of another time or machine, so nothing is signalled")
    show_unreadable(found.unreadable)


def _notes(rows: tuple[ListedRow, ...], found: ListingCensus) -> Iterator[str]:
    yield f"a listing shows no standard input and no history, so no orphan is proven by it; {_ON_THE_MACHINE}"
    lost = [row for row in rows if row.ppid == 1 and row.server is not None and row.verdict == "unknown"]
    if lost:
        names = in_words(f"{row.pid} {row.server}" for row in lost)
        yield f"what has lost its parent is not proven to be left: {names}"
    if rows and all(row.ppid is None for row in rows):
        yield "the listing prints no parents, so who has lost them is not told (ps -eo pid,ppid,tty,etime,rss,args)"
    if rows and not found.timed:
        yield "the listing does not say when each was started, so which copy of a server is older is not told"
