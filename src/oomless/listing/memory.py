"""The machine's memory from the header of Linux's ``top -b``.

Only where it says what is available without swapping (procps 3.3.10 and later do). Older ones and macOS's top print
what is free, which is something else: from them nothing is taken.
"""

from __future__ import annotations

import re

from oomless.model import MachineMemory

_UNITS = {"KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}
_NUMBER = r"([0-9]{1,15}(?:[.,][0-9]{1,3})?)"
_TOTAL = re.compile(rf"([KMGT]iB) Mem ?:[ \t]*{_NUMBER}[+]?[ \t]*total\b")
_AVAILABLE = re.compile(rf"([KMGT]iB) Swap:.*\bused\.[ \t]*{_NUMBER}[+]?[ \t]*avail Mem\b")


def total(line: str) -> int | None:
    """Bytes in all, if it is that line of the header."""
    return _bytes(_TOTAL.search(line)) if "Mem" in line else None


def machine(total_bytes: int, line: str) -> MachineMemory | None:
    """Of the header's next line, which holds swap and what is available."""
    available = _bytes(_AVAILABLE.search(line)) if "avail" in line else None
    if available is None or available > total_bytes or total_bytes == 0:
        return None
    return MachineMemory(total_bytes=total_bytes, available_bytes=available)


def _bytes(match: re.Match[str] | None) -> int | None:
    return round(float(match[2].replace(",", ".")) * _UNITS[match[1]]) if match else None
