"""The frozen facts that pass between rooms, as msgspec structs (so that each can go to JSON as it is).

Units: bytes and seconds. Times named ``*_at`` are seconds since the epoch (wall clock, for people); durations and
deadlines are measured on the monotonic clock by whoever needs them. Not here: settings (``config.py``), the
messages of the lease protocol (``protocol/wire.py``), and what only one room uses.

The shim and the fast commands don't import this module (msgspec is not in the standard library): they write the
same fields by hand, and ``tests/test_contract.py`` checks that both agree.
"""

from __future__ import annotations

from typing import Literal

import msgspec

#: ``pss+anon``: of processes whose PSS is not ours to read, their anonymous memory.
FootprintSource = Literal["cgroup", "pss", "pss+anon", "phys_footprint", "rss", "listing"]
Status = Literal["done", "failed", "refused", "killed", "timeout"]


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """Names one process for ever: a bare pid names nobody. ``start`` is in clock ticks since boot on Linux, in
    microseconds since the epoch on macOS: to be compared with another of the same machine, and never counted with."""

    boot_id: str
    pid: int
    start: int


class Footprint(msgspec.Struct, frozen=True, kw_only=True):
    """Honest memory, and where the figure is from. ``private_bytes``: what would be free if the process ended
    (its unique set), where the same reading tells."""

    bytes: int
    source: FootprintSource
    private_bytes: int | None = None


class MachineMemory(msgspec.Struct, frozen=True, kw_only=True):
    """``available_bytes`` is the OS's own estimate of what can be used without swapping."""

    total_bytes: int
    available_bytes: int


class MemoryUse(msgspec.Struct, frozen=True, kw_only=True):
    """Who holds the memory that is in use, as the kernel counts it: the anonymous memory of all processes of all
    users, shared memory and files in memory, what the kernel itself cannot give back, and pages set aside as huge."""

    processes_bytes: int
    shared_bytes: int
    kernel_bytes: int
    huge_bytes: int


class ProcessInfo(msgspec.Struct, frozen=True, kw_only=True):
    """One row of a census. ``command`` is the argument list, or the bare name in brackets where there is none;
    ``terminal`` as people know it (``pts/3``, ``ttys008``), "" for none."""

    pid: int
    ppid: int
    pgid: int
    sid: int
    tty: int
    start: int
    uid: int
    state: str
    name: str
    command: tuple[str, ...]
    rss_bytes: int
    terminal: str = ""


class Survivor(msgspec.Struct, frozen=True, kw_only=True):
    """A process that lived on after its tree was to end, and why it could not be ended."""

    pid: int
    start: int
    command: str
    why: str


class Escaped(msgspec.Struct, frozen=True, kw_only=True):
    """A member of a tree that moved out of its groups, to the group ``to``; ``back``: it was moved back, else ``why``
    it was not."""

    pid: int
    start: int
    command: str
    to: str
    back: bool
    why: str = ""


class PrivateTmp(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a tree's own TMPDIR: ``kept`` says why it, or something in it, had to stay."""

    path: str
    removed: bool
    bytes_removed: int
    entries_removed: int
    kept: str = ""


class ExitRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What a shim writes at the end of its tree: ``<state>/exits/<tree>.json`` and ``run --report FILE``.

    ``exit_code`` is what ``oomless run`` returns (the contract's codes); ``reason`` is one line for people.
    ``left`` lists who lives on against our will (``survivors`` is their number), ``left_running`` who was spared
    because it detached on purpose, ``escaped`` who moved out of the tree's groups meanwhile, ``ended`` counts the
    members that had to be ended after the root was gone. ``bytes_before``: used when its end began, where that was
    measured, ``bytes_after`` by those who are left. ``victim``: ended for a budget shared with others, and not for
    anything that it did.
    """

    schema: str = "oomless.run/1"
    tree: str
    name: str
    status: Status
    exit_code: int
    signal: int | None = None
    reason: str = ""
    rung: str
    why_rung: str = ""
    peak_bytes: int
    peak_source: FootprintSource
    bytes_before: int | None = None
    bytes_after: int | None = None
    limit_bytes: int | None = None
    reserved_bytes: int
    seconds: float
    survivors: int
    left: tuple[Survivor, ...] = ()
    left_running: tuple[Survivor, ...] = ()
    ended: int = 0
    victim: bool = False
    started_at: float
    private_tmp: PrivateTmp | None = None
    escaped: tuple[Escaped, ...] = ()
    attempts: int = 1
    stdout: str | None = None
    stderr: str | None = None
