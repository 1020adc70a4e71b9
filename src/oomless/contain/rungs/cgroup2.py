"""One directory of the v2 tree: membership, ``cgroup.kill`` and, where the controllers are there, limits.

Where the memory controller is still on v1 (a hybrid set-up), the v2 directory has no ``memory.*`` files; then it
names and kills the tree, and ``cgroup1`` bounds it. ``cgroup.kill`` exists since kernel 5.14, ``memory.peak``
since 5.19. Standard library only.
"""

from __future__ import annotations

import os
import sys

assert sys.platform == "linux"

from oomless.platform import files


class Unified:
    """``path`` is made by ``make`` and owned by one tree."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.has_memory = False
        self.has_pids = False

    def make(self, limit: int | None, processes: int | None) -> None:
        """Makes the directory and sets what limits it can; raises OSError."""
        os.makedirs(self.path, mode=0o755, exist_ok=True)
        if not os.path.exists(f"{self.path}/cgroup.kill"):
            raise OSError(95, "this kernel has no cgroup.kill", self.path)
        self.has_memory = os.path.exists(f"{self.path}/memory.max")
        self.has_pids = os.path.exists(f"{self.path}/pids.max")
        if limit is not None and self.has_memory:
            files.write(f"{self.path}/memory.max", str(limit))
            # With swap, memory.max alone let a 120 MB process live under 64 MiB.
            files.try_write(f"{self.path}/memory.swap.max", "0")
            files.try_write(f"{self.path}/memory.oom.group", "1")
        if processes is not None and self.has_pids:
            files.write(f"{self.path}/pids.max", str(processes))

    def usage(self) -> int:
        used = files.read_int(f"{self.path}/memory.current") or 0
        return max(0, used - (files.read_field(f"{self.path}/memory.stat", "inactive_file") or 0))

    def peak(self) -> int:
        return files.read_int(f"{self.path}/memory.peak") or 0

    def oom_kills(self) -> int:
        return files.read_field(f"{self.path}/memory.events.local", "oom_kill") or 0

    def events(self) -> str:
        """The file that polls readable (POLLPRI) when the kernel ended something here."""
        return f"{self.path}/memory.events.local"

    def kill(self) -> None:
        files.try_write(f"{self.path}/cgroup.kill", "1")
