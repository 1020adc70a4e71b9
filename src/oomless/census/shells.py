"""What the tool shells of a dead session still run: orphan or detached, without recorded ancestry. Pure.

A host runs each command in a shell that leads a process session of its own, that the catalog recognises by its
command line, and that has the marks of the session, the host's pid among them. Only the host starts such a shell, for
one command: when the host's process is gone and no process above can own it, nothing waits for it any more. What it
runs goes with it as long as it stays in its process session. A process that left that session, ignores SIGHUP or
listens is detached, or may be, and spares everything above and below it. Of the rest that has a mark of a dead
session nothing is proven: what looks detached is called so, with the confidence of a mark; what a shell that has
ended had started with ``&`` is likely left over, but that shell may have been one that left the session."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import msgspec

from oomless import hosts
from oomless.census.attribution import MARK, Attributed
from oomless.census.ownerless import LIKELY, UNREAD, detach_reason, is_reparented, with_verdict
from oomless.census.snapshot import Marks, Snapshot
from oomless.model import ProcessInfo
from oomless.platform.base import Standing
from oomless.processes.ancestry import Ancestry
from oomless.processes.command import is_driven

#: The host is gone, by its pid and start time, and no live process can own the shell.
ORPHAN = 0.9


class Ownerless(msgspec.Struct, frozen=True, kw_only=True):
    """``processes``: those that lost their parents and have the mark of a dead session, by pid; ``shells``: those of
    them that are its tool shells; ``jobs``: those that a tool shell had started, in a process session whose leader is
    gone."""

    processes: Mapping[int, Attributed]
    shells: tuple[Attributed, ...]
    jobs: frozenset[int]


def find_ownerless(attributed: Iterable[Attributed], snapshot: Snapshot) -> Ownerless:
    ancestry, marks = snapshot.ancestry, snapshot.marks_by_pid
    unowned = {process.pid: process for process in attributed if _has_only_mark(process)}
    tops = {pid: ancestry.topmost(pid, unowned) for pid in unowned}
    reparented = {top for top in tops.values() if is_reparented(ancestry.by_pid[top], snapshot)}
    processes = {pid: process for pid, process in unowned.items() if tops[pid] in reparented}
    topmost = (process for pid, process in processes.items() if tops[pid] == pid)
    shells = tuple(process for process in topmost if _is_tool_shell(process, ancestry, marks[process.pid]))
    jobs = frozenset(pid for pid, process in processes.items() if _is_job(process, ancestry, marks[pid]))
    return Ownerless(processes=processes, shells=shells, jobs=jobs)


def decide(
    ownerless: Ownerless,
    attributed: Iterable[Attributed],
    ancestry: Ancestry[ProcessInfo],
    standings: Mapping[int, Standing],
) -> dict[int, Attributed]:
    """By pid, the processes that get another verdict. ``standings`` are those of ``ownerless.processes``."""
    by_pid = {process.pid: process for process in attributed}
    changed: dict[int, Attributed] = {}
    for shell in ownerless.shells if standings else ():
        changed |= _decide_below(shell, ownerless, by_pid, ancestry, standings)
    for pid in sorted(ownerless.processes, key=lambda pid: (ownerless.processes[pid].process.start, pid)):
        if pid not in changed:
            process = ownerless.processes[pid]
            reason = _persist_reason(process, standings) or _inherited_reason(pid, changed, ancestry)
            if reason:
                changed[pid] = with_verdict(process, "detached", MARK, f"its session has ended; {reason}")
    return changed | {process.pid: process for process in _decide_jobs(ownerless, changed, ancestry, standings)}


def _decide_jobs(
    ownerless: Ownerless,
    changed: Mapping[int, Attributed],
    ancestry: Ancestry[ProcessInfo],
    standings: Mapping[int, Standing],
) -> Iterator[Attributed]:
    """Except jobs with a process below them that may be detached."""
    for pid in ownerless.jobs - changed.keys():
        below = [child for child in ancestry.descendants(pid) if child not in ownerless.jobs or child in changed]
        if not below and standings.get(pid, UNREAD).backgrounded:
            how = "it ignores SIGINT and SIGQUIT, as what a shell starts with &, and that shell has ended"
            yield with_verdict(ownerless.processes[pid], "orphan", LIKELY, f"its session has ended, and {how}")


def _has_only_mark(attributed: Attributed) -> bool:
    """Whether the mark of a dead session is all that is known of its owner."""
    no_session = attributed.host is not None and attributed.session_root is None
    return attributed.verdict == "unknown" and no_session and attributed.chain_broken


def _is_tool_shell(attributed: Attributed, ancestry: Ancestry[ProcessInfo], marks: Marks) -> bool:
    process = attributed.process
    if attributed.program not in hosts.tool_shell_hosts() or process.sid != process.pid or not marks.host_pid:
        return False
    return _is_host_gone(process, ancestry, marks)


def _is_job(attributed: Attributed, ancestry: Ancestry[ProcessInfo], marks: Marks) -> bool:
    process = attributed.process
    gone = marks.host_pid > 0 and _is_host_gone(process, ancestry, marks)
    return gone and process.sid != process.pid and process.sid not in ancestry.by_pid


def _is_host_gone(process: ProcessInfo, ancestry: Ancestry[ProcessInfo], marks: Marks) -> bool:
    """The pid in the marks may have been reused, by a younger process."""
    host = ancestry.by_pid.get(marks.host_pid)
    return host is None or host.start > process.start


def _decide_below(
    shell: Attributed,
    ownerless: Ownerless,
    by_pid: Mapping[int, Attributed],
    ancestry: Ancestry[ProcessInfo],
    standings: Mapping[int, Standing],
) -> dict[int, Attributed]:
    """The shell, what is below it, and what lost its parents in its process session, which is entered by birth."""
    root, processes = shell.pid, ownerless.processes
    same = {pid: one.process for pid, one in processes.items() if one.session == shell.session}
    lost = {pid for pid, process in same.items() if process.sid == root}
    members = {root, *ancestry.descendants(root), *lost}
    members |= {below for pid in lost for below in ancestry.descendants(pid)}
    reasons = _detach_reasons(members, root, ownerless, by_pid, ancestry, standings)
    ended = f"the session {shell.session} that started the tool shell {root} has ended, and no process above owns it"
    changed = {}
    for pid in members & processes.keys():
        reason = reasons.get(pid)
        evidence = f"{ended}; {reason}" if reason else ended
        changed[pid] = with_verdict(processes[pid], "detached" if reason else "orphan", ORPHAN, evidence)
    return changed


def _detach_reasons(
    members: Iterable[int],
    root: int,
    ownerless: Ownerless,
    by_pid: Mapping[int, Attributed],
    ancestry: Ancestry[ProcessInfo],
    standings: Mapping[int, Standing],
) -> dict[int, str]:
    """By pid, why a member may be meant to outlive the session, its own reason or that of one above or below it."""
    reasons: dict[int, str] = {}
    driven = {pid for pid in members if pid in ownerless.processes and _is_driven(ownerless.processes[pid])}
    for pid in members:
        process = ancestry.by_pid[pid]
        if process.state == "Z":
            continue
        if pid not in ownerless.processes:
            reasons[pid] = f"it is {by_pid[pid].verdict}" if pid in by_pid else "it is not the session's"
        elif process.sid != root and process.sid not in driven:
            reasons[pid] = f"it left the process session of the tool shell {root} (setsid)"
        elif reason := detach_reason(standings.get(pid, UNREAD)):
            reasons[pid] = reason
    for pid in tuple(reasons):
        for below in ancestry.descendants(pid):
            reasons.setdefault(below, f"started by {pid}, which is detached")
        for above in ancestry.chain(pid, root)[1:]:
            reasons.setdefault(above, f"{pid} below it goes on")
    return reasons


def _is_driven(attributed: Attributed) -> bool:
    """Playwright has its browser lead a process session of its own, and still ends it with itself."""
    return attributed.kind == "browser" and is_driven(attributed.process.command)


def _persist_reason(attributed: Attributed, standings: Mapping[int, Standing]) -> str:
    process = attributed.process
    if process.sid == process.pid and attributed.program not in hosts.tool_shell_hosts():
        return "it leads a process session of its own (setsid)"
    standing = standings.get(process.pid)
    return detach_reason(standing) if standing is not None else ""


def _inherited_reason(pid: int, changed: Mapping[int, Attributed], ancestry: Ancestry[ProcessInfo]) -> str:
    above = ancestry.parent(pid)
    if above is None or above not in changed or changed[above].verdict != "detached":
        return ""
    return f"started by {above}, which is detached"
