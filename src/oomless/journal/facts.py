"""The rows of the journal as frozen facts. How they are stored is ``schema.py``'s and ``store.py``'s business.

Times are seconds since the epoch. No fact holds an environment: those have secrets in them.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from oomless.model import ExitRecord, Identity, Survivor, Terms, TreeKind


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """The process that a tool shell or a server belongs to, and the process session (setsid) that its shell leads:
    what is in another one has detached on purpose."""

    owner: Identity
    sid: int


class TreeIntent(msgspec.Struct, frozen=True, kw_only=True):
    """What is written before anything is forked: enough to find a tree again though nobody reported it.

    ``requester`` becomes the shim of a ``run`` by exec; ``rung`` is the one intended; ``argv`` names leftovers."""

    tree: str
    kind: TreeKind = TreeKind.TREE
    terms: Terms
    owner: str
    argv: tuple[str, ...] = ()
    cwd: str = "/"
    boot_id: str
    reserved: int
    rung: str
    cgroups: dict[str, str]
    marker: str
    requester: Identity
    intended_at: float
    session: Session | None = None


class OpenTree(msgspec.Struct, frozen=True, kw_only=True):
    """A tree that nobody reported the end of. ``shim`` and ``root`` are None until it has started; ``rung`` is what
    really contains it, and until then what was intended."""

    intent: TreeIntent
    shim: Identity | None = None
    root: Identity | None = None
    rung: str
    why_rung: str = ""
    started_at: float | None = None


class SweepRow(msgspec.Struct, frozen=True, kw_only=True):
    """A tree ended by the daemon because its shim was gone: how many were ended, who could not be."""

    tree: str
    at: float
    reason: str
    ended: int
    left: tuple[Survivor, ...] = ()
    left_running: tuple[Survivor, ...] = ()
    bytes_freed: int | None = None


class TreeRow(msgspec.Struct, frozen=True, kw_only=True):
    """Everything about one tree. ``ended_at`` None: open. ``record`` is its shim's word (None for a slot, and where
    the shim was killed), ``sweep`` the newest one."""

    intent: TreeIntent
    shim: Identity | None = None
    root: Identity | None = None
    rung: str
    why_rung: str = ""
    started_at: float | None = None
    ended_at: float | None = None
    record: ExitRecord | None = None
    sweep: SweepRow | None = None


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """What admission said, and why. ``tree`` is the id of the request: one that never ran has no tree."""

    at: float
    tree: str
    name: str
    verdict: Literal["admitted", "waiting", "refused", "withdrawn"]
    reason: str


class HostSession(msgspec.Struct, frozen=True, kw_only=True):
    """A host's session as its own hook registered it: the host's id and the process that it runs in. One process may
    have several ids, one after another."""

    host: str
    session: str
    process: Identity
    cwd: str
    at: float


class ReapRow(msgspec.Struct, frozen=True, kw_only=True):
    """What was done about what a dead session left: who was ended, who could not be (``left``), and who was left
    alone (``left_running``), each with the reason. ``bytes_freed`` is the proportional set of those that were
    ended, ``bytes_source`` where the figure is from. Where somebody asked for it (``why``), host and session are
    empty, ``process`` is the daemon, and ``refused`` are those that it did not signal."""

    host: str
    session: str
    process: Identity
    at: float
    ended: tuple[Survivor, ...] = ()
    left: tuple[Survivor, ...] = ()
    left_running: tuple[Survivor, ...] = ()
    bytes_freed: int = 0
    refused: tuple[Survivor, ...] = ()
    bytes_source: str = "pss"
    why: str = ""


class Remembered(msgspec.Struct, frozen=True, kw_only=True):
    """A descendant of a session's process: ``above`` are pid and start time of those in between, the nearest to the
    session first; ``shell_sid`` as in ``processes/descent.py``; ``spared`` why it would be left alone, or ""."""

    pid: int
    start: int
    above: tuple[tuple[int, int], ...]
    shell_sid: int | None
    spared: str = ""


class LineageRow(msgspec.Struct, frozen=True, kw_only=True):
    """Who descends from the session's process ``process``; ``died_at`` is None as long as that lives."""

    host: str
    session: str
    process: Identity
    died_at: float | None
    members: tuple[Remembered, ...]
