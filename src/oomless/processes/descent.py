"""What a session leaves when its process dies, and whom of that we may end: pure, over readings of the process table.

``Memory`` looks at the table once a second while the session lives, because descent cannot be seen any more
afterwards: whoever loses its parent is below init. ``judge`` says who of those is spared. Not here: reading the facts
and ending processes (``clearing.py``), when it is done (``sessions/registered.py``), and what our own trees leave
(``contain/shells/detached.py``).

What a host starts falls in two. A *tool shell* is a direct child that leads a process session of its own; commands
left in its background stay in that session. Whatever left it, or ignores SIGHUP, was asked to outlive the session. A
*server* is any other direct child. As this session is only watched, a listening socket spares as well: someone may
be using it. So does having become a daemon below a server that went on: what it shares with others cannot be seen.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Container, Mapping

assert sys.platform == "linux"

import msgspec

from oomless.platform.proc import Stat

#: Pid and start time.
Who = tuple[int, int]
OWN_SESSION = "it started a process session of its own (setsid)"
DAEMON = "it made itself a daemon while its session lived"


class Trees:
    """What must be known here of governed trees: ``holds`` whether a pid is in one, ``roots`` their shims and
    requesters. Those are never touched here."""

    def __init__(self, holds: Callable[[int], bool], roots: Callable[[], set[Who]]) -> None:
        self.holds, self.roots = holds, roots


class Trace(msgspec.Struct, frozen=True, kw_only=True):
    """How a process descends from the session's: ``above`` are those in between, the direct child first, with start
    time 0 if they were gone before any look (only an event told of them).
    ``shell_sid``: the process session of the tool shell that it is below (or is), None below a server."""

    above: tuple[Who, ...]
    shell_sid: int | None


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """One process after its session's death. ``protected``: the title of the editor, terminal or multiplexer that it
    is, or "". ``host``: it is a program that runs agents itself. ``driven``: a browser that is held by a pipe.
    ``handler``: a browser's crash handler, which forks twice and yet serves that browser alone. ``apart``: it leads a
    process session and has a server's marks, as the server itself never does that a host has started."""

    sid: int
    leads: bool = False
    ignores_hangup: bool = False
    listens: bool = False
    protected: str = ""
    host: bool = False
    driven: bool = False
    handler: bool = False
    apart: bool = False


class Memory:
    """The living descendants of one process, also those that lost their parents since they were first seen.
    ``daemons``: who of a server's descendants became one."""

    def __init__(self, root: Who) -> None:
        self.root = root
        self.traces: dict[Who, Trace] = {}
        self.daemons: set[Who] = set()
        self._sid = 0
        self._birth: tuple[int, ...] | None = None
        self._ours: set[Who] = set()

    def look(
        self,
        table: Mapping[int, Stat],
        ours: Container[Who] = (),
        lines: Mapping[int, tuple[int, ...]] | None = None,
    ) -> None:
        """``ours``: shims and requesters of governed trees; they and what is below them are not this memory's.
        ``lines``: who was above those that were born since, by pid, the nearest last (``processes/forks.py``)."""
        children: dict[int, list[Stat]] = {}
        for stat in table.values():
            children.setdefault(stat.ppid, []).append(stat)
        old, self.traces = self.traces, {}
        root = table.get(self.root[0])
        if root is not None and root.start == self.root[1]:
            self._sid, self._birth = root.sid, (lines or {}).get(root.pid)
            for child in _born_of(root, children):
                self._take(child, Trace(above=(), shell_sid=child.sid if child.sid == child.pid else None), children)
        # Longest ago first: who was seen with its parents has the fuller line.
        for who, trace in old.items():
            still = table.get(who[0])
            if who not in self.traces and still is not None and still.start == who[1]:
                if not trace.above and still.sid == still.pid:  # first seen between fork and setsid
                    trace = Trace(above=(), shell_sid=still.sid)
                self._take(still, trace, children)
        self._take_born(table, lines or {}, old, children)
        self._take_shell_mates(table, children)
        self._note_daemons(table)
        before = self._ours
        self._ours = set()
        if ours or before:
            self._ours = {
                who for who, t in self.traces.items() if any(one in ours or one in before for one in (who, *t.above))
            }

    def _take(self, stat: Stat, trace: Trace, children: Mapping[int, list[Stat]]) -> None:
        todo = [(stat, trace)]
        while todo:
            stat, trace = todo.pop()
            who = (stat.pid, stat.start)
            if who in self.traces or who == self.root:
                continue
            self.traces[who] = trace
            below = Trace(above=(*trace.above, who), shell_sid=trace.shell_sid)
            todo += [(child, below) for child in _born_of(stat, children)]

    def _take_born(
        self,
        table: Mapping[int, Stat],
        lines: Mapping[int, tuple[int, ...]],
        old: Mapping[Who, Trace],
        children: Mapping[int, list[Stat]],
    ) -> None:
        """Those whose parents came and went since the last look."""
        before = {who[0]: who for who in old if who[0] not in lines}
        root = table.get(self.root[0])
        born = lines.get(self.root[0])
        same = born is None or born is self._birth  # the event itself: else the number is used again
        if same or (root is not None and root.start == self.root[1]):
            before[self.root[0]] = self.root
        for pid, line in lines.items():
            stat = table.get(pid)
            if stat is not None and stat.alive and (pid, stat.start) not in self.traces:
                trace = self._anchored(stat, line, before, old)
                if trace is not None:
                    self._take(stat, trace, children)

    def _anchored(
        self, stat: Stat, line: tuple[int, ...], before: Mapping[int, Who], old: Mapping[Who, Trace]
    ) -> Trace | None:
        """A line up to the nearest whom we know. What is in the session's own process session is not of a tool shell;
        whatever else a parent that is gone has left is taken for a shell's, which is spared in doubt."""
        for at in range(len(line) - 1, -1, -1):
            gone = tuple((pid, 0) for pid in line[at + 1 :])
            known = before.get(line[at])
            if known is None or known[1] > stat.start:
                continue
            if known != self.root:
                trace = old[known]
                return Trace(above=(*trace.above, known, *gone), shell_sid=trace.shell_sid)
            first = gone[0][0] if gone else stat.pid
            return Trace(above=gone, shell_sid=None if stat.sid == self._sid else first)
        return None

    def _take_shell_mates(self, table: Mapping[int, Stat], children: Mapping[int, list[Stat]]) -> None:
        """Whoever is in the process session of a tool shell descends from it: there is no way into one but by birth,
        and its number is not used again while anybody is in it, which we have seen to be so without a break."""
        shells = {
            trace.shell_sid: (trace.above or (who,))[0]
            for who, trace in self.traces.items()
            if trace.shell_sid is not None and table[who[0]].sid == trace.shell_sid
        }
        for stat in table.values():
            shell = shells.get(stat.sid)
            if shell is not None and (stat.pid, stat.start) not in self.traces and stat.start >= shell[1]:
                self._take(stat, Trace(above=(shell,), shell_sid=stat.sid), children)

    def _note_daemons(self, table: Mapping[int, Stat]) -> None:
        """A server's browser has a process session of its own too, but it stays its parent's child; what a server
        that is being ended leaves behind loses its parent with it."""
        self.daemons &= self.traces.keys()
        if not _lives(table, self.root):
            return
        for who, trace in self.traces.items():
            stat = table[who[0]]
            if trace.shell_sid is None and trace.above and stat.ppid != trace.above[-1][0] and stat.sid != self._sid:
                leader = table.get(stat.sid)
                alone = stat.sid == stat.pid or leader is None or not leader.alive
                if alone and _lives(table, trace.above[0]):
                    self.daemons.add(who)

    def candidates(self, table: Mapping[int, Stat]) -> dict[Who, Stat]:
        """Of those remembered at the last look, the living ones that are not in a tree of ours."""
        found = {}
        for who in self.traces:
            stat = table.get(who[0])
            if who not in self._ours and stat is not None and stat.start == who[1] and stat.alive:
                found[who] = stat
        return found


def _lives(table: Mapping[int, Stat], who: Who) -> bool:
    stat = table.get(who[0])
    return stat is not None and stat.start == who[1] and stat.alive


def _born_of(stat: Stat, children: Mapping[int, list[Stat]]) -> list[Stat]:
    """Entries are read one after another: a parent that is younger than its child is a stranger."""
    return [child for child in children.get(stat.pid, ()) if child.start >= stat.start]


def judge(
    traces: Mapping[Who, Trace], facts: Mapping[Who, Facts], before: Mapping[Who, str] | None = None
) -> dict[Who, str]:
    """Who of those that ``facts`` are known of is spared, and why. The others may be ended. ``before``: who was
    spared earlier, and stays so."""
    driven = {who[0] for who, fact in facts.items() if fact.driven}
    spared = {who: why for who, fact in facts.items() if (why := _own_reason(traces[who], fact, driven))}
    spared |= before or {}
    for who in facts:
        if who not in spared:
            above = next((one for one in traces[who].above if one in spared), None)
            if above is not None:
                spared[who] = f"started by {above[0]}, which is detached"
    for who, fact in facts.items():
        if fact.listens or fact.protected:
            # A wrapper in between would hand our signal on, or take the terminal of an editor with it; the shell or
            # server at the top is not one to keep.
            why = f"is never ended ({fact.protected})" if fact.protected else "listens on a port"
            for above in traces[who].above[1:]:
                if above in facts:
                    spared.setdefault(above, f"{who[0]} below it {why}")
    return spared


def _own_reason(trace: Trace, fact: Facts, driven: Container[int]) -> str:
    """``driven``: such browsers. Playwright has each lead a process session of its own, which says nothing of it."""
    if fact.protected:
        return f"{fact.protected} is never ended"
    if fact.host and fact.leads:
        return "it runs agents in the background"
    elsewhere = trace.shell_sid is not None and fact.sid != trace.shell_sid and fact.sid not in driven
    if (fact.apart and not trace.above) or (elsewhere and not fact.handler):
        return OWN_SESSION
    if fact.ignores_hangup:
        return "it ignores SIGHUP (nohup)"
    return "it listens on a port" if fact.listens else ""
