"""What is alive of a dead session, and whom of it ``left.judge`` spares: the facts about each are read here.

Used to end it (``clearing.py``) and only to tell of it (``leftovers.py``). What was found out about somebody stays
so, but what a look may still turn against them is read anew on request.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping

assert sys.platform == "linux"

from oomless import catalog
from oomless.census.snapshot import marks_of
from oomless.contain.shells.detached import ignores_hangup
from oomless.daemon.sessions.programs import known_programs
from oomless.hosts.mcp_configs import Reader
from oomless.hosts.mcp_entries import Entries
from oomless.platform import proc
from oomless.platform.sockets import listeners
from oomless.processes.command import is_crash_handler, is_driven
from oomless.processes.descent import DAEMON, Facts, Memory, Trees, Who, judge
from oomless.redact import command_line

_COMMAND_KEPT = 200


class Remains:
    """``spared`` and ``commands`` are of the last look."""

    def __init__(self, memory: Memory, trees: Trees) -> None:
        self.memory = memory
        self.commands: dict[Who, str] = {}
        self.spared: dict[Who, str] = {}
        self._trees = trees
        self._facts: dict[Who, Facts] = {}
        self._entries: Entries | None = None
        self._meant: dict[Who, str] = {}

    def look(
        self, table: dict[int, proc.Stat] | None = None, *, anew: bool = False, also: Mapping[Who, str] | None = None
    ) -> dict[Who, proc.Stat]:
        """Who lives and is not spared. ``anew``: the facts are read again. ``also``: who else is spared, and why."""
        table = proc.table() if table is None else table
        self.memory.look(table, self._trees.roots())
        found = self.memory.candidates(table)
        found = {who: s for who, s in found.items() if who[0] != os.getpid() and not self._trees.holds(who[0])}
        for who, stat in found.items():
            if who not in self._facts or (anew and who not in self.spared):
                argv = tuple(proc.cmdline(who[0]))
                self._facts[who] = _read(stat, argv)
                self._meant[who] = self._of_settings(argv)
                self.tell(who, argv, stat)
        traces = self.memory.traces
        before = self.spared | {who: why for who, why in (also or {}).items() if who in found}
        before |= {who: why for who, why in self._meant.items() if why and who in found}
        daemons = (who for who in self.memory.daemons if who in found and not self._facts[who].handler)
        before |= dict.fromkeys(daemons, DAEMON)
        self.spared = judge(traces, {who: f for who, f in self._facts.items() if who in traces}, before)
        return {who: stat for who, stat in found.items() if who not in self.spared}

    def _of_settings(self, argv: tuple[str, ...]) -> str:
        """Why a host's settings have it go on by themselves, or ""."""
        if self._entries is None:
            self._entries = Entries(Reader().read())
        entry = self._entries.of(argv)
        return entry.meant if entry is not None else ""

    def tell(self, who: Who, argv: tuple[str, ...], stat: proc.Stat) -> None:
        """How it is called from now on."""
        self.commands[who] = (command_line(argv) or stat.comm)[:_COMMAND_KEPT]


def _read(stat: proc.Stat, argv: tuple[str, ...]) -> Facts:
    known = known_programs().recognise(argv) if argv else None
    program = known.program if known is not None else None
    return Facts(
        sid=stat.sid,
        leads=stat.sid == stat.pid,
        ignores_hangup=ignores_hangup(stat.pid),
        listens=stat.pid in listeners((stat.pid,)),
        protected=program.title if program is not None and program.kind in catalog.PROTECTED else "",
        host=program is not None and program.host,
        driven=program is not None and program.kind == "browser" and is_driven(argv),
        handler=is_crash_handler(argv),
        apart=stat.sid == stat.pid and _has_servers_marks(stat.pid),
    )


def _has_servers_marks(pid: int) -> bool:
    """Those that Claude Code gives to its stdio servers, which it starts in its own process session."""
    entries = proc.environ(pid).decode("utf-8", "replace").split("\0")
    marks = marks_of(dict(entry.partition("=")[::2] for entry in entries))
    return marks.project and bool(marks.session) and not marks.host_pid
