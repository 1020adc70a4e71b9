"""Merge the rows of a listing that may name a process many times: in two tables, or in a table and in prose.

Printed rows count more than labels that somebody wrote, and later rows more than earlier ones. Of labels the first
counts: a report has no order of time. What one row does not say is taken from the others. If two commands disagree,
the pid was used again, and nothing of the earlier process is kept. Of several pictures of top only the last counts.
Zombies hold no memory and are left out, as in the live census. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from oomless.listing import Form, Listed, Listing, ListingSection
from oomless.processes import words
from oomless.units import format_size

_MENTIONS: frozenset[Form] = frozenset({"pid list", "prose"})
_TOPS: frozenset[Form] = frozenset({"top -b", "top -l"})
#: Sections in the order in which they are merged: what comes later counts more.
_RANK: dict[Form, int] = {"pid list": 0, "prose": 1}
_MOST_LINES = 6

_FormRow = tuple[Form, Listed]


class MergedRow(msgspec.Struct, frozen=True, kw_only=True):
    """What a listing says of one process.

    ``is_command``: the command was printed by a program, and is no label that somebody wrote. ``argv``: its words,
    split once for all who look at them; empty for a label. ``mentioned``: a person named the process. ``lines``:
    where printed rows of it stand. ``rss_line`` and ``rss_printed``: where its memory is from, and whether that is a
    column of a table. ``evidence``: where it stands, and what other lines say.
    """

    listed: Listed
    is_command: bool
    argv: tuple[str, ...]
    mentioned: bool
    lines: tuple[int, ...] = ()
    rss_line: int | None = None
    rss_printed: bool = False
    evidence: tuple[str, ...] = ()


def merge_listing(listing: Listing) -> dict[int, MergedRow]:
    """One row a process, by pid."""
    rows: dict[int, list[_FormRow]] = {}
    for section in _in_order(listing.sections):
        in_order = reversed(section.rows) if section.form == "pid list" else section.rows
        for row in in_order:
            if _is_zombie(row):
                rows.pop(row.pid, None)  # it has ended since the table above was printed
            else:
                rows.setdefault(row.pid, []).append((section.form, row))
    return {pid: _merge_rows(group) for pid, group in rows.items()}


def list_zombies(listing: Listing) -> list[Listed]:
    """The last row of each process that has ended and was not reaped by its parent. They use no memory and are no
    rows of ``merge_listing``."""
    rows: dict[int, Listed] = {}
    for section in _in_order(listing.sections):
        rows |= {row.pid: row for row in section.rows}
    return [row for _, row in sorted(rows.items()) if _is_zombie(row)]


def _in_order(sections: Iterable[ListingSection]) -> list[ListingSection]:
    last = {section.form: section for section in sections}
    kept = [section for section in sections if section.form not in _TOPS or last[section.form] is section]
    lists = [section for section in reversed(kept) if section.form == "pid list"]
    return [*lists, *sorted((s for s in kept if s.form != "pid list"), key=lambda s: _RANK.get(s.form, 2))]


def _is_zombie(row: Listed) -> bool:
    return row.state.startswith("Z") or row.command.endswith("<defunct>")


def _merge_rows(rows: list[_FormRow]) -> MergedRow:
    form, merged = rows[0]
    is_command = form != "pid list"
    same, other = [rows[0]], []
    for form, row in rows[1:]:
        if form != "pid list" and is_command and not _may_be_same(merged, row):
            other += same
            merged, same = row, [(form, row)]
            continue
        merged = _join_rows(merged, row, is_command=is_command, is_row=form != "pid list")
        is_command = is_command or form != "pid list"
        same.append((form, row))
    kept = [row for _, row in same]
    sized = [
        (form, row.line) for form, row in same if row.rss_bytes is not None and row.rss_bytes == merged.rss_bytes
    ]
    return MergedRow(
        listed=merged,
        is_command=is_command,
        argv=words.split_line(merged.command) if is_command else (),
        mentioned=any(form in _MENTIONS for form, _ in same),
        lines=tuple(sorted({row.line for form, row in same if form != "pid list"})),
        rss_line=sized[-1][1] if sized else None,
        rss_printed=bool(sized) and sized[-1][0] not in _MENTIONS,
        evidence=(
            _format_lines(kept),
            *_other_sizes(merged, kept),
            *_other_labels(merged, same),
            *_other_commands(other),
        ),
    )


def _join_rows(earlier: Listed, row: Listed, *, is_command: bool, is_row: bool) -> Listed:
    """Both together: of two printed commands the one that says more, a printed one before a label."""
    if not is_row:
        return _fill_row(row, earlier, row.command or earlier.command)
    if not is_command:
        return _fill_row(row, earlier, row.command)
    best = max((earlier, row), key=lambda each: (not each.name_only, not each.cut, len(each.command), each.line))
    return msgspec.structs.replace(_fill_row(row, earlier, best.command), cut=best.cut, name_only=best.name_only)


def _fill_row(row: Listed, before: Listed, command: str) -> Listed:
    """``row``, and from the one before it what it does not say."""
    missing = {
        name: getattr(before, name)
        for name in row.__struct_fields__
        if getattr(row, name) in (None, "") and getattr(before, name) not in (None, "")
    }
    return msgspec.structs.replace(row, **{**missing, "command": command})


def _may_be_same(row: Listed, other: Listed) -> bool:
    """Whether two commands may be of one process: a cut one, or a bare name, of the other."""
    short, long = sorted((row.command.rstrip("+"), other.command.rstrip("+")), key=len)
    if long.startswith(short):
        return True
    name = long.split(" -")[0].rpartition("/")[2]
    return row.name_only != other.name_only and (name.startswith(short) or f"/{short}" in long)


def _format_lines(rows: list[Listed]) -> str:
    numbers = sorted({row.line for row in rows})
    more = f" and {len(numbers) - _MOST_LINES} more" if len(numbers) > _MOST_LINES else ""
    shown = ", ".join(map(str, numbers[:_MOST_LINES]))
    return f"listing: line{'s' if len(numbers) > 1 else ''} {shown}{more}"


def _other_sizes(merged: Listed, rows: list[Listed]) -> list[str]:
    """Other figures for its memory."""
    other = {row.rss_bytes: row.line for row in rows if row.rss_bytes not in (None, merged.rss_bytes)}
    return [f"line {line} says {format_size(size)}" for size, line in other.items() if size is not None]


def _other_labels(merged: Listed, rows: list[_FormRow]) -> list[str]:
    labels = {row.command: row.line for form, row in rows if form == "pid list" and row.command}
    return [f"line {line} calls it {label!r}" for label, line in labels.items() if label != merged.command]


def _other_commands(rows: list[_FormRow]) -> list[str]:
    lines = sorted({row.line for _, row in rows})
    return [f"line {lines[0]} has another command under this number"] if lines else []
