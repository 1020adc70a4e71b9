"""The rung of a tree that is known by descent from its shim alone: works everywhere on Linux, for everybody.

Standard library only.
"""

from __future__ import annotations

import os
import sys

assert sys.platform == "linux"

from oomless.contain.rungs.base import SUBREAPER
from oomless.platform import proc
from oomless.platform.pss import measure_pss
from oomless.processes import descendants
from oomless.processes.ids import ProcessId

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection


class Subreaper:
    """Memory is the sum of PSS, taken when the much cheaper sum of RSS (never smaller) says that it could matter.
    ``skip``: children that the shim's process had before it became the shim; they and theirs are not of the tree.
    ``enough``: processes are counted no further than that, for a fork bomb grows while it is counted."""

    name = SUBREAPER
    kernel_limit = False
    reachable = False

    def __init__(self, skip: Collection[ProcessId] = (), enough: int | None = None) -> None:
        self.paths: dict[str, str] = {}
        self.source = "pss"
        self._enough = enough
        self._own = os.getpid()
        self._skip = skip
        self._killer = descendants.DescentKiller(self._own, skip)
        self._peak = 0

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

    def members(self) -> list[ProcessId]:
        return list(map(ProcessId.of, self._stats()))

    def _stats(self, enough: int | None = None) -> list[proc.Stat]:
        return descendants.walk(self._own, self._skip, enough)

    def usage(self) -> int:
        used, source = measure_pss(self._stats())
        if used > self._peak:
            self._peak, self.source = used, source
        return used

    def resident(self) -> int:
        return sum(stat.rss_bytes for stat in self._stats())

    def processes(self) -> int:
        return len(self._stats(self._enough))

    def peak(self) -> int:
        return self._peak

    def disband(self) -> None:
        pass

    def kill(self) -> None:
        self._killer.round()

    def join(self, pid: int, controller: str) -> None:
        pass

    def release(self, pids: list[int]) -> None:
        pass

    def remove(self) -> bool:
        return True

    def close(self) -> None:
        pass
