"""Verdicts that follow from how processes stand to others: orphan, superseded, duplicate, idle, detached.

The second step after ``attribution.py``, and pure too: ``select_doubtful`` names the few processes whose standing
must be read (``snapshot.read_standings``), ``decide`` gives the verdicts. Without that reading everything stays as it
was. What tool shells leave is decided in ``shells.py`` and merged here.

A stdio server has one client, at the other end of its standard input. If nothing holds that end, the client is gone
or has let it go. Such a server is an orphan if no live process can have started it either: a parent of 1, a name or a
mark alone prove nothing. A server that ignores SIGHUP, leads a process session of its own or listens on a port may be
meant to persist, and is detached; in doubt every server is. Idle is a live session's server with no other verdict
that has used next to no CPU time; that is reported and never a reason to kill it."""

from __future__ import annotations

from collections.abc import Collection, Container, Iterable, Iterator, Mapping

import msgspec

from oomless import hosts
from oomless.census import shells
from oomless.census.attribution import Attributed, Verdict
from oomless.census.companions import find_companions_of_servers, find_crash_handlers
from oomless.census.ownerless import LIKELY, UNREAD, detach_reason, is_reparented, with_verdict
from oomless.census.snapshot import Snapshot
from oomless.model import IdleProcess, ProcessInfo
from oomless.platform.base import Standing
from oomless.processes.ancestry import Ancestry
from oomless.processes.ours import prefixed
from oomless.units import format_duration

#: Confidence: by the other end of stdin; by that and a server that took its place; by order of start alone; as a fact
#: of this moment. What is a server by its words alone may be a job that has read all its input: likely at most.
ORPHAN, SUPERSEDED, REPLACED, DUPLICATE = 0.9, 0.9, LIKELY, 0.9
#: Calls are not seen, only CPU time: the daemon watches for as long as this before a server is called idle.
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
    the same when a launcher above it has ended; ``outer``: of the wrapper that counts as the server itself, if the
    catalog does not know it."""

    root: Attributed
    members: tuple[Attributed, ...]
    command: tuple[str, ...]
    outer: tuple[str, ...]

    @property
    def start(self) -> int:
        return self.root.process.start

    @property
    def pid(self) -> int:
        return self.root.pid


def select_doubtful(attributed: tuple[Attributed, ...], snapshot: Snapshot) -> tuple[ProcessInfo, ...]:
    """Servers that no live process seems to own, what is below them, servers of which a session has several, and
    processes that have only the mark of a dead session."""
    copies = _copies(attributed, snapshot)
    several = {copy.pid for group in _by_session(copies).values() if len(group) > 1 for copy in group}
    doubtful = (c for c in copies if c.pid in several or _is_ownerless(c, snapshot) or _has_broken_chain(c))
    servers = {member.pid: member.process for copy in doubtful for member in copy.members}
    ownerless = shells.find_ownerless(attributed, snapshot).processes
    return tuple((servers | {pid: process.process for pid, process in ownerless.items()}).values())


def decide(
    attributed: tuple[Attributed, ...], snapshot: Snapshot, standings: Mapping[int, Standing]
) -> tuple[Attributed, ...]:
    """The same processes, each with its final verdict."""
    copies, ancestry = _copies(attributed, snapshot), snapshot.ancestry
    changed = shells.decide(shells.find_ownerless(attributed, snapshot), attributed, ancestry, standings)
    ownerless = [copy for copy in copies if _is_ownerless(copy, snapshot)]
    for copy in ownerless:
        changed |= {process.pid: process for process in _decide_ownerless(copy, ancestry, standings)}
    living = {process.session for process in attributed if process.session_root is not None}
    changed |= {process.pid: process for process in _decide_companions(ownerless, changed, standings, living)}
    superseded = dict(_find_superseded(copies, standings, snapshot))
    rest = [copy for copy in copies if copy.pid not in superseded]
    starts = {process.pid: process.process.start for process in attributed if process.pid == process.session_root}
    duplicates = dict(_find_duplicates(rest, starts))
    for copy in copies:
        decision = superseded.get(copy.pid) or duplicates.get(copy.pid)
        if decision is not None:
            changed |= {member.pid: with_verdict(member, *decision) for member in copy.members}
        elif (reason := _idle_reason(copy)) and copy.pid not in changed:
            idle = (with_verdict(member, "idle", min(IDLE, member.confidence), reason) for member in copy.members)
            changed |= {member.pid: member for member in idle}
    decided = tuple(changed.get(process.pid, process) for process in attributed)
    handlers = {process.pid: process for process in find_crash_handlers(decided, standings)}
    return tuple(handlers.get(process.pid, process) for process in decided)


def _copies(attributed: Iterable[Attributed], snapshot: Snapshot) -> list[_Copy]:
    """Instances whose root is listed, the oldest first."""
    members: dict[int, list[Attributed]] = {}
    for process in attributed:
        if process.instance is not None:
            members.setdefault(process.instance, []).append(process)
    copies = []
    for pid, group in members.items():
        root = next((member for member in group if member.pid == pid), None)
        if root is not None:
            rest = (member for member in group if member is not root)
            serving = [member for member in group if member.kind == "server"]
            inner = next((process for process in serving if process.program is not None), next(iter(serving), root))
            outer = next(iter(serving), root)
            command, outer_command = (snapshot.commands[process.pid].becomes for process in (inner, outer))
            copies.append(_Copy(root=root, members=(root, *rest), command=command, outer=outer_command))
    return sorted(copies, key=lambda copy: (copy.start, copy.pid))


def _by_session(copies: Iterable[_Copy]) -> dict[tuple[int, tuple[str, ...]], list[_Copy]]:
    """Copies with one command line in one live session, oldest first; without what a governed tree runs."""
    groups: dict[tuple[int, tuple[str, ...]], list[_Copy]] = {}
    for copy in copies:
        if copy.root.session_root is not None and copy.root.host is not None and copy.root.tree is None:
            groups.setdefault((copy.root.session_root, copy.command), []).append(copy)
    return groups


def _has_broken_chain(copy: _Copy) -> bool:
    """Whether it is a live session's and lost its parents."""
    return copy.root.session_root is not None and copy.root.chain_broken and copy.root.tree is None


# -- servers that no live process owns -------------------------------------------------------------------------------


def _is_ownerless(copy: _Copy, snapshot: Snapshot) -> bool:
    """Whether no live process can have started it."""
    return all(member.verdict == "unknown" for member in copy.members) and is_reparented(copy.root.process, snapshot)


def _decide_ownerless(
    copy: _Copy, ancestry: Ancestry[ProcessInfo], standings: Mapping[int, Standing]
) -> Iterator[Attributed]:
    if standings.get(copy.pid, UNREAD).stdin != "gone":
        return
    gone = f"nothing holds the other end of the standard input of {copy.pid}, and its parent is gone"
    reasons = _detach_reasons(copy, ancestry, standings)
    for member in copy.members:
        reason = reasons.get(member.pid)
        verdict: Verdict = "detached" if reason else "orphan"
        confidence = LIKELY if member.by_name else ORPHAN
        yield with_verdict(member, verdict, confidence, f"{gone}; {reason}" if reason else gone)


def _decide_companions(
    ownerless: Collection[_Copy],
    changed: Mapping[int, Attributed],
    standings: Mapping[int, Standing],
    living: Container[str | None],
) -> Iterator[Attributed]:
    """What servers had started, and all below it. ``living``: the ids of live sessions: one that was resumed has the
    id of a dead one."""
    roots = [copy.root for copy in ownerless]
    orphans = [process for root in roots if (process := changed.get(root.pid)) and process.verdict == "orphan"]
    rest = {copy.pid: copy for copy in ownerless if copy.root.session not in living and copy.pid not in changed}
    for root in find_companions_of_servers([copy.root for copy in rest.values()], orphans, standings):
        members = rest[root.pid].members
        if not any(_persist_reason(member, standings) for member in members):
            yield from (with_verdict(member, root.verdict, root.confidence, root.evidence[0]) for member in members)


def _persist_reason(attributed: Attributed, standings: Mapping[int, Standing]) -> str:
    return detach_reason(standings.get(attributed.pid, UNREAD)) or attributed.persist_reason


def _detach_reasons(
    copy: _Copy, ancestry: Ancestry[ProcessInfo], standings: Mapping[int, Standing]
) -> dict[int, str]:
    """By pid, why a member may be meant to persist. With the root persists all below it; a wrapper between the root
    and a detached process would pass our signal on."""
    root = copy.root.process
    reasons = {member.pid: reason for member in copy.members if (reason := _persist_reason(member, standings))}
    for member in copy.members:  # not what a server itself starts: its browser leads a session too
        process = member.process
        if process.sid == process.pid and (process is root or member.kind == "server"):
            reasons.setdefault(process.pid, "it leads a process session of its own (setsid)")
    for pid in tuple(reasons):
        for below in ancestry.descendants(pid):
            reasons.setdefault(below, f"started by {pid}, which is detached")
        leads_session = ancestry.by_pid[pid].sid == pid  # a wrapper that only started it is of no use to others
        for above in ancestry.chain(pid, root.pid)[1 : None if leads_session else -1]:
            reasons.setdefault(above, f"{pid} below it is detached")
    return reasons


# -- several copies in live sessions ---------------------------------------------------------------------------------

#: Verdict, confidence and evidence.
_Decision = tuple[Verdict, float, str]


def _find_superseded(
    copies: list[_Copy], standings: Mapping[int, Standing], snapshot: Snapshot
) -> Iterator[tuple[int, _Decision]]:
    """All but the youngest copy in one session, where the session has let the older ones go."""
    for group in _by_session(copies).values():
        held = [at for at, copy in enumerate(group) if standings.get(copy.pid, UNREAD).stdin != "gone"]
        for at, copy in enumerate(group):
            later = [group[other] for other in held if other > at and _replaces(group[other], copy)]
            decision = _decide_older(copy, later[-1], standings, snapshot) if later else None
            if decision is not None:
                yield copy.pid, decision


def _replaces(younger: _Copy, older: _Copy) -> bool:
    """Of two below different wrappers, each is a server of its own; a lost wrapper is not there to be compared."""
    return younger.outer == older.outer or older.root.chain_broken


def _decide_older(
    copy: _Copy, youngest: _Copy, standings: Mapping[int, Standing], snapshot: Snapshot
) -> _Decision | None:
    root, stdin = copy.root, standings.get(copy.pid, UNREAD).stdin
    if any(_persist_reason(member, standings) for member in copy.members) and copy.pid in standings:
        return None
    again = f"the session {root.session} runs the same command line again, as {youngest.pid}"
    if stdin == "gone":
        confidence = LIKELY if root.by_name else SUPERSEDED
        return (
            "superseded",
            confidence,
            f"nothing holds the other end of the standard input of {copy.pid}; {again}",
        )
    later = (youngest.start - copy.start) / snapshot.starts_per_second - snapshot.starts_within
    if stdin == "unknown" and root.host in SINGLE and later > TOGETHER and not root.chain_broken:
        single = f"{root.host} has one conversation a process, and started it at least {later:.0f} s later"
        return "superseded", REPLACED, f"{again}; {single}"
    return None


def _find_duplicates(copies: list[_Copy], starts: Mapping[int, int]) -> Iterator[tuple[int, _Decision]]:
    """Those with the command line of a server of another live session that is older; ``starts``: of sessions' roots.
    Sessions are compared, not servers: a server may have been started again."""
    owned = [copy for copy in copies if copy.root.session_root in starts and copy.root.host is not None]
    owned = [copy for copy in owned if copy.root.verdict == "owned"]
    oldest: dict[tuple[str, ...], _Copy] = {}
    for copy in sorted(owned, key=lambda copy: (starts[copy.root.session_root or 0], copy.start, copy.pid)):
        first = oldest.setdefault(copy.outer, copy).root
        if starts[first.session_root or 0] < starts[copy.root.session_root or 0]:
            evidence = f"the session {first.session} is older and runs the same command line, as {first.pid}"
            yield copy.pid, ("duplicate", LIKELY if copy.root.by_name else DUPLICATE, evidence)


# -- a live session's server that seems unused -----------------------------------------------------------------------


def _idle_reason(copy: _Copy) -> str:
    """Why it is idle, or ""."""
    root, seconds = copy.root, idle_seconds(copy.members)
    if root.session_root is None or root.host is None or seconds < IDLE_AFTER:
        return ""
    used = sum(member.idle.cpu_seconds for member in copy.members if member.idle is not None)
    return (
        f"it used {used:.2f} s of CPU time in the last {format_duration(seconds)}, by the daemon's samples;"
        " calls are not seen, only CPU time"
    )


def idle_seconds(members: Iterable[Attributed]) -> float:
    """For how long all members of an instance have been idle. Our own shim among them does not count: it checks its
    limits though nothing calls the server."""
    servers = (member for member in members if not prefixed(member.process.command))
    seconds = [_calm(member.idle) if member.idle is not None else 0.0 for member in servers]
    return min(seconds, default=0.0)


def _calm(idle: IdleProcess) -> float:
    return idle.seconds if idle.cpu_seconds <= IDLE_RATE * idle.seconds else 0.0
