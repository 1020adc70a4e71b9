"""macOS behind ``base.Platform``: the process table, footprints and machine memory as typed facts.

The calls are in ``darwin_calls.py``, their layouts in ``darwin_abi.py``. Written from the published sources; not yet
run on a Mac.

Start times are microseconds since the epoch, as the kernel stamps them at fork (``p_start``): they order and identify
like Linux's ticks, and never mix with them, since an identity carries the boot. A footprint is phys_footprint, what
Activity Monitor calls memory: dirty, compressed and wired pages that are charged to the process, not clean pages of
files.

Of other users' processes the system tells who they are (sysctl KERN_PROC, as for ps) and refuses the rest: they have
no arguments, no memory and no environment here. Root is told everything.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping
from ctypes import sizeof

from oomless.errors import UnsupportedPlatform
from oomless.model import Footprint, Identity, MachineMemory, MemoryUse, ProcessInfo
from oomless.platform import darwin_abi as abi
from oomless.platform.base import Standing
from oomless.platform.darwin_calls import Calls, System


class Darwin:
    """Stateless but for the boot id, which is read once, and the names of terminals."""

    name = "darwin"
    starts_per_second = 1_000_000

    def __init__(self, calls: Calls | None = None) -> None:
        self._calls = System() if calls is None else calls
        raw = self._calls.sysctl_by_name("kern.bootsessionuuid")
        self._boot_id = raw.partition(b"\0")[0].decode("ascii", "replace")
        self._terminals = {abi.NODEV: "", 0: ""}

    def boot_id(self) -> str:
        return self._boot_id

    def identity(self, pid: int) -> Identity | None:
        """Of zombies too: the argument 1 has the kernel look for them."""
        size = sizeof(abi.BsdInfo)
        row = abi.read(abi.BsdInfo, self._calls.pid_info(pid, abi.PROC_PIDTBSDINFO, 1, size)) or self._foreign(pid)
        return None if row is None else Identity(boot_id=self._boot_id, pid=pid, start=_start(row))

    def memory(self) -> MachineMemory:
        """Available is what the kernel can hand out without compressing or swapping anything: free pages, clean or
        file-backed ones (external) and volatile ones (purgeable). ``free`` includes the speculative pages, which are
        external ones as well (vm_stat(1) subtracts them too; osfmk/kern/host.c, vm_resident.c). It is all that
        Activity Monitor does not count as used: app memory, wired and compressed."""
        pages = abi.read(abi.VmStatistics, self._calls.vm_statistics())
        total = int.from_bytes(self._calls.sysctl((abi.CTL_HW, abi.HW_MEMSIZE)), "little")
        if pages is None or not total:
            raise UnsupportedPlatform("cannot tell how much memory is free", "the system refuses host_statistics64")
        available = max(0, pages.free - pages.speculative) + pages.external + pages.purgeable
        return MachineMemory(total_bytes=total, available_bytes=min(total, int(available) * self._calls.page_size()))

    def memory_use(self) -> MemoryUse | None:
        """Not counted as Linux counts it."""
        return None

    def headroom(self, pid: int) -> int | None:
        """There are no groups with a memory limit."""
        return None

    def processes(self) -> list[ProcessInfo]:
        """One call for all of those that only sysctl tells of, and only if there are any."""
        infos, unread = [], []
        for pid in self._calls.pids():
            size = sizeof(abi.TaskAllInfo)
            both = abi.read(abi.TaskAllInfo, self._calls.pid_info(pid, abi.PROC_PIDTASKALLINFO, 0, size))
            if both is None:
                unread.append(pid)
            elif not _is_kernel(both.bsd.pid, both.bsd.flags):
                infos.append(self._info(both.bsd, both.bsd.name or both.bsd.comm, both.task.resident_size))
        if unread:
            infos += self._foreigners(frozenset(unread))
        return [info for info in infos if info.state != abi.ZOMBIE]

    def environ(self, pid: int, names: frozenset[str]) -> dict[str, str]:
        """Of programs that the system protects, itself for one, there is none."""
        variables: dict[str, str] = {}
        for entry in self._arguments(pid).environ:
            name, equals, value = entry.partition(b"=")
            if equals and (key := name.decode("utf-8", "replace")) in names:
                variables.setdefault(key, value.decode("utf-8", "replace"))
        return variables

    def standing(self, pids: Collection[int]) -> dict[int, Standing]:
        """Nothing of it is read: unknown, which counts as listening, so that no verdict can rest on it."""
        return {pid: Standing(stdin="unknown", listens=True) for pid in pids}

    def cwd(self, pid: int) -> str | None:
        size = sizeof(abi.VnodePaths)
        paths = abi.read(abi.VnodePaths, self._calls.pid_info(pid, abi.PROC_PIDVNODEPATHINFO, 0, size))
        return os.fsdecode(paths.working.path) or None if paths is not None else None

    def footprint(self, pid: int) -> Footprint | None:
        """A counter that the kernel keeps anyway: reading it stalls nobody. None for other users' processes."""
        usage = self._rusage(pid)
        return None if usage is None else Footprint(bytes=usage.phys_footprint, source="phys_footprint")

    def private_bytes(self, process: Identity) -> int | None:
        """phys_footprint, which is private to a process."""
        footprint = self.footprint(process.pid) if self.identity(process.pid) == process else None
        return None if footprint is None else footprint.bytes

    def cgroup_footprint(self, folders: Mapping[str, str]) -> None:
        """There are no control groups."""

    def own_memory(self) -> dict[str, int]:
        """All three are phys_footprint: the system counts no unique or proportional set of a process."""
        usage = self._rusage(os.getpid())
        own = 0 if usage is None else int(usage.phys_footprint)
        return {"private_dirty_bytes": own, "uss_bytes": own, "pss_bytes": own}

    def _rusage(self, pid: int) -> abi.RusageV4 | None:
        usage = abi.read(abi.RusageV4, self._calls.rusage(pid, abi.RUSAGE_INFO_V4, sizeof(abi.RusageV4)))
        return None if usage is None or usage.exit_time else usage

    def _arguments(self, pid: int) -> abi.ProcArgs:
        return abi.parse_procargs(self._calls.sysctl((abi.CTL_KERN, abi.KERN_PROCARGS2, pid)))

    def _foreign(self, pid: int) -> abi.KinfoProc | None:
        row = abi.read(abi.KinfoProc, self._calls.sysctl((abi.CTL_KERN, abi.KERN_PROC, abi.KERN_PROC_PID, pid)))
        return row if row is not None and row.pid == pid else None

    def _foreigners(self, pids: frozenset[int]) -> Iterable[ProcessInfo]:
        raw = self._calls.sysctl((abi.CTL_KERN, abi.KERN_PROC, abi.KERN_PROC_ALL, 0))
        for row in abi.read_all(abi.KinfoProc, raw):
            if row.pid in pids and not _is_kernel(row.pid, 0):
                yield self._info(row, row.comm, 0)

    def _info(self, row: abi.BsdInfo | abi.KinfoProc, name: bytes, resident: int) -> ProcessInfo:
        shown = name.decode("utf-8", "replace")
        return ProcessInfo(
            pid=row.pid,
            ppid=row.ppid,
            pgid=row.pgid,
            sid=self._calls.session(row.pid),
            tty=0 if row.tdev == abi.NODEV else row.tdev,
            start=_start(row),
            uid=row.uid,
            state=abi.STATES.get(row.status, "?"),
            name=shown,
            command=self._arguments(row.pid).command or (f"[{shown}]",),
            rss_bytes=resident,
            terminal=self._terminal(row.tdev),
        )

    def _terminal(self, device: int) -> str:
        """The numbers of terminals are given at boot (bsd/kern/tty_ptmx.c), so the system is asked for the name."""
        if device not in self._terminals:
            name = self._calls.device_name(device)
            self._terminals[device] = name if name.startswith("tty") or name == "console" else ""
        return self._terminals[device]


def _is_kernel(pid: int, flags: int) -> bool:
    return pid == 0 or bool(flags & abi.PROC_FLAG_SYSTEM)


def _start(row: abi.BsdInfo | abi.KinfoProc) -> int:
    return int(row.start_seconds) * 1_000_000 + int(row.start_microseconds)
