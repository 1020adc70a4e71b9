"""What ``oomless scan --watch`` shows of one look: sections of rows, and what each amounts to. Pure.

A section is a session, a host's other processes, or leftovers; a row is one server, tool shell, subagent or governed
tree with all of its processes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from oomless.census.attribution import Attributed
from oomless.hosts.naming import short_name
from oomless.processes.command import base_name
from oomless.protocol.views import StatusView, TreeView
from oomless.reports.look import Scan, find_subagents, owner_of
from oomless.reports.scan import group_of, instance_of, shown

LEFTOVER, OTHER = "leftover", "other"
#: Verdicts that say more than how it runs.
_TOLD = ("orphan", "superseded", "duplicate", "idle")
#: The order of rows within a section.
_ORDER = ("session", "subagent", "server", "tool-shell")
_MANY = {"session": "sessions", "subagent": "subagents", "server": "servers", "tool-shell": "tool shells"}


class WatchRow(msgspec.Struct, frozen=True, kw_only=True):
    """``key`` names the same thing in the next look; ``count`` is how many things the row stands for. ``footprint``
    is None for what has no processes of its own; so is ``change`` for what was not there before."""

    key: str
    kind: str
    name: str
    count: int = 1
    processes: int = 0
    footprint: int | None = None
    change: int | None = None
    state: str


class WatchSection(msgspec.Struct, frozen=True, kw_only=True):
    title: str
    rows: tuple[WatchRow, ...]

    @property
    def footprint(self) -> int:
        return sum(row.footprint or 0 for row in self.rows)


def make_sections(scan: Scan, before: Mapping[str, int]) -> tuple[WatchSection, ...]:
    """Live sessions in the order of their start, then governed trees and others, then what is left. ``before``: the
    footprints of the look before, by key; empty at the first."""
    homes: dict[tuple[str, str], list[Attributed]] = {}
    for row in sorted(scan.attributed.values(), key=lambda row: (row.process.start, row.process.pid)):
        homes.setdefault(_home_of(row), []).append(row)
    subagents = _subagent_rows(scan.status)
    for home in subagents:
        homes.setdefault(home, [])
    unordered = [
        WatchSection(
            title=_section_title(home),
            rows=_sort_rows([*_make_rows(members, scan, before), *subagents.get(home, ())]),
        )
        for home, members in homes.items()
    ]
    return tuple(sorted(unordered, key=lambda section: (section.title == LEFTOVER, section.title == OTHER)))


def footprints_by_key(shown: Iterable[WatchSection]) -> dict[str, int]:
    return {row.key: row.footprint for section in shown for row in section.rows if row.footprint is not None}


def _home_of(attributed: Attributed) -> tuple[str, str]:
    """Host and session; an empty host for what is in no session that runs."""
    if attributed.host is not None and attributed.session is not None and attributed.session_root is not None:
        return attributed.host, attributed.session
    gone = attributed.session is not None and attributed.host is not None and attributed.tree is None
    return "", LEFTOVER if gone else OTHER


def _section_title(home: tuple[str, str]) -> str:
    host, session = home
    return f"{host} {session.partition(':')[0][:8]}" if host else session


def _make_rows(members: Iterable[Attributed], scan: Scan, before: Mapping[str, int]) -> list[WatchRow]:
    copies: dict[str, list[Attributed]] = {}
    for member in members:
        copies.setdefault(_row_key(member), []).append(member)
    return [_make_row(key, copy, scan, before) for key, copy in copies.items()]


def _row_key(attributed: Attributed) -> str:
    kind, _ = group_of(attributed)
    return f"{kind} {instance_of(attributed)} {attributed.session}"


def _make_row(key: str, copy: list[Attributed], scan: Scan, before: Mapping[str, int]) -> WatchRow:
    footprint = sum(scan.footprints[member.process.pid].bytes for member in copy)
    return WatchRow(
        key=key,
        kind=group_of(copy[0])[0],
        name=_name_copy(copy)
        if _home_of(copy[0])[1] != LEFTOVER
        else f"{(copy[0].session or '')[:8]}: {_name_copy(copy)}",
        processes=len(copy),
        footprint=footprint,
        change=footprint - before[key] if key in before else None,
        state=_describe_state(copy, is_new=bool(before) and key not in before),
    )


def _name_copy(copy: list[Attributed]) -> str:
    """A server's or tree's name; of a tool shell its command, of all others what runs."""
    kind, name = group_of(copy[0])
    if kind == "tool-shell":
        return _shell_name(copy)
    if kind in ("server", "subagent"):
        return name
    if kind == "session":
        return f"{name}, pid {copy[0].process.pid}"
    return _format_command(copy[0])


def _format_command(attributed: Attributed) -> str:
    """Without the folder of its program."""
    first, *rest = attributed.process.command
    return shown((base_name(first), *rest))


def _shell_name(copy: list[Attributed]) -> str:
    named = (short_name("shell", shown(member.process.command)) for member in copy if member.kind == "tool-shell")
    name = next((name for name in named if name != "tool shell"), "")
    tree = next((member.tree for member in copy if member.tree and member.role == "tool-shell"), "")
    work = next((member for member in copy if member.kind not in ("launcher", "tool-shell")), copy[0])
    return name or (shown((tree,)) if tree else _format_command(work))


def _describe_state(copy: list[Attributed], *, is_new: bool) -> str:
    """The most telling word first."""
    verdicts = {member.verdict for member in copy}
    if "detached" in verdicts:
        return "detached"
    if (verdict := next((member.verdict for member in copy if member.verdict in _TOLD), None)) is not None:
        return verdict
    if all(member.verdict == "unknown" for member in copy):
        return "session ended" if copy[0].session else "unknown"
    if "protected" in verdicts:
        return "protected"
    if is_new:
        return "new"
    if any(member.role for member in copy):
        return "governed"
    return "reparented" if all(member.chain_broken for member in copy) else "running"


def _subagent_rows(status: StatusView) -> dict[tuple[str, str], list[WatchRow]]:
    """Those inside hosts' processes, under the newest id of their session."""
    newest = {old: session.sessions[-1] for session in status.sessions for old in session.sessions}
    by_session: dict[tuple[str, str], list[WatchRow]] = {}
    for tree in find_subagents(status):
        host, session = owner_of(tree)
        by_session.setdefault((host, newest.get(session, session)), []).append(_subagent_row(tree))
    return by_session


def _subagent_row(tree: TreeView) -> WatchRow:
    return WatchRow(key=tree.tree, kind="subagent", name=tree.name, state=tree.state)


def _sort_rows(rows: list[WatchRow]) -> tuple[WatchRow, ...]:
    order = {kind: at for at, kind in enumerate(_ORDER)}
    return tuple(sorted(rows, key=lambda row: order.get(row.kind, len(order))))


def count_kinds(counts: Mapping[str, int]) -> str:
    """``1 session, 5 servers, 2 tool shells``"""
    return ", ".join(count_kind(kind, n) for kind, n in counts.items() if n)


def count_kind(kind: str, count: int) -> str:
    return f"{count} {kind if count == 1 else _MANY.get(kind, f'{kind}s')}"


def count_totals(shown: Iterable[WatchSection]) -> tuple[str, str]:
    """What runs, and what is left of sessions that are gone."""
    runs: dict[str, int] = dict.fromkeys(_ORDER, 0)
    left: dict[str, int] = {}
    for section in shown:
        into = left if section.title == LEFTOVER else runs
        for row in section.rows:
            into[row.kind] = into.get(row.kind, 0) + row.count
    return count_kinds(runs), count_kinds(left)
