"""A tree on macOS: who is in it, what it uses, and how it is ended, without groups, subreaper or pidfd.

A member is known by the process group of the root, by remembered descent, or by the mark in its environment. Standard
library only; nothing of it is macOS' own but the calls, which are handed in.

**Not run on a Mac**: tests run it on Linux, over this machine's processes told in a Mac's layouts.

The root leads a process session and group of its own, and stays unreaped until the tree is over: a zombie keeps the
group's number from being used again, so that ``kill(-group)`` can meet nobody else (Bazel's process-tools-darwin.cc
does so). Whoever left the group is known by having descended from a member when the table was read, and by the mark,
which the system hides of programs of its own (Big Sur and later). Such a one is signalled after its exit has been
subscribed to and its start time was then read and is the one that we know: macOS has nothing closer to a pidfd.
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

    def __init__(self, found: abi.KinfoProc) -> None:
        self.pid, self.parent, self.pgid = int(found.pid), int(found.ppid), int(found.pgid)
        self.start = int(found.start_seconds) * 1_000_000 + int(found.start_microseconds)
        state = abi.STATES.get(found.status, "?")
        self.zombie, self.stopped = state == abi.ZOMBIE, state == "T"

    @property
    def id(self) -> ProcessId:
        return ProcessId(self.pid, self.start)


class ProcessList:
    """The kernel's list, zombies included, of all users (sysctl KERN_PROC)."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    def table(self) -> dict[int, DarwinProcess]:
        return {one.pid: one for one in self._read(abi.KERN_PROC_ALL, 0)}

    def group(self, pgid: int) -> list[DarwinProcess]:
        return [one for one in self._read(_KERN_PROC_PGRP, pgid) if one.pgid == pgid]

    def one(self, pid: int) -> DarwinProcess | None:
        return next((one for one in self._read(abi.KERN_PROC_PID, pid) if one.pid == pid), None)

    def carries(self, pid: int, mark: bytes) -> bool:
        """The mark itself, or that of a tree in the tree."""
        raw = self._calls.sysctl((abi.CTL_KERN, abi.KERN_PROCARGS2, pid))
        found = abi.parse_procargs(raw).environ
        return any(entry == mark or entry.startswith(mark + b"/") for entry in found)

    def footprint(self, pid: int) -> tuple[int, int]:
        """phys_footprint now and at most; 0 of one that has ended, or is another user's."""
        raw = self._calls.rusage(pid, abi.RUSAGE_INFO_V4, sizeof(abi.RusageV4))
        found = abi.read(abi.RusageV4, raw)
        if found is None or found.exit_time:
            return 0, 0
        return int(found.phys_footprint), int(found.lifetime_max_phys_footprint)

    def _read(self, flavor: int, argument: int) -> list[DarwinProcess]:
        raw = self._calls.sysctl((abi.CTL_KERN, abi.KERN_PROC, flavor, argument))
        return [DarwinProcess(found) for found in abi.read_all(abi.KinfoProc, raw)]


class DarwinTree:
    """``root``: our child, which nobody may wait for before ``over`` was true. ``mark``: the variable with its value
    that all of the tree inherit. ``apart``: the root leads its own group; on a terminal it is in ours."""

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
        first = self._system.one(root)
        if first is None:
            raise OSError(5, "the system does not tell of its own child")
        self.root_start = first.start
        self._known: set[ProcessId] = {ProcessId(root, self.root_start)}
        #: So many looks in a row saw nobody.
        self.quiet = 0
        self._peak = 0
        self._seen: list[DarwinProcess] = [first]
        exits.watch(root)

    # -- who -----------------------------------------------------------------------------------------------

    def look(self) -> list[DarwinProcess]:
        """Everyone of the tree who lives; remembered, so that their children are known when they are gone."""
        table = self._system.table()
        if self._own not in table:  # it could not be read; nobody is taken for gone
            return self._seen
        here = {one.id for one in table.values()}
        self._known &= here
        queue = [one for one in table.values() if one.id in self._known or self._joined(one)]
        children: dict[int, list[DarwinProcess]] = {}
        for one in table.values():
            children.setdefault(one.parent, []).append(one)
        found: dict[int, DarwinProcess] = {}
        while queue:
            one = queue.pop()
            if one.pid not in found and one.pid != self._own:
                found[one.pid] = one
                queue += children.get(one.pid, ())
        for one in found.values():
            if one.id not in self._known:
                self._exits.watch(one.pid)
        self._known.update(one.id for one in found.values())
        self._seen = [one for one in found.values() if not one.zombie]
        return self._seen

    def _joined(self, one: DarwinProcess) -> bool:
        """By our group, whose number the root pins; an orphan by its mark (anybody else is found by its parent)."""
        if one.start < self.root_start or one.zombie:
            return False
        return one.pgid == self._group or (one.parent == 1 and self._system.carries(one.pid, self._mark))

    def root_state(self) -> str:
        """``runs``, ``stopped`` or ``ended``. It is in the table until we reap it; else that could not be read."""
        one = self._system.one(self.root)
        if one is None:
            return "runs"
        return "ended" if one.zombie else "stopped" if one.stopped else "runs"

    # -- what it uses --------------------------------------------------------------------------------------

    def usage(self, members: list[DarwinProcess]) -> int:
        used = 0
        for one in members:
            now, most = self._system.footprint(one.pid)
            used += now
            self._peak = max(self._peak, most)
        self._peak = max(self._peak, used)
        return used

    def peak(self) -> int:
        """The larger of the sums that were seen and of what any single process has ever used."""
        return self._peak

    # -- its end -------------------------------------------------------------------------------------------

    def signal(self, members: list[DarwinProcess], number: int) -> None:
        for one in members:
            self.send(one.id, number)

    def forward(self, number: int) -> None:
        """To the whole group, as a terminal would; to the root alone where that is our own."""
        if self._group is None:
            self.send(ProcessId(self.root, self.root_start), number)
        else:
            self._to_group(number)

    def send(self, process: ProcessId, number: int) -> bool:
        if not self._exits.watch(process.pid):
            return False
        one = self._system.one(process.pid)
        if one is None or one.id != process or one.zombie:
            return False
        try:
            os.kill(process.pid, number)
            return True
        except (ProcessLookupError, PermissionError):
            return False

    def kill(self) -> None:
        """One round: the group as a whole, then whoever is not in it."""
        if self._group is not None and any(not one.zombie for one in self._system.group(self._group)):
            self._to_group(signal.SIGKILL)
        for one in self.look():
            if one.pgid != self._group:
                self.send(one.id, signal.SIGKILL)

    def is_over(self) -> bool:
        """Nobody but a dead root was seen in three looks in a row."""
        self.quiet = 0 if self.look() else self.quiet + 1
        return self.quiet >= 3

    def _to_group(self, number: int) -> None:
        try:
            os.killpg(self.root, number)  # ours: the root is not reaped, so the number is its group's
        except (ProcessLookupError, PermissionError):
            pass  # EPERM is also what macOS says where only zombies are left
