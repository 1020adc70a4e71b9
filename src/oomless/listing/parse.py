"""A saved listing from its first line to its last: where tables begin and end, and what is between them. Pure.

A header begins a table; a blank line, a fence, a prompt or top's next picture ends it. Behind a blank line rows may
go on, if the columns are strict enough that a line of words cannot be one. Text between tables is not unreadable, it
is just not read, but for lines that say which process it is and something of it: its memory beside the number, or its
command behind user and number.
"""

from __future__ import annotations

import re

from oomless.listing.facts import Form, Listed, Listing, ListingSection, System, Unreadable
from oomless.listing.table import HEADERLESS, Columns, Line, read_block, read_broken_header, read_header, read_row
from oomless.listing.values import parse_spoken_size, read_machine_memory, read_total_memory
from oomless.model import MachineMemory

_ESCAPES = re.compile(r"\x1b(?:\[[0-9;?]{0,32}[A-Za-z]|\([A-Z0-9])")
_QUOTE = re.compile(r"[ \t]*(?:>[ ]?){1,8}")
_FENCE = re.compile(r"[ \t]*(?:```|~~~|--[ \t]*\Z)")
_PROMPT = re.compile(
    r"(?:[$%❯➜]|[^ \t@]{1,60}@[^ \t]{1,60}(?:[ \t]+[^ \t]{1,60}){0,3}?[ \t]*[$%#❯➜])[ \t]+[A-Za-z./]"
)
_PICTURE = re.compile(r"top - [0-9]|Processes: [0-9]{1,6} total")
_MAC_PATHS = ("/Applications/", "/Users/", "/System/Library/", "/Library/")


def parse_listing(text: str) -> Listing:
    """Reads any text, and never fails."""
    reader = _Reader()
    lines = clean_lines(text)
    for at, line in enumerate(lines):
        reader.line(at + 1, line, "".join(lines[at + 1 : at + 2]))
    reader.flush()
    return Listing(
        sections=tuple(section.section() for section in reader.sections if section.rows),
        unreadable=tuple(sorted(reader.unreadable, key=lambda section: section.line)),
        memory=reader.memory,
        table_lines=frozenset(reader.table_lines),
    )


def clean_lines(text: str) -> list[str]:
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


class _SectionDraft:
    """A section to which rows may still come."""

    def __init__(self, line: int, form: Form, system: System, rows: tuple[Listed, ...]) -> None:
        self.line, self.form, self.system = line, form, system
        self.rows = list(rows)

    def section(self) -> ListingSection:
        rows = tuple(self.rows)
        return ListingSection(line=self.line, form=self.form, system=self.system or _guess_system(rows), rows=rows)


class _Reader:
    """``_columns``: those of the table that is open, ``_resting``: those of one that may go on. ``_skipped``: the
    line that holds the rest of a header."""

    def __init__(self) -> None:
        self.sections: list[_SectionDraft] = []
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
        broken = read_broken_header(text, following)
        columns = broken or read_header(text)
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
            if columns is not None and columns.strict and read_row(columns, number, text) is not None:
                self.flush()
                goes_on = columns is self._resting
                self._open(columns, number, 0)
                self._goes_on = goes_on
                self._lines.append((number, text))
                return True
        return False

    def _between(self, number: int, text: str) -> None:
        """A line outside of all tables."""
        total = read_total_memory(text)
        if total is not None:
            self._total = total
        elif self._total is not None:
            self.memory = read_machine_memory(self._total, text) or self.memory
            self._total = None
        form: Form = "pid list"
        row = read_mention(number, text)
        if row is None:
            form, row = "prose", read_evidence_row(number, text)
        if self._mentioned and (row is None or form != self._form):
            if _is_list_item(text) and self._form == "pid list":
                self.unreadable.append(Unreadable(line=number, text=text))
                return
            self._end_mentions()
        if row is not None:
            self._mentioned.append(row)
            self._form, self._apart = form, self._apart or _is_in_columns(text)

    def flush(self) -> None:
        """Ends what is open."""
        self._end_mentions()
        if self._columns is not None:
            table = read_block(self._columns, self._lines, self._head)
            self.unreadable += table.unreadable
            self.table_lines.update(number for number, _ in self._lines)
            self._add(self._columns, table.rows)
            self._resting = self._columns
        self._columns, self._lines = None, []

    def _add(self, columns: Columns, rows: tuple[Listed, ...]) -> None:
        if self._goes_on and self.sections:
            self.sections[-1].rows += rows
        else:
            self.sections.append(_SectionDraft(self._first, columns.form, columns.system, rows))

    def _end_mentions(self) -> None:
        """One line of user, number and command may be a sentence; two in a row, or one in columns, are a list."""
        rows, self._mentioned = tuple(self._mentioned), []
        apart, self._apart = self._apart, False
        if rows and (self._form == "pid list" or len(rows) > 1 or apart):
            self.sections.append(_SectionDraft(rows[0].line, self._form, "", rows))


def _guess_system(rows: tuple[Listed, ...]) -> System:
    """By what only one of them prints: names of terminals, and where programs lie."""
    if any(row.tty.startswith("pts/") for row in rows):
        return "linux"
    terminals = any(row.tty.startswith("s") and row.tty[1:].isdigit() for row in rows)
    paths = any(path in row.command for row in rows for path in _MAC_PATHS)
    return "macos" if terminals or paths else ""


# -- processes outside of tables ------------------------------------------------------------------------------------


_PID = r"PID[ :#]{1,3}([0-9]{1,10})"
#: Bullets, numbers and branches before it.
_LEAD = r"(?:[-*•·|`+ \t─-╿]|[0-9]{1,3}[.)])*"
#: Between the number and its memory there must be a sign or a gap: ``PID: 1,522 MB`` and ``PID: 400-600 MB`` name no
#: process, only amounts.
_GAP = r"(?:[ \t]*[:=][ \t]*|,?[ \t]+[–—-][ \t]+|,[ \t]+|[ ]{2,}|[ ]*\t[ \t]*)"
_ITEM = re.compile(rf"{_LEAD}{_PID}\b(?:[ \t]*\(([^()]{{1,120}})\)(?:[ \t]|{_GAP})|{_GAP})[~≈]?(?=[0-9])")
_BEGINS = re.compile(rf"{_LEAD}{_PID}\b")
_BEHIND = re.compile(rf"\(([^()]{{1,120}}?)[ \t]*[,:–—-]?[ \t]*{_PID}\)")
_AMOUNT = re.compile(r"(?<![0-9.,])[0-9]")
_LABEL = re.compile(r"[ \t]*\((.{1,120})\)[ \t]*\Z")
#: ``sam   41909  node /Users/sam/...``: user, number, and a path among the first words.
_EVIDENCE = re.compile(r"[ \t]*([a-z_][a-z0-9_.-]{0,31})([ \t]+)([0-9]{1,10})([ \t]+)([^ \t].*)")


def _is_list_item(text: str) -> bool:
    """Whether a line starts as an entry of such a list does."""
    return _BEGINS.match(text) is not None


def read_mention(line: int, text: str) -> Listed | None:
    """The process that a line of a list or of prose names with its memory."""
    if "PID" not in text:
        return None
    return _read_list_item(line, text) or _read_amount_before(line, text)


def _read_list_item(line: int, text: str) -> Listed | None:
    match = _ITEM.match(text)
    size = parse_spoken_size(text[match.end() :]) if match else None
    if match is None or size is None or not int(match[1]):
        return None
    label = _LABEL.match(size[1])
    return Listed(line=line, pid=int(match[1]), rss_bytes=size[0], command=match[2] or (label[1] if label else ""))


def _read_amount_before(line: int, text: str) -> Listed | None:
    """``~635 MB (VSCode Plugin Helper - PID 19284)``, if there is only one amount before it."""
    match = _BEHIND.search(text)
    if match is None or not int(match[2]) or len(re.findall(_PID, text)) > 1:
        return None
    sizes = [
        size for at in _AMOUNT.finditer(text, 0, match.start()) if (size := parse_spoken_size(text[at.start() :]))
    ]
    if len(sizes) != 1 or sizes[0][1].strip() != text[match.start() :].strip():
        return None
    return Listed(line=line, pid=int(match[2]), rss_bytes=sizes[0][0], command=match[1])


def read_evidence_row(line: int, text: str) -> Listed | None:
    """A row of user, number and command that stands without a header."""
    match = _EVIDENCE.match(text)
    if match is None or not int(match[3]):
        return None
    words = match[5].split()[:2]
    if not any(word.startswith(("/", "~/", "./")) and word.count("/") > 1 for word in words):
        return None
    return Listed(line=line, pid=int(match[3]), user=match[1], command=match[5].rstrip(" \t"))


def _is_in_columns(text: str) -> bool:
    """Whether user, number and command stand in columns. Without that, one such line may be a sentence."""
    match = _EVIDENCE.match(text)
    return match is not None and all(gap.startswith("\t") or len(gap) > 1 for gap in (match[2], match[4]))
