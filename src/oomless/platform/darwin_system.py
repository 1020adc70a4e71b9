"""macOS behind the names of ``system``: the process table, signals to one process, no control groups.

Start times are microseconds since the epoch. There is no pidfd: a process is signalled after its start time was read
and is the one that is meant. Written from the published sources; not run on a Mac.
"""

from __future__ import annotations

import functools
import os
import socket
import sys
import time
from collections.abc import Collection, Mapping, Sequence
from ctypes import sizeof
from typing import Any

from oomless.errors import UnsupportedPlatform
from oomless.lean import signal
from oomless.platform import darwin_abi as abi
from oomless.platform.darwin_calls import Calls, System

SENT, GONE, DENIED = "sent", "gone", "denied"
_SOL_LOCAL, _LOCAL_PEERCRED, _LOCAL_PEERPID = 0, 1, 2


class DarwinStat:
    """A row of the process table, with the fields of ``proc.DarwinStat``. Memory and processor time are not in it."""

    __slots__ = ("comm", "cpu_ticks", "pgid", "pid", "ppid", "rss_bytes", "sid", "start", "state", "tty")

    def __init__(self, row: abi.KinfoProc, sid: int) -> None:
        self.pid, self.ppid, self.pgid, self.sid = int(row.pid), int(row.ppid), int(row.pgid), sid
        self.start = int(row.start_seconds) * 1_000_000 + int(row.start_microseconds)
        self.comm = row.comm.decode("utf-8", "replace")
        self.state = abi.STATES.get(row.status, "?")
        self.tty = 0 if row.tdev == abi.NODEV else int(row.tdev)
        self.cpu_ticks = self.rss_bytes = 0

    @property
    def alive(self) -> bool:
        return self.state != abi.ZOMBIE


#: The name that the type has on every system.
Stat = DarwinStat


@functools.cache
def _calls() -> Calls:
    return System()


def _rows(flavor: int, argument: int) -> list[abi.KinfoProc]:
    return abi.read_all(abi.KinfoProc, _calls().sysctl((abi.CTL_KERN, abi.KERN_PROC, flavor, argument)))


class NoForkEvents:
    """The system tells of none to an ordinary program."""

    @classmethod
    def open(cls) -> NoForkEvents | None:
        return None

    def fileno(self) -> int:
        return -1

    def read(self) -> tuple[list[Any], bool]:
        return [], False

    def close(self) -> None:
        pass


class DarwinTableReader:
    def read(self) -> dict[int, DarwinStat]:
        return table()

    def close(self) -> None:
        pass


def table() -> dict[int, DarwinStat]:
    return {row.pid: DarwinStat(row, _calls().session(row.pid)) for row in _rows(abi.KERN_PROC_ALL, 0)}


def read_stat(pid: int) -> DarwinStat | None:
    rows = (row for row in _rows(abi.KERN_PROC_PID, pid) if row.pid == pid)
    return next((DarwinStat(row, _calls().session(pid)) for row in rows), None)


def children_of(pid: int) -> list[int]:
    return [row.pid for row in _rows(abi.KERN_PROC_ALL, 0) if row.ppid == pid]


def start_of(pid: int) -> int | None:
    stat = read_stat(pid)
    return stat.start if stat else None


def boot_id() -> str:
    return _calls().sysctl_by_name("kern.bootsessionuuid").partition(b"\0")[0].decode("ascii", "replace")


def start_of_age(seconds: float) -> float:
    """In microseconds since the epoch."""
    return (time.time() - seconds) * 1_000_000


def peer_of(connection: socket.socket) -> tuple[int, int]:
    """LOCAL_PEERPID, and the uid of LOCAL_PEERCRED's xucred (sys/un.h, sys/ucred.h)."""
    pid = connection.getsockopt(_SOL_LOCAL, _LOCAL_PEERPID)
    credentials = connection.getsockopt(_SOL_LOCAL, _LOCAL_PEERCRED, 76)
    return pid, int.from_bytes(credentials[4:8], sys.byteorder)


def last_pid() -> int:
    """The system does not say: 0."""
    return 0


def _arguments(pid: int) -> abi.ProcArgs:
    return abi.parse_procargs(_calls().sysctl((abi.CTL_KERN, abi.KERN_PROCARGS2, pid)))


def cmdline(pid: int) -> list[str]:
    return list(_arguments(pid).command)


def raw_cmdline(pid: int) -> bytes:
    """NUL between arguments."""
    return b"\0".join(os.fsencode(argument) for argument in _arguments(pid).command)


def environ(pid: int) -> bytes:
    """NUL between entries; empty of programs that the system protects."""
    return b"\0".join(_arguments(pid).environ)


def has_executed(pid: int) -> bool:
    """The system does not say: True, as of nearly all."""
    return True


def ignores_hangup(pid: int) -> bool:
    """The system does not say: True, for a process that ignores it is spared."""
    return True


def owner_uid(pid: int) -> int | None:
    return next((int(row.uid) for row in _rows(abi.KERN_PROC_PID, pid) if row.pid == pid), None)


def real_uid(pid: int) -> int | None:
    row = abi.read(abi.BsdInfo, _calls().pid_info(pid, abi.PROC_PIDTBSDINFO, 1, sizeof(abi.BsdInfo)))
    return owner_uid(pid) if row is None else int(row.ruid)


def send(pid: int, start: int, number: int) -> str:
    if start_of(pid) != start:
        return GONE
    try:
        os.kill(pid, number)
        return SENT
    except ProcessLookupError:
        return GONE
    except PermissionError:
        return DENIED


def kill(pid: int, start: int) -> str:
    return send(pid, start, signal.SIGKILL)


def open_verified(pid: int, start: int) -> int | None:
    raise UnsupportedPlatform("cannot watch a process", "there is no pidfd on macOS")


def sum_footprints(stats: Sequence[DarwinStat]) -> int:
    """Bytes: phys_footprint of each."""
    used = 0
    for stat in stats:
        raw = _calls().rusage(stat.pid, abi.RUSAGE_INFO_V4, sizeof(abi.RusageV4))
        row = abi.read(abi.RusageV4, raw)
        used += 0 if row is None or row.exit_time else int(row.phys_footprint)
    return used


def find_listeners(pids: Collection[int]) -> frozenset[int]:
    """The system is not asked: all of them, for a process that listens is spared."""
    return frozenset(pids)


def own_descriptors() -> list[int]:
    return [int(name) for name in os.listdir("/dev/fd")]


def set_oom_score_adj(value: int) -> None:
    raise OSError(78, "there is no OOM killer to tell")


def cgroups(pid: int | str) -> dict[str, str]:
    return {}


def folders_around(groups: Mapping[str, str]) -> set[str]:
    return set()


def pids_in(folder: str) -> list[int]:
    return []


def remove_group(folder: str) -> bool:
    return True


def leave_governed_trees() -> list[str]:
    return []
