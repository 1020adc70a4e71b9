"""One look at the machine: the process table, and the marks that hosts and oomless leave in environments.

Hosts' settings are read in ``settings.py``, and nothing else of the census reads. Of an environment, a few named
variables are taken and never any other, since it holds secrets; of another user's process there are no marks.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from oomless import hosts
from oomless.model import ProcessInfo
from oomless.platform.base import Platform, Standing

MARKER = "OOMLESS_TREE"


class Marks(msgspec.Struct, frozen=True, kw_only=True):
    """Marks are inherited by everything below, also by what has left its session: they prove nothing alone.
    ``trees`` is oomless's marker as it is (``<install id>:<tree>/<nested tree>``), ``host`` the one whose marks the
    others are."""

    trees: str = ""
    host: str = ""
    session: str = ""
    host_pid: int = 0
    project: bool = False


def launched(own: Marks, above: Marks) -> bool:
    """Whether a host gave it its marks, as a server, and whoever is above it now is not of that session."""
    return own.session not in ("", above.session) and own.project and not own.host_pid


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """``marks`` are in the order of ``processes``; ``starts_per_second``: in how many parts their start times count
    a second; ``starts_within``: by how many seconds the difference of two may be too large."""

    processes: tuple[ProcessInfo, ...]
    marks: tuple[Marks, ...]
    starts_per_second: int = 100
    starts_within: float = 0.0


def take(platform: Platform, before: Snapshot | None = None) -> Snapshot:
    """Reads table and marks: about 2 ms and 50 us a process. With the snapshot ``before``, marks are read only of
    processes that are new or run something else: an environment changes by exec alone."""
    processes = tuple(sorted(platform.processes(), key=lambda process: process.pid))
    kept = {_same(p): marks for p, marks in zip(before.processes, before.marks, strict=True)} if before else {}
    names = hosts.mark_names() | {MARKER}
    marks = (kept.get(_same(p)) or marks_of(platform.environ(p.pid, names)) for p in processes)
    return Snapshot(processes=processes, marks=tuple(marks), starts_per_second=platform.starts_per_second)


def standings(platform: Platform, processes: Iterable[ProcessInfo]) -> dict[int, Standing]:
    """How these few stand. Their numbers may have been used again since the table was read: a start time read
    afterwards can only be that of the process that was looked at, or of a later one."""
    starts = {process.pid: process.start for process in processes}
    if not starts:
        return {}
    found = platform.standing(starts)
    return {pid: one for pid, one in found.items() if (i := platform.identity(pid)) and i.start == starts[pid]}


def _same(process: ProcessInfo) -> tuple[int, int, tuple[str, ...]]:
    return process.pid, process.start, process.command


def marks_of(found: dict[str, str]) -> Marks:
    trees, marks = found.get(MARKER, ""), hosts.read_marks(found)
    if marks is None:
        return Marks(trees=trees)
    return Marks(
        trees=trees, host=marks.host, session=marks.session, host_pid=marks.host_pid, project=marks.has_project
    )
