"""A text by its lines: what is a heading, an item of a list, a block, and what the words above a list are. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator

import msgspec

#: Of longer lines only the beginning is read as prose.
LONGEST_LINE = 1000
#: No report that a person wrote has more prose, and a rule may look at each pair.
MOST_LINES = 20_000
#: A heading, code or a lead may be so many lines above what it is about.
_LEADS = 4
_ITEM = re.compile(r"^([ \t│|]*)(?:\d{1,3}[.)]|[-*•]|[├└][─-]*)\s+(?=\S)")
_MARKUP = re.compile(r"[*`]+|^#+\s*|^>\s*")
_FENCES = ("```", "~~~")
_MOMENT = re.compile(
    r"\b(before|after|afterwards|later|earlier|initially|originally|previously|now|then|yesterday|today|idle|peak|fixed|old|new)\b"
    r"|\b(?:rss|pss|uss|vsz|virt|virtual|resident|heap|swap|swapped|private|shared|compressed|limit|budget)\b"
    r"|\b(?:day|run|attempt|round|sample|snapshot)\s*#?\d{1,3}\b|\b\d{1,2}:\d{2}\b|\b\d{4}-\d{2}-\d{2}\b",
    re.IGNORECASE,
)


class TextLine(msgspec.Struct, frozen=True, kw_only=True):
    """``text`` is without markup and sign of an item; ``depth`` is that of an item, None for other lines. ``block``:
    the number of its first line; lines up to the next blank one or fence are one block. ``under``: the number of the
    heading's line; ``level``: of a heading, 0 for other lines."""

    number: int
    text: str
    depth: int | None
    block: int
    heading: str = ""
    under: int = 0
    level: int = 0


def read_lines(text: str, tables: frozenset[int]) -> tuple[TextLine, ...]:
    """The lines that are prose. ``tables``: the numbers of those that are rows of one."""
    document: list[TextLine] = []
    block, heading, under, fenced = 0, "", 0, False
    for number, whole in enumerate(text.split("\n"), 1):
        if len(document) >= MOST_LINES:
            break
        raw = whole[:LONGEST_LINE]
        if raw.lstrip().startswith(_FENCES):
            fenced, block = not fenced, 0
            continue
        if not raw.strip() or number in tables:
            block = 0
            continue
        item = _ITEM.match(raw)
        plain = _MARKUP.sub("", raw[item.end() :] if item else raw).strip()
        level = _heading_level(raw) if not fenced else 0
        if level:
            heading, under = plain, number
        block = number if level or not block else block
        depth = len(item[1].expandtabs(4)) if item else None
        line = TextLine(
            number=number, text=plain, depth=depth, block=block, heading=heading, under=under, level=level
        )
        document.append(line)
        block = 0 if level else block
    return tuple(document)


def _heading_level(raw: str) -> int:
    rest = raw.lstrip("#")
    return len(raw) - len(rest) if rest.startswith(" ") else 0


def find_lists(document: tuple[TextLine, ...]) -> Iterator[tuple[tuple[TextLine, ...], tuple[TextLine, ...]]]:
    """Each list of two items or more, and the lines above it that end in a colon, the nearest first. What is deeper
    than its first item belongs to the item above."""
    at = 0
    while at < len(document):
        first = document[at]
        if first.depth is None:
            at += 1
            continue
        end, items = at, []
        while end < len(document) and document[end].depth is not None and document[end].block == first.block:
            if document[end].depth == first.depth:
                items.append(document[end])
            end += 1
        if len(items) > 1:
            yield tuple(items), find_lead(document, at)
        at = end


def find_lead(document: tuple[TextLine, ...], at: int) -> tuple[TextLine, ...]:
    leads: list[TextLine] = []
    for above in reversed(document[max(0, at - _LEADS) : at]):
        if not above.text.endswith(":"):
            break
        leads.append(above)
    return tuple(leads)


def block_openings(document: tuple[TextLine, ...]) -> dict[int, TextLine]:
    """The first line of each block, by the block."""
    return {line.block: line for line in reversed(document)}


def moment_words(*texts: str) -> frozenset[str]:
    """The words that say when, or by which measure: figures with others are not of the same thing."""
    return frozenset(match[0].lower() for text in texts for match in _MOMENT.finditer(text))
