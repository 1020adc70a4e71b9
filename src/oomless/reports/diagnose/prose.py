"""What prose says of processes and of events: pids and what they are called, lists, copies of servers; times, and
which lines say that memory ran out with a smaller model too. Pure.

Amounts that have a name, and totals, are in ``reckoning.py``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from oomless.redact import command_line
from oomless.reports.diagnose.amounts import find_amounts
from oomless.reports.diagnose.document import TextLine, find_lists, moment_words
from oomless.reports.diagnose.facts import Amount, CaseEvent, Copies, Count, Enumeration, ListItem, Mention
from oomless.units import shorten

_PIDS = re.compile(
    r"\bPIDs?\s*[:#=]?\s*(\d{1,7}(?:\s*(?:,|/|and|&)\s*\d{1,7}\b(?!\s*(?:MB|GB|KB|%)))*)", re.IGNORECASE
)
_NUMBER = re.compile(r"\d{1,7}")
#: One process is one of these at most.
_ROLES = {
    "main session": r"main (?:claude )?(?:session|agent)|(?:parent|primary) session|claude code main",
    "subagent": r"sub-?agents?",
    "extension host": r"extension hosts?",
    "MCP server": r"mcp[ -]servers?",
    "language server": r"language servers?|tsserver|eslint(?: server)?|typescript server",
    "dev server": r"dev(?:elopment)? servers?",
    "renderer": r"renderers?",
    "terminal": r"terminal emulator|iterm2?",
}
_ROLE = re.compile(
    "|".join(rf"(?P<r{at}>\b(?:{words})\b)" for at, words in enumerate(_ROLES.values())), re.IGNORECASE
)
#: What comes before a word that is then said of another process, or denied.
_OTHERS = re.compile(
    r"(?:\b(?:of|for|by|to|from|in|its|their|spawn\w*|start\w*|not|never|no|with|without)|n't)\s+"
    r"(?:(?:a|an|the|each|every|all|its|any)\s+)?(?:[\w-]+\s+)?$",
    re.IGNORECASE,
)
_PARENT = re.compile(r"\bparent\b|\b(?:spawn|start|fork|launch)(?:ed|s)?\b[^:]*:$", re.IGNORECASE)
_NUMBERS = ("two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
_WORDS = {word: number for number, word in enumerate(_NUMBERS, 2)}
_COUNT = re.compile(
    rf"(?<![\w.,/×=~≈<>-])(?P<number>\d{{1,4}}|{'|'.join(_WORDS)})\s+(?P<what>(?:[A-Za-z][\w.-]*\s+){{0,4}}?[A-Za-z][\w-]*s)\b",
    re.IGNORECASE,
)
_UNCOUNTED = re.compile(
    r"(?:times|seconds|minutes|hours|days|weeks|months|years|bytes|percent|points|cores|[KMG]i?Bs)$", re.IGNORECASE
)
#: Before a number: it is no count of what is listed below.
_HEDGED = re.compile(
    r"(?:\b(?:than|least|most|about|around|some|over|under|up to|of the|maximum|max|every|after|when|if|until|once|of"
    r"|before|for|with|during|using|on|another|other|next|first|last|limit(?:ed)? to)|[~≈<>≥≤])\s*$",
    re.IGNORECASE,
)
_PARTIAL = re.compile(
    r"\b(?:largest|biggest|top|worst|some|including|include|e\.g\.|for example|such as|among|remaining|others?|rest"
    r"|new|newest|oldest|first|last|only|partial|sample|selected|of (?:these|them|which))\b",
    re.IGNORECASE,
)
_INSTANCES = re.compile(
    r"\b(\d{1,4})\s+(?:\w+\s+)?(?:instances?|copies|copy|processes)\b|[x×]\s?(\d{1,4})\b|\b(\d{1,4})\s?[x×](?!\s?\d)",
    re.IGNORECASE,
)
_COPIES = re.compile(
    r"\b(\d{1,4}|two|three|four)\s+(?:instances|copies)\s+of\s+([\w@./-]{2,80})(?:\s+mcp)?\s*(\([^)]{1,200}\))?",
    re.IGNORECASE,
)
_PLACES = re.compile(r"\b(?:tty)?s\d{3}\b|\bpts/\d{1,4}\b|\btty\d{1,3}\b")
_IN_BRACKETS = re.compile(r"\([^)]{0,300}\)")
_TOTAL = re.compile(r"(?:grand |overall |in )?(?:total|sum)\b", re.IGNORECASE)
_SHORT = 4


def find_mentions(document: tuple[TextLine, ...]) -> tuple[Mention, ...]:
    """Each pid that a line names, with the words and the amount that stand by it."""
    above = {item.number: leads for items, leads in find_lists(document) for item in items}
    return tuple(mention for line in document for mention in _mentions_of_line(line, above.get(line.number, ())))


def _mentions_of_line(line: TextLine, leads: tuple[TextLine, ...]) -> Iterator[Mention]:
    matches = list(_PIDS.finditer(line.text))
    parent = next((pids[0] for lead in leads if (pids := _named_parents(lead))), None)
    when = moment_words(line.text, line.heading, *(lead.text for lead in leads))
    for at, match in enumerate(matches):
        start = 0 if at == 0 else match.start()
        end = matches[at + 1].start() if at + 1 < len(matches) else len(line.text)
        clause = line.text[start:end]
        pids = [int(number) for number in _NUMBER.findall(match[1])]
        amount = _nearest_amount(clause, match.end() - start) if len(pids) == 1 else None
        for pid in pids:
            yield Mention(
                line=line.number,
                pid=pid,
                amount=amount,
                roles=read_roles(clause) or (_lead_roles(leads[0]) if leads and len(matches) == 1 else ()),
                said=clause,
                lead=leads[0].text if leads else "",
                parent=parent,
                moment=when,
            )


def _named_parents(lead: TextLine) -> list[int]:
    pids = [int(number) for match in _PIDS.finditer(lead.text) for number in _NUMBER.findall(match[1])]
    return pids if len(pids) == 1 and _PARENT.search(lead.text) else []


def _nearest_amount(clause: str, after: int) -> Amount | None:
    """The first amount behind the pid, else the one before it. Where there are two, it is said how it changed."""
    stated_amounts = [stated for stated in find_amounts(clause) if not stated.denied]
    behind = [stated for stated in stated_amounts if stated.start >= after]
    near = behind or stated_amounts
    return near[0].amount if len(near) == 1 or (behind and "=" in clause) else None


def read_roles(text: str) -> tuple[str, ...]:
    """What the words of a line say that its process is; not what they deny, or say of another one."""
    names = tuple(_ROLES)
    matching = (
        names[int((match.lastgroup or "r0")[1:])]
        for match in _ROLE.finditer(text)
        if not _OTHERS.search(text[: match.start()][-60:])
    )
    return tuple(dict.fromkeys(matching))


def _lead_roles(lead: TextLine) -> tuple[str, ...]:
    """``Subagent processes (5 running):`` says it of each item; a role elsewhere in the line does not."""
    head = _IN_BRACKETS.sub("", lead.text).rstrip(": ")
    for word in ("processes", "process", "instances", "pids", "PIDs"):
        head = head.removesuffix(word).rstrip()
    last = [match for match in _ROLE.finditer(head) if match.end() == len(head)]
    return read_roles(head) if last and len(read_roles(head)) == 1 else ()


def find_enumerations(document: tuple[TextLine, ...]) -> tuple[Enumeration, ...]:
    made = (_make_enumeration(items, leads) for items, leads in find_lists(document))
    return tuple(enumeration for enumeration in made if enumeration is not None)


def _make_enumeration(lines: tuple[TextLine, ...], leads: tuple[TextLine, ...]) -> Enumeration | None:
    """None for sentences, and for the parts of a sum: their number is not that of anything."""
    items = tuple(_make_item(line) for line in lines)
    named = sum(bool(item.pids or item.instances) for item in items)
    if any(_TOTAL.match(item.text) for item in items):
        return None
    if named <= len(items) / 2 and not all(_is_name(item.text) for item in items):
        return None
    text = " ".join(lead.text for lead in reversed(leads))
    return Enumeration(
        items=items,
        lead=text,
        count=next((count for lead in leads if (count := read_count(lead)) is not None), None),
        partial=_PARTIAL.search(text) is not None,
        moment=moment_words(text, lines[0].heading),
    )


def _make_item(line: TextLine) -> ListItem:
    match = _INSTANCES.search(line.text)
    pids = tuple(int(number) for match in _PIDS.finditer(line.text) for number in _NUMBER.findall(match[1]))
    instances = int(next(group for group in match.groups() if group)) if match else None
    return ListItem(line=line.number, text=line.text, instances=instances, pids=pids)


def _is_name(text: str) -> bool:
    words = _IN_BRACKETS.sub("", text).split(":")[0].split()
    return 0 < len(words) <= _SHORT and not text.endswith((".", "!"))


def read_count(line: TextLine) -> Count | None:
    """The one count of a line; of several it is not known which is of the list."""
    matches = [match for match in _COUNT.finditer(line.text) if not _UNCOUNTED.search(match["what"])]
    if len(matches) != 1 or _HEDGED.search(line.text[: matches[0].start()][-30:]):
        return None
    return Count(line=line.number, number=_parse_number(matches[0]["number"]), what=matches[0]["what"])


def _parse_number(text: str) -> int:
    return _WORDS.get(text.lower()) or int(text)


def find_copies(document: tuple[TextLine, ...]) -> tuple[Copies, ...]:
    """``2 instances of NAME (s008 and s022)``."""
    return tuple(
        Copies(
            name=match[2].rstrip(".,"),
            number=_parse_number(match[1]),
            places=tuple(
                dict.fromkeys(
                    place.removeprefix("tty") if "ttys" in place else place
                    for place in _PLACES.findall(match[3] or "")
                )
            ),
            lines=(line.number,),
        )
        for line in document
        for match in _COPIES.finditer(line.text)
    )


# -- what happened --------------------------------------------------------------------------------------------------


_CLOCK = r"\d{1,2}:\d{2}(?::\d{2})?"
_TIME = re.compile(
    rf"^\[?(?P<when>\d{{4}}-\d{{2}}-\d{{2}}(?:[T ]{_CLOCK})?|{_CLOCK}(?:\s?[AP]M)?)\]?\s*[-–—:|]*\s+(?P<text>\S.*)$"
)
_TIMELINE = re.compile(r"\b(?:timeline|chronology|sequence of events|history)\b", re.IGNORECASE)
_OUTCOME = re.compile(r"^(?:result|outcome|user feedback|effect)\s*:\s*(?P<text>.*)$", re.IGNORECASE)
_SMALL = re.compile(
    r"\b(?:haiku|smaller model|cheaper model|gpt-[\w.]*mini|[\w.-]*-flash|[\w.-]*-nano)\b", re.IGNORECASE
)
_FAILED = re.compile(
    r"\bout of memory\b|\bmemory (?:exhaust\w*|was never released|ran out)\b|\bforce[- ]?(?:killed|quit)\b|\bOOM\b",
    re.IGNORECASE,
)
_LONGEST = 200


def find_events(document: tuple[TextLine, ...]) -> tuple[CaseEvent, ...]:
    """In the order of the text."""
    timeline: list[CaseEvent] = []
    level, chapter = 0, ""
    for line in document:
        if line.level:
            inside = level and line.level > level
            level = line.level if _TIMELINE.search(line.text) else (level if inside else 0)
            chapter = line.text if inside else ""
            if inside:
                timeline.append(_make_event("", line.text, line))
            continue
        timed, outcome = _TIME.match(line.text), _OUTCOME.match(line.text) if chapter else None
        if timed is not None:
            timeline.append(_make_event(timed["when"], timed["text"], line))
        elif outcome is not None and outcome["text"]:
            timeline.append(_make_event(chapter, outcome["text"], line))
    return tuple(timeline)


def _make_event(when: str, text: str, line: TextLine) -> CaseEvent:
    return CaseEvent(when=when, text=shorten(command_line((text,)), _LONGEST), source=f"line {line.number}")


def find_failed_small_model(document: tuple[TextLine, ...]) -> tuple[int, ...]:
    """The lines of a chapter that say that a smaller model ran, and those after them that memory ran out: empty if no
    chapter says both."""
    numbers: list[int] = []
    for under in dict.fromkeys(line.under for line in document):
        chapter = [line for line in document if line.under == under]
        small = [line.number for line in chapter if _SMALL.search(line.text)]
        failed = [line.number for line in chapter if _FAILED.search(line.text) and small and line.number > small[0]]
        numbers += [*small, *failed] if failed else []
    return tuple(numbers)
