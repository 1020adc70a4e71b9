"""One reading of the machine: the process table, and the marks that hosts and oomless leave in environments.

Of an environment a few named variables are read and never another, since it holds secrets. Other users' processes
have no marks.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable

import msgspec

from oomless import hosts
from oomless.model import ProcessInfo
from oomless.platform.base import Platform, Standing
from oomless.processes.ancestry import Ancestry
from oomless.processes.command import ParsedCommand, parse_command
from oomless.processes.ids import ProcessId

MARKER = "OOMLESS_TREE"


class Marks(msgspec.Struct, frozen=True, kw_only=True):
    """The marks in one environment. Everything below inherits them, also what has left its session: they prove
    nothing alone. ``trees`` is oomless's marker as it is (``<install id>:<tree>/<nested tree>``),
    ``host`` the host whose marks the others are."""

    trees: str = ""
    host: str = ""
    session: str = ""
    host_pid: int = 0
    project: bool = False


NO_MARKS = Marks()


def is_foreign_server(own: Marks, above: Marks) -> bool:
    """Whether a host gave a process its marks as a server, and the process above it is not of that session."""
    return own.session not in ("", above.session) and own.project and not own.host_pid


class Snapshot(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """``processes`` are by pid, and ``marks`` in the same order. Start times count ``starts_per_second`` to a second;
    the difference of two may be too large by ``starts_within`` seconds.

    What several steps of the census need is worked out once and kept: parsed command lines, marks by pid, ancestry.
    """

    processes: tuple[ProcessInfo, ...]
    marks: tuple[Marks, ...]
    starts_per_second: int = 100
    starts_within: float = 0.0

    @functools.cached_property
    def commands(self) -> dict[int, ParsedCommand]:
        return {process.pid: parse_command(process.command) for process in self.processes}

    def final_command(self, pid: int) -> ParsedCommand:
        """What the process runs when it has become what it is about to exec."""
        command = self.commands[pid]
        return command if command.becomes == self.ancestry.by_pid[pid].command else parse_command(command.becomes)

    @functools.cached_property
    def marks_by_pid(self) -> dict[int, Marks]:
        return {process.pid: marks for process, marks in zip(self.processes, self.marks, strict=True)}

    @functools.cached_property
    def ancestry(self) -> Ancestry[ProcessInfo]:
        return Ancestry(self.processes)


def take_snapshot(platform: Platform, before: Snapshot | None = None) -> Snapshot:
    """Reads the table and the marks: about 2 ms, and 50 us a process. With the snapshot ``before``, marks are read
    only of processes that are new or run another program: an environment changes by exec alone."""
    processes = tuple(sorted(platform.processes(), key=lambda process: process.pid))
    kept = {_program(p): marks for p, marks in zip(before.processes, before.marks, strict=True)} if before else {}
    names = hosts.mark_names() | {MARKER}
    marks = (kept.get(_program(p)) or parse_marks(platform.environ(p.pid, names)) for p in processes)
    return Snapshot(processes=processes, marks=tuple(marks), starts_per_second=platform.starts_per_second)


def read_standings(platform: Platform, processes: Iterable[ProcessInfo]) -> dict[int, Standing]:
    """The standing of these processes, by pid, of those that still run."""
    starts = {process.pid: process.start for process in processes}
    if not starts:
        return {}
    standings = platform.standing(starts)
    # A pid may have been reused since the table was read. A start time that is read afterwards is that of the process
    # whose standing was read, or of a later one.
    return {
        pid: standing
        for pid, standing in standings.items()
        if (identity := platform.identity(pid)) and identity.start == starts[pid]
    }


def parse_marks(variables: dict[str, str]) -> Marks:
    trees, marks = variables.get(MARKER, ""), hosts.read_marks(variables)
    if marks is None:
        return Marks(trees=trees)
    return Marks(
        trees=trees, host=marks.host, session=marks.session, host_pid=marks.host_pid, project=marks.has_project
    )


def _program(process: ProcessInfo) -> tuple[ProcessId, tuple[str, ...]]:
    return ProcessId.of(process), process.command
