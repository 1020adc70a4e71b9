"""The lines of one table: which are rows, which go on with the row before them, and which are neither. Pure.

A terminal that is too narrow either cuts every line at its width (``ps`` to a terminal) or breaks it there (what was
pasted from one). Both are only taken for that if it happens twice: one long row followed by a line of words is a long
row and an unreadable line.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable

import msgspec

from oomless.listing.columns import Columns
from oomless.listing.facts import Listed, Unreadable
from oomless.listing.forest import with_parents
from oomless.listing.rows import Read, read

#: A table of less than that is not cut by a terminal.
_NARROWEST = 40
#: So many different commands that end in one place are no chance.
_CUT_ROWS = 3
_DIGITS = re.compile(r"[0-9]+")
#: So many lines may one row be broken into.
_MOST_PIECES = 200

Line = tuple[int, str]


class Block(msgspec.Struct, frozen=True, kw_only=True):
    rows: tuple[Listed, ...]
    unreadable: tuple[Unreadable, ...]


def block(columns: Columns, lines: list[Line], head: int = 0) -> Block:
    """``lines`` with their numbers, none of them blank; ``head``: the length of the header."""
    alone = [read(columns, *line) for line in lines]
    width = max((len(text) for _, text in lines), default=0)
    if _is_broken(lines, alone, width, head):
        return _joined(columns, lines, alone, width)
    reads = [row for row in alone if row]
    rows = _with_cuts(columns, reads)
    missed = (line for line, row in zip(lines, alone, strict=True) if row is None)
    return _block(rows, reads, [Unreadable(line=number, text=text) for number, text in missed])


def _block(rows: Iterable[Listed], reads: Iterable[Read], unreadable: Collection[Unreadable]) -> Block:
    """Below a line that could not be read may stand anybody."""
    complete = tuple(rows) if unreadable else with_parents([(r, o.depth) for r, o in zip(rows, reads, strict=True)])
    return Block(rows=complete, unreadable=tuple(unreadable))


def _is_broken(lines: list[Line], alone: list[Read | None], width: int, head: int) -> bool:
    """Whether rows go on in the next line: twice at least a full line is followed by one that is no row, and more
    often so than by one that is."""
    if width < _NARROWEST or head > width:
        return False
    full = [at for at in range(len(lines) - 1) if len(lines[at][1]) == width]
    going_on = sum(alone[at + 1] is None for at in full)
    return going_on >= 2 and going_on > len(full) - going_on


def _joined(columns: Columns, lines: list[Line], alone: list[Read | None], width: int) -> Block:
    reads, unreadable = [], []
    at = 0
    while at < len(lines):
        count = 1 + _pieces(lines, alone, at, width)
        row = read(columns, lines[at][0], _join(lines[at : at + count], width)) if count > 1 else None
        if row is None:
            count, row = 1, alone[at]
        if row is None:
            unreadable.append(Unreadable(line=lines[at][0], text=lines[at][1]))
        else:
            reads.append(row)
        at += count
    return _block([row.listed for row in reads], reads, unreadable)


def _pieces(lines: list[Line], alone: list[Read | None], at: int, width: int) -> int:
    """How many lines behind that one are parts of it. At a blank the break may have swallowed it."""
    count = 0
    while at + count + 1 < len(lines) and count < _MOST_PIECES:
        if len(lines[at + count][1]) < width - 1 or alone[at + count + 1] is not None:
            break
        count += 1
    return count


def _join(pieces: list[Line], width: int) -> str:
    texts = [text if len(text) == width else f"{text} " for _, text in pieces[:-1]]
    return "".join((*texts, pieces[-1][1]))


def _with_cuts(columns: Columns, rows: list[Read]) -> tuple[Listed, ...]:
    """Marks the commands that all end where no other goes beyond. Copies of one command end in one place as well, and
    those that differ in a number: only commands that are different in words count."""
    ends = Counter(row.end for row in {_DIGITS.sub("0", row.listed.command): row for row in rows}.values())
    edge = max((row.end for row in rows), default=0)
    if ends[edge] < _CUT_ROWS or edge < _edge(columns):
        return tuple(row.listed for row in rows)
    return tuple(msgspec.structs.replace(o.listed, cut=True) if o.end == edge else o.listed for o in rows)


def _edge(columns: Columns) -> int:
    """A column for commands is no narrower than that; the last one ends with the terminal."""
    command = columns.commands[-1]
    last = command + 1 == len(columns.columns)
    return _NARROWEST if last else columns.columns[command].start + 15
