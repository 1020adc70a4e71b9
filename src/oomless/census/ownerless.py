"""Whether nobody lives who may have started a process, and what speaks for letting it be. Pure.

For servers (``verdicts.py``) and for what tool shells leave (``shells.py``). A parent of 1, a name or a mark alone
prove nothing; here they only say that there is nobody above who could be the owner.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from oomless.census.attribution import Attributed, Verdict
from oomless.census.snapshot import Marks, Snapshot, launched
from oomless.model import ProcessInfo
from oomless.platform.base import Standing
from oomless.processes.ancestry import Lineage
from oomless.processes.command import adopts

#: How sure it is where it is likely and nothing proves it. Nothing is killed for that (``reports/reap.py``).
LIKELY = 0.6
_ROOT = 0
#: What was not read may listen.
UNREAD = Standing(listens=True)


def marks_by_pid(seen: Snapshot) -> dict[int, Marks]:
    return {process.pid: marks for process, marks in zip(seen.processes, seen.marks, strict=True)}


def adopted(process: ProcessInfo, lineage: Lineage, marks: Mapping[int, Marks]) -> bool:
    """Whether its parent is one that only takes what has lost its own: init, the user's systemd or a relay of WSL's,
    if it is of another process session or group than what they start; or, where a mark names a session that is gone,
    anybody of the same user without that mark who is in another process group than the host was. Whoever else is
    above it may be the client, and so may be one that is hidden from us."""
    parent, own = lineage.by_pid.get(process.ppid), marks[process.pid]
    if process.ppid == 1 and parent is None:
        return process.sid != 1
    if parent is None or lineage.parent(process.pid) is None:
        return False
    if parent.pid == 1 or (adopts(parent.command) and parent.uid in (process.uid, _ROOT)):
        elsewhere = process.sid != parent.sid or process.pgid not in (parent.pgid, process.pid)
        return elsewhere or (parent.pid == 1 and launched(own, marks[1]))
    return parent.uid == process.uid and process.pgid != parent.pgid and launched(own, marks[parent.pid])


def own_reason(standing: Standing) -> str:
    """Why it may have been meant to go on, or ""."""
    if standing.ignores_hangup:
        return "it ignores SIGHUP (nohup)"
    return "it listens on a port, or that cannot be read" if standing.listens else ""


def judged(one: Attributed, verdict: Verdict, confidence: float, why: str) -> Attributed:
    """With another verdict, and what it stands on before the rest of the evidence."""
    evidence = (why, *one.evidence)
    return msgspec.structs.replace(one, verdict=verdict, confidence=confidence, evidence=evidence)
