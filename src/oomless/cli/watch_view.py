"""How the sections of ``oomless scan --watch`` are made to fit a screen. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from oomless.reports.watch import WatchRow, WatchSection, count_kinds


def fit_sections(shown: tuple[WatchSection, ...], lines: int) -> tuple[tuple[WatchSection, ...], int]:
    """As much as ``lines`` hold, a line for each row and one between sections: everything, else one row a kind, else
    one a section. Returned with the number of sections that are left out even so."""
    for detail in (_keep_rows, _by_kind, _by_section):
        fitting = tuple(detail(section) for section in shown)
        if count_lines(fitting) <= lines:
            return fitting, 0
    keep = max(1, (lines + 1) // 2)
    return fitting[:keep], max(0, len(fitting) - keep)


def count_lines(shown: Iterable[WatchSection]) -> int:
    return sum(len(section.rows) + 1 for section in shown) - 1


def _keep_rows(section: WatchSection) -> WatchSection:
    return section


def _by_kind(section: WatchSection) -> WatchSection:
    return _merge_rows(section, lambda row: row.kind)


def _by_section(section: WatchSection) -> WatchSection:
    return _merge_rows(section, lambda row: "")


def _merge_rows(section: WatchSection, by: Callable[[WatchRow], str]) -> WatchSection:
    groups: dict[str, list[WatchRow]] = {}
    for row in section.rows:
        groups.setdefault(by(row), []).append(row)
    rows = tuple(rows[0] if len(rows) == 1 else _sum_rows(rows) for rows in groups.values())
    return WatchSection(title=section.title, rows=rows)


def _sum_rows(rows: list[WatchRow]) -> WatchRow:
    counts: dict[str, int] = {}
    for row in rows:
        counts[row.kind] = counts.get(row.kind, 0) + row.count
    sizes = [row.footprint for row in rows if row.footprint is not None]
    changes = [row.change for row in rows if row.change is not None]
    states = {row.state for row in rows}
    return WatchRow(
        key="",
        kind=rows[0].kind,
        name=", ".join(dict.fromkeys(row.name for row in rows)) if len(counts) == 1 else count_kinds(counts),
        count=sum(counts.values()),
        processes=sum(row.processes for row in rows),
        footprint=sum(sizes) if sizes else None,
        change=sum(changes) if changes else None,
        state=states.pop() if len(states) == 1 else "mixed",
    )
