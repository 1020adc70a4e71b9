"""The daemon's views of itself and its control requests, as frozen structs that go to JSON as they are.

``StatusView`` and ``DaemonView`` are the objects that ``oomless status --json`` and ``oomless daemon status --json``
print.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from oomless.model import (
    DetachedProcess,
    EscapedProcess,
    IdleProcess,
    Leftover,
    LiveSession,
    MachineMemory,
)

TreeState = Literal["running", "waiting", "ended"]


class TreeView(msgspec.Struct, frozen=True, kw_only=True):
    """One tree or slot, or (``kind`` subagent) one inside a host's own process, which has no processes of its own and
    an ``agent_type``. ``pid`` and ``start`` are its root's; ``seconds`` it has run or waited so far; ``reason`` is
    why it waits, runs or ended; ``escaped`` are its processes that moved out of its cgroups and are not back."""

    tree: str
    kind: str = "tree"
    name: str
    class_name: str | None = msgspec.field(default=None, name="class")
    owner: str
    state: TreeState
    parent: str | None = None
    reserved_bytes: int
    used_bytes: int | None = None
    processes: int | None = None
    limit_bytes: int | None = None
    footprint_source: str | None = None
    rung: str | None = None
    pid: int | None = None
    start: int | None = None
    seconds: float
    reason: str = ""
    exit_code: int | None = None
    status: str | None = None
    survivors: int | None = None
    command: tuple[str, ...] = ()
    escaped: tuple[EscapedProcess, ...] = ()
    agent_type: str = ""


class DecisionView(msgspec.Struct, frozen=True, kw_only=True):
    """``verdict``: ``admitted``, ``waiting``, ``refused`` or ``withdrawn``."""

    at: float
    tree: str
    name: str
    verdict: str
    reason: str


class PressureView(msgspec.Struct, frozen=True, kw_only=True):
    """What all trees together use and may use, or (``group``) those of a batch or project with a budget of its own.
    ``warned``: the use is, or was a moment ago, above the mark for a warning. ``ending``: the victim that is being
    killed."""

    group: str | None = None
    used_bytes: int
    may_use_bytes: int
    warned: bool = False
    ending: str | None = None


class StatusView(msgspec.Struct, frozen=True, kw_only=True):
    """``reserved_bytes`` is what admission counts for all trees together, ``problem`` what is wrong with the
    settings that were read last, ``reap`` the setting of that name. ``pid`` is None when no daemon runs; then only
    ``memory`` has a meaning."""

    schema: str = "oomless.status/1"
    pid: int | None
    memory: MachineMemory
    budget_bytes: int | None = None
    reserved_bytes: int = msgspec.field(default=0, name="held_bytes")
    headroom_bytes: int = 0
    pressure: tuple[PressureView, ...] = ()
    max_parallel: int | None = None
    trees: tuple[TreeView, ...] = ()
    sessions: tuple[LiveSession, ...] = ()
    detached: tuple[DetachedProcess, ...] = msgspec.field(default=(), name="left_running")
    leftovers: tuple[Leftover, ...] = ()
    idle: tuple[IdleProcess, ...] = ()
    decisions: tuple[DecisionView, ...] = ()
    reap: Literal["proven", "ask", "off"] = "proven"
    problem: str | None = None


class TokenFiles(msgspec.Struct, frozen=True, kw_only=True):
    hooks: str
    mcp: str
    read: str


class DaemonView(msgspec.Struct, frozen=True, kw_only=True):
    """The memory figures are the daemon's own reading of itself. Everything is None when none runs."""

    schema: str = "oomless.daemon/1"
    pid: int | None = None
    socket: str | None = None
    url: str | None = None
    token_files: TokenFiles | None = None
    open_trees: int | None = None
    private_dirty_bytes: int | None = None
    uss_bytes: int | None = None
    pss_bytes: int | None = None
    version: str | None = None


class EventView(msgspec.Struct, frozen=True, kw_only=True):
    """An event as it happens; ``kind`` is ``decision``, ``end``, ``victim`` or ``pressure``."""

    at: float
    kind: str
    tree: str
    name: str
    text: str


class EndRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Body of ``POST /v1/trees/<id>/end``."""

    reason: str = "asked for"


class Registration(msgspec.Struct, frozen=True, kw_only=True):
    """Body of ``POST /v1/sessions``: a host's session and the process that it runs in. ``source`` is the host's word
    for how it began."""

    host: str
    session: str
    pid: int
    start: int
    cwd: str = ""
    source: str = ""


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """The answer of routes without a view: ``ok``, or what went wrong."""

    ok: bool
    error: str | None = None
