"""The system calls of macOS, by ctypes, each answering with the bytes that the kernel gave.

Other ``Calls`` may stand in; nothing of macOS is loaded before ``System`` is made. No call raises: refused (another
user's process, EPERM), gone (ESRCH) and cut short are all an answer that is too short to hold the record.
"""

from __future__ import annotations

import ctypes
import os
import stat
from ctypes import byref, c_char_p, c_int, c_int32, c_size_t, c_uint16, c_uint32, c_uint64, c_void_p
from typing import Protocol

from oomless.platform.darwin_abi import HOST_VM_INFO64, VmStatistics

#: Whatever grows between asking for the size and reading: processes that start, a program that executes another.
_SLACK = 64
_TRIES = 4


class Calls(Protocol):
    def pids(self) -> list[int]:
        """proc_listallpids: every process, zombies and the kernel's own (0) among them."""
        ...

    def pid_info(self, pid: int, flavor: int, argument: int, size: int) -> bytes:
        """proc_pidinfo."""
        ...

    def rusage(self, pid: int, flavor: int, size: int) -> bytes:
        """proc_pid_rusage."""
        ...

    def sysctl(self, name: tuple[int, ...]) -> bytes: ...

    def sysctl_by_name(self, name: str) -> bytes: ...

    def session(self, pid: int) -> int:
        """getsid; 0 if the process is gone."""
        ...

    def device_name(self, device: int) -> str:
        """devname of a character device, as ps(1) asks for terminals; "" if there is none."""
        ...

    def vm_statistics(self) -> bytes:
        """host_statistics64 with HOST_VM_INFO64."""
        ...

    def page_size(self) -> int:
        """Of the kernel, which vm_statistics counts in. Under Rosetta that of the asking process is smaller."""
        ...


class System:
    """This Mac. libSystem has all of the calls (libproc is in it)."""

    def __init__(self) -> None:
        self._lib = lib = ctypes.CDLL("/usr/lib/libSystem.B.dylib", use_errno=True)
        lib.proc_listallpids.argtypes = (c_void_p, c_int)
        lib.proc_pidinfo.argtypes = (c_int, c_int, c_uint64, c_void_p, c_int)
        lib.proc_pid_rusage.argtypes = (c_int, c_int, c_void_p)
        lib.sysctl.argtypes = (c_void_p, c_uint32, c_void_p, c_void_p, c_void_p, c_size_t)
        lib.sysctlnametomib.argtypes = (c_char_p, c_void_p, c_void_p)
        lib.host_statistics64.argtypes = (c_uint32, c_int, c_void_p, c_void_p)
        lib.devname.argtypes = (c_int32, c_uint16)
        lib.devname.restype = c_char_p
        lib.mach_host_self.restype = c_uint32
        # Each call of mach_host_self takes another reference on the port.
        self._host = lib.mach_host_self()

    def pids(self) -> list[int]:
        count = self._lib.proc_listallpids(None, 0)
        for _ in range(_TRIES):
            room = max(count, 0) + _SLACK
            buffer = (c_int * room)()
            count = self._lib.proc_listallpids(buffer, ctypes.sizeof(buffer))
            if count < room:
                break
        return list(buffer[: max(count, 0)])

    def pid_info(self, pid: int, flavor: int, argument: int, size: int) -> bytes:
        buffer = ctypes.create_string_buffer(size)
        got = self._lib.proc_pidinfo(pid, flavor, argument, buffer, size)
        return buffer.raw[: max(got, 0)]

    def rusage(self, pid: int, flavor: int, size: int) -> bytes:
        buffer = ctypes.create_string_buffer(size)
        return buffer.raw if self._lib.proc_pid_rusage(pid, flavor, buffer) == 0 else b""

    def sysctl(self, name: tuple[int, ...]) -> bytes:
        """Nothing if it fills the buffer to the end: KERN_PROCARGS2 then gives the end of the area, not its start
        (sysctl_procargsx in bsd/kern/kern_sysctl.c)."""
        mib = (c_int * len(name))(*name)
        for _ in range(_TRIES):
            size = c_size_t(0)
            if self._lib.sysctl(mib, len(name), None, byref(size), None, 0) != 0:
                return b""
            room = size.value + size.value // 8 + _SLACK
            buffer = ctypes.create_string_buffer(room)
            size.value = room
            if self._lib.sysctl(mib, len(name), buffer, byref(size), None, 0) == 0 and size.value < room:
                return buffer.raw[: size.value]
        return b""

    def sysctl_by_name(self, name: str) -> bytes:
        mib, length = (c_int * 12)(), c_size_t(12)
        if self._lib.sysctlnametomib(name.encode(), mib, byref(length)) != 0:
            return b""
        return self.sysctl(tuple(mib[: length.value]))

    def session(self, pid: int) -> int:
        try:
            return os.getsid(pid)
        except OSError:
            return 0

    def device_name(self, device: int) -> str:
        """A dev_t is a signed number of 32 bits, a mode_t has 16."""
        found = self._lib.devname(c_int32(device).value, stat.S_IFCHR)
        return found.decode("utf-8", "replace") if found else ""

    def vm_statistics(self) -> bytes:
        buffer = ctypes.create_string_buffer(ctypes.sizeof(VmStatistics))
        count = c_uint32(len(buffer.raw) // 4)
        if self._lib.host_statistics64(self._host, HOST_VM_INFO64, buffer, byref(count)) != 0:
            return b""
        return buffer.raw[: count.value * 4]

    def page_size(self) -> int:
        return c_size_t.in_dll(self._lib, "vm_kernel_page_size").value
