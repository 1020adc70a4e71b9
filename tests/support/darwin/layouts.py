"""The bytes that macOS answers with, packed from the structures of Apple's published headers (xnu-11417.101.15).

Built from the headers and not recorded on a Mac. Written apart from ``platform/darwin_abi.py``, by ``struct`` and by
offsets that a C compiler gave for the headers' own text, so that a slip in one of the two shows.
"""

from __future__ import annotations

import struct
from typing import TypedDict

NODEV = 0xFFFFFFFF
RUNNING, STOPPED, ZOMBIE = 2, 4, 5


class Facts(TypedDict):
    ppid: int
    uid: int
    pgid: int
    tdev: int
    status: int
    comm: bytes
    seconds: int
    microseconds: int


def bsd_info(
    pid: int,
    *,
    ppid: int = 1,
    uid: int = 501,
    pgid: int = 0,
    tdev: int = NODEV,
    status: int = RUNNING,
    flags: int = 0,
    comm: bytes = b"node",
    name: bytes = b"",
    seconds: int = 1_700_000_000,
    microseconds: int = 250_000,
) -> bytes:
    """proc_bsdinfo, bsd/sys/proc_info.h."""
    ids = (flags, status, 0, pid, ppid, uid, 20, uid, 20, uid, 20, 0)
    rest = (3, pgid or pid, 0, tdev, 0, 0, seconds, microseconds)
    return struct.pack("<12I16s32s5Ii2Q", *ids, comm, name, *rest)


def task_info(*, virtual: int = 400 << 30, resident: int = 60_000_000) -> bytes:
    """proc_taskinfo, bsd/sys/proc_info.h."""
    return struct.pack("<6Q12i", virtual, resident, 7, 8, 9, 10, *range(12))


def vnode_paths(working: bytes, root: bytes = b"/") -> bytes:
    """proc_vnodepathinfo, bsd/sys/proc_info.h: each path behind a vnode_info of 152 bytes."""
    return struct.pack("<152s1024s152s1024s", b"\1" * 152, working, b"\2" * 152, root)


def rusage(*, footprint: int, lifetime_max: int = 0, resident: int = 6, start: int = 5, exited: int = 0) -> bytes:
    """rusage_info_v4, bsd/sys/resource.h."""
    raw = bytearray(struct.pack("<16s35Q", b"\3" * 16, *range(100, 135)))
    for offset, value in ((64, resident), (72, footprint), (80, start), (88, exited), (240, lifetime_max)):
        struct.pack_into("<Q", raw, offset, value)
    return bytes(raw)


def kinfo(
    pid: int,
    *,
    ppid: int = 1,
    uid: int = 0,
    pgid: int = 0,
    tdev: int = NODEV,
    status: int = RUNNING,
    comm: bytes = b"login",
    seconds: int = 1_700_000_000,
    microseconds: int = 250_000,
) -> bytes:
    """user64_kinfo_proc, bsd/sys/sysctl.h and proc_internal.h."""
    raw = bytearray(b"\xee" * 648)
    struct.pack_into("<qi", raw, 0, seconds, microseconds)
    struct.pack_into("<b", raw, 36, status)
    struct.pack_into("<i", raw, 40, pid)
    struct.pack_into("17s", raw, 243, comm)
    struct.pack_into("<I", raw, 420, uid)
    struct.pack_into("<ii", raw, 560, ppid, pgid or pid)
    struct.pack_into("<I", raw, 572, tdev)
    return bytes(raw)


def vm_statistics(*, free: int, speculative: int, external: int, purgeable: int) -> bytes:
    """vm_statistics64, osfmk/mach/vm_statistics.h."""
    queues, compressor = (free, 300_000, 290_000, 150_000), (90_000, 0, external, 350_000, 1)
    return struct.pack("<4I9Q2I4Q4IQ", *queues, *range(9), purgeable, speculative, *range(4), *compressor)


def procargs(command: list[bytes], environ: list[bytes] | None = None, path: bytes = b"/usr/local/bin/node") -> bytes:
    """What KERN_PROCARGS2 returns (exec_extract_strings in bsd/kern/kern_exec.c, sysctl_procargsx in kern_sysctl.c):
    without an environment the area ends behind the arguments, else strings of the loader follow."""
    start = path + b"\0"
    area = start + b"\0" * (-len(start) % 8) + b"".join(word + b"\0" for word in command)
    if environ is not None:
        area += b"".join(entry + b"\0" for entry in environ)
        area += b"\0" * (-len(area) % 8 or 8) + b"ptr_munge=\0main_stack=\0executable_file=0x1,0x2\0"
    return struct.pack("<i", len(command)) + area
