"""What ``oomless scan --from --json`` prints: the fields of a live scan, with null for what a listing does not tell.

Further fields: the line, user and terminal of each process, the lines that could not be read, and notes on what is
missing. Memory is what the listing says (RSS by ps, which counts shared pages in every process), never read.
"""

from __future__ import annotations

from collections import Counter
from typing import Literal

import msgspec

from oomless.catalog import Catalog, Kind
from oomless.census.attribution import Attributed, Verdict
from oomless.census.findings import Finding
from oomless.census.listing import ListingCensus, attribute_listing
from oomless.listing import Listing, Unreadable
from oomless.listing.merge import MergedRow
from oomless.model import MachineMemory
from oomless.redact import command_line, masked
from oomless.reports.scan import group_of, groups


class ListedRow(msgspec.Struct, frozen=True, kw_only=True):
    """``start`` and ``bytes_recoverable`` are never known."""

    pid: int
    ppid: int | None
    start: None = None
    uid: int | None
    command: str
    kind: Kind
    verdict: Verdict
    confidence: float
    host: str | None
    session: str | None
    server: str | None
    footprint_bytes: int | None
    footprint_source: Literal["listing"] = "listing"
    rss_bytes: int | None
    bytes_recoverable: None = None
    evidence: tuple[str, ...]
    line: int
    user: str
    tty: str


class ListedGroup(msgspec.Struct, frozen=True, kw_only=True):
    """``footprint_bytes`` is the sum of what is told, None if nothing is; ``untold``: of how many processes it is
    not."""

    kind: Kind
    name: str
    instances: int
    processes: int
    footprint_bytes: int | None
    untold: int


class ListedReport(msgspec.Struct, frozen=True, kw_only=True):
    schema: str = "oomless.scan/1"
    memory: MachineMemory | None
    processes: tuple[ListedRow, ...]
    groups: tuple[ListedGroup, ...]
    findings: tuple[Finding, ...]
    unreadable: tuple[Unreadable, ...]
    notes: tuple[str, ...]


def report(listing: Listing, catalog: Catalog) -> ListedReport:
    return report_of(listing, attribute_listing(listing, catalog))


def report_of(listing: Listing, found: ListingCensus) -> ListedReport:
    """With the census that was made of the listing."""
    return ListedReport(
        memory=listing.memory,
        processes=tuple(_row(one, found) for one in found.processes),
        groups=_groups(found),
        findings=found.findings,
        unreadable=unreadable(listing),
        notes=tuple(_notes(listing, found)),
    )


def unreadable(listing: Listing) -> tuple[Unreadable, ...]:
    """With secrets masked: it may be the rest of a command."""
    return tuple(Unreadable(line=one.line, text=masked((one.text,))[0]) for one in listing.unreadable)


def shown_command(row: MergedRow) -> str:
    """The printed command, or what a person called the process, with secrets masked."""
    return command_line(row.argv or (row.listed.command,))


def _row(one: Attributed, found: ListingCensus) -> ListedRow:
    row = found.rows[one.process.pid]
    listed = row.listed
    return ListedRow(
        pid=listed.pid,
        ppid=listed.ppid,
        uid=one.process.uid if one.process.uid >= 0 else None,
        command=shown_command(row),
        kind=one.kind,
        verdict=one.verdict,
        confidence=one.confidence,
        host=one.host,
        session=one.session,
        server=one.server,
        footprint_bytes=listed.rss_bytes,
        rss_bytes=listed.rss_bytes,
        evidence=one.evidence,
        line=listed.line,
        user=listed.user,
        tty=listed.tty,
    )


def _groups(found: ListingCensus) -> tuple[ListedGroup, ...]:
    untold = Counter(group_of(one) for one in found.processes if one.process.pid not in found.footprints)
    return tuple(
        ListedGroup(
            kind=row.kind,
            name=row.name,
            instances=row.instances,
            processes=row.processes,
            footprint_bytes=None if untold[row.kind, row.name] == row.processes else row.footprint_bytes,
            untold=untold[row.kind, row.name],
        )
        for row in groups(list(found.processes), found.footprints, {})
    )


def _notes(listing: Listing, found: ListingCensus) -> list[str]:
    notes = []
    if listing.memory is None:
        notes.append("the listing does not say how much memory the machine has, nor what is available")
    missing = sum(found.rows[one.process.pid].listed.rss_bytes is None for one in found.processes)
    if missing:
        notes.append(f"the listing does not say how much memory {missing} of the listed processes use")
    forms = [section.form for section in listing.sections]
    if max(forms.count("top -b"), forms.count("top -l")) > 1:
        notes.append("of several pictures of top only the last is shown")
    if listing.unreadable:
        count = len(listing.unreadable)
        notes.append(f"{count} line{'s' if count > 1 else ''} within tables could not be read")
    return notes
