"""The rung of a tree in control groups: one folder per hierarchy (v2, v1, or v2 for the kill and v1 for the limits).

Memory limits are the kernel's. Its OOM killer takes one process on v1, where an eventfd tells of it; the shim kills
the rest of the tree. Standard library only.
"""

from __future__ import annotations

import os
import sys

assert sys.platform == "linux"

from oomless.platform import cgroup, proc
from oomless.platform.pss import measure_pss
from oomless.processes.ids import ProcessId


class Cgroups:
    """``paths``: the tree's own folders by controller, ``""`` for the v2 tree. ``limit`` in bytes, ``processes`` as a
    count; None: no such limit."""

    reachable = True

    def __init__(self, name: str, paths: dict[str, str], limit: int | None, processes: int | None) -> None:
        self.name = name
        self.paths = paths
        self._limit = limit
        self._max_processes = processes
        self._memory: cgroup.CgroupV1Memory | cgroup.CgroupV2 | None = None
        if "memory" in paths:
            self._memory = cgroup.CgroupV1Memory(paths["memory"])
        self._entries: list[int] = []
        self._born_inside = False
        self._events: list[int] = []
        self._sampled_peak = 0
        self.source = "pss"

    @property
    def kernel_limit(self) -> bool:
        return self._memory is not None

    def make(self) -> None:
        try:
            for path in self.paths.values():
                cgroup.make(path)
            if "" in self.paths:
                self._take_v2(cgroup.CgroupV2(self.paths[""]))
            if self._memory is not None:
                self.source = "cgroup"
                if self._limit is not None:
                    self._memory.set_limit(self._limit)
                    self._events = [self._memory.watch_oom()]
            if self._max_processes is not None and (pids := cgroup.CgroupPids.of(self.paths)) is not None:
                pids.set_limit(self._max_processes)
            self._entries += [cgroup.open_entry(path, controller) for controller, path in self.paths.items()]
        except OSError:
            self.close()
            self.remove()
            raise

    def _take_v2(self, group: cgroup.CgroupV2) -> None:
        if not group.has_kill:
            raise OSError(95, "this kernel has no cgroup.kill", group.folder)
        if self._memory is None and group.has_memory:
            self._memory = group

    def fork(self) -> int:
        if "" not in self.paths:
            return os.fork()
        self._born_inside = True
        try:
            return proc.fork_into(self.paths[""])
        except OSError:
            self._born_inside = False
            return os.fork()

    def enter(self) -> None:
        for controller, fd in zip(self.paths, self._entries, strict=True):
            if controller or not self._born_inside:
                os.write(fd, b"0")

    def root(self, forked: int) -> int:
        return forked

    def events(self) -> list[int]:
        return self._events

    def breach(self) -> str | None:
        killed = self._memory is not None and self._memory.oom_kills()
        return "the kernel killed it at its memory limit" if killed else None

    def _pids(self) -> list[int]:
        return sorted({pid for path in self.paths.values() for pid in cgroup.pids_in(path)})

    def members(self) -> list[ProcessId]:
        return list(map(ProcessId.of, self._stats()))

    def _stats(self) -> list[proc.Stat]:
        return [stat for pid in self._pids() if (stat := proc.read_stat(pid)) and stat.alive]

    def usage(self) -> int:
        if self._memory is not None:
            return self._memory.used() or 0
        used, source = measure_pss(self._stats())
        if used > self._sampled_peak:
            self._sampled_peak, self.source = used, source
        return used

    def resident(self) -> int:
        return sum(stat.rss_bytes for stat in self._stats())

    def processes(self) -> int:
        return len(self._pids())

    def peak(self) -> int:
        return (self._memory.peak() or 0) if self._memory is not None else self._sampled_peak

    def disband(self) -> None:
        pass

    def kill(self) -> None:
        cgroup.kill_members(self.paths)

    def join(self, pid: int, controller: str) -> None:
        cgroup.move(pid, self.paths[controller])

    def release(self, pids: list[int]) -> None:
        cgroup.release(self.paths, pids)

    def remove(self) -> bool:
        removed = [cgroup.remove(path) for path in self.paths.values()]
        return all(removed)

    def close(self) -> None:
        for fd in self._entries:
            os.close(fd)
        self._entries = []
        if self._memory is not None:
            self._memory.close()
        self._events = []
