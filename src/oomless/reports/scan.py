"""The object that ``oomless scan --json`` prints, field for field, and how it is made from an attribution.

Covers types and sums. The attribution itself is in ``attribute.py``, warnings are in ``findings.py``, the table
for people is in ``cli/scan.py``.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping

import msgspec

from oomless.catalog import Kind
from oomless.census.attribution import Attributed, Verdict
from oomless.census.findings import Finding, Scene, findings
from oomless.model import Footprint, FootprintSource, LiveSession, MachineMemory, MemoryUse
from oomless.redact import command_line

#: Masking a command line takes 0.1 ms and more; those who look again and again see the same ones.
shown = functools.lru_cache(maxsize=4096)(command_line)


class ProcessRow(msgspec.Struct, frozen=True, kw_only=True):
    """``start`` is in the units of ``model.Identity``; secrets in ``command`` are masked. ``bytes_recoverable``: what
    would be free if it ended, None where that cannot be read."""

    pid: int
    ppid: int
    start: int | None
    uid: int
    command: str
    kind: Kind
    verdict: Verdict
    confidence: float
    host: str | None
    session: str | None
    server: str | None
    footprint_bytes: int
    footprint_source: FootprintSource
    rss_bytes: int
    bytes_recoverable: int | None
    evidence: tuple[str, ...]


class GroupRow(msgspec.Struct, frozen=True, kw_only=True):
    """Every listed process is in exactly one group: a server's wrappers and children are in the server's, what a tool
    shell started is in that of the tool shells. Subagents that run inside a host's process have no processes here."""

    kind: Kind
    name: str
    instances: int
    processes: int
    footprint_bytes: int


class ScanReport(msgspec.Struct, frozen=True, kw_only=True):
    schema: str = "oomless.scan/1"
    memory: MachineMemory
    processes: tuple[ProcessRow, ...]
    groups: tuple[GroupRow, ...]
    findings: tuple[Finding, ...]


def build(
    attributed: Iterable[Attributed],
    footprints: Mapping[int, Footprint],
    memory: MachineMemory,
    subagents: Mapping[str, int] | None = None,
    in_sessions: Mapping[str, int] | None = None,
    use: MemoryUse | None = None,
    sessions: tuple[LiveSession, ...] = (),
) -> ScanReport:
    """Processes without a footprint have ended since the snapshot, and are left out. ``subagents``: how many of each
    name run inside hosts' processes; ``in_sessions``: how many of them in each session; ``use`` and ``sessions`` are
    for the findings."""
    alive = [one for one in attributed if one.process.pid in footprints]
    inside = subagents if in_sessions is None else in_sessions
    scene = Scene(
        memory=memory,
        processes=tuple(alive),
        footprints=footprints,
        subagents=inside or {},
        use=use,
        sessions=sessions,
    )
    return ScanReport(
        memory=memory,
        processes=tuple(_row(one, footprints[one.process.pid]) for one in alive),
        groups=groups(alive, footprints, subagents or {}),
        findings=findings(scene),
    )


def _row(one: Attributed, footprint: Footprint) -> ProcessRow:
    process = one.process
    return ProcessRow(
        pid=process.pid,
        ppid=process.ppid,
        start=process.start,
        uid=process.uid,
        command=shown(process.command),
        kind=one.kind,
        verdict=one.verdict,
        confidence=one.confidence,
        host=one.host,
        session=one.session,
        server=one.server,
        footprint_bytes=footprint.bytes,
        footprint_source=footprint.source,
        rss_bytes=process.rss_bytes,
        bytes_recoverable=footprint.private_bytes,
        evidence=one.evidence,
    )


def groups(
    alive: list[Attributed], footprints: Mapping[int, Footprint], subagents: Mapping[str, int]
) -> tuple[GroupRow, ...]:
    """A listing does not tell every footprint: then a sum is of those that it tells."""
    members: dict[tuple[Kind, str], list[Attributed]] = {}
    for one in alive:
        members.setdefault(group_of(one), []).append(one)
    rows = [
        GroupRow(
            kind=kind,
            name=name,
            instances=len({instance_of(one) for one in group}),
            processes=len(group),
            footprint_bytes=sum(found.bytes for one in group if (found := footprints.get(one.process.pid))),
        )
        for (kind, name), group in members.items()
    ]
    rows += [
        GroupRow(kind="subagent", name=name, instances=count, processes=0, footprint_bytes=0)
        for name, count in subagents.items()
    ]
    return tuple(sorted(rows, key=lambda row: (-row.footprint_bytes, row.kind, row.name)))


def group_of(one: Attributed) -> tuple[Kind, str]:
    """Servers by name, tool shells by host, what a governed tree runs by the tree's name; the rest by host or
    program."""
    if one.server is not None:
        return "server", one.server
    if one.kind == "session":
        return "session", one.host or ""
    if one.kind in ("tool-shell", "launcher", "other") and one.shell is not None:
        return "tool-shell", one.host or ""
    if one.role == "tree" and one.tree is not None and one.kind in ("subagent", "launcher", "other"):
        return "subagent", one.tree
    return one.kind, one.program or one.host or "?"


def instance_of(one: Attributed) -> int:
    """The pid that stands for the copy: a server's root, a tool shell's top, a governed tree's root, else the process
    itself."""
    kind, _ = group_of(one)
    instance = {"server": one.instance, "tool-shell": one.shell, "subagent": one.tree_root}.get(kind)
    return one.process.pid if instance is None else instance
