"""Shells of a saved listing that no printed parent places: those between a launcher and its server, and tool shells
of sessions that are gone. Pure.

``npm exec PACKAGE`` has a shell run the package's command, which stands between the two and has its name in its
arguments. A tool shell is started by its session, and so is younger than that; one that lost its parent, or is older
than all sessions of a whole listing, is left over. As all that a listing shows, likely at most.
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Iterable, Mapping

import msgspec

from oomless.catalog import Catalog, Kind
from oomless.census.attribution import Attributed
from oomless.census.listing_lost import takes_in
from oomless.census.ownerless import LIKELY
from oomless.census.owners import MARKING_HOST
from oomless.census.shells import TOOL_SHELL
from oomless.census.snapshot import Snapshot
from oomless.listing.merge import Merged
from oomless.model import ProcessInfo
from oomless.processes.ancestry import Lineage
from oomless.processes.command import SHELLS, base, parse, to_be

_FIRST = 1


def between(found: tuple[Attributed, ...], seen: Snapshot, rows: Mapping[int, Merged]) -> tuple[Attributed, ...]:
    """With the shells that belong to servers where no parents are printed: each to the next server on its terminal
    that is called what it was told to run."""
    told = {one.process.pid for one in found}
    servers: dict[tuple[str, str], list[Attributed]] = {}
    for one in found:
        if one.instance is not None and rows[one.process.pid].listed.ppid is None:
            servers.setdefault((rows[one.process.pid].listed.tty, _name(one)), []).append(one)
    added = []
    for process in seen.processes:
        row, name = rows[process.pid].listed, _told_to_run(process.command)
        if process.pid in told or row.ppid is not None or not row.tty or not name:
            continue
        alike = servers.get((row.tty, name), [])
        at = bisect(alike, process.pid, key=lambda one: one.process.pid)
        if at < len(alike):
            server = alike[at]
            why = f"a shell on the terminal of {server.process.pid} that was told to run it: taken for its launcher's"
            evidence = (*server.evidence, why)
            added.append(
                msgspec.structs.replace(server, process=process, kind="launcher", program=None, evidence=evidence)
            )
    return tuple(sorted((*found, *added), key=lambda one: one.process.pid))


def _told_to_run(command: tuple[str, ...]) -> str:
    """``NAME`` of ``sh -c NAME ...``, if that is all that the shell runs."""
    if len(command) < 3 or base(command[0]) not in SHELLS or command[1] != "-c":
        return ""
    first = command[2].split()
    return base(first[0].strip("\"'")) if first else ""


def _name(server: Attributed) -> str:
    command = parse(to_be(server.process.command))
    return base(command.script or command.path)


def left(
    found: Iterable[Attributed], seen: Snapshot, rows: Mapping[int, Merged], catalog: Catalog, timed: bool
) -> tuple[Attributed, ...]:
    """Tool shells that are left over, and what is below them where that is printed; none of ``found``."""
    told, lineage = {one.process.pid for one in found}, Lineage(seen.processes)
    sessions = [one.process.start for one in found if one.kind == "session"]
    oldest = min(sessions, default=None) if timed and _FIRST in rows else None
    added: dict[int, Attributed] = {}
    for process in seen.processes:
        known = catalog.recognise(process.command)
        if known is None or known.program.name != TOOL_SHELL or process.pid in told:
            continue
        why = _why(process, rows, oldest, seen.starts_per_second * seen.starts_within)
        if why:
            by = f"catalog: {TOOL_SHELL}, {known.by}"
            added[process.pid] = _orphan(process, "tool-shell", f"{why} (a listing cannot prove it)", by)
            for pid in lineage.descendants(process.pid):
                one, sid = lineage.by_pid[pid], rows[pid].listed.sid
                if pid not in told and sid in (None, process.pid, process.sid):
                    added.setdefault(pid, _orphan(one, "other", f"run by the tool shell {process.pid}, and {why}"))
    return tuple(added.values())


def _orphan(process: ProcessInfo, kind: Kind, *evidence: str) -> Attributed:
    return Attributed(
        process=process,
        kind=kind,
        verdict="orphan",
        confidence=LIKELY,
        host=MARKING_HOST,
        program=TOOL_SHELL if kind == "tool-shell" else None,
        evidence=evidence,
    )


def _why(process: ProcessInfo, rows: Mapping[int, Merged], oldest: int | None, within: float) -> str:
    ppid = rows[process.pid].listed.ppid
    if ppid is not None:
        lost = takes_in(ppid, rows)
        how = f"its parent is {ppid}, which only takes in what has lost its own; only a session starts such a shell"
        return how if lost else ""
    if oldest is None or process.start + within >= oldest:
        return ""
    return "it is older than every session in the listing, and only a session starts such a shell"
