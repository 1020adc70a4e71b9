"""A saved listing from its first line to its last: where tables begin and end, and what is between them. Pure.

A header begins a table; a blank line, a fence, a prompt or top's next picture ends it. Behind a blank line rows may
go on, if the columns are strict enough that a line of words cannot be one. Text between tables is not unreadable, it
is just not read; ``mentions.py`` takes from it what names a process.
"""

from __future__ import annotations

import re

from oomless.listing import memory, mentions
from oomless.listing.block import Line, block
from oomless.listing.columns import HEADERLESS, Columns, broken_header, header
from oomless.listing.facts import Form, Listed, Listing, Section, System, Unreadable
from oomless.listing.rows import read
from oomless.model import MachineMemory

_ESCAPES = re.compile(r"\x1b(?:\[[0-9;?]{0,32}[A-Za-z]|\([A-Z0-9])")
_QUOTE = re.compile(r"[ \t]*(?:>[ ]?){1,8}")
_FENCE = re.compile(r"[ \t]*(?:```|~~~|--[ \t]*\Z)")
_PROMPT = re.compile(
    r"(?:[$%❯➜]|[^ \t@]{1,60}@[^ \t]{1,60}(?:[ \t]+[^ \t]{1,60}){0,3}?[ \t]*[$%#❯➜])[ \t]+[A-Za-z./]"
)
_PICTURE = re.compile(r"top - [0-9]|Processes: [0-9]{1,6} total")
_MAC_PATHS = ("/Applications/", "/Users/", "/System/Library/", "/Library/")


def parse(text: str) -> Listing:
    """Reads any text, and never fails."""
    reader = _Reader()
    lines = cleaned(text)
    for at, line in enumerate(lines):
        reader.line(at + 1, line, "".join(lines[at + 1 : at + 2]))
    reader.flush()
    return Listing(
        sections=tuple(section.section() for section in reader.sections if section.rows),
        unreadable=tuple(sorted(reader.unreadable, key=lambda section: section.line)),
        memory=reader.memory,
        table_lines=frozenset(reader.table_lines),
    )


def cleaned(text: str) -> list[str]:
    """The lines without what terminals, mails and web pages put around and into them. A line that a terminal broke
    may begin with ``>`` too: a quotation has more than one line."""
    lines = text.removeprefix("\ufeff").split("\n")
    quoted = [_QUOTE.match(line) for line in lines]
    for at, line in enumerate(lines):
        match = quoted[at]
        if match is not None and any((*quoted[max(at - 1, 0) : at], *quoted[at + 1 : at + 2])):
            line = line[match.end() :]
        line = _ESCAPES.sub("", line) if "\x1b" in line else line
        lines[at] = line.rstrip("\r").replace("\xa0", " ")
    return lines


class _Draft:
    """A section to which rows may still come."""

    def __init__(self, line: int, form: Form, system: System, rows: tuple[Listed, ...]) -> None:
        self.line, self.form, self.system = line, form, system
        self.rows = list(rows)

    def section(self) -> Section:
        rows = tuple(self.rows)
        return Section(line=self.line, form=self.form, system=self.system or _system(rows), rows=rows)


class _Reader:
    """``_columns``: those of the table that is open, ``_resting``: those of one that may go on. ``_skipped``: the
    line that holds the rest of a header."""

    def __init__(self) -> None:
        self.sections: list[_Draft] = []
        self.unreadable: list[Unreadable] = []
        self.memory: MachineMemory | None = None
        self.table_lines: set[int] = set()
        self._columns: Columns | None = None
        self._resting: Columns | None = None
        self._lines: list[Line] = []
        self._first = self._head = self._skipped = 0
        self._goes_on = False
        self._mentioned: list[Listed] = []
        self._form: Form = "pid list"
        self._apart = False
        self._total: int | None = None

    def line(self, number: int, text: str, following: str) -> None:
        broken = broken_header(text, following)
        columns = broken or header(text)
        if number == self._skipped:
            return
        if columns is not None:
            self.flush()
            self._open(columns, number, len(text))
            self._skipped = number + 1 if broken else 0
            self.table_lines |= {number, self._skipped or number}
        elif not text.strip(" \t") or _FENCE.match(text):
            self.flush()
        elif _PICTURE.match(text) or _PROMPT.match(text):
            self.flush()
            self._resting = None
        elif self._columns is not None:
            self._lines.append((number, text))
        elif not self._resumes(number, text):
            self._between(number, text)

    def _open(self, columns: Columns, number: int, head: int) -> None:
        self._columns, self._resting, self._goes_on = columns, None, False
        self._first, self._head = number, head

    def _resumes(self, number: int, text: str) -> bool:
        """Opens the table that the line is a row of, though no header is above it."""
        for columns in (self._resting, *HEADERLESS):
            if columns is not None and columns.strict and read(columns, number, text) is not None:
                self.flush()
                goes_on = columns is self._resting
                self._open(columns, number, 0)
                self._goes_on = goes_on
                self._lines.append((number, text))
                return True
        return False

    def _between(self, number: int, text: str) -> None:
        """A line outside of all tables."""
        total = memory.total(text)
        if total is not None:
            self._total = total
        elif self._total is not None:
            self.memory = memory.machine(self._total, text) or self.memory
            self._total = None
        form: Form = "pid list"
        row = mentions.mention(number, text)
        if row is None:
            form, row = "prose", mentions.evidence(number, text)
        if self._mentioned and (row is None or form != self._form):
            if mentions.is_item(text) and self._form == "pid list":
                self.unreadable.append(Unreadable(line=number, text=text))
                return
            self._end_mentions()
        if row is not None:
            self._mentioned.append(row)
            self._form, self._apart = form, self._apart or mentions.is_apart(text)

    def flush(self) -> None:
        """Ends what is open."""
        self._end_mentions()
        if self._columns is not None:
            table = block(self._columns, self._lines, self._head)
            self.unreadable += table.unreadable
            self.table_lines.update(number for number, _ in self._lines)
            self._add(self._columns, table.rows)
            self._resting = self._columns
        self._columns, self._lines = None, []

    def _add(self, columns: Columns, rows: tuple[Listed, ...]) -> None:
        if self._goes_on and self.sections:
            self.sections[-1].rows += rows
        else:
            self.sections.append(_Draft(self._first, columns.form, columns.system, rows))

    def _end_mentions(self) -> None:
        """One line of user, number and command may be a sentence; two in a row, or one in columns, are a list."""
        rows, self._mentioned = tuple(self._mentioned), []
        apart, self._apart = self._apart, False
        if rows and (self._form == "pid list" or len(rows) > 1 or apart):
            self.sections.append(_Draft(rows[0].line, self._form, "", rows))


def _system(rows: tuple[Listed, ...]) -> System:
    """By what only one of them prints: names of terminals, and where programs lie."""
    if any(row.tty.startswith("pts/") for row in rows):
        return "linux"
    terminals = any(row.tty.startswith("s") and row.tty[1:].isdigit() for row in rows)
    paths = any(path in row.command for row in rows for path in _MAC_PATHS)
    return "macos" if terminals or paths else ""
