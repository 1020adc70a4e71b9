"""Amounts that prose gives a name to, and totals with the parts that should make them up. Pure.

What a pid takes is in ``prose.py``; whether figures agree is judged in ``contradictions/``.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator

from oomless.reports.diagnose.amounts import AmountInText, find_amounts
from oomless.reports.diagnose.document import TextLine, block_openings, moment_words
from oomless.reports.diagnose.facts import Amount, Figure, Total

_LABEL = re.compile(r"^(?P<label>[^:=]{2,80}?)\s*[:=]\s*(?P<rest>\S.*)$")
_EACH = re.compile(
    r"\b(?:each|every|per)[ -](?P<name>[A-Za-z][\w .-]{1,40}?)\s+"
    r"(?:consum\w+|us(?:es|ed|ing)|tak(?:es|ing)|took|need(?:s|ed)|cost(?:s)?|holds?|is|was)\s+(?:up\s+)?(?:to\s+)?$",
    re.IGNORECASE,
)
_BEHIND = re.compile(
    r"^\s*(?:each\s+)?(?:per|for each|for every|a)\s+(?P<name>[A-Za-z][\w-]*(?:\s+[A-Za-z][\w-]*)?)", re.IGNORECASE
)
_IN_BRACKETS = re.compile(r"\([^)]{0,300}\)")
_NUMBERED = re.compile(r"\s*#?\b\d{1,4}$")
_ARTICLES = frozenset({"a", "an", "the", "each", "every", "per", "one", "and", "plus", "+"})
_ONLY_TOTAL = re.compile(
    r"(?:grand |overall |in )?(?:total|sum)s?(?:(?: memory)? (?:usage|use|used|consumption|footprint))?",
    re.IGNORECASE,
)
#: What a machine has, may use or has left is no sum of what programs use.
_NO_USE = re.compile(
    r"\b(?:free|available|limit|budget|max(?:imum)?|physical|installed|ram|swap|capacity|threshold|of which)\b",
    re.IGNORECASE,
)
_TOTAL_BEFORE = re.compile(
    r"\b(?:in |a )?total(?:s|led|ling)?(?: memory(?= (?:us|cons|foot)))?(?: usage| use| consumption| footprint)?"
    r"(?:\s+(?:of|was|is|came to|reached|to))?\s*:?\s*$",
    re.IGNORECASE,
)
_TOTAL_BEHIND = re.compile(r"^\s*(?:in\s+)?total\b", re.IGNORECASE)
_SCOPE = re.compile(r"^\s*(?:for|of|by|in)\s+([\w-]+(?:\s+[\w-]+){0,2})", re.IGNORECASE)
_SUM = re.compile(r"^(?:grand |overall |in )?(?:total|sum|together)", re.IGNORECASE)
_ADDED = re.compile(r"^\s*(?:\+|plus\b|and\b)", re.IGNORECASE)
_THINGS = re.compile(r"(?<![\w.,×=-])(\d{1,3})\s+((?:[A-Za-z][\w-]*\s+){0,3}[A-Za-z][\w-]*)")
_ATTRIBUTES = frozenset(
    {"parallel", "sequential", "concurrent", "more", "total", "with", "from", "that", "were", "average", "spawn"}
)
_UNITS = re.compile(r"(?:[kmgt]i?b|percent|seconds?|minutes?|hours?|days?)$")
_APART = re.compile(
    r"\b(?:before|with(?! \d)|without|limit(?:ed)?|governed|ungoverned|haiku|sonnet|opus|old|new|debug|release|linux"
    r"|macos|windows|fixed|idle|expected|estimated|planned|rss|pss|vsz|virtual|peak|v\d+(?:\.\d+)*|version \d+)\b",
    re.IGNORECASE,
)
_WORDS_OF_LABEL = 6


def find_figures(document: tuple[TextLine, ...]) -> tuple[Figure, ...]:
    above = block_openings(document)
    return tuple(figure for line in document for figure in _figures_of_line(line, above[line.block]))


def _figures_of_line(line: TextLine, opening: TextLine) -> Iterator[Figure]:
    stated_amounts = [stated for stated in find_amounts(line.text) if not stated.denied]
    if not stated_amounts:
        return
    when = moment_words(line.text, line.heading, opening.text)
    label = _read_label(line.text, stated_amounts)
    if label is not None:
        name, numbered, each, amount = label
        yield _make_figure(line, name, each or numbered, numbered, amount, when)
    for stated in stated_amounts:
        before = _EACH.search(line.text[: stated.start][-80:])
        behind = _BEHIND.match(line.text[stated.end :])
        for match in (before, behind):
            if match is not None and (name := _plain_name(match["name"], True)):
                yield _make_figure(line, name, True, False, stated.amount, when)


def _make_figure(
    line: TextLine, name: str, each: bool, numbered: bool, amount: Amount, when: frozenset[str]
) -> Figure:
    return Figure(
        line=line.number, name=name, each=each, numbered=numbered, amount=amount, block=line.block, moment=when
    )


def _read_label(text: str, stated_amounts: list[AmountInText]) -> tuple[str, bool, bool, Amount] | None:
    """Name, whether it is numbered, whether it is of one of several, and the amount of ``NAME: 5 MB``."""
    match = _LABEL.match(text)
    if match is None or match["label"].lstrip('"').lower().startswith("pid") or find_amounts(match["label"]):
        return None
    starts = [match.start("rest") + len(gap[0]) for gap in re.finditer(r"(?:^|=\s{0,3})[+~≈\s]{0,3}", match["rest"])]
    at = match.start("rest")
    first = next((stated for stated in stated_amounts if _comes_first(text[at : stated.start])), None)
    if first is None or not starts:
        return None
    label = match["label"]
    plain = _IN_BRACKETS.sub(" ", label).strip(" -")
    numbered = _NUMBERED.search(plain) is not None
    each = re.search(r"\b(?:each|every|per)\b", label, re.IGNORECASE) is not None
    each = each or re.match(r"\s*(?:each|apiece)\b", text[first.end :], re.IGNORECASE) is not None
    name = _plain_name(_NUMBERED.sub("", plain), each or numbered)
    return (name, numbered, each, first.amount) if name else None


def _comes_first(between: str) -> bool:
    """Whether nothing stands before the amount, or ``3 Node.js processes = ``."""
    return between.strip("+ ") == "" or between.rstrip("+ ").endswith("=")


def _plain_name(text: str, single: bool) -> str:
    text = re.sub(r"\b(?:per|each)-", "", text.lower()).replace("sub-agent", "subagent")
    words = [word.strip("\"'.,-") for word in text.split()]
    words = [word for word in words if word and word not in _ARTICLES]
    if not words or len(words) > _WORDS_OF_LABEL or not any(c.isalpha() for c in words[-1]):
        return ""
    if single and words[-1].endswith("s") and not words[-1].endswith("ss"):
        words[-1] = words[-1][:-1]
    return " ".join(words)


def find_totals(document: tuple[TextLine, ...]) -> tuple[Total, ...]:
    above, blocks = block_openings(document), _group_by_block(document)
    starts = sorted(blocks)
    stated = [
        total for line in document if (total := _read_total(line, above[line.block], blocks, starts)) is not None
    ]
    return tuple(_last_of_running(stated, document))


def _read_total(
    line: TextLine, opening: TextLine, blocks: dict[int, list[TextLine]], starts: list[int]
) -> Total | None:
    for stated in find_amounts(line.text):
        before, behind = line.text[: stated.start], line.text[stated.end :]
        if stated.denied or not (
            _TOTAL_BEFORE.search(before[-60:]) or _TOTAL_BEHIND.match(behind) or _is_named_total(before)
        ):
            continue
        around, of = f"{opening.text} {line.text}", _subject_of_total(before, behind)
        sums = _SUM.match(line.text) is not None or _ADDED.match(line.text) is not None
        return Total(
            line=line.number,
            amount=stated.amount,
            of=of,
            parts=tuple(_find_parts(line, of, blocks, starts)) if sums else (),
            scene=frozenset(_read_scene(opening.text) | _read_scene(_number_first(line.text))),
            words=frozenset(match[0].lower() for match in _APART.finditer(around)),
        )
    return None


def _is_named_total(before: str) -> bool:
    """``TOTAL VSCode helpers: ``."""
    return re.fullmatch(r"total\s+[^:=]{2,60}[:=]\s*[+~≈]?\s*", before, re.IGNORECASE) is not None


def _subject_of_total(before: str, behind: str) -> str:
    """What the total is of: empty for all."""
    label = _IN_BRACKETS.sub("", re.split(r"[:=]", before)[0]).strip()
    if _is_named_total(before):
        rest = re.sub(r"^total\s+", "", label, flags=re.IGNORECASE)
        return (
            "" if _ONLY_TOTAL.fullmatch(label) or re.match(r"(?:with|for|of) \d", rest) else _plain_name(rest, False)
        )
    if _TOTAL_BEFORE.search(before[-60:]):
        scope = _SCOPE.match(behind)
        return scope[1].lower() if scope else ""
    if _ADDED.match(before) or _NUMBERED.search(label) or _ONLY_TOTAL.fullmatch(label):
        return ""
    return _plain_name(label, False)


def _number_first(text: str) -> str:
    """``Subagent 5: ...`` as ``5 Subagent``."""
    label = _IN_BRACKETS.sub("", re.split(r"[:=]", text)[0]).strip()
    number = re.search(r"\b(\d{1,3})$", label)
    return f"{number[1]} {_NUMBERED.sub('', label)}" if number else text


def _read_scene(text: str) -> set[tuple[int, str]]:
    """Numbers of things: ``5 parallel subagents`` -> (5, subagent)."""
    things = set()
    for match in _THINGS.finditer(text):
        words = [word.lower() for word in match[2].split()]
        if _UNITS.match(words[0]) or int(match[1]) < 2:
            continue
        things |= {
            (int(match[1]), word.removesuffix("s")) for word in words if len(word) > 3 and word not in _ATTRIBUTES
        }
    return things


def _group_by_block(document: tuple[TextLine, ...]) -> dict[int, list[TextLine]]:
    blocks: dict[int, list[TextLine]] = {}
    for line in document:
        blocks.setdefault(line.block, []).append(line)
    return blocks


def _find_parts(total: TextLine, of: str, blocks: dict[int, list[TextLine]], starts: list[int]) -> Iterator[Amount]:
    """The amounts above a total: in its block, or, where it stands alone, in the block before, if that is of the same
    things. Nothing if one of them has no figure."""
    above = [line for line in blocks[total.block] if line.number < total.number]
    if not any(find_amounts(line.text) for line in above):
        before = bisect_left(starts, total.block)
        above = blocks[starts[before - 1]] if before and blocks[total.block][0].number == total.number else []
        text = " ".join(line.text.lower() for line in above)
        above = above if not of or any(word.removesuffix("s") in text for word in of.split() if len(word) > 3) else []
    depths = [line.depth for line in above if line.depth is not None]
    rows = [line for line in above if (line.depth == min(depths) if depths else find_amounts(line.text))]
    if any(_NO_USE.search(line.text) or not find_amounts(line.text) for line in (total, *rows)):
        return
    if _ADDED.match(total.text):
        yield from _add_own(total, rows)
    elif all(line.depth is not None or _LABEL.match(line.text) or "=" in line.text for line in rows):
        yield from (amount for line in rows if (amount := _read_part(line)) is not None)


def _add_own(total: TextLine, rows: Iterable[TextLine]) -> Iterator[Amount]:
    """``+ base (1,000 MB) = 3,500 MB total``."""
    own = find_amounts(total.text.partition("=")[0])
    if own:
        yield from (amount for line in rows if (amount := _read_part(line)) is not None)
        yield own[0].amount


def _read_part(line: TextLine) -> Amount | None:
    """What a line adds: the result of a product, the first amount of others."""
    left, equals, right = line.text.partition("=")
    product = equals and re.search(r"\d\s*[x×*]\s*\d", left)
    stated_amounts = (find_amounts(left) if not product else []) or find_amounts(right)
    if re.match(r"\s*total\b", line.text, re.IGNORECASE) or not stated_amounts or stated_amounts[0].denied:
        return None
    return stated_amounts[0].amount


def _last_of_running(stated: list[Total], document: tuple[TextLine, ...]) -> Iterator[Total]:
    """Of numbered lines that add up, ``Subagent 1: +500 MB = 1,500 MB total``, the last has the total; its parts are
    the total of the line before and its own."""
    by_number = {line.number: line for line in document}
    running = {total.line for total in stated if _is_numbered(by_number[total.line])}
    for at, total in enumerate(stated):
        after = stated[at + 1] if at + 1 < len(stated) else None
        if total.line not in running:
            yield total
        elif after is None or after.line not in running or not _same_block(by_number, total, after):
            before = stated[at - 1] if at and _same_block(by_number, stated[at - 1], total) else None
            yield _make_running_total(total, before, by_number)


def _is_numbered(line: TextLine) -> bool:
    return _NUMBERED.search(re.split(r"[:=(]", line.text)[0].strip()) is not None


def _same_block(by_number: dict[int, TextLine], total: Total, other: Total) -> bool:
    return by_number[total.line].block == by_number[other.line].block


def _make_running_total(last: Total, before: Total | None, by_number: dict[int, TextLine]) -> Total:
    own = find_amounts(by_number[last.line].text.partition("=")[0])
    parts = (before.amount, own[0].amount) if before is not None and own else ()
    return Total(line=last.line, amount=last.amount, of=last.of, parts=parts, scene=last.scene, words=last.words)
