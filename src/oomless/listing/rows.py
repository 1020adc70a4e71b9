"""One line and the columns above it: a row, or None if a single cell does not look as it should. Pure.

Cells are words between blanks; a start time may be of two or five of them, and a command has any number and takes
what the columns before and behind it leave. Where columns are behind it, the first of them must stand below its
heading, and two columns for commands (``comm,args``) are split where the second heading stands.
"""

from __future__ import annotations

import functools
import re

import msgspec

from oomless.listing.columns import Column, Columns
from oomless.listing.facts import Listed, System
from oomless.listing.values import clock, fraction, size, terminal

#: Where the kernel cuts a name. What is as long may be whole, and is taken for cut.
_NAME_LENGTH: dict[System, int] = {"linux": 15, "": 15, "macos": 16}
_BLANKS = r"[ \t]+"
#: What ``ps f`` draws before a command.
_BRANCH = re.compile(r"\A[| ]{0,200}\\_ (?=[^ ])")


class Read(msgspec.Struct, frozen=True, kw_only=True):
    """A row, where its command ends in the line, and the width of the branch drawn before it (0: none)."""

    listed: Listed
    end: int
    depth: int = 0


def read(columns: Columns, line: int, text: str) -> Read | None:
    match = _pattern(columns).match(text)
    if match is None or not _aligned(columns, match):
        return None
    cells: dict[str, str] = {}
    for at, column in enumerate(columns.columns):
        cells.setdefault(column.field if column.cell else f"command {at}", match[at + 1])
    command = columns.commands[-1]
    start, printed = match.start(command + 1), match[command + 1].rstrip(" \t")
    branch = _BRANCH.match(printed)
    listed = _listed(columns, line, cells, printed[branch.end() :] if branch else printed)
    # A branch begins with blanks: what is more than the one between two columns belongs to it.
    depth = start + branch.end() - (match.end(command) + 1 if command else 0) if branch else 0
    return Read(listed=listed, end=start + len(printed), depth=depth)


@functools.lru_cache(maxsize=64)
def _pattern(columns: Columns) -> re.Pattern[str]:
    """A group a column. Of two commands side by side the first has the width of its heading's place."""
    parts = [_part(columns, at) for at in range(len(columns.columns))]
    return re.compile(r"[ \t]*" + _BLANKS.join(parts) + r"[ \t]*\Z")


def _part(columns: Columns, at: int) -> str:
    column = columns.columns[at]
    if column.cell:
        return f"({column.cell})"
    if at + 1 in columns.commands:
        width = columns.columns[at + 1].start - column.start
        return rf"([^ \t].{{{width - 2}}})"
    return r"([^ \t](?:.*?[^ \t])?)" if at + 1 < len(columns.columns) else r"([^ \t].*)"


def _aligned(columns: Columns, match: re.Match[str]) -> bool:
    """Whether the first cell behind a command overlaps its heading: else words of the command may pass for it."""
    return all(_below(columns, at, match) for at in columns.commands if at + 1 < len(columns.columns))


def _below(columns: Columns, command: int, match: re.Match[str]) -> bool:
    """Cells before the command may be wider than their columns, which moves the rest of the line."""
    behind: Column = columns.columns[command + 1]
    moved = match.start(command + 1) - columns.columns[command].start
    start, end = match.span(command + 2)
    return start - moved < behind.end and end - moved > behind.start


def _listed(columns: Columns, line: int, cells: dict[str, str], command: str) -> Listed:
    def number(field: str) -> int | None:
        return int(cells[field].rstrip("*+-")) if field in cells else None

    def seconds(field: str) -> float | None:
        return clock(cells[field]) if field in cells else None

    unit = 1 if columns.form == "top -l" else 1024
    share = cells.get("share")
    return Listed(
        line=line,
        pid=number("pid") or 0,
        ppid=number("ppid"),
        pgid=number("pgid"),
        sid=number("sid"),
        user=cells.get("user", ""),
        tty=terminal(cells.get("tty", "")),
        started="" if cells.get("started") == "-" else cells.get("started", ""),
        elapsed_seconds=seconds("elapsed"),
        cpu_seconds=seconds("cpu"),
        rss_bytes=size(cells["rss"], unit) if "rss" in cells else None,
        vsz_bytes=size(cells["vsz"], unit) if "vsz" in cells else None,
        memory_share=fraction(share.rstrip("%")) / 100 if share is not None else None,
        state=cells.get("state", ""),
        command=command,
        cut=_cut(columns, command),
        name_only=columns.name_only,
    )


def _cut(columns: Columns, command: str) -> bool:
    """What the line itself tells: top's sign for it, or a name as long as the kernel keeps them."""
    if columns.form == "top -b" and command.endswith("+"):
        return True
    heading = columns.columns[columns.commands[-1]].heading
    return columns.name_only and heading != "COMM" and len(command) >= _NAME_LENGTH[columns.system]
