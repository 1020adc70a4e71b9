"""The looks at the process table: one reading for all who remember lineage, once a second while there is a reason.

A reason is a host's session, registered or not, something that such a one left, or a governed tree. Else every five
seconds is enough to notice a host. Whoever needs to know at once (a registration, a death, a view) asks for a look.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Container, Mapping
from typing import Protocol

assert sys.platform == "linux"

from oomless.daemon.sessions.fork_tracker import BirthWatch
from oomless.platform.proc import Stat
from oomless.processes.descent import Trees, Who
from oomless.processes.table import Sampler

EVERY = 1.0
IDLE_EVERY = 5.0


class Eye(Protocol):
    """``bool``: it has a reason to look often."""

    def __bool__(self) -> bool: ...

    def look(
        self,
        table: Mapping[int, Stat],
        ours: set[Who],
        lines: Mapping[int, tuple[int, ...]],
        executed: Container[int] = (),
    ) -> None: ...


class Lookout:
    """``busy``: whether there is a reason beside those of the eyes."""

    def __init__(self, trees: Trees, busy: Callable[[], bool]) -> None:
        self._trees = trees
        self._busy = busy
        self._eyes: tuple[Eye, ...] = ()
        self._sampler = Sampler()
        self._births = BirthWatch(self._soon)
        self._timer: asyncio.TimerHandle | None = None
        self._open = self._looking = False

    def start(self, *eyes: Eye) -> None:
        self._eyes = eyes
        self._open = True
        self.now()

    def now(self) -> None:
        """Does nothing if what a look has found asks for one."""
        if not self._open or self._looking:
            return
        self._cancel()
        self._looking = True
        try:
            lines, executed = self._births.drain()
            table, ours = self._sampler.look(), self._trees.roots()
            for eye in self._eyes:
                eye.look(table, ours, lines, executed)
            self._births.looked()
        finally:
            self._looking = False
        hosted = any(self._eyes)
        self._births.want(hosted)
        every = EVERY if hosted or self._busy() else IDLE_EVERY
        self._timer = asyncio.get_running_loop().call_later(every, self.now)

    def _soon(self) -> None:
        if self._open:
            self._cancel()
            self._timer = asyncio.get_running_loop().call_later(0, self.now)

    def _cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def stop(self) -> None:
        self._open = False
        self._cancel()
        self._births.close()
        self._sampler.close()
