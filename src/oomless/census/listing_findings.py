"""The findings of a saved listing: the rules of a live scan, and one for copies that terminals tell apart. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from oomless.census.attribution import Attributed
from oomless.census.findings import Finding, Inventory, list_findings
from oomless.census.findings.finding import join_words, pids_of
from oomless.listing.merge import MergedRow
from oomless.model import Footprint, MachineMemory
from oomless.processes.command import ParsedCommand

DUPLICATES = "duplicate-servers"

_Places = dict[str, list[Attributed]]


def listing_findings(
    processes: tuple[Attributed, ...],
    commands: Mapping[int, ParsedCommand],
    rows: Mapping[int, MergedRow],
    footprints: Mapping[int, Footprint],
    memory: MachineMemory | None,
) -> tuple[Finding, ...]:
    """The most severe first."""
    inventory = Inventory(memory=memory, processes=processes, footprints=footprints)
    copies = _find_duplicates(processes, commands, rows)
    rest = (finding for finding in list_findings(inventory) if finding.rule != DUPLICATES)
    return tuple(sorted((*rest, *copies), key=lambda finding: finding.severity == "info"))


def _find_duplicates(
    processes: Iterable[Attributed], commands: Mapping[int, ParsedCommand], rows: Mapping[int, MergedRow]
) -> list[Finding]:
    """The same server in several sessions, or on several terminals. A listing seldom says which was first."""
    places: dict[tuple[str, ...], _Places] = {}
    for process in processes:
        place = _closable_place(process, rows)
        if process.server is not None and process.kind == "server" and place:
            command = (process.server, *commands[process.process.pid].becomes)
            places.setdefault(command, {}).setdefault(place, []).append(process)
    several = {command[0]: group for command, group in places.items() if len(group) > 1}
    if not several:
        return []
    copies = {
        _instance_root(member) for group in several.values() for members in group.values() for member in members
    }
    members = [member for member in processes if member.server is not None and _instance_root(member) in copies]
    cut = any(rows[member.process.pid].listed.cut for member in members)
    count = f"{len(several)} MCP servers run more" if len(several) > 1 else "an MCP server runs more"
    evidence = [f"{name}: {'; '.join(_format_place(*at) for at in group.items())}" for name, group in several.items()]
    return [
        Finding(
            rule=DUPLICATES,
            severity="warning",
            title=f"{count} than once: {join_words(sorted(several))}",
            pids=pids_of(members),
            evidence=(*evidence, *(("some commands are cut: the same as far as they are printed",) if cut else ())),
            action=_suggest_action(several.values(), members, rows),
        )
    ]


def _instance_root(server: Attributed) -> int:
    return server.process.pid if server.instance is None else server.instance


def _closable_place(process: Attributed, rows: Mapping[int, MergedRow]) -> str:
    """What a person can close: the session and its terminal, or that alone."""
    tty = _terminal_of(process, rows)
    if process.session_root is None:
        return f"terminal {tty}" if tty else ""
    return f"{process.host} {process.session_root}" + (f" on {tty}" if tty else "")


def _terminal_of(process: Attributed, rows: Mapping[int, MergedRow]) -> str:
    root = rows.get(process.session_root) if process.session_root is not None else None
    return (root.listed.tty if root else "") or rows[process.process.pid].listed.tty


def _format_place(place: str, group: list[Attributed]) -> str:
    return f"{place} (pid {', '.join(str(member.process.pid) for member in group)})"


def _suggest_action(several: Iterable[_Places], members: Iterable[Attributed], rows: Mapping[int, MergedRow]) -> str:
    terminals = sorted({tty for member in members if (tty := _terminal_of(member, rows))})
    places = join_words(sorted({place for group in several for place in group}))
    where = f" on the terminals {', '.join(terminals)}" if len(terminals) > 1 else ""
    return (
        f"close the sessions that you don't need{where}: {places}; or disable these servers where they are not used"
    )
