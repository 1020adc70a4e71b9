"""The facts that the census uses beside the process table: from the daemon open trees, sessions, detached and idle
processes, leftovers, and processes that escaped their tree's cgroups; from the hosts' settings their servers.

Processes are identified by pid and start time. Without a daemon its facts are empty.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from oomless.hosts.mcp_entries import ConfiguredServer
from oomless.model import DetachedProcess, EscapedProcess, IdleProcess, Leftover, LiveSession

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


class DaemonFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What the daemon knows, and (``configured``) the servers in the hosts' settings."""

    trees: tuple[OpenTree, ...] = ()
    sessions: tuple[LiveSession, ...] = ()
    detached: tuple[DetachedProcess, ...] = ()
    leftovers: tuple[Leftover, ...] = ()
    idle: tuple[IdleProcess, ...] = ()
    escaped: tuple[EscapedProcess, ...] = ()
    configured: tuple[ConfiguredServer, ...] = ()
