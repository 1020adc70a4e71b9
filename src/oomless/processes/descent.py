"""Who descends from a session's process, remembered while it lives: pure, over readings of the process table.

Descent cannot be seen after the fact: whoever loses its parent is a child of init. So ``Descendants`` is shown the
table once a second, and what the kernel's fork events say of parents that came and went in between. Which of the
descendants are leftovers is decided in ``detach.py``. Standard library only.
"""

from __future__ import annotations

import sys
from typing import NamedTuple

assert sys.platform == "linux"

from oomless.processes.descendants import alive
from oomless.processes.ids import ProcessId

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container, Mapping

    from oomless.platform.system import Stat


class Descent(NamedTuple):
    """How a process descends from the session's.

    ``above`` are the processes in between, the direct child first; their start time is 0 if they were gone before any
    sample and only an event named them. ``shell_sid`` is the process session of the tool shell that it is or is
    below, None below a server.
    """

    above: tuple[ProcessId, ...]
    shell_sid: int | None


class Descendants:
    """The living descendants of one process, also those that lost their parents since they were first seen.

    ``daemons`` are descendants of servers that made themselves daemons while their server lived. ``governed`` are the
    descendants that are in a governed tree: they belong to it and not to the session.
    """

    def __init__(self, root: ProcessId) -> None:
        self.root = root
        self.descents: dict[ProcessId, Descent] = {}
        self.daemons: set[ProcessId] = set()
        self.governed: set[ProcessId] = set()
        self._sid = 0
        self._birth: tuple[int, ...] | None = None

    def observe(
        self,
        table: Mapping[int, Stat],
        governed: Container[ProcessId] = (),
        lines: Mapping[int, tuple[int, ...]] | None = None,
    ) -> None:
        """Takes one reading of the table. ``governed`` are shims and requesters of governed trees. ``lines`` are the
        ancestors of each process born since the last reading, by pid, the nearest last (``processes/forks.py``)."""
        children: dict[int, list[Stat]] = {}
        for stat in table.values():
            children.setdefault(stat.ppid, []).append(stat)
        known, self.descents = self.descents, {}
        root = table.get(self.root.pid)
        if root is not None and root.start == self.root.start:
            self._sid, self._birth = root.sid, (lines or {}).get(root.pid)
            for child in _children_of(root, children):
                self._add(child, Descent(above=(), shell_sid=child.sid if child.sid == child.pid else None), children)
        # Oldest first: a process that was seen with its parents has the fuller line.
        for process, descent in known.items():
            current = table.get(process.pid)
            if process not in self.descents and current is not None and current.start == process.start:
                if not descent.above and current.sid == current.pid:  # first seen between fork and setsid
                    descent = Descent(above=(), shell_sid=current.sid)
                self._add(current, descent, children)
        self._add_newborn(table, lines or {}, known, children)
        self._add_shell_companions(table, children)
        self._find_daemons(table)
        self._find_governed(governed)

    def _add(self, stat: Stat, descent: Descent, children: Mapping[int, list[Stat]]) -> None:
        """Adds the process and all that is below it now."""
        todo = [(stat, descent)]
        while todo:
            stat, descent = todo.pop()
            process = ProcessId.of(stat)
            if process in self.descents or process == self.root:
                continue
            self.descents[process] = descent
            below = Descent(above=(*descent.above, process), shell_sid=descent.shell_sid)
            todo += [(child, below) for child in _children_of(stat, children)]

    def _add_newborn(
        self,
        table: Mapping[int, Stat],
        lines: Mapping[int, tuple[int, ...]],
        known: Mapping[ProcessId, Descent],
        children: Mapping[int, list[Stat]],
    ) -> None:
        """Adds processes whose parents came and went since the last sample."""
        anchors = {process.pid: process for process in known if process.pid not in lines}
        root = table.get(self.root.pid)
        birth = lines.get(self.root.pid)
        same_root = birth is None or birth is self._birth  # the event itself: else the pid is in use again
        if same_root or (root is not None and root.start == self.root.start):
            anchors[self.root.pid] = self.root
        for pid, line in lines.items():
            stat = table.get(pid)
            if stat is not None and stat.alive and (pid, stat.start) not in self.descents:
                descent = self._descent_by_line(stat, line, anchors, known)
                if descent is not None:
                    self._add(stat, descent, children)

    def _descent_by_line(
        self,
        stat: Stat,
        line: tuple[int, ...],
        anchors: Mapping[int, ProcessId],
        known: Mapping[ProcessId, Descent],
    ) -> Descent | None:
        """Returns the descent along ``line`` up to the nearest known process.

        What is in the session's own process session is not of a tool shell. Whatever else a vanished parent left
        counts as a shell's, which is spared in doubt.
        """
        for index in range(len(line) - 1, -1, -1):
            gone = tuple(ProcessId(pid, 0) for pid in line[index + 1 :])
            anchor = anchors.get(line[index])
            if anchor is None or anchor.start > stat.start:
                continue
            if anchor != self.root:
                descent = known[anchor]
                return Descent(above=(*descent.above, anchor, *gone), shell_sid=descent.shell_sid)
            top = gone[0].pid if gone else stat.pid
            return Descent(above=gone, shell_sid=None if stat.sid == self._sid else top)
        return None

    def _add_shell_companions(self, table: Mapping[int, Stat], children: Mapping[int, list[Stat]]) -> None:
        """Adds whoever is in the process session of a tool shell: the only way into one is by birth, and its number
        is not reused while it has members, which the samples have seen it to have without a break."""
        shells = {
            descent.shell_sid: (descent.above or (process,))[0]
            for process, descent in self.descents.items()
            if descent.shell_sid is not None and table[process.pid].sid == descent.shell_sid
        }
        for stat in table.values():
            shell = shells.get(stat.sid)
            if shell is not None and (stat.pid, stat.start) not in self.descents and stat.start >= shell.start:
                self._add(stat, Descent(above=(shell,), shell_sid=stat.sid), children)

    def _find_daemons(self, table: Mapping[int, Stat]) -> None:
        """A server's browser has a process session of its own too, but stays its parent's child; what an ending
        server leaves behind loses its parent together with it."""
        self.daemons &= self.descents.keys()
        if not alive(self.root, table):
            return
        for process, descent in self.descents.items():
            stat = table[process.pid]
            below_server = descent.shell_sid is None and descent.above
            if below_server and stat.ppid != descent.above[-1].pid and stat.sid != self._sid:
                leader = table.get(stat.sid)
                leaderless = stat.sid == stat.pid or leader is None or not leader.alive
                if leaderless and alive(descent.above[0], table):
                    self.daemons.add(process)

    def _find_governed(self, governed: Container[ProcessId]) -> None:
        """A tree's processes stay governed after their shim is gone."""
        before, self.governed = self.governed, set()
        if governed or before:
            self.governed = {
                process
                for process, descent in self.descents.items()
                if any(one in governed or one in before for one in (process, *descent.above))
            }

    def living(self, table: Mapping[int, Stat]) -> dict[ProcessId, Stat]:
        """Returns the descendants of the last sample that live and are in no governed tree."""
        return {
            process: table[process.pid]
            for process in self.descents
            if process not in self.governed and alive(process, table)
        }


def _children_of(stat: Stat, children: Mapping[int, list[Stat]]) -> list[Stat]:
    """The table is read entry by entry, so a pid may be reused meanwhile: a parent younger than its child is none."""
    return [child for child in children.get(stat.pid, ()) if child.start >= stat.start]
