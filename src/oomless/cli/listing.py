"""``--from FILE|-``: a saved listing instead of the machine; reading the file, and ``scan``'s table of it.

Needs no daemon and signals nobody: the processes may be of another machine, or long gone. What the text says is read
by ``platform/listing``, whose the processes are by ``census/listing.py``.
"""

from __future__ import annotations

import os
import stat
import sys
from typing import TYPE_CHECKING, BinaryIO, Literal

from oomless import catalog
from oomless.census.findings import at_least
from oomless.cli.finding_view import show as show_findings
from oomless.cli.output import console, print_json, printable
from oomless.errors import UsageError
from oomless.listing import Listing, Unreadable, parse
from oomless.paths import Paths
from oomless.reports.listing_scan import ListedReport, ListedRow, report
from oomless.units import format_size

if TYPE_CHECKING:
    from rich.table import Table

#: A listing of 100,000 processes with long commands is smaller.
MOST_BYTES = 64 * 2**20
_GIVE = "give it the output of ps aux, ps -ef, ps -eo ... or top -b, or - for standard input"
#: What the other columns of the table need; commands get the rest, within these bounds.
_OTHERS_WIDTH, _NARROWEST, _WIDEST = 86, 16, 60
_UNREADABLE_SHOWN = 10


def tell(source: str, json: bool, fail_on: Literal["warning", "critical"] | None) -> bool:
    """Prints who owns what in a listing; says whether there is a finding as severe as that."""
    found = report(read(source), catalog.load(Paths().catalog_file))
    if json:
        print_json(found)
    else:
        _show(found)
    return fail_on is not None and at_least(found.findings, fail_on)


def read(source: str) -> Listing:
    """The listing in a file, or on standard input (``-``). Raises UsageError if there is none in it."""
    found = parse(text_of(source))
    if not found.rows:
        raise UsageError(f"{name_of(source)} names no process", _why_none(found), _GIVE)
    return found


def text_of(source: str) -> str:
    """The text, of whatever bytes. Raises UsageError if there is none."""
    name = name_of(source)
    content = _content(source, name)
    if b"\0" in content:
        raise UsageError(f"{name} holds no text", "there are zero bytes in it", _GIVE)
    if not content.strip():
        raise UsageError(f"{name} is empty", "", _GIVE)
    return content.decode("utf-8", "replace")


def name_of(source: str) -> str:
    return "standard input" if source == "-" else source


def _why_none(found: Listing) -> str:
    if not found.unreadable:
        return "it holds no table of ps or top, and no list of PIDs with their memory"
    first = found.unreadable[0].line
    return f"none of the {len(found.unreadable)} lines within tables could be read, the first is line {first}"


def _content(source: str, name: str) -> bytes:
    try:
        if source == "-":
            content = _standard_input(name)
        else:
            with open(source, "rb") as file:
                content = _read(file, name)
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
        raise UsageError(f"cannot read {name}", getattr(error, "strerror", None) or str(error), _GIVE) from None
    if len(content) > MOST_BYTES:
        raise UsageError(f"{name} is too large", f"{format_size(MOST_BYTES)} are read at most", _GIVE)
    return content


def _standard_input(name: str) -> bytes:
    if sys.stdin is None:  # Python's answer to a closed descriptor 0
        raise UsageError(f"cannot read {name}", "it is closed", _GIVE)
    return sys.stdin.buffer.read(MOST_BYTES + 1)


def _read(file: BinaryIO, name: str) -> bytes:
    """Of what is no file, a pipe is read (``<(ps aux)``) and a device is not."""
    mode = os.fstat(file.fileno()).st_mode
    if stat.S_ISBLK(mode) or (stat.S_ISCHR(mode) and not file.isatty()):
        raise UsageError(f"cannot read {name}", "it is a device", _GIVE)
    return file.read(MOST_BYTES + 1)


def _show(found: ListedReport) -> None:
    out = console()
    if found.processes:
        out.print(_table(found.processes, max(_NARROWEST, min(_WIDEST, out.width - _OTHERS_WIDTH))))
    else:
        out.print("no known host or server is in the listing", soft_wrap=True)
    if found.memory is not None:
        used, whole = found.memory.total_bytes - found.memory.available_bytes, found.memory.total_bytes
        out.print(f"memory: {format_size(used)} of {format_size(whole)} in use by the listing", soft_wrap=True)
    for note in found.notes:
        out.print(f"note: {note}", soft_wrap=True)
    show_unreadable(found.unreadable)
    show_findings(out, found.findings)


def show_unreadable(lines: tuple[Unreadable, ...]) -> None:
    out = console()
    for one in lines[:_UNREADABLE_SHOWN]:
        out.print(f"line {one.line}: {_short(printable(one.text), _WIDEST)}", soft_wrap=True)
    if len(lines) > _UNREADABLE_SHOWN:
        out.print(f"and {len(lines) - _UNREADABLE_SHOWN} more lines (--json has all)", soft_wrap=True)


def _table(rows: tuple[ListedRow, ...], width: int) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("PID", justify="right", no_wrap=True)
    for name in ("KIND", "WHAT", "TTY", "OWNER"):
        table.add_column(name, overflow="ellipsis", no_wrap=True)
    table.add_column("MEMORY", justify="right", no_wrap=True)
    table.add_column("VERDICT", no_wrap=True)
    for row in sorted(rows, key=lambda row: (row.host or "~", row.session or "~", row.tty, row.kind != "session")):
        owner = printable(f"{row.host} {(row.session or '')[:8]}") if row.host else "-"
        what = f"{row.server}: {row.command}" if row.server else row.command
        size = "?" if row.footprint_bytes is None else format_size(row.footprint_bytes)
        table.add_row(
            str(row.pid), row.kind, _short(printable(what), width), row.tty or "-", owner, size, row.verdict
        )
    return table


def _short(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 1]}…"
