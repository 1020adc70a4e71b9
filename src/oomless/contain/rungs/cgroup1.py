"""The v1 memory and pids controllers of one tree.

``memory.limit_in_bytes`` is enforced by the kernel: measured, it never overshoots. Its OOM killer takes one
process; an eventfd on ``memory.oom_control`` tells us, and the shim ends the whole tree. ``pids.max`` = 0 stops
all forks, which makes a kill by listing certain. Standard library only.
"""

from __future__ import annotations

import os
import sys

assert sys.platform == "linux"

from oomless.lean import signal
from oomless.platform import files, proc


class Memory1:
    def __init__(self, path: str) -> None:
        self.path = path
        self._oom_fd: int | None = None

    def make(self, limit: int | None) -> None:
        os.makedirs(self.path, mode=0o755, exist_ok=True)
        if limit is not None:
            files.write(f"{self.path}/memory.limit_in_bytes", str(limit))
            # Only after the plain limit, and only where swap is accounted.
            files.try_write(f"{self.path}/memory.memsw.limit_in_bytes", str(limit))
            self._oom_fd = self._watch()

    def _watch(self) -> int:
        """An eventfd that fires when the kernel runs out of memory in here (cgroup-v1 memory.txt, part 10)."""
        event = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        control = os.open(f"{self.path}/memory.oom_control", os.O_RDONLY | os.O_CLOEXEC)
        try:
            files.write(f"{self.path}/cgroup.event_control", f"{event} {control}")
        finally:
            os.close(control)
        return event

    def events(self) -> list[int]:
        return [] if self._oom_fd is None else [self._oom_fd]

    def oom_kills(self) -> int:
        if self._oom_fd is not None:
            try:
                os.eventfd_read(self._oom_fd)
            except BlockingIOError:
                pass
        return files.read_field(f"{self.path}/memory.oom_control", "oom_kill") or 0

    def usage(self) -> int:
        used = files.read_int(f"{self.path}/memory.usage_in_bytes") or 0
        return max(0, used - (files.read_field(f"{self.path}/memory.stat", "total_inactive_file") or 0))

    def peak(self) -> int:
        return files.read_int(f"{self.path}/memory.max_usage_in_bytes") or 0

    def close(self) -> None:
        if self._oom_fd is not None:
            os.close(self._oom_fd)
            self._oom_fd = None


class Pids1:
    def __init__(self, path: str) -> None:
        self.path = path

    def make(self, processes: int | None) -> None:
        os.makedirs(self.path, mode=0o755, exist_ok=True)
        if processes is not None:
            files.write(f"{self.path}/pids.max", str(processes))

    def stop_forks(self) -> None:
        files.try_write(f"{self.path}/pids.max", "0")


def kill_listed(path: str, controller: str) -> None:
    """SIGKILL for each pid listed in a v1 cgroup, once it is verified, pidfd in hand, that it is (still) in there."""
    name = os.path.basename(path)
    for pid in files.procs(path):
        try:
            fd = os.pidfd_open(pid)
        except OSError:
            continue
        try:
            if name in proc.cgroups(pid).get(controller, "").split("/"):
                signal.pidfd_send_signal(fd, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            continue  # gone, or not ours: then it is named as a survivor
        finally:
            os.close(fd)
