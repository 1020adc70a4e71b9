"""Numbers as ps, top and people print them: sizes, times, terminals, the memory in top's header. What fits no form is
None. Pure.

All forms are bounded in length: a listing may hold any text, and Python refuses to read 5,000 digits.
"""

from __future__ import annotations

import calendar
import re
import time
from collections.abc import Sequence

from oomless.model import MachineMemory

_CLOCK = re.compile(r"(?:([0-9]{1,15})-)?(?:([0-9]{1,6}):)?([0-9]{1,8}):([0-9]{2})(?:[.,]([0-9]{1,3}))?")
_LONG_CPU = re.compile(r"([0-9]{1,8}(?:[.,][0-9]{1,3})?)([hdw])")
#: procps prints the age of a process that started after its own look at the clock as a negative number gone round.
_MOST_DAYS = 36500
_SECONDS = re.compile(r"[0-9]{1,12}")
_SCALED = re.compile(r"([0-9]{1,15}(?:[.,][0-9]{1,3})?)([BKMGTkmgt]?)[+-]?")
_SPOKEN = re.compile(r"([0-9]{1,3}(?:,[0-9]{3}){1,3}|[0-9]{1,15}(?:\.[0-9]{1,3})?)\s?([KMGT]i?B|kB|bytes)", re.ASCII)
_UNITS = {"": 1, "b": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}
_DECIMAL = {"k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_HOURS = {"h": 3600.0, "d": 86400.0, "w": 604800.0}


def parse_decimal(text: str) -> float:
    """Some locales print ``0,5``."""
    return float(text.replace(",", "."))


def parse_clock(text: str) -> float | None:
    """Seconds of ``0:26``, ``12:34.56``, ``01:02:03``, ``1-02:03:04``, ``26306``, and top's ``1234h`` and ``52d``."""
    if _SECONDS.fullmatch(text):
        return float(text)
    long = _LONG_CPU.fullmatch(text)
    if long is not None:
        return parse_decimal(long[1]) * _HOURS[long[2]]
    match = _CLOCK.fullmatch(text)
    if match is None:
        return None
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups()[:4])
    if days > _MOST_DAYS:
        return None
    rest = float(f"0.{match[5]}") if match[5] else 0.0
    return float(days * 86400 + hours * 3600 + minutes * 60 + seconds) + rest


def parse_size(text: str, unit: int) -> int | None:
    """Bytes of a column: a bare number is in ``unit``; with a letter (``21.0g``, ``635M+``) it says its own."""
    match = _SCALED.fullmatch(text)
    if match is None:
        return None
    return round(parse_decimal(match[1]) * (_UNITS[match[2].lower()] if match[2] else unit))


def parse_spoken_size(text: str) -> tuple[int, str] | None:
    """Bytes of the ``635 MB`` or ``2,962 MB`` that the text starts with, and what follows it."""
    match = _SPOKEN.match(text)
    if match is None:
        return None
    number, unit = float(match[1].replace(",", "")), match[2].lower()
    scale = 1 if unit == "bytes" else (_UNITS if "i" in unit else _DECIMAL)[unit[0]]
    return round(number * scale), text[match.end() :]


def terminal(text: str) -> str:
    """``s008`` for ``ttys008``, "" for the signs of none (``?``, ``??``, ``-``)."""
    if text in ("?", "??", "-"):
        return ""
    return text.removeprefix("tty") if text.startswith("ttys") else text


def parse_rough_moments(texts: Sequence[str]) -> list[int] | None:
    """Start times as ``ps`` shortens them (``09:12``, ``Nov27``, ``9:03AM``, ``Sun09PM``, ``27Nov26``), in the order
    of the processes' numbers, as minutes on a clock of their own: equal where nothing tells which was first. None if
    one is of no such form, or if the year turned between them.

    The columns STIME, START and STARTED: procps prints the hour on the day itself, BSD within a day, and the weekday
    within a week (procps, src/ps/output.c; FreeBSD, bin/ps/print.c). These go round, so that the order of numbers
    must be that of the times, but for one turn."""
    rough = [_parse_rough(text) for text in texts]
    known = [moment for moment in rough if moment is not None]
    months = {number // _DAYS for kind, number in known if kind == _DATE}
    if len(known) < len(rough) or {1, 12} <= months:
        return None
    for kind, period in ((_WEEK, 7 * 24 * 60), (_ROUND, 24 * 60)):
        known = _unroll_times(known, kind, period)
    return [min(kind, _DAY) * 10**7 + number for kind, number in known]


#: From the oldest to the youngest form; minutes within each. The last two are never in one listing.
_YEAR, _DATE, _WEEK, _DAY, _ROUND = range(5)
_DAYS = 31 * 24 * 60
_MONTHS = {name: number for number, name in enumerate(calendar.month_abbr) if name}
_WEEKDAYS = {name: number for number, name in enumerate(calendar.day_abbr)}
_HOUR = re.compile(r"([0-2]?[0-9]):([0-5][0-9])")
_OF_YEAR = re.compile(r"([A-Z][a-z]{2})([0-3]?[0-9])")
_BSD_HOUR = re.compile(r"([01]?[0-9]):([0-5][0-9])([AP])M")
_BSD_DAY = re.compile(r"([A-Z][a-z]{2})([01][0-9])([AP])M")
_BSD_DATE = re.compile(r"([0-3]?[0-9])([A-Z][a-z]{2})([0-9]{2})")


def _parse_rough(text: str) -> tuple[int, int] | None:
    if match := _HOUR.fullmatch(text):
        return _DAY, int(match[1]) * 60 + int(match[2])
    if match := _BSD_HOUR.fullmatch(text):
        return _ROUND, _hour_of_day(match[1], match[3]) * 60 + int(match[2])
    if (match := _BSD_DAY.fullmatch(text)) and match[1] in _WEEKDAYS:
        return _WEEK, (_WEEKDAYS[match[1]] * 24 + _hour_of_day(match[2], match[3])) * 60
    if (match := _OF_YEAR.fullmatch(text)) and match[1] in _MONTHS:
        return _DATE, _MONTHS[match[1]] * _DAYS + (int(match[2]) - 1) * 24 * 60
    if (match := _BSD_DATE.fullmatch(text)) and match[2] in _MONTHS:
        return _YEAR, (int(match[3]) * 372 + _MONTHS[match[2]] * 31 + int(match[1])) * 24
    return (_YEAR, 0) if re.fullmatch("[0-9]{4}", text) else None


def _hour_of_day(text: str, half: str) -> int:
    return int(text) % 12 + (12 if half == "P" else 0)


def _unroll_times(known: list[tuple[int, int]], kind: int, period: int) -> list[tuple[int, int]]:
    """Times that go round, one after another; all the same if their order is not that of the numbers."""
    times = [number for form, number in known if form == kind]
    turns = [at for at in range(1, len(times)) if times[at] < times[at - 1]]
    at, unrolled = 0, []
    for form, number in known:
        if form != kind:
            unrolled.append((form, number))
            continue
        late = period if turns and at >= turns[0] else 0
        unrolled.append((form, number + late if len(turns) <= 1 else 0))
        at += 1
    return unrolled


def parse_moment(text: str) -> float | None:
    """Seconds on a clock of its own (no time zone) of a start time with year and second (``lstart``), else None."""
    try:
        parsed = time.strptime(" ".join(text.split()), "%a %b %d %H:%M:%S %Y")
    except ValueError:
        return None
    return float(calendar.timegm(parsed))


# -- the machine's memory, from the header of Linux's top -----------------------------------------------------------


_BINARY_UNITS = {"KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}
_MEMORY_NUMBER = r"([0-9]{1,15}(?:[.,][0-9]{1,3})?)"
_TOTAL_MEMORY = re.compile(rf"([KMGT]iB) Mem ?:[ \t]*{_MEMORY_NUMBER}[+]?[ \t]*total\b")
_AVAILABLE_MEMORY = re.compile(rf"([KMGT]iB) Swap:.*\bused\.[ \t]*{_MEMORY_NUMBER}[+]?[ \t]*avail Mem\b")


def read_total_memory(line: str) -> int | None:
    """Bytes in all, if it is that line of the header."""
    return _memory_bytes(_TOTAL_MEMORY.search(line)) if "Mem" in line else None


def read_machine_memory(total_bytes: int, line: str) -> MachineMemory | None:
    """Of the header's next line, which holds swap and what is available."""
    available = _memory_bytes(_AVAILABLE_MEMORY.search(line)) if "avail" in line else None
    if available is None or available > total_bytes or total_bytes == 0:
        return None
    return MachineMemory(total_bytes=total_bytes, available_bytes=available)


def _memory_bytes(match: re.Match[str] | None) -> int | None:
    return round(float(match[2].replace(",", ".")) * _BINARY_UNITS[match[1]]) if match else None
