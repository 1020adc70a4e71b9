"""The rungs themselves: a tree in cgroups (v2, v1, or v2 for the kill and v1 for the limits), and a tree without.

Which one a machine offers is decided in ``ladder.py``, by the daemon; the shim builds what it was told with
``build`` and falls through to ``Subreaper`` with a reason if that fails. Standard library only.
"""

from __future__ import annotations

import os
import sys

assert sys.platform == "linux"

from oomless.contain.limits.process_limit import far_over
from oomless.contain.rungs.cgroup1 import Memory1, Pids1, kill_listed
from oomless.contain.rungs.cgroup2 import Unified
from oomless.platform import files, proc
from oomless.platform.pss import measured
from oomless.processes import descendants

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection

    from oomless.contain.rungs.base import Rung

PAGE = os.sysconf("SC_PAGE_SIZE")


class Cgroups:
    """A tree named by one directory per hierarchy. ``paths``: by controller, ``""`` for the v2 tree."""

    reachable = True

    def __init__(self, name: str, paths: dict[str, str], limit: int | None, processes: int | None) -> None:
        self.name = name
        self._limit = limit
        self._max_processes = processes
        self._unified = Unified(paths[""]) if "" in paths else None
        self._memory = Memory1(paths["memory"]) if "memory" in paths else None
        self._pids = Pids1(paths["pids"]) if "pids" in paths else None
        self.paths = paths
        self._entries: list[int] = []
        self._born_inside = False
        self._events: list[int] = []
        self._sampled_peak = 0
        self.kernel_limit = self._memory is not None
        self.source = "cgroup" if self.kernel_limit else "pss"

    def make(self) -> None:
        try:
            if self._unified:
                self._unified.make(self._limit, self._max_processes)
                if self._unified.has_memory:
                    self.kernel_limit, self.source = True, "cgroup"
            if self._memory:
                self._memory.make(self._limit)
                self._events = self._memory.events()
            elif self._unified and self._unified.has_memory and self._limit is not None:
                self._events = [os.open(self._unified.events(), os.O_RDONLY | os.O_CLOEXEC)]
            if self._pids:
                self._pids.make(self._max_processes)
            for controller, path in self.paths.items():
                # v1 moves one thread, which is all that a forked process has, without waiting for all processors.
                entry = "tasks" if controller else "cgroup.procs"
                self._entries.append(os.open(f"{path}/{entry}", os.O_WRONLY | os.O_CLOEXEC))
        except OSError:
            self.close()
            self.remove()
            raise

    def fork(self) -> int:
        if self._unified is None:
            return os.fork()
        self._born_inside = True
        try:
            return proc.fork_into(self._unified.path)
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
        kills = self._memory.oom_kills() if self._memory else self._unified.oom_kills() if self._unified else 0
        return "the kernel ended it at its memory limit" if kills else None

    def _listed(self) -> list[int]:
        return sorted({pid for path in self.paths.values() for pid in files.procs(path)})

    def members(self) -> list[tuple[int, int]]:
        return [(stat.pid, stat.start) for stat in self._stats()]

    def _stats(self) -> list[proc.Stat]:
        return [stat for pid in self._listed() if (stat := proc.read_stat(pid)) and stat.alive]

    def usage(self) -> int:
        if self._memory:
            return self._memory.usage()
        if self._unified and self._unified.has_memory:
            return self._unified.usage()
        used, source = measured(self._stats())
        if used > self._sampled_peak:
            self._sampled_peak, self.source = used, source
        return used

    def resident(self) -> int:
        return sum(stat.rss_pages for stat in self._stats()) * PAGE

    def processes(self) -> int:
        return len(self._listed())

    def peak(self) -> int:
        if self._memory:
            return self._memory.peak()
        return self._unified.peak() if self._unified and self._unified.has_memory else self._sampled_peak

    def disband(self) -> None:
        pass

    def kill(self) -> None:
        if self._unified:
            self._unified.kill()
            return
        if self._pids:
            self._pids.stop_forks()
        for controller, path in self.paths.items():
            kill_listed(path, controller)

    def release(self, pids: list[int]) -> None:
        files.release(self.paths, pids, own_groups())

    def remove(self) -> bool:
        removed = [files.remove_cgroup(path) for path in self.paths.values()]
        return all(removed)

    def close(self) -> None:
        for fd in self._entries:
            os.close(fd)
        self._entries = []
        if self._memory:
            self._memory.close()
        elif self._events:
            os.close(self._events[0])
        self._events = []


class Subreaper:
    """A tree known by descent from its shim alone; works everywhere on Linux, for everybody. Memory is the sum of
    PSS, taken when the much cheaper sum of RSS (never smaller) says that it could matter. ``limit``: on processes; a
    fork bomb that is far over it grows while it is counted, so that it is not counted to its end."""

    name = "subreaper"
    kernel_limit = False
    reachable = False

    def __init__(self, skip: Collection[tuple[int, int]] = (), limit: int | None = None) -> None:
        self._enough = None if limit is None else far_over(limit)
        self.paths: dict[str, str] = {}
        self._own = os.getpid()
        self._skip = skip
        self._hunt = descendants.Hunt(self._own, skip)
        self._peak = 0
        self.source = "pss"

    def make(self) -> None:
        if not proc.become_subreaper():
            raise OSError(22, "this kernel has no child subreaper")

    def fork(self) -> int:
        return os.fork()

    def enter(self) -> None:
        pass

    def root(self, forked: int) -> int:
        return forked

    def events(self) -> list[int]:
        return []

    def breach(self) -> str | None:
        return None

    def members(self) -> list[tuple[int, int]]:
        return [(stat.pid, stat.start) for stat in self._stats()]

    def _stats(self, enough: int | None = None) -> list[proc.Stat]:
        return descendants.walk(self._own, self._skip, enough)

    def usage(self) -> int:
        used, source = measured(self._stats())
        if used > self._peak:
            self._peak, self.source = used, source
        return used

    def resident(self) -> int:
        return sum(stat.rss_pages for stat in self._stats()) * PAGE

    def processes(self) -> int:
        return len(self._stats(self._enough))

    def peak(self) -> int:
        return self._peak

    def disband(self) -> None:
        pass

    def kill(self) -> None:
        self._hunt.round()

    def release(self, pids: list[int]) -> None:
        pass

    def remove(self) -> bool:
        return True

    def close(self) -> None:
        pass


def own_groups() -> dict[str, str]:
    """The folder of the group that this process is in, by controller: the shim is not in its own tree's."""
    from oomless.contain.rungs.choose import mounts

    mounted = mounts()
    return {name: mounted[name] + path for name, path in proc.cgroups("self").items() if name in mounted}


def build(
    name: str, paths: dict[str, str], limit: int | None, processes: int | None, skip: Collection[tuple[int, int]]
) -> Rung:
    """The rung that the daemon chose. ``skip``: children that the shim's process had before it became the shim."""
    if name == "cgroup2+systemd":
        from oomless.contain.rungs.systemd_scope import Delegated

        return Delegated(name, paths, limit, processes)
    if name == "pid-namespace":
        from oomless.contain.rungs.pid_namespace import PidNamespace  # only for who asked for it

        return PidNamespace(skip, processes)
    return Cgroups(name, paths, limit, processes) if paths else Subreaper(skip, processes)
