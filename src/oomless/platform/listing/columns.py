"""The columns of ``ps`` and ``top``: which header names which fact, and how each value is written. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from oomless.platform.listing.facts import Listed

#: Headers that hold the rest of the line.
COMMANDS = frozenset({"COMMAND", "CMD", "ARGS", "COMM", "UCOMM"})
_NO_TTY = frozenset({"?", "??", "-"})
_WEEKDAYS = frozenset({"Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"})
#: Longer numbers are none that a process has, and cost quadratic time to read.
_DIGITS = re.compile(r"\d{1,18}")
_SIZE = re.compile(r"(\d{1,15}(?:\.\d{1,6})?)([kmgtKMGT]?)")
_CLOCK = re.compile(r"(?:(\d{1,6})-)?(?:(\d{1,6}):)?(\d{1,6}):(\d{1,2}(?:\.\d{1,3})?)")
_FACTORS = {"": 1024, "k": 1024, "m": 1024**2, "g": 1024**3, "t": 1024**4}


def whole(text: str) -> int:
    """Raises ValueError."""
    if not text.isascii() or not _DIGITS.fullmatch(text):
        raise ValueError(text)
    return int(text)


def kibibytes(text: str) -> int:
    """Bytes of ``650240`` (KiB, as ps and top count) and of ``1.2g``; raises ValueError."""
    found = _SIZE.fullmatch(text) if text.isascii() else None
    if found is None:
        raise ValueError(text)
    return int(float(found[1]) * _FACTORS[found[2].lower()])


def clock(text: str) -> float:
    """Seconds of ``1-02:03:04``, ``2:03.45``; raises ValueError."""
    found = _CLOCK.fullmatch(text) if text.isascii() else None
    if found is None:
        raise ValueError(text)
    days, hours, minutes, seconds = found.groups(default="0")
    return float(days) * 86400 + float(hours) * 3600 + float(minutes) * 60 + float(seconds)


def tty(text: str) -> str:
    return "" if text in _NO_TTY else text.removeprefix("/dev/").removeprefix("tty") if "ttys" in text else text


def share(text: str) -> float:
    found = _SIZE.fullmatch(text) if text.isascii() else None
    if found is None or found[2]:
        raise ValueError(text)
    return float(found[1]) / 100


def word(text: str) -> str:
    return text


_Read = Callable[[str], Any]
FIELDS: dict[str, tuple[str, _Read]] = {
    "PID": ("pid", whole),
    "PPID": ("ppid", whole),
    "PGID": ("pgid", whole),
    "SID": ("sid", whole),
    "SESS": ("sid", whole),
    "USER": ("user", word),
    "UID": ("user", word),
    "TT": ("tty", tty),
    "TTY": ("tty", tty),
    "RSS": ("rss_bytes", kibibytes),
    "RES": ("rss_bytes", kibibytes),
    "VSZ": ("vsz_bytes", kibibytes),
    "VIRT": ("vsz_bytes", kibibytes),
    "%MEM": ("memory_share", share),
    "STAT": ("state", word),
    "S": ("state", word),
    "START": ("started", word),
    "STARTED": ("started", word),
    "STIME": ("started", word),
    "ELAPSED": ("elapsed_seconds", clock),
    "TIME": ("cpu_seconds", clock),
    "TIME+": ("cpu_seconds", clock),
}
#: What may be missing from a row (a dash, a date in words) without making the row unreadable.
_MAY_FAIL = frozenset({"cpu_seconds", "elapsed_seconds", "memory_share", "sid", "pgid"})


def row(header: tuple[str, ...], text: str, line: int) -> Listed | None:
    """One row under that header; None if it does not fit."""
    fields: dict[str, Any] = {"line": line}
    rest = text.strip()
    for name in header:
        if name in COMMANDS:
            return Listed(**fields, command=rest, cut=rest.endswith(("…", "+"))) if rest and "pid" in fields else None
        value, _, rest = rest.partition(" ")
        rest = rest.lstrip()
        if value in _WEEKDAYS:  # lstart is printed as five words
            more = rest.split(maxsplit=4)
            value, rest = " ".join([value, *more[:4]]), "".join(more[4:])
        field, read = FIELDS.get(name, ("", word))
        if not field:
            continue
        try:
            fields[field] = read(value)
        except ValueError:
            if field not in _MAY_FAIL:
                return None
    return None


def header(text: str) -> tuple[str, ...] | None:
    """The names, if the line is the header of a process table."""
    names = tuple(text.split())
    if "PID" in names and names[-1] in COMMANDS and not COMMANDS & {*names[:-1]}:
        return names
    return None
