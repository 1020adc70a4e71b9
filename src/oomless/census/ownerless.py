"""Whether no live process can own another one, and what speaks for its persistence. Pure.

Used for servers (``verdicts.py``) and for what tool shells leave (``shells.py``). A parent of 1, a name or a mark
alone prove nothing; here they only say that no process above can be the owner."""

from __future__ import annotations

import msgspec

from oomless.census.attribution import Attributed, Verdict
from oomless.census.snapshot import Snapshot, is_foreign_server
from oomless.model import ProcessInfo
from oomless.platform.base import Standing
from oomless.processes.command import is_subreaper

#: The confidence of what is likely and not proven. Nothing is killed for that (``reports/reap.py``).
LIKELY = 0.6
_ROOT = 0
#: A process whose standing was not read may listen.
UNREAD = Standing(listens=True)


def is_reparented(process: ProcessInfo, snapshot: Snapshot) -> bool:
    """Whether its parent is not the process that started it: that is init, the user's systemd or a relay of WSL's,
    and the process is of another process session or group than what these start; or, where a mark names a session
    that is gone, any process of the same user without that mark, in another process group than the host was. Any
    other parent may be its client, and so may one that is hidden from us."""
    ancestry, marks = snapshot.ancestry, snapshot.marks_by_pid
    parent, own = ancestry.by_pid.get(process.ppid), marks[process.pid]
    if process.ppid == 1 and parent is None:
        return process.sid != 1
    if parent is None or ancestry.parent(process.pid) is None:
        return False
    if parent.pid == 1 or (is_subreaper(parent.command) and parent.uid in (process.uid, _ROOT)):
        elsewhere = process.sid != parent.sid or process.pgid not in (parent.pgid, process.pid)
        return elsewhere or (parent.pid == 1 and is_foreign_server(own, marks[1]))
    return parent.uid == process.uid and process.pgid != parent.pgid and is_foreign_server(own, marks[parent.pid])


def detach_reason(standing: Standing) -> str:
    """Why a process may be meant to outlive its session, or ""."""
    if standing.ignores_hangup:
        return "it ignores SIGHUP (nohup)"
    return "it listens on a port, or that cannot be read" if standing.listens else ""


def with_verdict(attributed: Attributed, verdict: Verdict, confidence: float, evidence: str) -> Attributed:
    """The same process with another verdict, and the evidence for it before the rest."""
    lines = (evidence, *attributed.evidence)
    return msgspec.structs.replace(attributed, verdict=verdict, confidence=confidence, evidence=lines)
