"""One look at the machine: the process table, and the marks that hosts and oomless leave in environments.

The only part of the census that reads anything. Of an environment, a few named variables are taken and never
any other, since it holds secrets; of another user's process there are no marks.
"""

from __future__ import annotations

import msgspec

from oomless.model import ProcessInfo
from oomless.platform.base import Platform

MARKER = "OOMLESS_TREE"
#: What Claude Code sets for its stdio servers (session, project folder), tool shells and hooks (session, its pid).
SESSION, HOST_PID, PROJECT = "CLAUDE_CODE_SESSION_ID", "CLAUDE_PID", "CLAUDE_PROJECT_DIR"
_NAMES = frozenset({MARKER, SESSION, HOST_PID, PROJECT})


class Marks(msgspec.Struct, frozen=True, kw_only=True):
    """Marks are inherited by everything below, also by what has left its session: they prove nothing alone.
    ``trees`` is oomless's marker as it is (``<install id>:<tree>/<nested tree>``)."""

    trees: str = ""
    session: str = ""
    host_pid: int = 0
    project: bool = False


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """``marks`` are in the order of ``processes``."""

    processes: tuple[ProcessInfo, ...]
    marks: tuple[Marks, ...]


class OpenTree(msgspec.Struct, frozen=True, kw_only=True):
    """A tree as the daemon knows it. ``root_start`` makes the pid an identity."""

    tree: str
    name: str
    root_pid: int
    root_start: int | None = None


def take(platform: Platform) -> Snapshot:
    """Reads table and marks: about 2 ms and 50 us a process."""
    processes = tuple(sorted(platform.processes(), key=lambda process: process.pid))
    return Snapshot(processes=processes, marks=tuple(marks_of(platform.environ(p.pid, _NAMES)) for p in processes))


def marks_of(found: dict[str, str]) -> Marks:
    host_pid = found.get(HOST_PID, "")
    return Marks(
        trees=found.get(MARKER, ""),
        session=found.get(SESSION, ""),
        host_pid=int(host_pid) if host_pid.isascii() and host_pid.isdigit() else 0,
        project=PROJECT in found,
    )
