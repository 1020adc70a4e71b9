"""What macOS answers in, as ctypes structures: the records behind the census' calls, and how to read them.

Covers layouts and constants, and the argument area of KERN_PROCARGS2. The calls are in ``darwin_calls.py``,
what the facts mean in ``darwin.py``. Pure: it loads and runs on any system, so that tests can hand it bytes.

Layouts are those of Apple's published sources, xnu-11417.101.15 (macOS 15.4), the file named at each; the same in
xnu-10002.1.13 (macOS 14). Only 64-bit processes ask, so pointers have 8 bytes. Unused runs of fields are ``gap``.
"""

from __future__ import annotations

from ctypes import Structure, c_byte, c_char, c_int32, c_int64, c_uint32, c_uint64, sizeof
from typing import NamedTuple, TypeVar

# bsd/sys/proc_info.h
PROC_PIDTASKALLINFO, PROC_PIDTBSDINFO, PROC_PIDVNODEPATHINFO = 2, 3, 9
PROC_FLAG_SYSTEM = 1
# bsd/sys/resource.h
RUSAGE_INFO_V4 = 4
# bsd/sys/sysctl.h
CTL_KERN, CTL_HW, HW_MEMSIZE = 1, 6, 24
KERN_PROC, KERN_PROC_ALL, KERN_PROC_PID, KERN_PROCARGS2 = 14, 0, 1, 49
# osfmk/mach/host_info.h
HOST_VM_INFO64 = 4
# bsd/sys/proc.h: SIDL, SRUN, SSLEEP, SSTOP, SZOMB, as the letters that ps(1) has for them.
STATES = {1: "I", 2: "R", 3: "S", 4: "T", 5: "Z"}
ZOMBIE = "Z"
#: bsd/sys/param.h: the device of a process without a terminal.
NODEV = 0xFFFFFFFF
_POINTER = 8


class BsdInfo(Structure):
    """``struct proc_bsdinfo``, bsd/sys/proc_info.h, 136 bytes."""

    _fields_ = (
        ("flags", c_uint32),
        ("status", c_uint32),
        ("xstatus", c_uint32),
        ("pid", c_uint32),
        ("ppid", c_uint32),
        ("uid", c_uint32),
        ("gid", c_uint32),
        ("ruid", c_uint32),
        ("rgid", c_uint32),
        ("svuid", c_uint32),
        ("svgid", c_uint32),
        ("reserved", c_uint32),
        ("comm", c_char * 16),
        ("name", c_char * 32),
        ("nfiles", c_uint32),
        ("pgid", c_uint32),
        ("pjobc", c_uint32),
        ("tdev", c_uint32),
        ("tpgid", c_uint32),
        ("nice", c_int32),
        ("start_seconds", c_uint64),
        ("start_microseconds", c_uint64),
    )


class TaskInfo(Structure):
    """``struct proc_taskinfo``, bsd/sys/proc_info.h, 96 bytes. Times are in Mach's ticks, not in nanoseconds."""

    _fields_ = (
        ("virtual_size", c_uint64),
        ("resident_size", c_uint64),
        ("total_user", c_uint64),
        ("total_system", c_uint64),
        ("threads_user", c_uint64),
        ("threads_system", c_uint64),
        ("gap", c_int32 * 12),
    )


class TaskAllInfo(Structure):
    """``struct proc_taskallinfo``, bsd/sys/proc_info.h, 232 bytes."""

    _fields_ = (("bsd", BsdInfo), ("task", TaskInfo))


class VnodePath(Structure):
    """``struct vnode_info_path``, bsd/sys/proc_info.h, 1176 bytes: a ``vnode_info`` of 152, then the path."""

    _fields_ = (("gap", c_uint64 * 19), ("path", c_char * 1024))


class VnodePaths(Structure):
    """``struct proc_vnodepathinfo``, bsd/sys/proc_info.h, 2352 bytes."""

    _fields_ = (("working", VnodePath), ("root", VnodePath))


class RusageV4(Structure):
    """``struct rusage_info_v4``, bsd/sys/resource.h, 296 bytes. ``exit_time`` is 0 as long as the process lives."""

    _fields_ = (
        ("uuid", c_byte * 16),
        ("user_time", c_uint64),
        ("system_time", c_uint64),
        ("wakeups", c_uint64 * 2),
        ("pageins", c_uint64),
        ("wired_size", c_uint64),
        ("resident_size", c_uint64),
        ("phys_footprint", c_uint64),
        ("start_time", c_uint64),
        ("exit_time", c_uint64),
        ("gap", c_uint64 * 18),
        ("lifetime_max_phys_footprint", c_uint64),
        ("gap2", c_uint64 * 6),
    )


class KinfoProc(Structure):
    """``struct kinfo_proc`` of a 64-bit process, 648 bytes: ``user64_extern_proc`` (bsd/sys/proc_internal.h, 296)
    and ``user64_eproc`` (bsd/sys/sysctl.h, 352). The system tells it of every user's processes."""

    _fields_ = (
        ("start_seconds", c_int64),
        ("start_microseconds", c_int32),
        ("gap", c_int32 * 5),
        ("flag", c_int32),
        ("status", c_byte),
        ("pid", c_int32),
        ("gap2", c_byte * 199),
        ("comm", c_char * 17),
        ("gap3", c_byte * 36),
        # user64_eproc
        ("gap4", c_uint64 * 2),
        ("gap5", c_byte * 104),
        ("credentials", c_int32),
        ("uid", c_uint32),
        ("gap6", c_byte * 136),
        ("ppid", c_int32),
        ("pgid", c_int32),
        ("jobc", c_int32),
        ("tdev", c_uint32),
        ("gap7", c_byte * 72),
    )


class VmStatistics(Structure):
    """``struct vm_statistics64``, osfmk/mach/vm_statistics.h, 152 bytes; all but the events are numbers of pages."""

    _fields_ = (
        ("free", c_uint32),
        ("active", c_uint32),
        ("inactive", c_uint32),
        ("wired", c_uint32),
        ("events", c_uint64 * 9),
        ("purgeable", c_uint32),
        ("speculative", c_uint32),
        ("compressor_events", c_uint64 * 4),
        ("compressor", c_uint32),
        ("throttled", c_uint32),
        ("external", c_uint32),
        ("internal", c_uint32),
        ("uncompressed_in_compressor", c_uint64),
    )


Record = TypeVar("Record", bound=Structure)


def read(kind: type[Record], raw: bytes) -> Record | None:
    """The record at the start of ``raw``; None if that is shorter, as after a call that was refused."""
    return kind.from_buffer_copy(raw) if len(raw) >= sizeof(kind) else None


def read_all(kind: type[Record], raw: bytes) -> list[Record]:
    """As many whole ones as there are."""
    size = sizeof(kind)
    return [kind.from_buffer_copy(raw, at) for at in range(0, len(raw) - size + 1, size)]


class ProcArgs(NamedTuple):
    environ: tuple[bytes, ...] = ()
    command: tuple[str, ...] = ()


def parse_procargs(raw: bytes) -> ProcArgs:
    """Arguments and environment in what KERN_PROCARGS2 returns; what is not whole is left out.

    The area is argc, the path of the executable, NULs, the arguments, the environment, and strings of the loader
    after an empty one. The arguments begin at the next multiple of a pointer behind the path (exec_extract_strings in
    bsd/kern/kern_exec.c): skipping all NULs instead would take an empty first argument for padding, and then a
    variable for the last argument. No environment at all: the system keeps that of programs of its own to itself
    (sysctl_procargsx in bsd/kern/kern_sysctl.c)."""
    argc = int.from_bytes(raw[:4], "little")
    area = raw[4:]
    end = area.find(b"\0")
    if end < 0 or argc == 0:
        return ProcArgs()
    start = -(-(end + 1) // _POINTER) * _POINTER
    if area[end:start].strip(b"\0"):  # not padded like that
        start = end + len(area[end:]) - len(area[end:].lstrip(b"\0"))
    strings = area[start:].split(b"\0")[:-1]  # behind the last NUL is nothing, or a string that was cut
    if len(strings) < argc:
        return ProcArgs()
    rest = strings[argc:]
    environ = rest[: rest.index(b"")] if b"" in rest else rest
    return ProcArgs(tuple(environ), tuple(word.decode("utf-8", "replace") for word in strings[:argc]))
