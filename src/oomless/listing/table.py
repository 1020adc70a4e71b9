"""Tables of ps and top: which line is a header, what each of its columns may hold, and the rows below it. Pure.

What is known of a heading makes the reading strict: a line is a row only if each cell looks as its column's cells do.
Cells are words between blanks; a start time may be of two or five of them, and a command has any number and takes
what the columns before and behind it leave. A terminal that is too narrow either cuts every line at its width (``ps``
to a terminal) or breaks it there (what was pasted from one). Both are only taken for that if it happens twice.
"""

from __future__ import annotations

import functools
import re
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from typing import Literal

import msgspec

from oomless.listing.facts import Form, Listed, System, Unreadable
from oomless.listing.values import parse_clock, parse_decimal, parse_size, terminal

# -- headers --------------------------------------------------------------------------------------------------------


Field = Literal[
    "pid", "ppid", "pgid", "sid", "user", "tty", "started", "elapsed", "cpu", "rss", "vsz", "share", "state",
    "command", "",
]  # fmt: skip

_NUMBER = r"[0-9]{1,10}"
_AMOUNT = r"[0-9]{1,15}(?:[.,][0-9]{1,3})?[BKMGTkmgt]?[+-]?"
_PERCENT = r"[0-9]{1,6}(?:[.,][0-9]{1,3})?%?"
_CLOCK = r"(?:[0-9]{1,15}-)?(?:[0-9]{1,8}:){1,2}[0-9]{2}(?:[.,][0-9]{1,3})?"
_TIME = rf"{_CLOCK}|[0-9]{{1,12}}|[0-9]{{1,8}}(?:[.,][0-9]{{1,3}})?[hdw]|-"
_DAY = r"[A-Z][a-z]{2}"
#: ``Tue Nov 24 10:01:09 2026`` (lstart, the day before the month in some places).
_DATE = rf"{_DAY}[ ]+(?:{_DAY}[ ]+[0-9]{{1,2}}|[0-9]{{1,2}}[ ]+{_DAY})"
_LONG_DATE = rf"{_DATE}[ ]+[0-9]{{1,2}}:[0-9]{{2}}:[0-9]{{2}}[ ]+[0-9]{{4}}"
#: ``Nov 23``, ``10:01``, ``10:01:09``, ``9:03AM``, ``Nov23``, ``Mon09AM``, ``23Nov24``, ``2025``, ``-``.
_STARTED = (
    rf"{_LONG_DATE}|{_DAY}[ ]+[0-9]{{1,2}}|[0-9]{{1,2}}:[0-9]{{2}}(?::[0-9]{{2}})?(?:AM|PM)?"
    rf"|{_DAY}[0-9]{{2}}(?:AM|PM)?|[0-9]{{1,2}}{_DAY}[0-9]{{2}}|[0-9]{{4}}|-"
)
_USER = r"[A-Za-z0-9_][A-Za-z0-9_.@\\+-]{0,63}\$?"
_TTY = r"\?{1,2}|-|(?:tty|pts/|s|console|p|hvc|vc)[A-Za-z0-9/]{0,12}"
ANY = r"[^ \t]+"

#: By the name that is printed above it: the field, and what a cell of it looks like ("": a command, anything).
_KNOWN: dict[str, tuple[Field, str]] = {
    "PID": ("pid", _NUMBER), "PPID": ("ppid", _NUMBER), "PGID": ("pgid", _NUMBER), "PGRP": ("pgid", _NUMBER),
    "SID": ("sid", _NUMBER), "USER": ("user", _USER), "EUSER": ("user", _USER), "RUSER": ("user", _USER),
    "UID": ("user", _USER), "TTY": ("tty", _TTY), "TT": ("tty", _TTY), "START": ("started", _STARTED),
    "STARTED": ("started", _STARTED), "STIME": ("started", _STARTED), "ELAPSED": ("elapsed", _TIME),
    "TIME": ("cpu", _TIME), "TIME+": ("cpu", _TIME), "RSS": ("rss", _AMOUNT), "RES": ("rss", _AMOUNT),
    "RSZ": ("rss", _AMOUNT), "MEM": ("rss", _AMOUNT), "VSZ": ("vsz", _AMOUNT), "VIRT": ("vsz", _AMOUNT),
    "VSIZE": ("vsz", _AMOUNT), "%MEM": ("share", _PERCENT), "%CPU": ("", _PERCENT), "SHR": ("", _AMOUNT),
    "PSS": ("", _AMOUNT), "USS": ("", _AMOUNT), "C": ("", r"[0-9]{1,6}|-"), "NI": ("", r"-?[0-9]{1,3}|-"),
    "PR": ("", r"-?[0-9]{1,4}|rt"), "STAT": ("state", r"[A-Z?][A-Za-z<+.]{0,8}"), "S": ("state", r"[A-Z?]"),
    "STATE": ("state", r"[A-Za-z?][A-Za-z<+.]{0,12}"), "COMMAND": ("command", ""), "CMD": ("command", ""),
    "ARGS": ("command", ""), "COMM": ("command", ""), "UCOMM": ("command", ""),
}  # fmt: skip
#: macOS's top marks processes of another architecture behind the number.
_MARKED_PID = r"[0-9]{1,10}[*+-]?"
_HEADING = re.compile(r"[A-Za-z%#][A-Za-z0-9_+%#./:-]{0,23}")
_WORD = re.compile(ANY)
_BROKEN = re.compile(r"[ ]?[A-Z]{1,7}[ ]*")
_MOST_COLUMNS = 64
_AUX = ("USER", "PID", "%CPU", "%MEM", "VSZ", "RSS")
_EF = ("UID", "PID", "PPID", "C", "STIME")


class TableColumn(msgspec.Struct, frozen=True, kw_only=True):
    """``start`` and ``end``: where its heading stands in the header. ``cell`` is the pattern of a cell, "" for a
    command."""

    heading: str
    field: Field
    cell: str
    start: int
    end: int


class Columns(msgspec.Struct, frozen=True, kw_only=True):
    """``name_only``: the last of the columns for commands holds a name, no arguments."""

    form: Form
    system: System
    columns: tuple[TableColumn, ...]
    name_only: bool

    @property
    def strict(self) -> bool:
        """Whether a line of prose cannot pass for a row: enough cells have a form of their own."""
        return sum(column.cell not in ("", ANY) for column in self.columns) >= 4

    @property
    def commands(self) -> tuple[int, ...]:
        return tuple(at for at, column in enumerate(self.columns) if not column.cell)


def read_header(line: str) -> Columns | None:
    """The columns of a header line, None for any other line. There must be one PID and a command, all words must look
    like headings, and half of them be known; macOS's top has more that are not, and is known by ``#TH``."""
    if "PID" not in line:
        return None
    matches = []
    for match in _WORD.finditer(line):
        matches.append(match)
        if len(matches) > _MOST_COLUMNS or not _HEADING.fullmatch(match[0]):
            return None
    words = [match[0] for match in matches]
    known = [word for word in words if word in _KNOWN]
    commands = sum(not _KNOWN[word][1] for word in known)
    if words.count("PID") != 1 or commands not in (1, 2):
        return None
    return _make_columns(matches) if 2 * len(known) >= len(words) or "#TH" in words else None


def read_broken_header(line: str, following: str) -> Columns | None:
    """The columns of a header whose last heading a narrow terminal has put, in part or whole, into the next line."""
    if "PID" not in line or not _BROKEN.fullmatch(following):
        return None
    columns = read_header(line + following)
    last = columns.columns[-1] if columns else None
    return columns if last is not None and not last.cell and last.end > len(line) else None


def _make_columns(matches: list[re.Match[str]]) -> Columns:
    words = [match[0] for match in matches]
    form, system = _guess_form(words)
    taken: set[Field] = set()
    columns = []
    for match in matches:
        field, cell = _column_kind(match[0], form)
        if cell and (field in taken or (match[0] == "UID" and "USER" in words)):
            field = ""  # the first one counts, and a name more than a number
        taken.add(field)
        columns.append(TableColumn(heading=match[0], field=field, cell=cell, start=match.start(), end=match.end()))
    return Columns(form=form, system=system, columns=tuple(columns), name_only=_name_only(form, words))


def _column_kind(heading: str, form: Form) -> tuple[Field, str]:
    field, cell = _KNOWN.get(heading, ("", ANY))
    if form == "top -l" and heading in ("PID", "STATE", "VSIZE"):
        return ("pid", _MARKED_PID) if heading == "PID" else ("state" if heading == "STATE" else "", ANY)
    return field, cell


def _guess_form(words: list[str]) -> tuple[Form, System]:
    if "TIME+" in words or ("VIRT" in words and "RES" in words):
        return "top -b", "linux"
    if "#TH" in words or ("MEM" in words and "RSS" not in words):
        return "top -l", "macos"
    if tuple(words[:6]) == _AUX:
        return "ps aux", "macos" if "TT" in words else "linux"
    if tuple(words[:5]) == _EF:
        return "ps -ef", ""
    return "ps -eo", ""


def _name_only(form: Form, words: list[str]) -> bool:
    last = [word for word in words if word in _KNOWN and not _KNOWN[word][1]][-1]
    return form == "top -l" or words[:2] == ["F", "S"] or (form == "ps -eo" and last in ("COMM", "UCOMM"))


def _known_header(line: str) -> Columns:
    columns = read_header(line)
    if columns is None:
        raise ValueError(line)
    return columns


#: Rows that are pasted without their header, as ``grep`` leaves them: only these two forms have enough to go by.
HEADERLESS = tuple(
    msgspec.structs.replace(_known_header(line), system="")
    for line in (
        "USER PID %CPU %MEM VSZ RSS TTY STAT START TIME COMMAND",
        "UID PID PPID C STIME TTY TIME CMD",
    )
)


# -- one row --------------------------------------------------------------------------------------------------------


#: Where the kernel cuts a name. What is as long may be whole, and is taken for cut.
_NAME_LENGTH: dict[System, int] = {"linux": 15, "": 15, "macos": 16}
_BLANKS = r"[ \t]+"
#: What ``ps f`` draws before a command.
_BRANCH = re.compile(r"\A[| ]{0,200}\\_ (?=[^ ])")


class PrintedRow(msgspec.Struct, frozen=True, kw_only=True):
    """A row, where its command ends in the line, and the width of the branch drawn before it (0: none)."""

    listed: Listed
    end: int
    depth: int = 0


def read_row(columns: Columns, line: int, text: str) -> PrintedRow | None:
    match = _row_pattern(columns).match(text)
    if match is None or not _is_aligned(columns, match):
        return None
    cells: dict[str, str] = {}
    for at, column in enumerate(columns.columns):
        cells.setdefault(column.field if column.cell else f"command {at}", match[at + 1])
    command = columns.commands[-1]
    start, printed = match.start(command + 1), match[command + 1].rstrip(" \t")
    branch = _BRANCH.match(printed)
    listed = _make_listed(columns, line, cells, printed[branch.end() :] if branch else printed)
    # A branch begins with blanks: what is more than the one between two columns belongs to it.
    depth = start + branch.end() - (match.end(command) + 1 if command else 0) if branch else 0
    return PrintedRow(listed=listed, end=start + len(printed), depth=depth)


@functools.lru_cache(maxsize=64)
def _row_pattern(columns: Columns) -> re.Pattern[str]:
    """A group a column. Of two commands side by side the first has the width of its heading's place."""
    parts = [_cell_pattern(columns, at) for at in range(len(columns.columns))]
    return re.compile(r"[ \t]*" + _BLANKS.join(parts) + r"[ \t]*\Z")


def _cell_pattern(columns: Columns, at: int) -> str:
    column = columns.columns[at]
    if column.cell:
        return f"({column.cell})"
    if at + 1 in columns.commands:
        width = columns.columns[at + 1].start - column.start
        return rf"([^ \t].{{{width - 2}}})"
    return r"([^ \t](?:.*?[^ \t])?)" if at + 1 < len(columns.columns) else r"([^ \t].*)"


def _is_aligned(columns: Columns, match: re.Match[str]) -> bool:
    """Whether the first cell behind a command overlaps its heading: else words of the command may pass for it."""
    return all(_is_below_heading(columns, at, match) for at in columns.commands if at + 1 < len(columns.columns))


def _is_below_heading(columns: Columns, command: int, match: re.Match[str]) -> bool:
    """Cells before the command may be wider than their columns, which moves the rest of the line."""
    behind: TableColumn = columns.columns[command + 1]
    moved = match.start(command + 1) - columns.columns[command].start
    start, end = match.span(command + 2)
    return start - moved < behind.end and end - moved > behind.start


def _make_listed(columns: Columns, line: int, cells: dict[str, str], command: str) -> Listed:
    def number(field: str) -> int | None:
        return int(cells[field].rstrip("*+-")) if field in cells else None

    def seconds(field: str) -> float | None:
        return parse_clock(cells[field]) if field in cells else None

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
        rss_bytes=parse_size(cells["rss"], unit) if "rss" in cells else None,
        vsz_bytes=parse_size(cells["vsz"], unit) if "vsz" in cells else None,
        memory_share=parse_decimal(share.rstrip("%")) / 100 if share is not None else None,
        state=cells.get("state", ""),
        command=command,
        cut=_is_cut(columns, command),
        name_only=columns.name_only,
    )


def _is_cut(columns: Columns, command: str) -> bool:
    """What the line itself tells: top's sign for it, or a name as long as the kernel keeps them."""
    if columns.form == "top -b" and command.endswith("+"):
        return True
    heading = columns.columns[columns.commands[-1]].heading
    return columns.name_only and heading != "COMM" and len(command) >= _NAME_LENGTH[columns.system]


# -- the parents that ps f draws instead of printing them -----------------------------------------------------------


_FIRST = 1
_STEP = 4


def add_parents(rows: Sequence[tuple[Listed, int]]) -> tuple[Listed, ...]:
    """Rows in the order of the listing, each with the width of what is drawn before its command. No parents are added
    where they are printed, where nothing is drawn, and where rows were left out: the first process is not there,
    or a branch has no place to grow from."""
    plain = tuple(row for row, _ in rows)
    drawn = any(depth for _, depth in rows) and all(row.ppid is None for row in plain)
    if not drawn or (_FIRST, 0) not in {(row.pid, depth) for row, depth in rows}:
        return plain
    placed: list[Listed] = []
    above: list[int] = []
    for row, depth in rows:
        level, odd = divmod(depth, _STEP)
        if odd or level > len(above):
            return plain
        del above[level:]
        parent = above[-1] if above else _FIRST if row.pid != _FIRST else None
        placed.append(msgspec.structs.replace(row, ppid=parent))
        above.append(row.pid)
    return tuple(placed)


# -- the lines below a header: rows, continued rows, and what is neither --------------------------------------------


#: A table of less than that is not cut by a terminal.
_NARROWEST = 40
#: So many different commands that end in one place are no chance.
_CUT_ROWS = 3
_DIGITS = re.compile(r"[0-9]+")
#: So many lines may one row be broken into.
_MOST_PIECES = 200

Line = tuple[int, str]


class TableRows(msgspec.Struct, frozen=True, kw_only=True):
    rows: tuple[Listed, ...]
    unreadable: tuple[Unreadable, ...]


def read_block(columns: Columns, lines: list[Line], head: int = 0) -> TableRows:
    """``lines`` with their numbers, none of them blank; ``head``: the length of the header."""
    alone = [read_row(columns, *line) for line in lines]
    width = max((len(text) for _, text in lines), default=0)
    if _is_broken(lines, alone, width, head):
        return _join_broken_rows(columns, lines, alone, width)
    reads = [row for row in alone if row]
    rows = _with_cuts(columns, reads)
    missed = (line for line, row in zip(lines, alone, strict=True) if row is None)
    return _make_table_rows(rows, reads, [Unreadable(line=number, text=text) for number, text in missed])


def _make_table_rows(
    rows: Iterable[Listed], reads: Iterable[PrintedRow], unreadable: Collection[Unreadable]
) -> TableRows:
    """Below a line that could not be read may stand anybody."""
    complete = tuple(rows) if unreadable else add_parents([(r, o.depth) for r, o in zip(rows, reads, strict=True)])
    return TableRows(rows=complete, unreadable=tuple(unreadable))


def _is_broken(lines: list[Line], alone: list[PrintedRow | None], width: int, head: int) -> bool:
    """Whether rows go on in the next line: twice at least a full line is followed by one that is no row, and more
    often so than by one that is."""
    if width < _NARROWEST or head > width:
        return False
    full = [at for at in range(len(lines) - 1) if len(lines[at][1]) == width]
    going_on = sum(alone[at + 1] is None for at in full)
    return going_on >= 2 and going_on > len(full) - going_on


def _join_broken_rows(columns: Columns, lines: list[Line], alone: list[PrintedRow | None], width: int) -> TableRows:
    reads, unreadable = [], []
    at = 0
    while at < len(lines):
        count = 1 + _count_pieces(lines, alone, at, width)
        row = read_row(columns, lines[at][0], _join_lines(lines[at : at + count], width)) if count > 1 else None
        if row is None:
            count, row = 1, alone[at]
        if row is None:
            unreadable.append(Unreadable(line=lines[at][0], text=lines[at][1]))
        else:
            reads.append(row)
        at += count
    return _make_table_rows([row.listed for row in reads], reads, unreadable)


def _count_pieces(lines: list[Line], alone: list[PrintedRow | None], at: int, width: int) -> int:
    """How many lines behind that one are parts of it. At a blank the break may have swallowed it."""
    count = 0
    while at + count + 1 < len(lines) and count < _MOST_PIECES:
        if len(lines[at + count][1]) < width - 1 or alone[at + count + 1] is not None:
            break
        count += 1
    return count


def _join_lines(pieces: list[Line], width: int) -> str:
    texts = [text if len(text) == width else f"{text} " for _, text in pieces[:-1]]
    return "".join((*texts, pieces[-1][1]))


def _with_cuts(columns: Columns, rows: list[PrintedRow]) -> tuple[Listed, ...]:
    """Marks the commands that all end where no other goes beyond. Copies of one command end in one place as well, and
    those that differ in a number: only commands that are different in words count."""
    ends = Counter(row.end for row in {_DIGITS.sub("0", row.listed.command): row for row in rows}.values())
    edge = max((row.end for row in rows), default=0)
    if ends[edge] < _CUT_ROWS or edge < _least_edge(columns):
        return tuple(row.listed for row in rows)
    return tuple(msgspec.structs.replace(o.listed, cut=True) if o.end == edge else o.listed for o in rows)


def _least_edge(columns: Columns) -> int:
    """A column for commands is no narrower than that; the last one ends with the terminal."""
    command = columns.commands[-1]
    last = command + 1 == len(columns.columns)
    return _NARROWEST if last else columns.columns[command].start + 15
