"""Linux behind ``base.Platform``: machine memory, footprints, the process table as typed facts.

``/proc`` is read raw by ``proc.py``, which the shim shares, control groups by ``cgroup.py``. A footprint is PSS, read
on demand only (``pss.read_rollup``).
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Collection, Mapping

assert sys.platform == "linux"

from oomless.errors import UnsupportedPlatform
from oomless.lean import signal
from oomless.model import Footprint, Identity, MachineMemory, MemoryUse, ProcessInfo
from oomless.platform import cgroup, proc, pss, sockets
from oomless.platform.base import Standing

#: Terminals by device number (Documentation/admin-guide/devices.txt): 136 to 143 are pts, 4 consoles.
_PTS, _CONSOLE = range(136, 144), 4
#: What of its own memory the kernel cannot give back (Documentation/filesystems/proc.rst); some have the latter too.
_KERNEL, _KERNEL_LATER = ("SUnreclaim", "KernelStack", "PageTables"), ("Percpu", "SecPageTables")
_PRIVATE = (b"Private_Clean", b"Private_Dirty", b"Private_Hugetlb")

_HANGUP = 1 << (signal.SIGHUP - 1)
_KEYBOARD = 1 << (signal.SIGINT - 1) | 1 << (signal.SIGQUIT - 1)


class Linux:
    """Stateless but for the boot id and the mount points, which are read once."""

    name = "linux"
    starts_per_second = os.sysconf("SC_CLK_TCK")

    def __init__(self) -> None:
        self._boot_id = proc.boot_id()
        self._mounts = cgroup.read_mounts()

    def boot_id(self) -> str:
        return self._boot_id

    def identity(self, pid: int) -> Identity | None:
        start = proc.start_of(pid)
        return None if start is None else Identity(boot_id=self._boot_id, pid=pid, start=start)

    def memory(self) -> MachineMemory:
        figures = _kilobytes(proc.read_file("/proc/meminfo") or b"")
        try:
            return MachineMemory(total_bytes=figures["MemTotal"], available_bytes=figures["MemAvailable"])
        except KeyError:
            raise UnsupportedPlatform(
                "cannot tell how much memory is free", "/proc/meminfo does not say", "mount /proc"
            ) from None

    def memory_use(self) -> MemoryUse | None:
        figures = _kilobytes(proc.read_file("/proc/meminfo") or b"")
        if not {"AnonPages", "Shmem", *_KERNEL} <= figures.keys():
            return None
        return MemoryUse(
            processes_bytes=figures["AnonPages"],
            shared_bytes=figures["Shmem"],
            kernel_bytes=sum(figures[name] for name in _KERNEL) + sum(figures.get(name, 0) for name in _KERNEL_LATER),
            huge_bytes=figures.get("Hugetlb", 0),
        )

    def headroom(self, pid: int) -> int | None:
        return cgroup.headroom(pid, self._mounts)

    def processes(self) -> list[ProcessInfo]:
        infos = []
        for pid, stat in proc.table().items():
            info = _info(pid, stat) if stat.alive else None
            if info is not None:
                infos.append(info)
        return infos

    def environ(self, pid: int, names: frozenset[str]) -> dict[str, str]:
        variables: dict[str, str] = {}
        for entry in proc.environ(pid).split(b"\0"):
            name, equals, value = entry.partition(b"=")
            if equals and (key := name.decode("utf-8", "replace")) in names:
                variables.setdefault(key, value.decode("utf-8", "replace"))
        return variables

    def standing(self, pids: Collection[int]) -> dict[int, Standing]:
        ends, listening, serving = sockets.other_ends(pids), sockets.listeners(pids), sockets.servers(pids)
        ignored = {pid: proc.signals(pid, b"SigIgn:") for pid in pids}
        return {
            pid: Standing(
                stdin=ends[pid],
                ignores_hangup=bool(ignored[pid] & _HANGUP),
                listens=pid in listening,
                serves=pid in serving,
                backgrounded=ignored[pid] & _KEYBOARD == _KEYBOARD and proc.has_executed(pid),
            )
            for pid in pids
        }

    def cwd(self, pid: int) -> str | None:
        return proc.cwd(pid)

    def footprint(self, pid: int) -> Footprint | None:
        figures = pss.read_rollup(pid)
        if b"Pss" in figures:
            return Footprint(bytes=figures[b"Pss"], source="pss", private_bytes=_private(figures))
        # Not ours to read (proc(5): ptrace access), or no memory at all: kernel threads and zombies.
        stat = proc.read_stat(pid)
        if stat is None or not stat.alive or _is_kernel(stat, proc.cmdline(pid)):
            return None
        return Footprint(bytes=stat.rss_bytes, source="rss")

    def private_bytes(self, process: Identity) -> int | None:
        """What would be free if that very process ended, None if it is gone or cannot be read."""
        figures = pss.read_rollup(process.pid)
        return _private(figures) if b"Pss" in figures and self.identity(process.pid) == process else None

    def cgroup_footprint(self, folders: Mapping[str, str]) -> cgroup.GroupMemory | None:
        """Use and peak of a governed tree, from its cgroup folders by controller as the lease names them."""
        return cgroup.footprint(folders)

    def own_memory(self) -> dict[str, int]:
        figures = pss.read_rollup("self")
        return {
            "private_dirty_bytes": figures.get(b"Private_Dirty", 0),
            "uss_bytes": _private(figures),
            "pss_bytes": figures.get(b"Pss", 0),
        }


def _info(pid: int, stat: proc.Stat) -> ProcessInfo | None:
    command = proc.cmdline(pid)
    if _is_kernel(stat, command):
        return None
    uid = proc.owner_uid(pid)
    if uid is None:
        return None
    return ProcessInfo(
        pid=pid,
        ppid=stat.ppid,
        pgid=stat.pgid,
        sid=stat.sid,
        tty=stat.tty,
        start=stat.start,
        uid=uid,
        state=stat.state,
        name=stat.comm,
        command=tuple(command) or (f"[{stat.comm}]",),
        rss_bytes=stat.rss_bytes,
        terminal=_terminal(stat.tty) if stat.tty else "",
    )


@functools.lru_cache(maxsize=256)
def _terminal(device: int) -> str:
    major, minor = os.major(device), os.minor(device)
    if major in _PTS:
        return f"pts/{(major - _PTS.start) * 256 + minor}"
    return f"tty{minor}" if major == _CONSOLE else ""


def _is_kernel(stat: proc.Stat, command: list[str]) -> bool:
    """A kernel thread has no memory of its own and no arguments. Being below pid 2 is no sign of one: inside
    a PID namespace that is an ordinary process."""
    return not command and stat.rss_pages == 0


def _kilobytes(raw: bytes) -> dict[str, int]:
    """``Name:   12 kB`` lines as bytes; others are passed over."""
    figures = {}
    for line in raw.decode("ascii", "replace").splitlines():
        name, _, rest = line.partition(":")
        value, _, unit = rest.strip().partition(" ")
        if unit == "kB" and value.isdigit():
            figures[name] = int(value) * 1024
    return figures


def _private(figures: Mapping[bytes, int]) -> int:
    return sum(figures.get(name, 0) for name in _PRIVATE)
