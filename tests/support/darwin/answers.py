"""Two stand-ins for the calls of macOS: answers that are laid out in a table, and this machine's ``/proc`` as a Mac
would tell of it. Neither was recorded on a Mac: the bytes are those of ``layouts.py``."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from darwin import layouts
from oomless.platform import proc

TASK_ALL, BSD, PATHS = 2, 3, 9
KERN_PROC, KERN_PROCARGS2 = (1, 14), (1, 49)
MEMSIZE = (6, 24)
BOOT = b"6C1F0A52-0D2B-4E53-9A43-5B1F0C2D7E88\0"
PAGE = 16384


@dataclass
class Answers:
    """What is not in a table is refused or gone. ``kinfo`` by pid, in the order of the kernel's list."""

    listed: list[int] = field(default_factory=list)
    info: dict[tuple[int, int], bytes] = field(default_factory=dict)
    usage: dict[int, bytes] = field(default_factory=dict)
    arguments: dict[int, bytes] = field(default_factory=dict)
    kinfo: dict[int, bytes] = field(default_factory=dict)
    memory_size: bytes = (16 << 30).to_bytes(8, "little")
    statistics: bytes = b""
    sessions: dict[int, int] = field(default_factory=dict)
    devices: dict[int, str] = field(default_factory=dict)

    def pids(self) -> list[int]:
        return self.listed

    def pid_info(self, pid: int, flavor: int, argument: int, size: int) -> bytes:
        return self.info.get((pid, flavor), b"")[:size]

    def rusage(self, pid: int, flavor: int, size: int) -> bytes:
        return self.usage.get(pid, b"")[:size]

    def sysctl(self, name: tuple[int, ...]) -> bytes:
        if name == MEMSIZE:
            return self.memory_size
        if name[:2] == KERN_PROC:
            return b"".join(self.kinfo.values()) if name[2] == 0 else self.kinfo.get(name[3], b"")
        return self.arguments.get(name[2], b"") if name[:2] == KERN_PROCARGS2 else b""

    def sysctl_by_name(self, name: str) -> bytes:
        return {"kern.bootsessionuuid": BOOT}.get(name, b"")

    def session(self, pid: int) -> int:
        return self.sessions.get(pid, 0)

    def device_name(self, device: int) -> str:
        return self.devices.get(device, "")

    def vm_statistics(self) -> bytes:
        return self.statistics

    def page_size(self) -> int:
        return PAGE


def kilobytes(path: str) -> dict[str, int]:
    """``Name:  12 kB`` lines, in bytes."""
    lines = (line.split() for line in (proc.read_file(path) or b"").decode().splitlines())
    return {words[0].rstrip(":"): int(words[1]) * 1024 for words in lines if words[-1:] == ["kB"]}


class Translated:
    """The live processes of this machine, in a Mac's layouts. A zombie has no task; another user's process is refused
    unless root asks; unreadable memory is the private memory of its owner."""

    def __init__(self) -> None:
        raw = proc.read_file("/proc/stat") or b""
        self._boot = next(int(line.split()[1]) for line in raw.splitlines() if line.startswith(b"btime "))
        self._ticks, self._page = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")

    def pids(self) -> list[int]:
        return [0, *proc.pids()]

    def pid_info(self, pid: int, flavor: int, argument: int, size: int) -> bytes:
        stat, uid = proc.read_stat(pid), self._uid(pid)
        if stat is None or uid is None or os.geteuid() not in (0, uid):
            return b""
        if not stat.alive and (flavor != BSD or not argument):
            return b""
        if flavor == PATHS:
            return self._paths(pid)
        bsd = layouts.bsd_info(pid, **self._facts(stat, uid))
        return bsd if flavor == BSD else bsd + layouts.task_info(resident=stat.rss_pages * self._page)

    def rusage(self, pid: int, flavor: int, size: int) -> bytes:
        stat = proc.read_stat(pid)
        found = kilobytes(f"/proc/{pid}/smaps_rollup")
        if stat is None or (stat.alive and "Pss" not in found):
            return b""
        private = sum(found.get(name, 0) for name in ("Private_Clean", "Private_Dirty", "Private_Hugetlb"))
        return layouts.rusage(footprint=private, exited=0 if stat.alive else 9)

    def sysctl(self, name: tuple[int, ...]) -> bytes:
        if name == MEMSIZE:
            return kilobytes("/proc/meminfo")["MemTotal"].to_bytes(8, "little")
        if name[:2] == KERN_PROC:
            return b"".join(self._kinfo(pid) for pid in self._asked(*name[2:]))
        assert name[:2] == KERN_PROCARGS2
        command = proc.read_file(f"/proc/{name[2]}/cmdline")
        if not command:
            return b""
        environ = [entry for entry in proc.environ(name[2]).split(b"\0") if entry]
        return layouts.procargs(command.removesuffix(b"\0").split(b"\0"), environ)

    def _asked(self, flavor: int, argument: int) -> list[int]:
        """KERN_PROC_ALL, KERN_PROC_PID, KERN_PROC_PGRP: zombies too."""
        if flavor == 2:
            return [stat.pid for stat in proc.table().values() if stat.pgid == argument]
        return proc.pids() if flavor == 0 else [argument]

    def sysctl_by_name(self, name: str) -> bytes:
        assert name == "kern.bootsessionuuid"
        return proc.boot_id().upper().encode() + b"\0"

    def session(self, pid: int) -> int:
        stat = proc.read_stat(pid)
        return stat.sid if stat else 0

    def device_name(self, device: int) -> str:
        major, minor = os.major(device), os.minor(device)
        return f"ttys{(major - 136) * 256 + minor:03}" if 136 <= major < 144 else "??"

    def vm_statistics(self) -> bytes:
        found = kilobytes("/proc/meminfo")
        free, available = found["MemFree"] // self._page, found["MemAvailable"] // self._page
        return layouts.vm_statistics(free=free + 50, speculative=50, external=available - free - 10, purgeable=10)

    def page_size(self) -> int:
        return self._page

    def _uid(self, pid: int) -> int | None:
        try:
            return os.stat(f"/proc/{pid}").st_uid
        except OSError:
            return None

    def _paths(self, pid: int) -> bytes:
        try:
            return layouts.vnode_paths(os.fsencode(os.readlink(f"/proc/{pid}/cwd")))
        except OSError:
            return b""

    def _kinfo(self, pid: int) -> bytes:
        stat, uid = proc.read_stat(pid), self._uid(pid)
        return b"" if stat is None or uid is None else layouts.kinfo(pid, **self._facts(stat, uid))

    def _facts(self, stat: proc.Stat, uid: int) -> layouts.Facts:
        seconds, ticks = divmod(stat.start, self._ticks)
        return {
            "ppid": stat.ppid,
            "uid": uid,
            "pgid": stat.pgid,
            "tdev": stat.tty or layouts.NODEV,
            "status": {"R": layouts.RUNNING, "T": layouts.STOPPED, "Z": layouts.ZOMBIE}.get(stat.state, 3),
            "comm": stat.comm.encode()[:15],
            "seconds": self._boot + seconds,
            "microseconds": ticks * (1_000_000 // self._ticks),
        }
