"""Reports of a saved listing (``--from FILE|-``): its text, and what ``scan`` and ``reap`` say of it.

What a listing does not say is None. Its memory is what it prints (RSS by ps, which counts shared pages in every
process). It shows no standard input and has no history, so nothing of it is proven to be left over, and nothing of it
is ever signalled: its pids are of another time, if not of another machine.
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterable, Iterator
from typing import BinaryIO

import msgspec

from oomless.census.attribution import Attributed
from oomless.census.findings.finding import join_words
from oomless.census.listing import ListingCensus
from oomless.errors import UsageError
from oomless.listing import Listing, Unreadable, parse_listing
from oomless.listing.merge import MergedRow, list_zombies
from oomless.redact import command_line, mask_secrets
from oomless.reports.reap import ReapReport, select_rows, sum_recoverable
from oomless.reports.scan import ProcessRow, ScanReport, group_rows, process_row
from oomless.units import format_size

#: A listing of 100,000 processes with long commands is smaller.
MOST_BYTES = 64 * 2**20
_GIVE = "give it the output of ps aux, ps -ef, ps -eo ... or top -b, or - for standard input"
_ON_THE_MACHINE = "on the machine itself, oomless reap can prove it"


class ListingReport(ScanReport, frozen=True, kw_only=True):
    """``form``: which programs printed the listing; ``notes``: what it does not say."""

    form: str
    unreadable: tuple[Unreadable, ...]
    notes: tuple[str, ...]


class ListingReapReport(ReapReport, frozen=True, kw_only=True):
    unreadable: tuple[Unreadable, ...]


# -- the text --------------------------------------------------------------------------------------------------


def read_listing(source: str) -> Listing:
    """The listing in a file, or on standard input (``-``). Raises UsageError if there is none in it."""
    listing = parse_listing(read_text(source))
    if not listing.rows:
        raise UsageError(f"{source_name(source)} names no process", _why_none(listing), _GIVE)
    return listing


def read_text(source: str) -> str:
    """The text, of whatever bytes. Raises UsageError if there is none."""
    name = source_name(source)
    content = _read_content(source, name)
    if b"\0" in content:
        raise UsageError(f"{name} holds no text", "there are zero bytes in it", _GIVE)
    if not content.strip():
        raise UsageError(f"{name} is empty", "", _GIVE)
    return content.decode("utf-8", "replace")


def source_name(source: str) -> str:
    return "standard input" if source == "-" else source


def _why_none(listing: Listing) -> str:
    if not listing.unreadable:
        return "it holds no table of ps or top, and no list of PIDs with their memory"
    first = listing.unreadable[0].line
    return f"none of the {len(listing.unreadable)} lines within tables could be read, the first is line {first}"


def _read_content(source: str, name: str) -> bytes:
    try:
        if source == "-":
            content = _standard_input(name)
        else:
            with open(source, "rb") as file:
                content = _read_file(file, name)
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
        raise UsageError(f"cannot read {name}", getattr(error, "strerror", None) or str(error), _GIVE) from None
    if len(content) > MOST_BYTES:
        raise UsageError(f"{name} is too large", f"{format_size(MOST_BYTES)} are read at most", _GIVE)
    return content


def _standard_input(name: str) -> bytes:
    if sys.stdin is None:  # Python's answer to a closed descriptor 0
        raise UsageError(f"cannot read {name}", "it is closed", _GIVE)
    return sys.stdin.buffer.read(MOST_BYTES + 1)


def _read_file(file: BinaryIO, name: str) -> bytes:
    """Of what is no file, a pipe is read (``<(ps aux)``) and a device is not."""
    mode = os.fstat(file.fileno()).st_mode
    if stat.S_ISBLK(mode) or (stat.S_ISCHR(mode) and not file.isatty()):
        raise UsageError(f"cannot read {name}", "it is a device", _GIVE)
    return file.read(MOST_BYTES + 1)


# -- scan --------------------------------------------------------------------------------------------------


def scan_listing(listing: Listing, census: ListingCensus) -> ListingReport:
    """The report of a saved listing, and of the census that was made of it."""
    return ListingReport(
        memory=listing.memory,
        processes=tuple(listing_row(process, census) for process in census.processes),
        groups=group_rows(census.processes, census.footprints, {}),
        findings=census.findings,
        form=", ".join(dict.fromkeys(section.form for section in listing.sections)),
        unreadable=mask_unreadable(listing),
        notes=tuple(_scan_notes(listing, census)),
    )


def mask_unreadable(listing: Listing) -> tuple[Unreadable, ...]:
    """With secrets mask_secrets: it may be the rest of a command."""
    return tuple(Unreadable(line=line.line, text=mask_secrets((line.text,))[0]) for line in listing.unreadable)


def shown_command(row: MergedRow) -> str:
    """The printed command, or what a person called the process, with secrets mask_secrets."""
    return command_line(row.argv or (row.listed.command,))


def listing_row(attributed: Attributed, census: ListingCensus) -> ProcessRow:
    """Numbers of a listing name no process of this machine: it has no start."""
    row = census.rows[attributed.process.pid]
    listed = row.listed
    return msgspec.structs.replace(
        process_row(attributed, census.footprints.get(listed.pid)),
        ppid=listed.ppid,
        start=None,
        uid=attributed.process.uid if attributed.process.uid >= 0 else None,
        command=shown_command(row),
        footprint_source="listing",
        rss_bytes=listed.rss_bytes,
        line=listed.line,
        user=listed.user,
        tty=listed.tty,
    )


def _scan_notes(listing: Listing, census: ListingCensus) -> list[str]:
    notes = []
    if listing.memory is None:
        notes.append("the listing does not say how much memory the machine has, nor what is available")
    missing = len(census.processes) - len(census.footprints)
    if missing:
        notes.append(f"the listing does not say how much memory {missing} of the listed processes use")
    forms = [section.form for section in listing.sections]
    if max(forms.count("top -b"), forms.count("top -l")) > 1:
        notes.append("of several pictures of top only the last is shown")
    zombies = list_zombies(listing)
    if zombies:
        pids = ", ".join(str(row.pid) for row in zombies)
        noun = "1 zombie is" if len(zombies) == 1 else f"{len(zombies)} zombies are"
        notes.append(f"{noun} not listed (ended and not reaped by the parent; no memory): {pids}")
    if listing.unreadable:
        count = len(listing.unreadable)
        notes.append(f"{count} line{'s' if count > 1 else ''} within tables could not be read")
    return notes


# -- reap --------------------------------------------------------------------------------------------------


def reap_listing(listing: Listing, census: ListingCensus, verdicts: Iterable[str]) -> ListingReapReport:
    """The dry run: what is asked for with ``--include`` is proposed, what order of start alone suggests held back."""
    rows = tuple(listing_row(process, census) for process in census.processes)
    attributed = {process.process.pid: process for process in census.processes}
    proposed, held = select_rows(rows, attributed, verdicts)
    return ListingReapReport(
        dry_run=True,
        proposed=proposed,
        held_back=held,
        bytes_recoverable=sum_recoverable(proposed),
        bytes_source="listing",
        notes=tuple(_reap_notes(rows, census)),
        unreadable=mask_unreadable(listing),
    )


def _reap_notes(rows: tuple[ProcessRow, ...], census: ListingCensus) -> Iterator[str]:
    yield f"a listing shows no standard input and no history, so no leftover is proven; {_ON_THE_MACHINE}"
    lost = [row for row in rows if row.ppid == 1 and row.server is not None and row.verdict == "unknown"]
    if lost:
        names = join_words(f"{row.pid} {row.server}" for row in lost)
        yield f"not proven to be leftover although their parent is gone: {names}"
    if rows and all(row.ppid is None for row in rows):
        yield "the listing prints no parents (ps -eo pid,ppid,tty,etime,rss,args does)"
    if rows and not census.timed:
        yield "the listing does not say when each process was started, so not which copy of a server is older"
