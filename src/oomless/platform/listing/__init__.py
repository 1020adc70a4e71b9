"""Saved listings read: tables of ``ps`` and ``top -b`` by their header, and the rows that people paste into prose.

Pure, and never fails: a line inside a table that does not fit its header is named as unreadable, a line of prose that
holds no process is no row. Facts are in ``facts.py``, the columns in ``columns.py``.
"""

from __future__ import annotations

import re
from typing import Literal

from oomless.platform.listing.columns import header, row, whole
from oomless.platform.listing.facts import Listed, Listing, Section, Unreadable

__all__ = ["Listed", "Listing", "Section", "Unreadable", "parse"]

_AUX = ("USER", "PID", "%CPU", "%MEM", "VSZ", "RSS", "TT", "STAT", "STARTED", "TIME", "COMMAND")
_STATES = re.compile(r"[DIRSTUZWX][+<NLsElXVW]{0,6}")
#: ``sam 41909 node /path``: a user, a number and a command that is a path or an interpreter.
_PASTED = re.compile(
    r"([a-z_][\w.-]{0,31})\s+(\d{2,7})\s+((?:/|~/|(?:node|npm|npx|python3?|uvx|bunx?|deno)\b).{1,2000})"
)
_PID = re.compile(r"\bPID\s*[:#]?\s*(\d{1,7})\b")
_FENCE = ("```", "~~~")


def parse(text: str) -> Listing:
    return _Reader().read(text)


class _Reader:
    """One pass over the lines, with the header that holds."""

    def __init__(self) -> None:
        self._sections: list[Section] = []
        self._unreadable: list[Unreadable] = []
        self._header: tuple[str, ...] = ()
        self._at = 0
        self._form = ""
        self._rows: list[Listed] = []

    def read(self, text: str) -> Listing:
        for number, line in enumerate(text.splitlines(), 1):
            self._line(number, line)
        self._close()
        return Listing(sections=tuple(self._sections), unreadable=tuple(self._unreadable))

    def _line(self, number: int, line: str) -> None:
        names = header(line)
        if names is not None:
            self._open(number, _form(names), names)
        elif self._header:
            self._inside(number, line)
        else:
            self._outside(number, line)

    def _inside(self, number: int, line: str) -> None:
        if not line.strip() or line.lstrip().startswith(_FENCE):
            self._close()
        elif (found := row(self._header, line, number)) is not None:
            self._rows.append(found)
        else:
            self._unreadable.append(Unreadable(line=number, text=line))

    def _outside(self, number: int, line: str) -> None:
        form, found = _loose(number, line)
        if found is None:
            self._close()
        elif form != self._form:
            self._open(number, form, ())
            self._rows.append(found)
        else:
            self._rows.append(found)

    def _open(self, number: int, form: str, names: tuple[str, ...]) -> None:
        self._close()
        self._at, self._form, self._header = number, form, names

    def _close(self) -> None:
        if self._rows or self._header:
            rows = tuple(self._rows)
            self._sections.append(Section(line=self._at, form=self._form, system=_system(rows), rows=rows))
        self._at, self._form, self._header, self._rows = 0, "", (), []


def _loose(number: int, line: str) -> tuple[str, Listed | None]:
    """A row that stands without a header."""
    words = line.split(maxsplit=10)
    if len(words) == 11 and _STATES.fullmatch(words[7]):
        return "ps aux", row(_AUX, line, number)
    pasted = _PASTED.fullmatch(line.strip())
    if pasted is not None:
        return "prose", Listed(line=number, pid=whole(pasted[2]), user=pasted[1], command=pasted[3].strip())
    pids = _PID.findall(line)
    if len(pids) == 1:
        return "pid list", Listed(line=number, pid=int(pids[0]))
    return "", None


def _form(names: tuple[str, ...]) -> str:
    if "%CPU" in names and names[:2] == ("USER", "PID"):
        return "ps aux"
    if "VIRT" in names:
        return "top -b"
    return "ps -ef" if names[:3] == ("UID", "PID", "PPID") else "ps -eo"


def _system(rows: tuple[Listed, ...]) -> Literal["linux", "macos", ""]:
    for one in rows:
        if one.tty.startswith("pts/"):
            return "linux"
        if re.fullmatch(r"s\d{3}", one.tty) or "/Applications/" in one.command:
            return "macos"
    return ""
