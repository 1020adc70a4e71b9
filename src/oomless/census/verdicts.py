"""What can be told of servers from how they stand to others: orphan, superseded, duplicate, idle, and what is spared.
What is left of tool shells is told in ``shells.py``, and joined here.

Second step after ``attribute.py``, and pure as that is: ``candidates`` names the few processes of which more must be
read (``snapshot.standings``), ``settle`` gives the verdicts. Without that reading everything stays as it was.

A stdio server has one client, at the other end of its standard input. If nobody holds that end, the client is gone or
has let it go. Such a server is an orphan if nobody lives who may have started it either: a parent of 1, a name or a
mark alone prove nothing. What ignores SIGHUP, leads a process session of its own or listens on a port may have been
started to go on, and is detached; in doubt everything is. Idle is a live session's server, of which nothing else
is to be said, that has used no CPU time to speak of; that is told and never a reason to end it.
"""

from __future__ import annotations

from collections.abc import Collection, Container, Iterable, Iterator, Mapping

import msgspec

from oomless import hosts
from oomless.census import companions, shells
from oomless.census.attribution import Attributed, Verdict
from oomless.census.ownerless import LIKELY, UNREAD, adopted, judged, marks_by_pid, own_reason
from oomless.census.snapshot import Marks, Snapshot
from oomless.model import IdleProcess, ProcessInfo
from oomless.platform.base import Standing
from oomless.processes.ancestry import Lineage
from oomless.processes.command import to_be
from oomless.processes.ours import prefixed
from oomless.units import format_duration

#: By the other end of stdin; by that and one that took its place; by order of start alone; as a fact of this moment.
#: What is a server by its words alone may be a job that has read all its input: that is likely at most.
ORPHAN, SUPERSEDED, REPLACED, DUPLICATE = 0.9, 0.9, LIKELY, 0.9
#: No call is seen, only CPU time: the daemon watches for as long as this before a server is called idle.
IDLE, IDLE_AFTER = 0.6, 30 * 60.0
#: Seconds of CPU time a second. Eleven real servers that nobody called used 0 to 5 ms a minute each; two that were
#: called three times a minute 10 to 15.
IDLE_RATE = 0.0067 / 60
#: Hosts whose process has one conversation, and so one instance of each server.
SINGLE = frozenset({"gemini-cli"} | {facts.name for facts in hosts.known_facts() if facts.one_conversation})
#: Seconds: two servers with one command line, but two names, start together.
TOGETHER = 5.0


class _Copy(msgspec.Struct, frozen=True, kw_only=True):
    """One instance of a server. ``members``: the root first. ``command``: of the process that serves, which stays
    the same when a launcher above it has ended; ``outer``: of the wrapper that counts as the server itself, if nobody
    knows it."""

    root: Attributed
    members: tuple[Attributed, ...]
    command: tuple[str, ...]
    outer: tuple[str, ...]

    @property
    def start(self) -> int:
        return self.root.process.start


def candidates(found: tuple[Attributed, ...], seen: Snapshot) -> tuple[ProcessInfo, ...]:
    """Servers that nobody live seems to own, what is below them, servers that are not alone in their session, and
    what has only the mark of a session that is gone."""
    copies, lineage, marks = _copies(found), Lineage(seen.processes), marks_by_pid(seen)
    several = {copy.root.process.pid for group in _by_session(copies).values() if len(group) > 1 for copy in group}
    wanted = (c for c in copies if c.root.process.pid in several or _deserted(c, lineage, marks) or _broken(c))
    servers = {one.process.pid: one.process for copy in wanted for one in copy.members}
    left = {process.pid: process for process in shells.candidates(shells.lost(found, lineage, marks))}
    return tuple((servers | left).values())


def settle(
    found: tuple[Attributed, ...], seen: Snapshot, standings: Mapping[int, Standing]
) -> tuple[Attributed, ...]:
    """The same processes, each with its last verdict."""
    copies, lineage, marks = _copies(found), Lineage(seen.processes), marks_by_pid(seen)
    changed = shells.settle(shells.lost(found, lineage, marks), found, lineage, standings)
    deserted = [copy for copy in copies if _deserted(copy, lineage, marks)]
    for copy in deserted:
        changed |= {one.process.pid: one for one in _orphans(copy, lineage, standings)}
    living = {one.session for one in found if one.session_root is not None}
    changed |= {one.process.pid: one for one in _beside(deserted, changed, standings, living)}
    superseded = dict(_superseded(copies, standings, seen))
    rest = [copy for copy in copies if copy.root.process.pid not in superseded]
    starts = {one.process.pid: one.process.start for one in found if one.process.pid == one.session_root}
    duplicates = dict(_duplicates(rest, starts))
    for copy in copies:
        told = superseded.get(copy.root.process.pid) or duplicates.get(copy.root.process.pid)
        if told is not None:
            changed |= {one.process.pid: judged(one, *told) for one in copy.members}
        elif (why := _idle(copy)) and copy.root.process.pid not in changed:
            changed |= {one.process.pid: judged(one, "idle", min(IDLE, one.confidence), why) for one in copy.members}
    settled = tuple(changed.get(one.process.pid, one) for one in found)
    handlers = {one.process.pid: one for one in companions.of_browsers(settled, standings)}
    return tuple(handlers.get(one.process.pid, one) for one in settled)


def _copies(found: Iterable[Attributed]) -> list[_Copy]:
    """Instances whose root is listed, the oldest first."""
    members: dict[int, list[Attributed]] = {}
    for one in found:
        if one.instance is not None:
            members.setdefault(one.instance, []).append(one)
    copies = []
    for pid, group in members.items():
        root = next((one for one in group if one.process.pid == pid), None)
        if root is not None:
            rest = (one for one in group if one is not root)
            serving = [one for one in group if one.kind == "server"]
            inner = next((one for one in serving if one.program is not None), next(iter(serving), root))
            outer = next(iter(serving), root)
            commands = to_be(inner.process.command), to_be(outer.process.command)
            copies.append(_Copy(root=root, members=(root, *rest), command=commands[0], outer=commands[1]))
    return sorted(copies, key=lambda copy: (copy.start, copy.root.process.pid))


def _by_session(copies: Iterable[_Copy]) -> dict[tuple[int, tuple[str, ...]], list[_Copy]]:
    """Copies with one command line in one live session, oldest first; what a tree of ours runs is not in it."""
    groups: dict[tuple[int, tuple[str, ...]], list[_Copy]] = {}
    for copy in copies:
        if copy.root.session_root is not None and copy.root.host is not None and copy.root.tree is None:
            groups.setdefault((copy.root.session_root, copy.command), []).append(copy)
    return groups


def _broken(copy: _Copy) -> bool:
    """A live session's, that lost its parents."""
    return copy.root.session_root is not None and copy.root.detached and copy.root.tree is None


# -- nobody lives who owns it ------------------------------------------------------------------------------------


def _deserted(copy: _Copy, lineage: Lineage, marks: Mapping[int, Marks]) -> bool:
    """Whether nobody lives who may have started it."""
    return all(one.verdict == "unknown" for one in copy.members) and adopted(copy.root.process, lineage, marks)


def _orphans(copy: _Copy, lineage: Lineage, standings: Mapping[int, Standing]) -> Iterator[Attributed]:
    pid = copy.root.process.pid
    if standings.get(pid, UNREAD).stdin != "gone":
        return
    gone = f"nobody holds the other end of the standard input of {pid}, and who started it is gone"
    spared = _spared(copy, lineage, standings)
    for one in copy.members:
        why = spared.get(one.process.pid)
        verdict: Verdict = "detached" if why else "orphan"
        yield judged(one, verdict, LIKELY if one.guessed else ORPHAN, f"{gone}; {why}" if why else gone)


def _beside(
    deserted: Collection[_Copy],
    changed: Mapping[int, Attributed],
    standings: Mapping[int, Standing],
    living: Container[str | None],
) -> Iterator[Attributed]:
    """What servers had started, and all below it. ``living``: the ids of sessions that live: one that was resumed has
    the id of a dead one."""
    roots = [copy.root for copy in deserted]
    proven = [one for root in roots if (one := changed.get(root.process.pid)) and one.verdict == "orphan"]
    rest = ((copy.root, copy) for copy in deserted if copy.root.session not in living)
    lost = {root.process.pid: copy for root, copy in rest if root.process.pid not in changed}
    for root in companions.of_servers([copy.root for copy in lost.values()], proven, standings):
        members = lost[root.process.pid].members
        if not any(_meant(one, standings) for one in members):
            yield from (judged(one, root.verdict, root.confidence, root.evidence[0]) for one in members)


def _meant(one: Attributed, standings: Mapping[int, Standing]) -> str:
    return own_reason(standings.get(one.process.pid, UNREAD)) or one.meant


def _spared(copy: _Copy, lineage: Lineage, standings: Mapping[int, Standing]) -> dict[int, str]:
    """Who of the instance may have been meant to go on, and why. With the root goes all below it; a wrapper between
    it and one that is spared would hand our signal on."""
    root = copy.root.process
    spared = {one.process.pid: why for one in copy.members if (why := _meant(one, standings))}
    for one in copy.members:  # what a server itself starts may lead one too: its browser does
        if one.process.sid == one.process.pid and (one.process is root or one.kind == "server"):
            spared.setdefault(one.process.pid, "it leads a process session of its own (setsid)")
    for pid in tuple(spared):
        for below in lineage.descendants(pid):
            spared.setdefault(below, f"started by {pid}, which is detached")
        whole = lineage.by_pid[pid].sid == pid  # a wrapper that only started it is of no use to anybody else
        for above in lineage.chain(pid, root.pid)[1 : None if whole else -1]:
            spared.setdefault(above, f"{pid} below it is detached")
    return spared


# -- a live session's copies ----------------------------------------------------------------------------------------

_Told = tuple[Verdict, float, str]


def _superseded(
    copies: list[_Copy], standings: Mapping[int, Standing], seen: Snapshot
) -> Iterator[tuple[int, _Told]]:
    """All but the youngest of one session, where the session has let the older ones go."""
    for group in _by_session(copies).values():
        held = [at for at, copy in enumerate(group) if _stdin(copy, standings) != "gone"]
        for at, copy in enumerate(group):
            later = [group[other] for other in held if other > at and _replaces(group[other], copy)]
            told = _older(copy, later[-1], standings, seen) if later else None
            if told is not None:
                yield copy.root.process.pid, told


def _replaces(younger: _Copy, older: _Copy) -> bool:
    """Of two below different wrappers, each is a server of its own; a lost wrapper is not there to be compared."""
    return younger.outer == older.outer or older.root.detached


def _stdin(copy: _Copy, standings: Mapping[int, Standing]) -> str:
    return standings.get(copy.root.process.pid, UNREAD).stdin


def _older(copy: _Copy, youngest: _Copy, standings: Mapping[int, Standing], seen: Snapshot) -> _Told | None:
    pid, root = copy.root.process.pid, copy.root
    stands = [standings.get(one.process.pid, UNREAD) for one in copy.members]
    if any(_meant(one, standings) for one in copy.members) and root.process.pid in standings:
        return None
    by = f"the session {root.session} runs the same command line again, as {youngest.root.process.pid}"
    if stands[0].stdin == "gone":
        sure = LIKELY if root.guessed else SUPERSEDED
        return "superseded", sure, f"nobody holds the other end of the standard input of {pid}; {by}"
    later = (youngest.start - copy.start) / seen.starts_per_second - seen.starts_within
    if stands[0].stdin == "unknown" and root.host in SINGLE and later > TOGETHER and not root.detached:
        one = f"{root.host} has one conversation a process, and started it at least {later:.0f} s later"
        return "superseded", REPLACED, f"{by}; {one}"
    return None


def _duplicates(copies: list[_Copy], starts: Mapping[int, int]) -> Iterator[tuple[int, _Told]]:
    """Those with the command line of a server of another live session that is older; ``starts``: of sessions' roots.
    A server may be younger than its session's: that was started again."""
    owned = [one for one in copies if one.root.session_root in starts and one.root.host is not None]
    owned = [one for one in owned if one.root.verdict == "owned"]
    oldest: dict[tuple[str, ...], _Copy] = {}
    for copy in sorted(owned, key=lambda one: (starts[one.root.session_root or 0], one.start, one.root.process.pid)):
        first = oldest.setdefault(copy.outer, copy).root
        if starts[first.session_root or 0] < starts[copy.root.session_root or 0]:
            by = f"the session {first.session} is older and runs the same command line, as {first.process.pid}"
            yield copy.root.process.pid, ("duplicate", LIKELY if copy.root.guessed else DUPLICATE, by)


# -- a live session's that nobody seems to use ---------------------------------------------------------------------


def _idle(copy: _Copy) -> str:
    """Why it is idle, or ""."""
    root, seconds = copy.root, idle_seconds(copy.members)
    if root.session_root is None or root.host is None or seconds < IDLE_AFTER:
        return ""
    used = sum(one.idle.cpu_seconds for one in copy.members if one.idle is not None)
    watched = f"it used {used:.2f} s of CPU time in the last {format_duration(seconds)}, as the daemon has watched it"
    return f"{watched}; calls are not seen, only what they cost"


def idle_seconds(members: Iterable[Attributed]) -> float:
    """For how long all of an instance have been idle. What is oomless' own in it works though nobody calls: a shim
    looks at its limits."""
    told = [_calm(one.idle) if one.idle is not None else 0.0 for one in members if not prefixed(one.process)]
    return min(told, default=0.0)


def _calm(idle: IdleProcess) -> float:
    return idle.seconds if idle.cpu_seconds <= IDLE_RATE * idle.seconds else 0.0
