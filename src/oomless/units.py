"""Sizes and durations as people write them.

MB is 10^6 bytes and MiB is 2^20, as the command contract says; a bare number of bytes or seconds is taken as
it is. Standard library only and no regular expressions: ``run`` parses its options with this before anything
else is loaded.
"""

from __future__ import annotations

from oomless.errors import UsageError

_SIZES = {
    "": 1, "b": 1,
    "k": 10**3, "kb": 10**3, "m": 10**6, "mb": 10**6, "g": 10**9, "gb": 10**9, "t": 10**12, "tb": 10**12,
    "ki": 2**10, "kib": 2**10, "mi": 2**20, "mib": 2**20, "gi": 2**30, "gib": 2**30, "ti": 2**40, "tib": 2**40,
}  # fmt: skip
#: Seconds, some 31 years: more overflows the clocks that it is added to, and ``9`` 400 times is infinite.
LONGEST = 1e9
_DURATIONS = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def _split(text: str) -> tuple[float, str]:
    """``"1.5 GiB"`` -> ``(1.5, "gib")``; raises ValueError."""
    text = text.strip()
    end = len(text)
    while end and text[end - 1].isalpha():
        end -= 1
    number = text[:end].strip()
    if not number or not all(c.isdigit() or c == "." for c in number):
        raise ValueError(text)
    return float(number), text[end:].lower()


def parse_size(text: str, what: str = "the size") -> int:
    """Bytes (int, > 0) of ``512MB``, ``2GiB``, ``1048576``; raises UsageError naming ``what``."""
    try:
        number, unit = _split(text)
        size = int(number * _SIZES[unit])
    except (ValueError, KeyError, OverflowError):
        raise UsageError(f"{what} {text!r} is not an amount of memory", "", "write it as 512MB or 2GiB") from None
    if size <= 0:
        raise UsageError(f"{what} {text!r} is not more than zero", "", "write it as 512MB or 2GiB")
    return size


def parse_duration(text: str, what: str = "the duration") -> float:
    """Seconds (float, >= 0) of ``10m``, ``1.5h``, ``30``; raises UsageError naming ``what``."""
    try:
        number, unit = _split(text)
        seconds = number * _DURATIONS[unit]
        if seconds > LONGEST:
            raise ValueError(text)
        return seconds
    except (ValueError, KeyError):
        raise UsageError(f"{what} {text!r} is not a duration", "", "write it as 30s, 10m or 2h") from None


def format_size(size: float) -> str:
    """``812 MB``, ``1.25 GB``: decimal units, at most three figures that matter."""
    value = float(size)
    for unit in ("B", "kB", "MB"):
        if abs(value) < 999.5:
            return f"{value:.0f} {unit}"
        value /= 1000
    return f"{value:.2f} GB"


def format_duration(seconds: float) -> str:
    """``0.8 s``, ``42 s``, ``3 min 20 s``, ``2 h 5 min``."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 60:
        return f"{seconds:.0f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def shorten(text: str, length: int) -> str:
    """At most ``length`` characters of the text; the last is "…" if some are left out."""
    return text if len(text) <= length else f"{text[: length - 1]}…"
