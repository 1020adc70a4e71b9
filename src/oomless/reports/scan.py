"""The object that ``oomless scan --json`` prints, and the row of one process that ``reap`` and ``diagnose`` share.

What is not known is None. The report of a saved listing is in ``listing.py``.
"""

from __future__ import annotations

import functools
from collections.abc import Collection, Iterable, Mapping

import msgspec

from oomless.catalog import Kind
from oomless.census.attribution import Attributed, Verdict
from oomless.census.findings import Finding, Inventory, list_findings
from oomless.model import Footprint, FootprintSource, LiveSession, MachineMemory, MemoryUse
from oomless.redact import command_line

#: Masking a command line takes 0.1 ms and more; ``scan --watch`` sees the same ones every second.
shown = functools.lru_cache(maxsize=4096)(command_line)


class ProcessRow(msgspec.Struct, frozen=True, kw_only=True):
    """One process in the report of ``scan``, ``reap`` and ``diagnose``.

    ``start`` is in the units of ``ProcessId``; secrets in ``command`` are masked. ``instance``: the root process of
    the server that it is part of. ``bytes_recoverable``: its private memory, which would be free if it ended; None
    where that cannot be read. ``tty`` as people know it (``pts/3``), "" for none; ``line`` and ``user`` are those of
    a listing.
    """

    pid: int
    ppid: int | None = None
    start: int | None = None
    uid: int | None = None
    command: str = ""
    kind: Kind = "other"
    verdict: Verdict = "unknown"
    confidence: float = 0.0
    host: str | None = None
    session: str | None = None
    server: str | None = None
    instance: int | None = None
    footprint_bytes: int | None = None
    footprint_source: FootprintSource | None = None
    rss_bytes: int | None = None
    bytes_recoverable: int | None = None
    evidence: tuple[str, ...] = ()
    line: int | None = None
    user: str | None = None
    tty: str | None = None


class GroupRow(msgspec.Struct, frozen=True, kw_only=True):
    """Every row is in exactly one group: a server's wrappers and children are in the server's, what a tool shell
    started is in that of the tool shells. Subagents that run inside a host's process have no processes here.
    ``footprint_bytes`` is the sum of what is known, None if nothing is; ``untold``: of how many processes it is
    not."""

    kind: Kind
    name: str
    instances: int
    processes: int
    footprint_bytes: int | None
    untold: int = 0


class ScanReport(msgspec.Struct, frozen=True, kw_only=True):
    schema: str = "oomless.scan/1"
    memory: MachineMemory | None
    processes: tuple[ProcessRow, ...]
    groups: tuple[GroupRow, ...]
    findings: tuple[Finding, ...]


def build_scan(
    attributed: Iterable[Attributed],
    footprints: Mapping[int, Footprint],
    memory: MachineMemory,
    subagents: Mapping[str, int] | None = None,
    in_sessions: Mapping[str, int] | None = None,
    use: MemoryUse | None = None,
    sessions: tuple[LiveSession, ...] = (),
) -> ScanReport:
    """The report of the live machine. Processes without a footprint have ended since the snapshot, and are left out.
    ``subagents``: how many of each name run inside hosts' processes; ``in_sessions``: how many of them in each
    session; ``use`` and ``sessions`` are for the findings."""
    alive = tuple(process for process in attributed if process.process.pid in footprints)
    inside = subagents if in_sessions is None else in_sessions
    inventory = Inventory(
        memory=memory,
        processes=alive,
        footprints=footprints,
        subagents=inside or {},
        use=use,
        sessions=sessions,
    )
    return ScanReport(
        memory=memory,
        processes=tuple(process_row(process, footprints[process.process.pid]) for process in alive),
        groups=group_rows(alive, footprints, subagents or {}),
        findings=list_findings(inventory),
    )


def process_row(attributed: Attributed, footprint: Footprint | None) -> ProcessRow:
    process = attributed.process
    return ProcessRow(
        pid=process.pid,
        ppid=process.ppid,
        start=process.start,
        uid=process.uid,
        command=shown(process.command),
        kind=attributed.kind,
        verdict=attributed.verdict,
        confidence=attributed.confidence,
        host=attributed.host,
        session=attributed.session,
        server=attributed.server,
        instance=attributed.instance,
        footprint_bytes=footprint.bytes if footprint else None,
        footprint_source=footprint.source if footprint else None,
        rss_bytes=process.rss_bytes,
        bytes_recoverable=footprint.private_bytes if footprint else None,
        evidence=attributed.evidence,
        tty=process.terminal,
    )


def group_rows(
    processes: Collection[Attributed], footprints: Mapping[int, Footprint], subagents: Mapping[str, int]
) -> tuple[GroupRow, ...]:
    """The largest first."""
    members: dict[tuple[Kind, str], list[Attributed]] = {}
    for process in processes:
        members.setdefault(group_of(process), []).append(process)
    rows = [_group_row(kind, name, group, footprints) for (kind, name), group in members.items()]
    rows += [
        GroupRow(kind="subagent", name=name, instances=count, processes=0, footprint_bytes=0)
        for name, count in subagents.items()
    ]
    return tuple(sorted(rows, key=lambda row: (-(row.footprint_bytes or 0), row.kind, row.name)))


def _group_row(kind: Kind, name: str, group: list[Attributed], footprints: Mapping[int, Footprint]) -> GroupRow:
    sizes = [footprint.bytes for member in group if (footprint := footprints.get(member.process.pid)) is not None]
    return GroupRow(
        kind=kind,
        name=name,
        instances=len({instance_of(member) for member in group}),
        processes=len(group),
        footprint_bytes=sum(sizes) if sizes else None,
        untold=len(group) - len(sizes),
    )


def group_of(process: Attributed) -> tuple[Kind, str]:
    """Servers by name, tool shells by host, what a governed tree runs by the tree's name; the rest by host or
    program."""
    if process.server is not None:
        return "server", process.server
    if process.kind == "session":
        return "session", process.host or ""
    if process.kind in ("tool-shell", "launcher", "other") and process.shell is not None:
        return "tool-shell", process.host or ""
    if process.role == "tree" and process.tree is not None and process.kind in ("subagent", "launcher", "other"):
        return "subagent", process.tree
    return process.kind, process.program or process.host or "?"


def instance_of(process: Attributed) -> int:
    """The pid that stands for the copy: a server's root, a tool shell's top, a governed tree's root, else the process
    itself."""
    kind, _ = group_of(process)
    instance = {"server": process.instance, "tool-shell": process.shell, "subagent": process.tree_root}.get(kind)
    return process.process.pid if instance is None else instance
