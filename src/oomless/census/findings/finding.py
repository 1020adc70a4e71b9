"""What a finding is, and what the rules look at."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Literal

import msgspec

from oomless.census.attribute import Attributed
from oomless.model import Footprint, MachineMemory

Severity = Literal["info", "warning", "critical"]
#: As many are named in words; all are in ``pids``.
NAMED = 8
#: Terminals of Linux by device number (Documentation/admin-guide/devices.txt): 136 to 143 are pts, 4 consoles.
_PTS, _CONSOLE = range(136, 144), 4


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """``pids`` are the processes that it is about; none: the machine. ``info``: nothing is wrong."""

    rule: str
    severity: Severity
    title: str
    pids: tuple[int, ...] = ()
    bytes_recoverable: int = 0
    evidence: tuple[str, ...]
    action: str


class Scene(msgspec.Struct, frozen=True, kw_only=True):
    """``processes`` are those that are listed, ``footprints`` those of them by pid. ``subagents``: how many run
    inside each session's process, by its id. ``memory`` is None where nobody says (a listing)."""

    memory: MachineMemory | None
    processes: tuple[Attributed, ...] = ()
    footprints: Mapping[int, Footprint] = {}
    subagents: Mapping[str, int] = {}

    def freed(self, group: Iterable[Attributed]) -> int:
        """What would be free if these ended, of those where that can be read."""
        return sum(self.footprints[one.process.pid].private_bytes or 0 for one in group)

    def size(self, group: Iterable[Attributed]) -> int:
        return sum(self.footprints[one.process.pid].bytes for one in group)


def pids_of(group: Iterable[Attributed]) -> tuple[int, ...]:
    return tuple(sorted(one.process.pid for one in group))


def listed(words: Iterable[str]) -> str:
    """The first few in words, and how many more there are."""
    found = list(dict.fromkeys(words))
    more = len(found) - NAMED
    return ", ".join(found[:NAMED]) + (f" and {more} more" if more > 0 else "")


def terminal(one: Attributed) -> str:
    """The terminal as people know it (``pts/3``), "" for none. Of a listing the device numbers are not known."""
    device = one.process.tty
    major, minor = os.major(device), os.minor(device)
    if major in _PTS:
        return f"pts/{(major - _PTS.start) * 256 + minor}"
    return f"tty{minor}" if major == _CONSOLE else ""


def where(one: Attributed) -> str:
    """How a person finds the session that a process is of."""
    name = f"{one.host or 'session'} {(one.session or '').partition(':')[0][:8]}".rstrip()
    at = terminal(one)
    place = f" on {at}" if at else ""
    return f"{name} (pid {one.session_root}{place})" if one.session_root else name


def servers(processes: Iterable[Attributed]) -> dict[tuple[str, int], list[Attributed]]:
    """The processes of each instance of a server."""
    found: dict[tuple[str, int], list[Attributed]] = {}
    for one in processes:
        if one.server is not None and one.instance is not None:
            found.setdefault((one.server, one.instance), []).append(one)
    return found
