"""The hosts' sessions on this machine that nobody registered: found by the catalog, watched by pidfd, never ended.

While such a session lives, its lineage is remembered like a registered one's; if it registers later, that memory is
handed over. When its process dies nothing is ended: what it left is told (``leftovers.py``). Not here: which
processes are hosts (``recognise.py``), and registered sessions (``sessions/registered.py``).
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable, Container, Mapping

assert sys.platform == "linux"

from oomless.daemon.logs import Log
from oomless.daemon.sessions.ancestry_store import Lineages
from oomless.daemon.sessions.leftovers import Leftovers
from oomless.daemon.sessions.recognition import Recogniser
from oomless.platform import proc
from oomless.platform.proc import Stat
from oomless.processes.descent import Memory, Trees, Who


class Watch:
    def __init__(self, host: str, who: Who, pidfd: int, memory: Memory) -> None:
        self.host, self.who, self.pidfd, self.memory = host, who, pidfd, memory


class Unregistered:
    """``registered``: the sessions that ``sessions/registered.py`` watches, with their hosts. ``look`` asks for a
    look at the table at once."""

    def __init__(
        self,
        trees: Trees,
        registered: Callable[[], Mapping[Who, str]],
        look: Callable[[], None],
        log: Log,
        lineages: Lineages,
    ) -> None:
        self._registered = registered
        self._look = look
        self._log = log
        self._recogniser = Recogniser()
        self._watched: dict[Who, Watch] = {}
        self._lineages = lineages
        self._recalled: dict[Who, Memory] = {}
        self.left = Leftovers(trees, self.living, lineages)

    def recover(self) -> None:
        """What the daemon before has remembered: of sessions that live it is taken up when they are seen again, or
        register; what the others left is told of, also where they died while no daemon ran."""
        table = proc.table()
        for one in self._lineages.recall():
            root = one.memory.root
            stat = table.get(root[0])
            if one.died_at is None and stat is not None and stat.start == root[1] and stat.alive:
                self._recalled[root] = one.memory
            else:
                self.left.take_up(one, table)

    def __bool__(self) -> bool:
        return bool(self._watched) or bool(self.left)

    def look(
        self,
        table: Mapping[int, Stat],
        ours: set[Who],
        lines: Mapping[int, tuple[int, ...]],
        executed: Container[int] = (),
    ) -> None:
        hosts, registered = self._recogniser.look(table, executed), self._registered()
        for who, host in hosts.items():
            if who not in self._watched and who not in registered and table[who[0]].alive:
                self._watch(host, who)
        for who, watch in tuple(self._watched.items()):
            if who not in hosts and who[0] in table and table[who[0]].start == who[1]:
                self._unwatch(watch)  # it was seen between fork and exec
            else:
                watch.memory.look(table, ours, lines)
        self.left.look(table, ours, lines)

    def remembered(self) -> list[tuple[str, str, Memory]]:
        """Host, id (nobody has told it) and memory of each session that lives."""
        return [(watch.host, "", watch.memory) for watch in self._watched.values()]

    def hand_over(self, who: Who) -> Memory | None:
        """It has registered."""
        watch = self._watched.get(who)
        if watch is None:
            return self._recalled.pop(who, None)
        self._unwatch(watch)
        return watch.memory

    def living(self) -> dict[Who, str]:
        """All sessions' processes, registered or not, with their hosts."""
        return {who: watch.host for who, watch in self._watched.items()} | dict(self._registered())

    def _watch(self, host: str, who: Who) -> None:
        pidfd = proc.open_verified(*who)
        if pidfd is not None:
            memory = self._recalled.pop(who, None) or Memory(who)
            self._watched[who] = watch = Watch(host, who, pidfd, memory)
            asyncio.get_running_loop().add_reader(pidfd, self._died, watch)

    def _unwatch(self, watch: Watch) -> None:
        del self._watched[watch.who]
        asyncio.get_running_loop().remove_reader(watch.pidfd)
        os.close(watch.pidfd)

    def _died(self, watch: Watch) -> None:
        """A last look first: who was born since the one before may still be there to be seen."""
        self._look()
        if watch.who not in self._watched:
            return
        self._unwatch(watch)
        proven = self.left.add(watch.host, "", watch.memory)
        if proven:
            self._log.info(
                "a session that is not registered left processes", host=watch.host, pid=watch.who[0], processes=proven
            )

    def stop(self) -> None:
        for watch in tuple(self._watched.values()):
            self._unwatch(watch)
