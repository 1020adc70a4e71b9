"""One row a process out of a listing that may name it many times: in two tables, or in a table and in prose.

Tables go before mentions, later lines before earlier ones; what one does not tell is taken from the other. If their
commands disagree it was another process by then, and nothing of the earlier one is kept. Of top's pictures only the
last counts. Zombies hold no memory and are left out, as in the live census. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from oomless.listing import Form, Listed, Listing, Section
from oomless.units import format_size

_MENTIONS: frozenset[Form] = frozenset({"pid list", "prose"})
_TOPS: frozenset[Form] = frozenset({"top -b", "top -l"})
_MOST_LINES = 6


class Merged(msgspec.Struct, frozen=True, kw_only=True):
    """``is_command``: its command was printed by a program, and is no label that somebody wrote. ``mentioned``:
    somebody named it. ``evidence``: where it stands, and what other lines say."""

    listed: Listed
    is_command: bool
    mentioned: bool
    evidence: tuple[str, ...] = ()


def merge(listing: Listing) -> dict[int, Merged]:
    """By pid."""
    found: dict[int, list[tuple[Form, Listed]]] = {}
    for section in _in_order(listing.sections):
        for row in section.rows:
            if not _is_zombie(row):
                found.setdefault(row.pid, []).append((section.form, row))
    return {pid: _merged(rows) for pid, rows in found.items()}


def _in_order(sections: Iterable[Section]) -> list[Section]:
    """Mentions first: what comes later counts more."""
    last = {section.form: section for section in sections}
    kept = [one for one in sections if one.form not in _TOPS or last[one.form] is one]
    return sorted(kept, key=lambda one: one.form not in _MENTIONS)


def _is_zombie(row: Listed) -> bool:
    return row.state.startswith("Z") or row.command.endswith("<defunct>")


def _merged(rows: list[tuple[Form, Listed]]) -> Merged:
    form, one = rows[0]
    is_command = form != "pid list"
    same, other = [rows[0]], []
    for form, row in rows[1:]:
        if form != "pid list" and is_command and not _agree(one, row):
            other += same
            one, same = row, [(form, row)]
            continue
        one = _joined(one, row, is_command=is_command, is_row=form != "pid list")
        is_command = is_command or form != "pid list"
        same.append((form, row))
    kept = [row for _, row in same]
    evidence = (_lines(kept), *_sizes(one, kept), *_labels(one, same), *_others(other))
    mentioned = any(form in _MENTIONS for form, _ in same)
    return Merged(listed=one, is_command=is_command, mentioned=mentioned, evidence=evidence)


def _joined(one: Listed, row: Listed, *, is_command: bool, is_row: bool) -> Listed:
    """Both together: of two printed commands the one that says more, a printed one before a label."""
    if not is_row:
        return _filled(row, one, row.command or one.command)
    if not is_command:
        return _filled(row, one, row.command)
    best = max((one, row), key=lambda each: (not each.name_only, not each.cut, len(each.command), each.line))
    return msgspec.structs.replace(_filled(row, one, best.command), cut=best.cut, name_only=best.name_only)


def _filled(row: Listed, before: Listed, command: str) -> Listed:
    """What ``row`` does not tell, from the one before it."""
    missing = {
        name: getattr(before, name)
        for name in row.__struct_fields__
        if getattr(row, name) in (None, "") and getattr(before, name) not in (None, "")
    }
    return msgspec.structs.replace(row, **{**missing, "command": command})


def _agree(one: Listed, other: Listed) -> bool:
    """Whether two commands may be one: a cut one, or a bare name, of the other."""
    short, long = sorted((one.command.rstrip("+"), other.command.rstrip("+")), key=len)
    if long.startswith(short):
        return True
    name = long.split(" -")[0].rpartition("/")[2]
    return one.name_only != other.name_only and (name.startswith(short) or f"/{short}" in long)


def _lines(rows: list[Listed]) -> str:
    numbers = sorted({row.line for row in rows})
    more = f" and {len(numbers) - _MOST_LINES} more" if len(numbers) > _MOST_LINES else ""
    shown = ", ".join(map(str, numbers[:_MOST_LINES]))
    return f"listing: line{'s' if len(numbers) > 1 else ''} {shown}{more}"


def _sizes(one: Listed, rows: list[Listed]) -> list[str]:
    """Other figures for its memory."""
    other = {row.rss_bytes: row.line for row in rows if row.rss_bytes not in (None, one.rss_bytes)}
    return [f"line {line} says {format_size(size)}" for size, line in other.items() if size is not None]


def _labels(one: Listed, rows: list[tuple[Form, Listed]]) -> list[str]:
    found = {row.command: row.line for form, row in rows if form == "pid list" and row.command}
    return [f"line {line} calls it {label!r}" for label, line in found.items() if label != one.command]


def _others(rows: list[tuple[Form, Listed]]) -> list[str]:
    lines = sorted({row.line for _, row in rows})
    return [f"line {lines[0]} has another command under this number"] if lines else []
