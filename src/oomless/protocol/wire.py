"""The lease protocol, version 1: one JSON object a line over the control socket (a first byte ``{`` means it).

A connection is a lease. It opens with ``lease`` (a new one) or ``adopt`` (a shim that outlived its daemon) and
stays open as long as the tree or slot lives. The peer is identified by the kernel (SO_PEERCRED), not by what it says.
Fields that a side does not know are ignored; ``v`` is checked on the opening message only. All sizes are bytes, all
times seconds.

::

    client            daemon
    lease       --->            a request; the connection itself is its handle, closing it withdraws
                <---  waiting   0..n times, whenever the reason changes
                <---  refused   the end; ``code`` is the exit code, ``error`` says what and why, ``hint`` what to do
                <---  granted   the intent is in the journal: fork may happen now
    (run execs the shim, which goes on with the same connection; a slot just holds it)
    started     --->            the root process and what contains it
    usage       --->            about once a second, bytes and members: on rungs without cgroups, and of processes
                                that escaped their cgroups
                <---  end       end the tree, for this reason
    ended       --->            the exit record, before the shim exits; nothing is answered

    adopt       --->            after the daemon was restarted
                <---  adopted, or unknown: not in the journal; the shim goes on by itself
"""

from __future__ import annotations

import msgspec

from oomless.model import EscapedProcess, ExitRecord, Terms, TreeKind
from oomless.processes.ids import ProcessId

VERSION = 1


class _Message(msgspec.Struct, frozen=True, kw_only=True, tag_field="op"):
    pass


class LeaseRequest(Terms, frozen=True, kw_only=True, tag_field="op", tag="lease"):
    """A request. ``wait``: how many seconds it may be kept waiting, 0 fails fast, None takes the settings' word.
    ``owner``: ``run``, ``batch:<id>`` or ``governor``. ``parent`` is checked against the process table. A tree of the
    kind ``shell`` or ``server`` is never kept waiting; ``session``, ``session_pid`` and ``session_start`` name the
    host's session that it belongs to and the process that it ends with (checked: it must be an ancestor).
    ``retriable``: it will be tried again if it fails."""

    v: int
    kind: TreeKind = TreeKind.TREE
    argv: tuple[str, ...] = ()
    cwd: str = "/"
    wait: float | None = None
    owner: str = "run"
    session: str | None = None
    session_pid: int | None = None
    session_start: int | None = None
    retriable: bool = False

    @property
    def terms(self) -> Terms:
        return Terms(**{name: getattr(self, name) for name in Terms.__struct_fields__})


class AdoptRequest(_Message, frozen=True, kw_only=True, tag="adopt"):
    v: int
    tree: str
    shim_pid: int
    shim_start: int
    root_pid: int
    root_start: int


class StartReport(_Message, frozen=True, kw_only=True, tag="started"):
    """``rung`` is what contains it in fact (the shim may have fallen through, ``why_rung`` says why)."""

    shim_pid: int
    shim_start: int
    root_pid: int
    root_start: int
    rung: str
    why_rung: str = ""


class UsageReport(_Message, frozen=True, kw_only=True, tag="usage"):
    """``used``: bytes. ``members``: pid and start of each that the daemon cannot find itself, so that it can kill
    them if the shim is killed. ``escaped``: those of them that moved out of the tree's cgroups."""

    used: int
    members: tuple[ProcessId, ...] = ()
    escaped: tuple[EscapedProcess, ...] = ()


class EndReport(_Message, frozen=True, kw_only=True, tag="ended"):
    """The last message of a shim."""

    record: ExitRecord


class ReservationHolder(msgspec.Struct, frozen=True, kw_only=True):
    """A tree that a request waits for. ``bytes``: the larger of its reservation and its use."""

    tree: str
    name: str
    bytes: int
    pid: int | None = None


class WaitNotice(_Message, frozen=True, kw_only=True, tag="waiting"):
    """``ahead``: how many older requests wait."""

    reason: str
    ahead: int = 0
    holders: tuple[ReservationHolder, ...] = ()


class RefusalNotice(_Message, frozen=True, kw_only=True, tag="refused"):
    code: int
    error: str
    hint: str = ""


class Grant(_Message, frozen=True, kw_only=True, tag="granted"):
    """``cgroups``: directories to make and use, by controller (``""``: the v2 tree); empty on rungs without.
    ``marker``: the value of ``OOMLESS_TREE`` for everything in the tree. ``limit`` and ``processes``
    as the settings bound them. ``exits``: the folder for the exit record."""

    tree: str
    reserved: int
    limit: int | None
    processes: int | None
    rung: str
    why_rung: str
    cgroups: dict[str, str]
    marker: str
    exits: str
    reason: str = ""


class EndOrder(_Message, frozen=True, kw_only=True, tag="end"):
    """``victim``: killed for a budget that it shares with other trees, and not for its own limit."""

    reason: str
    victim: bool = False


class AdoptConfirmed(_Message, frozen=True, kw_only=True, tag="adopted"):
    pass


class UnknownTree(_Message, frozen=True, kw_only=True, tag="unknown"):
    pass


FromClient = LeaseRequest | AdoptRequest | StartReport | UsageReport | EndReport
FromDaemon = WaitNotice | RefusalNotice | Grant | EndOrder | AdoptConfirmed | UnknownTree

decode_from_client = msgspec.json.Decoder(FromClient).decode
decode_from_daemon = msgspec.json.Decoder(FromDaemon).decode


def line(message: FromClient | FromDaemon) -> bytes:
    return msgspec.json.encode(message) + b"\n"
