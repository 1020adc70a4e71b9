"""What the census is told beside the process table: by the daemon open trees, sessions whose processes it knows, what
was left running, who has used no CPU time for how long, how sessions grew, and who moved out of a tree's groups; by
hosts' settings their servers.

Plain facts, identified by pid and start time; who is who is worked out from them in ``attribute.py``. Without a
daemon all of it is empty, and the rest of the ladder has to do.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from oomless.hosts.mcp_entries import Configured

#: A tree that somebody asked for, or one that the shell prefix made of a host's tool shell or server.
Role = Literal["tree", "tool-shell", "server"]


class OpenTree(msgspec.Struct, frozen=True, kw_only=True):
    """``root_start`` makes the pid an identity. ``host`` and ``session``: whose a tool shell or server is."""

    tree: str
    name: str
    root_pid: int
    root_start: int | None = None
    role: Role = "tree"
    host: str = ""
    session: str = ""


class KnownSession(msgspec.Struct, frozen=True, kw_only=True):
    """``session`` is the host's newest id for it."""

    host: str
    session: str
    pid: int
    start: int


class KnownLeft(msgspec.Struct, frozen=True, kw_only=True):
    """Outlived its session and was spared, for the reason ``why``."""

    pid: int
    start: int
    host: str
    session: str
    why: str


class KnownLeftover(msgspec.Struct, frozen=True, kw_only=True):
    """What a session that nobody had registered left behind, by the lineage that the daemon remembers. ``root`` was
    the session's process, ``above`` those in between, the nearest to it first. ``spared`` is why it would be left
    alone, "" if it is proven to be only left; ``since`` is seconds since the epoch."""

    pid: int
    start: int
    host: str
    session: str
    root: int
    above: tuple[int, ...] = ()
    spared: str = ""
    since: float = 0.0


class KnownIdle(msgspec.Struct, frozen=True, kw_only=True):
    """For how long a process has used next to no CPU time as far as the daemon has watched it (not while the machine
    was suspended), and how much in all of that time."""

    pid: int
    start: int
    seconds: float
    cpu_seconds: float = 0.0


class KnownGrowth(msgspec.Struct, frozen=True, kw_only=True):
    """How large a session's process was when its subagents ended: ``points`` are the number of the subagent and
    private bytes, oldest first."""

    host: str
    session: str
    pid: int
    start: int
    points: tuple[tuple[int, int], ...]


class KnownEscaped(msgspec.Struct, frozen=True, kw_only=True):
    """Of a governed tree, by descent from its shim, and not in its groups any more."""

    pid: int
    start: int
    tree: str
    to: str
    why: str


class Told(msgspec.Struct, frozen=True, kw_only=True):
    trees: tuple[OpenTree, ...] = ()
    sessions: tuple[KnownSession, ...] = ()
    left: tuple[KnownLeft, ...] = ()
    leftovers: tuple[KnownLeftover, ...] = ()
    idle: tuple[KnownIdle, ...] = ()
    growth: tuple[KnownGrowth, ...] = ()
    escaped: tuple[KnownEscaped, ...] = ()
    configured: tuple[Configured, ...] = ()
