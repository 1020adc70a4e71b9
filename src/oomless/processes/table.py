"""The process table once a tick, read cheaply: one ``pread`` a process, on descriptors that are kept.

Keeping ``/proc/N/stat`` open saves its opening and closing, four fifths of what a reading costs, and a line that
reads as it did before is not parsed again (most processes sleep). At most half of the descriptors that this process
may have are kept; whoever comes later is opened anew each time. A kept descriptor belongs to its process and not to
the number: once that process is gone reading gives ESRCH, also when the number is in use again. Not here: what is
made of the table (``processes/descent.py``), and command lines and environments (``platform/proc.py``).
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


class _Kept:
    """``fd`` is -1 beyond the bound."""

    __slots__ = ("fd", "raw", "stat")

    def __init__(self, fd: int, raw: bytes, stat: Stat) -> None:
        self.fd, self.raw, self.stat = fd, raw, stat


class Sampler:
    """``most``: how many descriptors may be kept. Close it."""

    def __init__(self, most: int | None = None) -> None:
        self._free = resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2 if most is None else most
        self._kept: dict[str, _Kept] = {}

    def look(self) -> dict[int, Stat]:
        """All processes by pid, zombies included. What vanishes or may not be read is not in it."""
        kept, found, pread = self._kept, {}, os.pread
        names = os.listdir("/proc")
        for name in names:
            one = kept.get(name)
            if one is None:
                if name.isdigit() and (one := self._open(name)) is not None:
                    found[one.stat.pid] = one.stat
                continue
            try:
                raw = pread(one.fd, _LINE, 0) if one.fd >= 0 else _read(name)
                if raw != one.raw:
                    one.raw, one.stat = raw, Stat(raw)
            except (OSError, ValueError, IndexError):
                self._close(name)
                one = self._open(name)  # another process may have the number by now
                if one is None:
                    continue
            found[one.stat.pid] = one.stat
        if len(found) < len(kept):
            for name in kept.keys() - set(names):
                self._close(name)
        return found

    def _open(self, name: str) -> _Kept | None:
        try:
            fd = os.open(f"/proc/{name}/stat", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            raw = os.pread(fd, _LINE, 0)
            one = _Kept(-1, raw, Stat(raw))
        except (OSError, ValueError, IndexError):
            os.close(fd)
            return None
        if self._free > 0:
            self._free -= 1
            one.fd = fd
        else:
            os.close(fd)
        self._kept[name] = one
        return one

    def _close(self, name: str) -> None:
        one = self._kept.pop(name)
        if one.fd >= 0:
            os.close(one.fd)
            self._free += 1

    def close(self) -> None:
        for name in tuple(self._kept):
            self._close(name)


def _read(name: str) -> bytes:
    return proc.read_file(f"/proc/{name}/stat") or b""
