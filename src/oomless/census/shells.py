"""What the tool shells of a session that is gone still run: orphan or detached, without a memory of the session.

A host runs each command in a shell that leads a process session of its own, that the catalog knows by its command
line, and that has the marks of the session, its pid among them. Nobody but the host starts such a shell, and for one
command: when the host's process is gone and nobody above it may own it, nobody waits for it any more. What it runs
goes with it as long as it stays in its process session. Whatever left that, ignores SIGHUP or listens was meant to go
on, or may have been, and spares everybody above and below it. Of the rest that has a mark of a session that is gone,
nothing is proven: what looks as if it was meant to go on is told so, with the confidence of a mark; what a shell that
has ended had started with ``&`` is likely to be left, but that shell may have been one that left the session. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import msgspec

from oomless import hosts
from oomless.census.attribution import MARK, Attributed
from oomless.census.ownerless import LIKELY, UNREAD, adopted, judged, own_reason
from oomless.census.snapshot import Marks
from oomless.model import ProcessInfo
from oomless.platform.base import Standing
from oomless.processes.ancestry import Lineage
from oomless.processes.command import is_driven

#: The host is gone, by its number and start time, and nobody lives who may own the shell.
ORPHAN = 0.9


class Lost(msgspec.Struct, frozen=True, kw_only=True):
    """``alone``: processes that lost their parents and have the mark of a session that is gone, by pid; ``shells``:
    those of them that are its tool shells; ``jobs``: those that a tool shell had started, in a process session whose
    leader is gone."""

    alone: Mapping[int, Attributed]
    shells: tuple[Attributed, ...]
    jobs: frozenset[int]


def lost(found: Iterable[Attributed], lineage: Lineage, marks: Mapping[int, Marks]) -> Lost:
    unowned = {one.process.pid: one for one in found if _unowned(one)}
    tops = {pid: _top(pid, unowned, lineage) for pid in unowned}
    deserted = {top for top in tops.values() if adopted(lineage.by_pid[top], lineage, marks)}
    alone = {pid: one for pid, one in unowned.items() if tops[pid] in deserted}
    shells = tuple(one for pid, one in alone.items() if tops[pid] == pid and _is_tool_shell(one, lineage, marks[pid]))
    jobs = frozenset(pid for pid, one in alone.items() if _is_job(one, lineage, marks[pid]))
    return Lost(alone=alone, shells=shells, jobs=jobs)


def candidates(gone: Lost) -> Iterator[ProcessInfo]:
    """Of whom it must be read how they stand."""
    return (one.process for one in gone.alone.values())


def settle(
    gone: Lost, found: Iterable[Attributed], lineage: Lineage, standings: Mapping[int, Standing]
) -> dict[int, Attributed]:
    """By pid, those that get another verdict."""
    by_pid = {one.process.pid: one for one in found}
    changed: dict[int, Attributed] = {}
    for shell in gone.shells if standings else ():
        changed |= _below(shell, gone, by_pid, lineage, standings)
    for pid in sorted(gone.alone, key=lambda pid: (gone.alone[pid].process.start, pid)):
        if pid not in changed:
            why = _meant(gone.alone[pid], standings) or _follows(pid, changed, lineage)
            if why:
                changed[pid] = judged(gone.alone[pid], "detached", MARK, f"its session is gone; {why}")
    return changed | {one.process.pid: one for one in _jobs(gone, changed, lineage, standings)}


def _jobs(
    gone: Lost, changed: Mapping[int, Attributed], lineage: Lineage, standings: Mapping[int, Standing]
) -> Iterator[Attributed]:
    """But for whoever has somebody below that may be meant to go on."""
    for pid in gone.jobs - changed.keys():
        below = [one for one in lineage.descendants(pid) if one not in gone.jobs or one in changed]
        if not below and standings.get(pid, UNREAD).backgrounded:
            how = "it ignores SIGINT and SIGQUIT, as what a shell has started with &, and that shell has ended"
            yield judged(gone.alone[pid], "orphan", LIKELY, f"its session is gone, and {how}")


def _unowned(one: Attributed) -> bool:
    """Known only by the mark of a session that does not live."""
    return one.verdict == "unknown" and one.host is not None and one.session_root is None and one.detached


def _top(pid: int, unowned: Mapping[int, Attributed], lineage: Lineage) -> int:
    """The highest above it of whom the same is known, without a break."""
    for above in lineage.ancestors(pid):
        if above not in unowned:
            break
        pid = above
    return pid


def _is_tool_shell(one: Attributed, lineage: Lineage, marks: Marks) -> bool:
    """The pid in the marks may be in use again, by a younger process."""
    if one.program not in hosts.tool_shell_hosts() or one.process.sid != one.process.pid or not marks.host_pid:
        return False
    host = lineage.by_pid.get(marks.host_pid)
    return host is None or host.start > one.process.start


def _is_job(one: Attributed, lineage: Lineage, marks: Marks) -> bool:
    host, sid = lineage.by_pid.get(marks.host_pid), one.process.sid
    gone = marks.host_pid > 0 and (host is None or host.start > one.process.start)
    return gone and sid != one.process.pid and sid not in lineage.by_pid


def _below(
    shell: Attributed,
    gone: Lost,
    by_pid: Mapping[int, Attributed],
    lineage: Lineage,
    standings: Mapping[int, Standing],
) -> dict[int, Attributed]:
    """The shell, what is below it, and who lost his parents in its process session, which is entered by birth."""
    root = shell.process.pid
    mates = {pid for pid, one in gone.alone.items() if one.process.sid == root and one.session == shell.session}
    members = {root, *lineage.descendants(root), *mates}
    members |= {below for pid in mates for below in lineage.descendants(pid)}
    spared = _spared(members, root, gone, by_pid, lineage, standings)
    first = f"the session {shell.session} that started the tool shell {root} is gone, and nobody above is its owner"
    changed = {}
    for pid in members & gone.alone.keys():
        why = spared.get(pid)
        evidence = f"{first}; {why}" if why else first
        changed[pid] = judged(gone.alone[pid], "detached" if why else "orphan", ORPHAN, evidence)
    return changed


def _spared(
    members: Iterable[int],
    root: int,
    gone: Lost,
    by_pid: Mapping[int, Attributed],
    lineage: Lineage,
    standings: Mapping[int, Standing],
) -> dict[int, str]:
    spared: dict[int, str] = {}
    driven = {pid for pid in members if pid in gone.alone and _is_driven(gone.alone[pid])}
    for pid in members:
        if lineage.by_pid[pid].state == "Z":
            continue
        if pid not in gone.alone:
            one = by_pid.get(pid)
            spared[pid] = f"it is {one.verdict}" if one is not None else "it is of another kind"
        elif lineage.by_pid[pid].sid != root and lineage.by_pid[pid].sid not in driven:
            spared[pid] = f"it left the process session of the tool shell {root} (setsid)"
        elif why := own_reason(standings.get(pid, UNREAD)):
            spared[pid] = why
    for pid in tuple(spared):
        for below in lineage.descendants(pid):
            spared.setdefault(below, f"started by {pid}, which is detached")
        for above in lineage.chain(pid, root)[1:]:
            spared.setdefault(above, f"{pid} below it goes on")
    return spared


def _is_driven(one: Attributed) -> bool:
    """Playwright has its browser lead a process session of its own, and ends it all the same."""
    return one.kind == "browser" and is_driven(one.process.command)


def _meant(one: Attributed, standings: Mapping[int, Standing]) -> str:
    if one.process.sid == one.process.pid and one.program not in hosts.tool_shell_hosts():
        return "it leads a process session of its own (setsid)"
    standing = standings.get(one.process.pid)
    return own_reason(standing) if standing is not None else ""


def _follows(pid: int, changed: Mapping[int, Attributed], lineage: Lineage) -> str:
    above = lineage.parent(pid)
    if above is None or above not in changed or changed[above].verdict != "detached":
        return ""
    return f"started by {above}, which is detached"
