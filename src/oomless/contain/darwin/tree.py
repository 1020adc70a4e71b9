"""A tree on macOS: its members, its memory and its end, without cgroups, subreaper or pidfd.

A member is known by the process group of the root, by remembered descent, or by the mark in its environment. Standard
library only; nothing of it is macOS' own but the calls, which are handed in.

**Not run on a Mac**: tests run it on Linux, over this machine's processes told in a Mac's layouts.

The root leads a process session and group of its own, and stays unreaped until the tree is over: a zombie keeps the
group's number from being used again, so that ``kill(-group)`` can meet nobody else (Bazel's process-tools-darwin.cc
does so). A process that left the group is known by having descended from a member when the table was read, and by the
mark, which the system hides of programs of its own (Big Sur and later). Such a process is signalled after its exit
has been subscribed to and its start time was then read and is the known one: macOS has nothing closer to a pidfd.
"""

from __future__ import annotations

import os
from ctypes import sizeof

from oomless.lean import signal
from oomless.platform import darwin_abi as abi
from oomless.processes.ids import ProcessId

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    from oomless.platform.darwin_calls import Calls

    class Exits(Protocol):
        """Processes whose ends are told (kqueue: EVFILT_PROC with NOTE_EXIT and NOTE_FORK)."""

        #: Readable when there is something to ``take``.
        fd: int

        def watch(self, pid: int) -> bool:
            """False if there is no such process any more. To be asked again of one that is watched is no error."""
            ...

        def take(self) -> None:
            """Whatever came since; the table says what it was."""
            ...

        def close(self) -> None: ...


#: What descent and mark cannot reach, said beforehand and in the record.
GAP = (
    "a process that left its group and lost its parent between two looks is found by its mark only, which the system "
    "hides of programs of its own"
)
_KERN_PROC_PGRP = 2  # bsd/sys/sysctl.h


class DarwinProcess:
    __slots__ = ("parent", "pgid", "pid", "start", "stopped", "zombie")

    def __init__(self, row: abi.KinfoProc) -> None:
        self.pid, self.parent, self.pgid = int(row.pid), int(row.ppid), int(row.pgid)
        self.start = int(row.start_seconds) * 1_000_000 + int(row.start_microseconds)
        state = abi.STATES.get(row.status, "?")
        self.zombie, self.stopped = state == abi.ZOMBIE, state == "T"

    @property
    def id(self) -> ProcessId:
        return ProcessId(self.pid, self.start)


class ProcessList:
    """The kernel's list, zombies included, of all users (sysctl KERN_PROC)."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    def table(self) -> dict[int, DarwinProcess]:
        return {row.pid: row for row in self._read(abi.KERN_PROC_ALL, 0)}

    def group(self, pgid: int) -> list[DarwinProcess]:
        return [row for row in self._read(_KERN_PROC_PGRP, pgid) if row.pgid == pgid]

    def find(self, pid: int) -> DarwinProcess | None:
        return next((row for row in self._read(abi.KERN_PROC_PID, pid) if row.pid == pid), None)

    def carries(self, pid: int, mark: bytes) -> bool:
        """The mark itself, or that of a tree in the tree."""
        raw = self._calls.sysctl((abi.CTL_KERN, abi.KERN_PROCARGS2, pid))
        environ = abi.parse_procargs(raw).environ
        return any(entry == mark or entry.startswith(mark + b"/") for entry in environ)

    def footprint(self, pid: int) -> tuple[int, int]:
        """phys_footprint now and at most; 0 of one that has ended, or is another user's."""
        raw = self._calls.rusage(pid, abi.RUSAGE_INFO_V4, sizeof(abi.RusageV4))
        usage = abi.read(abi.RusageV4, raw)
        if usage is None or usage.exit_time:
            return 0, 0
        return int(usage.phys_footprint), int(usage.lifetime_max_phys_footprint)

    def _read(self, flavor: int, argument: int) -> list[DarwinProcess]:
        raw = self._calls.sysctl((abi.CTL_KERN, abi.KERN_PROC, flavor, argument))
        return [DarwinProcess(row) for row in abi.read_all(abi.KinfoProc, raw)]


class DarwinTree:
    """``root``: our child, which nobody may wait for before ``is_over`` was true. ``mark``: the variable with its
    value that all of the tree inherit. ``apart``: the root leads its own group; on a terminal it is in ours."""

    name = "darwin"
    source = "phys_footprint"

    def __init__(self, calls: Calls, exits: Exits, root: int, mark: str, *, apart: bool) -> None:
        """Raises OSError where the system tells nothing."""
        self.root = root
        self._system = ProcessList(calls)
        self._exits = exits
        self._mark = mark.encode()
        self._group = root if apart else None
        self._own = os.getpid()
        first = self._system.find(root)
        if first is None:
            raise OSError(5, "the system does not tell of its own child")
        self.root_start = first.start
        self._known: set[ProcessId] = {ProcessId(root, self.root_start)}
        #: Looks in a row that saw no living member.
        self.quiet = 0
        self._peak = 0
        self._seen: list[DarwinProcess] = [first]
        exits.watch(root)

    # -- members --------------------------------------------------------------------------------------------

    def look(self) -> list[DarwinProcess]:
        """The living members; remembered, so that their children are known when they are gone."""
        table = self._system.table()
        if self._own not in table:  # it could not be read; nobody is taken for gone
            return self._seen
        present = {row.id for row in table.values()}
        self._known &= present
        queue = [row for row in table.values() if row.id in self._known or self._joined(row)]
        children: dict[int, list[DarwinProcess]] = {}
        for row in table.values():
            children.setdefault(row.parent, []).append(row)
        members: dict[int, DarwinProcess] = {}
        while queue:
            row = queue.pop()
            if row.pid not in members and row.pid != self._own:
                members[row.pid] = row
                queue += children.get(row.pid, ())
        for row in members.values():
            if row.id not in self._known:
                self._exits.watch(row.pid)
        self._known.update(row.id for row in members.values())
        self._seen = [row for row in members.values() if not row.zombie]
        return self._seen

    def _joined(self, row: DarwinProcess) -> bool:
        """By our group, whose number the root pins; an orphan by its mark (others are found by their parents)."""
        if row.start < self.root_start or row.zombie:
            return False
        return row.pgid == self._group or (row.parent == 1 and self._system.carries(row.pid, self._mark))

    def root_state(self) -> str:
        """``runs``, ``stopped`` or ``ended``. It is in the table until we reap it; else that could not be read."""
        row = self._system.find(self.root)
        if row is None:
            return "runs"
        return "ended" if row.zombie else "stopped" if row.stopped else "runs"

    # -- memory -------------------------------------------------------------------------------------------

    def usage(self, members: list[DarwinProcess]) -> int:
        used = 0
        for row in members:
            now, most = self._system.footprint(row.pid)
            used += now
            self._peak = max(self._peak, most)
        self._peak = max(self._peak, used)
        return used

    def peak(self) -> int:
        """The larger of the sums that were seen and of what any single process has ever used."""
        return self._peak

    # -- its end -------------------------------------------------------------------------------------------

    def signal(self, members: list[DarwinProcess], number: int) -> None:
        for row in members:
            self.send(row.id, number)

    def forward(self, number: int) -> None:
        """To the whole group, as a terminal would; to the root alone where that is our own."""
        if self._group is None:
            self.send(ProcessId(self.root, self.root_start), number)
        else:
            self._to_group(number)

    def send(self, process: ProcessId, number: int) -> bool:
        if not self._exits.watch(process.pid):
            return False
        row = self._system.find(process.pid)
        if row is None or row.id != process or row.zombie:
            return False
        try:
            os.kill(process.pid, number)
            return True
        except (ProcessLookupError, PermissionError):
            return False

    def kill(self) -> None:
        """One round: the group as a whole, then members that are not in it."""
        if self._group is not None and any(not row.zombie for row in self._system.group(self._group)):
            self._to_group(signal.SIGKILL)
        for row in self.look():
            if row.pgid != self._group:
                self.send(row.id, signal.SIGKILL)

    def is_over(self) -> bool:
        """Whether three looks in a row saw no living member."""
        self.quiet = 0 if self.look() else self.quiet + 1
        return self.quiet >= 3

    def _to_group(self, number: int) -> None:
        try:
            os.killpg(self.root, number)  # ours: the root is not reaped, so the number is its group's
        except (ProcessLookupError, PermissionError):
            pass  # EPERM is also what macOS says where only zombies are left
