"""Headers: which line is one, and what each of its columns may hold.

A header of ``ps -eo`` may have any names in any order. What is known of a name makes the reading strict: a line is a
row only if every cell looks as its column's cells do. Splitting a row by them is in ``rows.py``.
"""

from __future__ import annotations

import re
from typing import Literal

import msgspec

from oomless.listing.facts import Form, System

Field = Literal[
    "pid", "ppid", "pgid", "sid", "user", "tty", "started", "elapsed", "cpu", "rss", "vsz", "share", "state",
    "command", "",
]  # fmt: skip

_NUMBER = r"[0-9]{1,10}"
_AMOUNT = r"[0-9]{1,15}(?:[.,][0-9]{1,3})?[BKMGTkmgt]?[+-]?"
_PERCENT = r"[0-9]{1,6}(?:[.,][0-9]{1,3})?%?"
_CLOCK = r"(?:[0-9]{1,6}-)?(?:[0-9]{1,8}:){1,2}[0-9]{2}(?:[.,][0-9]{1,3})?"
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


class Column(msgspec.Struct, frozen=True, kw_only=True):
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
    columns: tuple[Column, ...]
    name_only: bool

    @property
    def strict(self) -> bool:
        """Whether a line of prose cannot pass for a row: enough cells have a form of their own."""
        return sum(column.cell not in ("", ANY) for column in self.columns) >= 4

    @property
    def commands(self) -> tuple[int, ...]:
        return tuple(at for at, column in enumerate(self.columns) if not column.cell)


def header(line: str) -> Columns | None:
    """The columns of a header line, None for any other line. There must be one PID and a command, all words must look
    like headings, and half of them be known; macOS's top has more that are not, and says who it is by ``#TH``."""
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
    return _columns(matches) if 2 * len(known) >= len(words) or "#TH" in words else None


def broken_header(line: str, following: str) -> Columns | None:
    """The columns of a header whose last heading a narrow terminal has put, in part or whole, into the next line."""
    if "PID" not in line or not _BROKEN.fullmatch(following):
        return None
    columns = header(line + following)
    last = columns.columns[-1] if columns else None
    return columns if last is not None and not last.cell and last.end > len(line) else None


def _columns(matches: list[re.Match[str]]) -> Columns:
    words = [match[0] for match in matches]
    form, system = _form(words)
    taken: set[Field] = set()
    columns = []
    for match in matches:
        field, cell = _kind(match[0], form)
        if cell and (field in taken or (match[0] == "UID" and "USER" in words)):
            field = ""  # the first one counts, and a name more than a number
        taken.add(field)
        columns.append(Column(heading=match[0], field=field, cell=cell, start=match.start(), end=match.end()))
    return Columns(form=form, system=system, columns=tuple(columns), name_only=_name_only(form, words))


def _kind(heading: str, form: Form) -> tuple[Field, str]:
    field, cell = _KNOWN.get(heading, ("", ANY))
    if form == "top -l" and heading in ("PID", "STATE", "VSIZE"):
        return ("pid", _MARKED_PID) if heading == "PID" else ("state" if heading == "STATE" else "", ANY)
    return field, cell


def _form(words: list[str]) -> tuple[Form, System]:
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


def _sure(line: str) -> Columns:
    columns = header(line)
    if columns is None:
        raise ValueError(line)
    return columns


#: Rows that are pasted without their header, as ``grep`` leaves them: only these two forms have enough to go by.
HEADERLESS = tuple(
    msgspec.structs.replace(_sure(line), system="")
    for line in (
        "USER PID %CPU %MEM VSZ RSS TTY STAT START TIME COMMAND",
        "UID PID PPID C STIME TTY TIME CMD",
    )
)
