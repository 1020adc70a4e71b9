"""Numbers as ps, top and people print them: sizes, times, terminals. Pure text; what fits no form is None.

All forms are bounded in length: a listing may hold any text, and Python refuses to read 5,000 digits.
"""

from __future__ import annotations

import calendar
import re
import time

_CLOCK = re.compile(r"(?:([0-9]{1,6})-)?(?:([0-9]{1,6}):)?([0-9]{1,8}):([0-9]{2})(?:[.,]([0-9]{1,3}))?")
_LONG_CPU = re.compile(r"([0-9]{1,8}(?:[.,][0-9]{1,3})?)([hdw])")
_SECONDS = re.compile(r"[0-9]{1,12}")
_SCALED = re.compile(r"([0-9]{1,15}(?:[.,][0-9]{1,3})?)([BKMGTkmgt]?)[+-]?")
_SPOKEN = re.compile(r"([0-9]{1,3}(?:,[0-9]{3}){1,3}|[0-9]{1,15}(?:\.[0-9]{1,3})?)\s?([KMGT]i?B|kB|bytes)", re.ASCII)
_UNITS = {"": 1, "b": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}
_DECIMAL = {"k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_HOURS = {"h": 3600.0, "d": 86400.0, "w": 604800.0}


def fraction(text: str) -> float:
    """Some locales print ``0,5``."""
    return float(text.replace(",", "."))


def clock(text: str) -> float | None:
    """Seconds of ``0:26``, ``12:34.56``, ``01:02:03``, ``1-02:03:04``, ``26306``, and top's ``1234h`` and ``52d``."""
    if _SECONDS.fullmatch(text):
        return float(text)
    long = _LONG_CPU.fullmatch(text)
    if long is not None:
        return fraction(long[1]) * _HOURS[long[2]]
    found = _CLOCK.fullmatch(text)
    if found is None:
        return None
    days, hours, minutes, seconds = (int(part or 0) for part in found.groups()[:4])
    rest = float(f"0.{found[5]}") if found[5] else 0.0
    return float(days * 86400 + hours * 3600 + minutes * 60 + seconds) + rest


def size(text: str, unit: int) -> int | None:
    """Bytes of a column: a bare number is in ``unit``; with a letter (``21.0g``, ``635M+``) it says its own."""
    found = _SCALED.fullmatch(text)
    if found is None:
        return None
    return round(fraction(found[1]) * (_UNITS[found[2].lower()] if found[2] else unit))


def spoken_size(text: str) -> tuple[int, str] | None:
    """Bytes of the ``635 MB`` or ``2,962 MB`` that the text starts with, and what follows it."""
    found = _SPOKEN.match(text)
    if found is None:
        return None
    number, unit = float(found[1].replace(",", "")), found[2].lower()
    scale = 1 if unit == "bytes" else (_UNITS if "i" in unit else _DECIMAL)[unit[0]]
    return round(number * scale), text[found.end() :]


def terminal(text: str) -> str:
    """``s008`` for ``ttys008``, "" for the signs of none (``?``, ``??``, ``-``)."""
    if text in ("?", "??", "-"):
        return ""
    return text.removeprefix("tty") if text.startswith("ttys") else text


def moment(text: str) -> float | None:
    """Seconds on a clock of its own (no time zone) of a start time with year and second (``lstart``), else None."""
    try:
        found = time.strptime(" ".join(text.split()), "%a %b %d %H:%M:%S %Y")
    except ValueError:
        return None
    return float(calendar.timegm(found))
