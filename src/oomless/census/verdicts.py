"""What can be told of servers from how they stand to others: orphan, superseded, duplicate, and what is spared.

Second step after ``attribute.py``, and pure as that is: ``candidates`` names the few processes of which more must be
read (``snapshot.standings``), ``settle`` gives the verdicts. Without that reading everything stays as it was.

A stdio server has one client, at the other end of its standard input. If nobody holds that end, the client is gone or
has let it go. Such a server is an orphan if nobody lives who may have started it either: a parent of 1, a name or a
mark alone prove nothing. What ignores SIGHUP, leads a process session of its own or listens on a port may have been
started to go on, and is left running; in doubt everything is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import msgspec

from oomless.census.attribute import Attributed, Verdict
from oomless.census.command import base, to_be
from oomless.census.lineage import Lineage
from oomless.census.snapshot import Marks, Snapshot
from oomless.model import ProcessInfo
from oomless.platform.base import Standing

#: By the other end of stdin; by that and one that took its place; by order of start alone; as a fact of this moment.
ORPHAN, SUPERSEDED, REPLACED, DUPLICATE = 0.9, 0.9, 0.6, 0.9
#: Hosts whose process has one conversation, and so one instance of each server.
SINGLE = frozenset({"claude-code", "gemini-cli"})
#: Clock ticks (100 a second on every Linux): two servers with one command line, but two names, start together.
TOGETHER = 500
_UNREAD = Standing(listens=True)


class _Copy(msgspec.Struct, frozen=True, kw_only=True):
    """One instance of a server. ``members``: the root first. ``command``: of the process that serves, which stays
    the same when a launcher above it has ended."""

    root: Attributed
    members: tuple[Attributed, ...]
    command: tuple[str, ...]

    @property
    def start(self) -> int:
        return self.root.process.start


def candidates(found: Iterable[Attributed], seen: Snapshot) -> tuple[ProcessInfo, ...]:
    """Servers that nobody live seems to own, what is below them, and servers that are not alone in their session."""
    copies = _copies(found)
    if not copies:
        return ()
    lineage, marks = Lineage(seen.processes), _marks(seen)
    several = {copy.root.process.pid for group in _by_session(copies).values() if len(group) > 1 for copy in group}
    wanted = (c for c in copies if c.root.process.pid in several or _deserted(c, lineage, marks) or _broken(c))
    return tuple(one.process for copy in wanted for one in copy.members)


def settle(
    found: tuple[Attributed, ...], seen: Snapshot, standings: Mapping[int, Standing]
) -> tuple[Attributed, ...]:
    """The same processes, each with its last verdict."""
    copies = _copies(found)
    if not copies:
        return found
    lineage, marks = Lineage(seen.processes), _marks(seen)
    changed: dict[int, Attributed] = {}
    for copy in copies:
        if _deserted(copy, lineage, marks):
            changed |= {one.process.pid: one for one in _orphans(copy, lineage, standings)}
    superseded = dict(_superseded(copies, standings))
    duplicates = dict(_duplicates([copy for copy in copies if copy.root.process.pid not in superseded]))
    for copy in copies:
        told = superseded.get(copy.root.process.pid) or duplicates.get(copy.root.process.pid)
        if told is not None:
            changed |= {one.process.pid: _told(one, *told) for one in copy.members}
    return tuple(changed.get(one.process.pid, one) for one in found)


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
            serving = next((one for one in group if one.kind == "server"), root)
            copies.append(_Copy(root=root, members=(root, *rest), command=to_be(serving.process.command)))
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


def _marks(seen: Snapshot) -> dict[int, Marks]:
    return {process.pid: marks for process, marks in zip(seen.processes, seen.marks, strict=True)}


def _deserted(copy: _Copy, lineage: Lineage, marks: Mapping[int, Marks]) -> bool:
    """Whether nobody lives who may have started it."""
    return all(one.verdict == "unknown" for one in copy.members) and _adopted(copy.root.process, lineage, marks)


def _adopted(process: ProcessInfo, lineage: Lineage, marks: Mapping[int, Marks]) -> bool:
    """Whether its parent is one that only takes what has lost its own: init or the user's systemd, if it is of
    another process session or group than what they start; or, where a mark names a session that is gone, anybody of
    the same user without that mark who is in another process group than the host was. Whoever else is above it may be
    the client, and so may be one that is hidden from us."""
    parent, own = lineage.by_pid.get(process.ppid), marks[process.pid]
    if process.ppid == 1 and parent is None:
        return process.sid != 1
    if parent is None or lineage.parent(process.pid) is None:
        return False
    manages = base("".join(parent.command[:1])) == "systemd" and "--user" in parent.command
    if parent.pid == 1 or (manages and parent.uid == process.uid):
        elsewhere = process.sid != parent.sid or process.pgid not in (parent.pgid, process.pid)
        return elsewhere or (parent.pid == 1 and _launched(own, marks[1]))
    return parent.uid == process.uid and process.pgid != parent.pgid and _launched(own, marks[parent.pid])


def _launched(own: Marks, above: Marks) -> bool:
    """Whether a host gave it its marks, as a server, and whoever is above it now is not of that session."""
    return own.session not in ("", above.session) and own.project and not own.host_pid


def _orphans(copy: _Copy, lineage: Lineage, standings: Mapping[int, Standing]) -> Iterator[Attributed]:
    pid = copy.root.process.pid
    if standings.get(pid, _UNREAD).stdin != "gone":
        return
    gone = f"nobody holds the other end of the standard input of {pid}, and who started it is gone"
    spared = _spared(copy, lineage, standings)
    for one in copy.members:
        why = spared.get(one.process.pid)
        verdict: Verdict = "left-running" if why else "orphan"
        yield _told(one, verdict, ORPHAN, f"{gone}; {why}" if why else gone)


def _spared(copy: _Copy, lineage: Lineage, standings: Mapping[int, Standing]) -> dict[int, str]:
    """Who of the instance may have been meant to go on, and why. With the root goes all below it; a wrapper between
    it and one that is spared would hand our signal on."""
    pids = [one.process.pid for one in copy.members]
    root = copy.root.process
    spared = {pid: why for pid in pids if (why := _own_reason(standings.get(pid, _UNREAD)))}
    if root.pid not in spared and root.sid == root.pid:
        spared[root.pid] = "it leads a process session of its own (setsid)"
    for pid in tuple(spared):
        for below in lineage.descendants(pid):
            spared.setdefault(below, f"started by {pid}, which is left running")
        for above in lineage.chain(pid, root.pid)[1:-1]:
            spared.setdefault(above, f"{pid} below it is left running")
    return spared


def _own_reason(standing: Standing) -> str:
    if standing.ignores_hangup:
        return "it ignores SIGHUP (nohup)"
    return "it listens on a port, or that cannot be read" if standing.listens else ""


# -- a live session's copies ----------------------------------------------------------------------------------------

_Told = tuple[Verdict, float, str]


def _superseded(copies: list[_Copy], standings: Mapping[int, Standing]) -> Iterator[tuple[int, _Told]]:
    """All but the youngest of one session, where the session has let the older ones go."""
    for group in _by_session(copies).values():
        held = [at for at, copy in enumerate(group) if _stdin(copy, standings) != "gone"]
        for copy in group[: held[-1]] if held else ():
            told = _older(copy, group[held[-1]], standings)
            if told is not None:
                yield copy.root.process.pid, told


def _stdin(copy: _Copy, standings: Mapping[int, Standing]) -> str:
    return standings.get(copy.root.process.pid, _UNREAD).stdin


def _older(copy: _Copy, youngest: _Copy, standings: Mapping[int, Standing]) -> _Told | None:
    pid, root = copy.root.process.pid, copy.root
    stands = [standings.get(one.process.pid, _UNREAD) for one in copy.members]
    if any(one.listens or one.ignores_hangup for one in stands) and root.process.pid in standings:
        return None
    by = f"the session {root.session} runs the same command line again, as {youngest.root.process.pid}"
    if stands[0].stdin == "gone":
        return "superseded", SUPERSEDED, f"nobody holds the other end of the standard input of {pid}; {by}"
    later = youngest.start - copy.start
    if stands[0].stdin == "unknown" and root.host in SINGLE and later > TOGETHER and not root.detached:
        one = f"{root.host} has one conversation a process, and started it {later / 100:.0f} s later"
        return "superseded", REPLACED, f"{by}; {one}"
    return None


def _duplicates(copies: list[_Copy]) -> Iterator[tuple[int, _Told]]:
    """All but the oldest of those with one command line, each from another live session."""
    oldest: dict[tuple[str, ...], _Copy] = {}
    for copy in copies:
        if copy.root.session_root is None or copy.root.host is None or copy.root.verdict != "owned":
            continue
        first = oldest.setdefault(copy.command, copy)
        if first.root.session_root != copy.root.session_root:
            by = f"the session {first.root.session} has run the same command line for longer, as"
            yield copy.root.process.pid, ("duplicate", DUPLICATE, f"{by} {first.root.process.pid}")


def _told(one: Attributed, verdict: Verdict, confidence: float, why: str) -> Attributed:
    evidence = (why, *one.evidence)
    return msgspec.structs.replace(one, verdict=verdict, confidence=confidence, evidence=evidence)
