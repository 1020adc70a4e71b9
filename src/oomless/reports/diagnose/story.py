"""What a text tells of events: times at the beginning of lines, and the chapters below a heading on the timeline;
which lines say that a smaller model was used, and that memory ran out all the same. Pure."""

from __future__ import annotations

import re

from oomless.redact import command_line
from oomless.reports.diagnose.document import Line
from oomless.reports.diagnose.facts import Event

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


def events(document: tuple[Line, ...]) -> tuple[Event, ...]:
    """In the order of the text."""
    events: list[Event] = []
    level, chapter = 0, ""
    for line in document:
        if line.level:
            inside = level and line.level > level
            level = line.level if _TIMELINE.search(line.text) else (level if inside else 0)
            chapter = line.text if inside else ""
            if inside:
                events.append(_event("", line.text, line))
            continue
        timed, outcome = _TIME.match(line.text), _OUTCOME.match(line.text) if chapter else None
        if timed is not None:
            events.append(_event(timed["when"], timed["text"], line))
        elif outcome is not None and outcome["text"]:
            events.append(_event(chapter, outcome["text"], line))
    return tuple(events)


def _event(when: str, text: str, line: Line) -> Event:
    shown = command_line((text,))
    shown = shown if len(shown) <= _LONGEST else f"{shown[:_LONGEST]}…"
    return Event(when=when, text=shown, source=f"line {line.number}")


def small_model_failed(document: tuple[Line, ...]) -> tuple[int, ...]:
    """The lines of a chapter that say that a smaller model ran, and those after them that memory ran out: empty if no
    chapter says both."""
    numbers: list[int] = []
    for under in dict.fromkeys(line.under for line in document):
        chapter = [line for line in document if line.under == under]
        small = [line.number for line in chapter if _SMALL.search(line.text)]
        failed = [line.number for line in chapter if _FAILED.search(line.text) and small and line.number > small[0]]
        numbers += [*small, *failed] if failed else []
    return tuple(numbers)
