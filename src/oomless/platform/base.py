"""What every operating system must answer; ``linux.py`` and ``darwin.py`` do. Saved listings are read
by ``listing/``, which is no system and answers nothing but what was printed.

Only facts, no verdicts. Everything here must bear processes that vanish while they are read (None, or absent from the
answer), never raise.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Literal, Protocol

import msgspec

from oomless.model import Footprint, Identity, MachineMemory, MemoryUse, ProcessInfo


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """The relations of a process to others. ``stdin``: whether a process holds the other end of its standard input.
    ``listens``: at a port; ``serves``: at a Unix socket. ``backgrounded``: it ignores SIGINT and SIGQUIT, as what a
    shell without job control starts with ``&`` (POSIX, shell command language, 2.11), and has become another program
    since it was forked, which a process that makes itself a daemon does not. What cannot be read is unknown, and
    counts as listening."""

    stdin: Literal["held", "gone", "unknown"] = "unknown"
    ignores_hangup: bool = False
    listens: bool = False
    serves: bool = False
    backgrounded: bool = False


class CgroupUse(Protocol):
    """Bytes. ``peak``: the kernel's own high-water mark, page cache included; None where it keeps none."""

    @property
    def used(self) -> int: ...
    @property
    def peak(self) -> int | None: ...


class Platform(Protocol):
    name: str
    #: In how many parts the start times of processes count a second.
    starts_per_second: int

    def boot_id(self) -> str:
        """Changes at every boot, so that an identity of before it names no process."""
        ...

    def identity(self, pid: int) -> Identity | None: ...

    def memory(self) -> MachineMemory: ...

    def memory_use(self) -> MemoryUse | None:
        """None where the system does not say."""
        ...

    def headroom(self, pid: int) -> int | None:
        """Bytes left under the tightest memory limit of the groups that ``pid`` is in; None: no limit."""
        ...

    def processes(self) -> list[ProcessInfo]:
        """All processes but kernel threads and zombies."""
        ...

    def environ(self, pid: int, names: frozenset[str]) -> dict[str, str]:
        """Those named variables of the process's initial environment, and no others: it holds secrets."""
        ...

    def standing(self, pids: Collection[int]) -> dict[int, Standing]:
        """Of those that can be looked at; costs a reading of all their descriptors, so ask for few."""
        ...

    def cwd(self, pid: int) -> str | None: ...

    def footprint(self, pid: int) -> Footprint | None:
        """Honest memory of one process; may stall it for milliseconds (9 ms at 500 MB on Linux)."""
        ...

    def private_bytes(self, process: Identity) -> int | None:
        """Bytes that would be free if that very process ended; None if it is gone or cannot be read."""
        ...

    def cgroup_footprint(self, folders: Mapping[str, str]) -> CgroupUse | None:
        """Use and peak of a governed tree, from its cgroup folders by controller; None where no group counts it."""
        ...

    def own_memory(self) -> dict[str, int]:
        """``private_dirty_bytes``, ``uss_bytes``, ``pss_bytes`` of this very process."""
        ...
