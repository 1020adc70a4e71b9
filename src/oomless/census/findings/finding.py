"""What a finding is, and what the rules look at."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

import msgspec

from oomless.census.attribution import Attributed
from oomless.model import Footprint, LiveSession, MachineMemory, MemoryUse
from oomless.units import format_size

Severity = Literal["info", "warning", "critical"]
#: As many are named in words; all are in ``pids``.
NAMED = 8


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """``pids`` are the processes that it is about; none: the machine. ``bytes_recoverable``: what would be free if
    these ended, at least; None where that cannot be read of any. ``info``: nothing is wrong."""

    rule: str
    severity: Severity
    title: str
    pids: tuple[int, ...] = ()
    bytes_recoverable: int | None = None
    evidence: tuple[str, ...]
    action: str


class Scene(msgspec.Struct, frozen=True, kw_only=True):
    """``processes`` are those that are listed, ``footprints`` those of them by pid, as far as they are known.
    ``subagents``: how many run
    inside each session's process, by its id; ``sessions``: what the daemon knows of them. ``memory`` is None where it
    is not known (a listing)."""

    memory: MachineMemory | None
    processes: tuple[Attributed, ...] = ()
    footprints: Mapping[int, Footprint] = {}
    subagents: Mapping[str, int] = {}
    use: MemoryUse | None = None
    sessions: tuple[LiveSession, ...] = ()

    def freed(self, group: Iterable[Attributed]) -> int | None:
        """What would be free if these ended, of those where that can be read; None if of none of them."""
        known = [size for size in self._private(group) if size is not None]
        return sum(known) if known else None

    def freed_words(self, group: Iterable[Attributed]) -> str:
        """``30 MB``, ``at least 30 MB`` where that of some cannot be read, "" if of none can."""
        return _words(self._private(group))

    def size(self, group: Iterable[Attributed]) -> int:
        """Of those whose footprint is known."""
        return sum(size for size in self._sizes(group) if size is not None)

    def size_words(self, group: Iterable[Attributed]) -> str:
        return _words(self._sizes(group))

    def _private(self, group: Iterable[Attributed]) -> list[int | None]:
        found = (self.footprints.get(one.process.pid) for one in group)
        return [one.private_bytes if one is not None else None for one in found]

    def _sizes(self, group: Iterable[Attributed]) -> list[int | None]:
        found = (self.footprints.get(one.process.pid) for one in group)
        return [one.bytes if one is not None else None for one in found]


def _words(sizes: list[int | None]) -> str:
    known = [size for size in sizes if size is not None]
    if not known:
        return ""
    return f"{'at least ' if len(known) < len(sizes) else ''}{format_size(sum(known))}"


def counted(number: int, one: str, several: str) -> str:
    return f"{number} {one if number == 1 else several}"


def pids_of(group: Iterable[Attributed]) -> tuple[int, ...]:
    return tuple(sorted(one.process.pid for one in group))


def listed(words: Iterable[str]) -> str:
    """The first few in words, and how many more there are."""
    found = list(dict.fromkeys(words))
    more = len(found) - NAMED
    return ", ".join(found[:NAMED]) + (f" and {more} more" if more > 0 else "")


def where(one: Attributed) -> str:
    """How a person finds the session that a process is of."""
    name = f"{one.host or 'session'} {(one.session or '').partition(':')[0][:8]}".rstrip()
    at = one.process.terminal
    place = f" on {at}" if at else ""
    return f"{name} (pid {one.session_root}{place})" if one.session_root else name


def servers(processes: Iterable[Attributed]) -> dict[tuple[str, int], list[Attributed]]:
    """The processes of each instance of a server."""
    found: dict[tuple[str, int], list[Attributed]] = {}
    for one in processes:
        if one.server is not None and one.instance is not None:
            found.setdefault((one.server, one.instance), []).append(one)
    return found
