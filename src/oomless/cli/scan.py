"""``oomless scan``: who is governed, and the known hosts and servers around, with owner and honest memory.

Covers asking for the facts and showing them. Whose a process is comes from ``census/attribute.py``, the JSON from
``census/report.py``. Starts no daemon: without one, nothing is governed.
"""

from __future__ import annotations

import sys

assert sys.platform == "linux"

import time
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

import typer

from oomless.census import attribute, catalog, governed, snapshot
from oomless.census.findings import at_least
from oomless.census.report import ProcessRow, ScanReport, build
from oomless.cli.output import console, print_json, printable
from oomless.daemon.client import Client
from oomless.model import Footprint
from oomless.paths import Paths
from oomless.platform import current
from oomless.platform.base import Platform
from oomless.units import format_size

if TYPE_CHECKING:
    from rich.table import Table

#: Reading memory is announced only if it takes longer than that (a process of 500 MB takes 9 ms).
SLOW_SECONDS = 0.7
_WHAT_WIDTH = 44


def command(
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    fail_on: Annotated[
        Literal["warning", "critical"] | None,
        typer.Option("--fail-on", help="Exit with 1 if there is a finding as severe as that."),
    ] = None,
) -> None:
    """Show who owns what: governed trees, known hosts and MCP servers, and their memory."""
    report, trees = scan(current(), Paths())
    if json:
        print_json(report)
    else:
        _show(report, trees)
    if fail_on is not None and at_least(report.findings, fail_on):
        raise typer.Exit(1)


class Scan(NamedTuple):
    """``trees``: the governed tree's name by pid, which the contract's rows have no field for."""

    report: ScanReport
    trees: Mapping[int, str]


def scan(platform: Platform, paths: Paths) -> Scan:
    trees = _open_trees(paths)
    seen = snapshot.take(platform)
    members = governed.find(seen, trees, paths.install_id()) if trees else ()
    found = attribute.attribute(seen, members, catalog.load())
    footprints = _footprints(platform, [one.process.pid for one in found])
    names = {one.process.pid: one.tree for one in found if one.tree is not None}
    return Scan(build(found, footprints, platform.memory()), names)


def _open_trees(paths: Paths) -> tuple[snapshot.OpenTree, ...]:
    return tuple(
        snapshot.OpenTree(tree=tree.tree, name=tree.name, root_pid=tree.pid, root_start=tree.start)
        for tree in Client(paths, start=False).status().trees
        if tree.state == "running" and tree.pid is not None
    )


def _footprints(platform: Platform, pids: list[int]) -> dict[int, Footprint]:
    """Of those that are still alive; says what it is doing if that takes long and somebody watches."""
    found: dict[int, Footprint] = {}
    status = console(stderr=True).status(f"reading the memory of {len(pids)} processes")
    slow_at, shown = time.monotonic() + SLOW_SECONDS, not sys.stderr.isatty()
    try:
        for pid in pids:
            footprint = platform.footprint(pid)
            if footprint is not None:
                found[pid] = footprint
            if not shown and time.monotonic() > slow_at:
                status.start()
                shown = True
    finally:
        status.stop()
    return found


def _show(report: ScanReport, trees: Mapping[int, str]) -> None:
    out = console()
    if report.processes:
        out.print(_table(report.processes, trees))
        out.print(_totals(report), soft_wrap=True)
    else:
        out.print("no governed tree, known host or server runs here", soft_wrap=True)
    memory = report.memory
    used = memory.total_bytes - memory.available_bytes
    out.print(
        f"memory: {format_size(used)} of {format_size(memory.total_bytes)} in use,"
        f" {format_size(memory.available_bytes)} available",
        soft_wrap=True,
    )
    for finding in report.findings:
        evidence = "; ".join(finding.evidence)
        out.print(f"{finding.severity}: {finding.title} ({evidence}): {finding.action}", soft_wrap=True)


def _table(rows: Iterable[ProcessRow], trees: Mapping[int, str]) -> Table:
    """One section a session, its own processes first, then server by server; the largest session first."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("PID", justify="right")
    for name in ("KIND", "WHAT"):
        table.add_column(name, overflow="ellipsis", no_wrap=True)
    table.add_column("OWNER", overflow="ellipsis", no_wrap=True)
    table.add_column("FOOTPRINT", justify="right", no_wrap=True)
    table.add_column("VERDICT", no_wrap=True)
    for section in _sections(rows):
        for row in section:
            footprint = f"{format_size(row.footprint_bytes)} {row.footprint_source}"
            table.add_row(str(row.pid), row.kind, _what(row), _owner(row, trees), footprint, row.verdict)
        table.add_section()
    return table


def _sections(rows: Iterable[ProcessRow]) -> list[list[ProcessRow]]:
    sections: dict[tuple[str, str], list[ProcessRow]] = {}
    for row in rows:
        sections.setdefault((row.host or "", row.session or ""), []).append(row)
    for section in sections.values():
        section.sort(key=lambda row: (row.kind != "session", row.server or "", row.pid))
    return sorted(sections.values(), key=lambda section: -sum(row.footprint_bytes for row in section))


def _what(row: ProcessRow) -> str:
    """The server's name where there is one, then the command, cut."""
    text = printable(row.command)
    text = f"{row.server}: {text}" if row.server else text
    return text if len(text) <= _WHAT_WIDTH else f"{text[: _WHAT_WIDTH - 1]}…"


def _owner(row: ProcessRow, trees: Mapping[int, str]) -> str:
    """The host and its session, an id cut as git cuts its own; then the governed tree."""
    host = f"{row.host} {(row.session or '').partition(':')[0][:8]}" if row.host else ""
    tree = f"tree {trees[row.pid]}" if row.pid in trees else ""
    return printable(", ".join(part for part in (host, tree) if part)) or "-"


def _totals(report: ScanReport) -> str:
    rows = report.processes
    total = format_size(sum(row.footprint_bytes for row in rows))
    sources = ", ".join(sorted({row.footprint_source for row in rows}))
    sessions = sum(group.instances for group in report.groups if group.kind == "session")
    servers = [group for group in report.groups if group.kind == "server"]
    copies = sum(group.instances for group in servers)
    return (
        f"{_count(len(rows), 'process', 'processes')}, {total} ({sources}): {_count(sessions, 'session')},"
        f" {_count(copies, 'server instance')} of {_count(len(servers), 'server')}"
    )


def _count(number: int, one: str, many: str = "") -> str:
    return f"{number} {one if number == 1 else many or f'{one}s'}"
