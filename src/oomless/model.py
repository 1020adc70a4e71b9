"""The frozen facts that pass between rooms, as msgspec structs (so that each can go to JSON as it is).

Units: bytes and seconds. Times named ``*_at`` are seconds since the epoch (wall clock, for people); durations and
deadlines are measured on the monotonic clock by whoever needs them.

The shim and the fast commands don't import this module (msgspec is not in the standard library): they write the
same fields by hand, and ``tests/processes/test_contain.py`` checks that both agree.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

import msgspec

#: ``pss+anon``: of processes whose PSS is not ours to read, their anonymous memory.
FootprintSource = Literal["cgroup", "pss", "pss+anon", "phys_footprint", "rss", "listing"]
Status = Literal["done", "failed", "refused", "killed", "timeout"]


class TreeKind(StrEnum):
    """``tree``: started by ``run``, a batch or ``Governor``. ``slot``: a reservation without processes. ``shell`` and
    ``server``: a tool shell or an MCP server of a host's session."""

    TREE = "tree"
    SLOT = "slot"
    SHELL = "shell"
    SERVER = "server"

    @property
    def takes_place(self) -> bool:
        """Whether it counts under ``max_parallel_subagents`` and the bounds of its group, and may be kept waiting."""
        return self in (TreeKind.TREE, TreeKind.SLOT)

    @property
    def has_session(self) -> bool:
        """Whether it belongs to a host's session and ends with it."""
        return self in (TreeKind.SHELL, TreeKind.SERVER)

    @property
    def has_processes(self) -> bool:
        return self is not TreeKind.SLOT

    @property
    def may_be_victim(self) -> bool:
        """Whether it may be killed for the sake of other trees."""
        return self is TreeKind.TREE


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """What a request asks for, and what an open tree was given.

    ``class_name`` names a class of the settings. ``need``: bytes to reserve (None: an estimate is reserved).
    ``limit``: bytes that it may not exceed. ``processes``: how many it may have. ``parent``: the governed tree that
    it is nested in. ``group`` with ``group_budget`` (bytes) and ``group_parallel`` (places) bounds a batch or project
    as a whole."""

    name: str
    class_name: str | None = msgspec.field(default=None, name="klass")
    need: int | None = None
    limit: int | None = None
    processes: int | None = None
    parent: str | None = None
    group: str | None = None
    group_budget: int | None = None
    group_parallel: int | None = None


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """Names one process for ever, which a bare pid does not. ``start`` is in clock ticks since boot on Linux, in
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


class EscapedProcess(msgspec.Struct, frozen=True, kw_only=True):
    """A member of a tree that moved out of its cgroups, to the cgroup ``to``; ``back``: it was moved back, else
    ``why`` it was not."""

    pid: int
    start: int
    command: str = ""
    to: str
    back: bool = False
    why: str = ""


class SubagentEnd(msgspec.Struct, frozen=True, kw_only=True):
    """The private memory of a session's process when the subagent number ``ended`` in it ended."""

    ended: int
    private_bytes: int


class LiveSession(msgspec.Struct, frozen=True, kw_only=True):
    """One session of a host. ``sessions`` are the host's ids for it, newest last (``/clear`` gives a new one to the
    same process). ``pid`` and ``start`` are None until its process is registered: until then only its subagents are
    known. ``ends``: how its process grew with the subagents that ended, the last of them, oldest first."""

    host: str
    sessions: tuple[str, ...]
    pid: int | None = None
    start: int | None = None
    cwd: str = ""
    seconds: float = 0.0
    subagents_running: int = 0
    subagents_waiting: int = 0
    ends: tuple[SubagentEnd, ...] = ()

    @property
    def newest_id(self) -> str:
        """The host's newest id for it."""
        return self.sessions[-1]


class DetachedProcess(msgspec.Struct, frozen=True, kw_only=True):
    """A process that outlived its session and was not killed, for the reason ``why``. ``since`` is seconds since the
    epoch."""

    pid: int
    start: int
    command: str = ""
    why: str
    host: str
    session: str
    since: float = 0.0


class Leftover(msgspec.Struct, frozen=True, kw_only=True):
    """A live process that a dead, unregistered session left behind, by recorded ancestry. ``root`` is the pid of the
    session's process, ``above`` are the pids in between, the nearest to ``root`` first. ``spared`` is the reason why
    it counts as detached, "" if it is proven to be a leftover. ``since`` is seconds since the epoch."""

    pid: int
    start: int
    command: str = ""
    host: str
    session: str
    root: int
    above: tuple[int, ...] = ()
    spared: str = ""
    since: float = 0.0


class IdleProcess(msgspec.Struct, frozen=True, kw_only=True):
    """A process of a live session, other than its tool shells: for how many seconds it has used next to no CPU time
    as far as the daemon has watched it (the time in which the machine was suspended is not counted), and how much
    CPU time in all of them."""

    pid: int
    start: int
    seconds: float
    cpu_seconds: float = 0.0


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
    ``left`` lists the survivors (``survivors`` is their number), ``left_running`` the processes that detached on
    purpose and were not killed, ``escaped`` those that moved out of the tree's cgroups meanwhile, ``ended`` counts
    the members that had to be ended after the root was gone. ``bytes_before``: used when its end began, where that
    was measured, ``bytes_after`` by the survivors. ``victim``: killed for a budget shared with others, and not for
    anything that it did."""

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
    escaped: tuple[EscapedProcess, ...] = ()
    attempts: int = 1
    stdout: str | None = None
    stderr: str | None = None
