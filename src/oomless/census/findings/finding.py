"""What a finding is, what the rules read, and words that several of them use."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

import msgspec

from oomless.census.attribution import Attributed, Verdict
from oomless.model import Footprint, LiveSession, MachineMemory, MemoryUse
from oomless.units import format_size

Severity = Literal["info", "warning", "critical"]
SEVERITY_RANK: dict[Severity, int] = {"critical": 0, "warning": 1, "info": 2}
#: As many are named in words; all are in ``pids``.
NAMED = 8


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """``pids`` are the processes that it is about; none: the machine. ``bytes_recoverable``: what is freed at least
    if these end; None where that cannot be read of any. ``info``: nothing is wrong."""

    rule: str
    severity: Severity
    title: str
    pids: tuple[int, ...] = ()
    bytes_recoverable: int | None = None
    evidence: tuple[str, ...]
    action: str


class Inventory(msgspec.Struct, frozen=True, kw_only=True):
    """What was read of the machine at one time.

    ``processes`` are those that are listed, ``footprints`` their footprints by pid, as far as they are known.
    ``subagents``: how many run inside each session's process, by its id; ``sessions``: what the daemon knows of them.
    ``memory`` is None where it is not known (a listing).
    """

    memory: MachineMemory | None
    processes: tuple[Attributed, ...] = ()
    footprints: Mapping[int, Footprint] = {}
    subagents: Mapping[str, int] = {}
    use: MemoryUse | None = None
    sessions: tuple[LiveSession, ...] = ()

    def of_verdict(self, verdict: Verdict) -> list[Attributed]:
        return [process for process in self.processes if process.verdict == verdict]

    def recoverable_bytes(self, group: Iterable[Attributed]) -> int | None:
        """What is freed if these end, of those where that can be read; None if of none of them."""
        known = [size for size in self._private_sizes(group) if size is not None]
        return sum(known) if known else None

    def frees(self, group: Iterable[Attributed]) -> str:
        """`` (frees 30 MB)``, `` (frees at least 30 MB)`` where that of some cannot be read, "" if of none can."""
        amount = _format_sizes(self._private_sizes(group))
        return f" (frees {amount})" if amount else ""

    def size(self, group: Iterable[Attributed]) -> int:
        """Of those whose footprint is known."""
        return sum(size for size in self._sizes(group) if size is not None)

    def format_size(self, group: Iterable[Attributed]) -> str:
        """``30 MB``, ``at least 30 MB`` where the footprint of some is not known, "" if of all."""
        return _format_sizes(self._sizes(group))

    def session_place(self, attributed: Attributed) -> str:
        """Where a person finds the session: a server may have a terminal of its own."""
        root = next((p for p in self.processes if p.pid == attributed.session_root), attributed)
        return describe_session(root if root.session is not None else attributed)

    def _private_sizes(self, group: Iterable[Attributed]) -> list[int | None]:
        footprints = (self.footprints.get(member.pid) for member in group)
        return [footprint.private_bytes if footprint is not None else None for footprint in footprints]

    def _sizes(self, group: Iterable[Attributed]) -> list[int | None]:
        footprints = (self.footprints.get(member.pid) for member in group)
        return [footprint.bytes if footprint is not None else None for footprint in footprints]


def _format_sizes(sizes: list[int | None]) -> str:
    known = [size for size in sizes if size is not None]
    if not known:
        return ""
    return f"{'at least ' if len(known) < len(sizes) else ''}{format_size(sum(known))}"


def count_noun(number: int, singular: str, plural: str) -> str:
    return f"{number} {singular if number == 1 else plural}"


def pids_of(group: Iterable[Attributed]) -> tuple[int, ...]:
    return tuple(sorted(member.pid for member in group))


def join_words(words: Iterable[str]) -> str:
    """The first few in words, and how many more there are."""
    unique = list(dict.fromkeys(words))
    more = len(unique) - NAMED
    return ", ".join(unique[:NAMED]) + (f" and {more} more" if more > 0 else "")


def describe_session(attributed: Attributed) -> str:
    """How a person finds the session that a process is of."""
    name = f"{attributed.host or 'session'} {(attributed.session or '').partition(':')[0][:8]}".rstrip()
    terminal = attributed.process.terminal
    place = f" on {terminal}" if terminal else ""
    return f"{name} (pid {attributed.session_root}{place})" if attributed.session_root else name


def by_instance(processes: Iterable[Attributed]) -> dict[tuple[str, int], list[Attributed]]:
    """The processes of each instance of a server, by the server's name and the instance's root."""
    instances: dict[tuple[str, int], list[Attributed]] = {}
    for process in processes:
        if process.server is not None and process.instance is not None:
            instances.setdefault((process.server, process.instance), []).append(process)
    return instances
