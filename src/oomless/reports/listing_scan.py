"""What ``oomless scan --from --json`` prints: the fields of a live scan, with null for what a listing does not tell.

Further fields: the line, user and terminal of each process, the lines that could not be read, and notes on what is
missing. Memory is what the listing says (RSS by ps, which counts shared pages in every process), never read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Literal

import msgspec

from oomless.catalog import Catalog, Kind
from oomless.census.attribution import Attributed, Verdict
from oomless.census.findings import Finding, Scene, findings
from oomless.census.findings.finding import listed, pids_of
from oomless.census.listing import Census, census
from oomless.listing import Listing, Unreadable
from oomless.model import Footprint, MachineMemory
from oomless.processes.command import to_be
from oomless.redact import command_line, masked
from oomless.reports.scan import group_of, groups, instance_of

_RULE = "duplicate-servers"


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
    return report_of(listing, census(listing, catalog))


def report_of(listing: Listing, found: Census) -> ListedReport:
    """With the census that was made of the listing."""
    sizes = {pid: row.listed.rss_bytes for pid, row in found.rows.items()}
    footprints = {pid: Footprint(bytes=s, source="listing") for pid, s in sizes.items() if s is not None}
    scene = Scene(memory=listing.memory, processes=found.processes, footprints=footprints)
    copies = _copies(found)
    rest = (one for one in findings(scene) if one.rule != _RULE)
    return ListedReport(
        memory=listing.memory,
        processes=tuple(_row(one, found) for one in found.processes),
        groups=_groups(found, footprints),
        findings=tuple(sorted((*rest, *copies), key=lambda one: one.severity == "info")),
        unreadable=unreadable(listing),
        notes=tuple(_notes(listing, found)),
    )


def unreadable(listing: Listing) -> tuple[Unreadable, ...]:
    """With secrets masked: it may be the rest of a command."""
    return tuple(Unreadable(line=one.line, text=masked((one.text,))[0]) for one in listing.unreadable)


def _row(one: Attributed, found: Census) -> ListedRow:
    listed = found.rows[one.process.pid].listed
    return ListedRow(
        pid=listed.pid,
        ppid=listed.ppid,
        uid=one.process.uid if one.process.uid >= 0 else None,
        command=command_line(tuple(listed.command.split())),
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


def _groups(found: Census, footprints: dict[int, Footprint]) -> tuple[ListedGroup, ...]:
    untold = Counter(group_of(one) for one in found.processes if one.process.pid not in footprints)
    return tuple(
        ListedGroup(
            kind=row.kind,
            name=row.name,
            instances=row.instances,
            processes=row.processes,
            footprint_bytes=None if untold[row.kind, row.name] == row.processes else row.footprint_bytes,
            untold=untold[row.kind, row.name],
        )
        for row in groups(list(found.processes), footprints, {})
    )


def _copies(found: Census) -> list[Finding]:
    """The same server in several sessions, or on several terminals. A listing seldom says which was first."""
    places: dict[tuple[str, ...], dict[str, list[Attributed]]] = {}
    for one in found.processes:
        place = _place(one, found)
        if one.server is not None and one.kind == "server" and place:
            command = (one.server, *to_be(one.process.command))
            places.setdefault(command, {}).setdefault(place, []).append(one)
    several = {command[0]: there for command, there in places.items() if len(there) > 1}
    if not several:
        return []
    copies = {instance_of(one) for there in several.values() for group in there.values() for one in group}
    members = [one for one in found.processes if one.server is not None and instance_of(one) in copies]
    cut = any(found.rows[one.process.pid].listed.cut for one in members)
    count = f"{len(several)} MCP servers run more" if len(several) > 1 else "an MCP server runs more"
    evidence = [f"{name}: {'; '.join(_at(*at) for at in there.items())}" for name, there in several.items()]
    return [
        Finding(
            rule=_RULE,
            severity="warning",
            title=f"{count} than once: {listed(sorted(several))}",
            pids=pids_of(members),
            evidence=(*evidence, *(("some commands are cut: the same as far as they are printed",) if cut else ())),
            action=f"close the sessions that you don't need: {listed(_closable(several.values()))}",
        )
    ]


def _place(one: Attributed, found: Census) -> str:
    """What a person can close: the session and its terminal, or that alone."""
    row = found.rows[one.process.pid].listed
    if one.session_root is None:
        return f"terminal {row.tty}" if row.tty else ""
    tty = found.rows[one.session_root].listed.tty or row.tty
    return f"{one.host} {one.session_root}" + (f" on {tty}" if tty else "")


def _at(place: str, group: list[Attributed]) -> str:
    return f"{place} (pid {', '.join(str(one.process.pid) for one in group)})"


def _closable(several: Iterable[dict[str, list[Attributed]]]) -> list[str]:
    return sorted({place for there in several for place in there})


def _notes(listing: Listing, found: Census) -> list[str]:
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
