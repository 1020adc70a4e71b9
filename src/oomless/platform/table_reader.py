"""The process table once a tick, read cheaply: one ``pread`` a process, on descriptors that are kept.

Keeping ``/proc/N/stat`` open saves its opening and closing, four fifths of what a reading costs, and a line that
reads as it did before is not parsed again (most processes sleep). At most half of the descriptors that this process
may have are kept; for later processes the file is opened each time. A kept descriptor belongs to its process and not
to the number: once that process is gone reading gives ESRCH, also when the number is in use again.
"""

from __future__ import annotations

import os
import resource
import sys

assert sys.platform == "linux"

from oomless.platform import proc
from oomless.platform.proc import Stat

#: What is needed of a line is in its first 24 fields.
_LINE = 1024


class _Entry:
    """``fd`` is -1 beyond the bound."""

    __slots__ = ("fd", "raw", "stat")

    def __init__(self, fd: int, raw: bytes, stat: Stat) -> None:
        self.fd, self.raw, self.stat = fd, raw, stat


class TableReader:
    """``most``: how many descriptors may be kept. Close it."""

    def __init__(self, most: int | None = None) -> None:
        self._free = resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2 if most is None else most
        self._kept: dict[str, _Entry] = {}

    def read(self) -> dict[int, Stat]:
        """All processes by pid, zombies included. Processes that vanish or may not be read are not in it."""
        kept, table, pread = self._kept, {}, os.pread
        names = os.listdir("/proc")
        for name in names:
            entry = kept.get(name)
            if entry is None:
                if name.isdigit() and (entry := self._open(name)) is not None:
                    table[entry.stat.pid] = entry.stat
                continue
            try:
                raw = pread(entry.fd, _LINE, 0) if entry.fd >= 0 else _read(name)
                if raw != entry.raw:
                    entry.raw, entry.stat = raw, Stat(raw)
            except (OSError, ValueError, IndexError):
                self._close(name)
                entry = self._open(name)  # another process may have the number by now
                if entry is None:
                    continue
            table[entry.stat.pid] = entry.stat
        if len(table) < len(kept):
            for name in kept.keys() - set(names):
                self._close(name)
        return table

    def _open(self, name: str) -> _Entry | None:
        try:
            fd = os.open(f"/proc/{name}/stat", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            raw = os.pread(fd, _LINE, 0)
            entry = _Entry(-1, raw, Stat(raw))
        except (OSError, ValueError, IndexError):
            os.close(fd)
            return None
        if self._free > 0:
            self._free -= 1
            entry.fd = fd
        else:
            os.close(fd)
        self._kept[name] = entry
        return entry

    def _close(self, name: str) -> None:
        entry = self._kept.pop(name)
        if entry.fd >= 0:
            os.close(entry.fd)
            self._free += 1

    def close(self) -> None:
        for name in tuple(self._kept):
            self._close(name)


def _read(name: str) -> bytes:
    return proc.read_file(f"/proc/{name}/stat") or b""
