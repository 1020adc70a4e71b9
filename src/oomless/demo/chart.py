"""Memory over time as text: one band of blocks for each act, all to the same scales, so that they compare. Pure.

Falls back to ASCII where the encoding has no blocks. The same as a file with axes and a legend: ``svg.py``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec

from oomless.demo.record import ActRecord, Point

ROWS = 4
MIN_COLUMNS = 16


class Style(msgspec.Struct, frozen=True, kw_only=True):
    """``levels``: an empty cell to a full one. ``budget``: the line drawn through empty cells."""

    levels: str
    axis: str
    floor: str
    corner: str
    budget: str


BLOCKS = Style(levels=" ▁▂▃▄▅▆▇█", axis="│", floor="─", corner="└", budget="┄")
ASCII = Style(levels=" .#", axis="|", floor="-", corner="+", budget="-")


def style_for(encoding: str | None) -> Style:
    """Blocks if the terminal's encoding can say them."""
    try:
        (BLOCKS.levels + BLOCKS.axis + BLOCKS.floor + BLOCKS.corner + BLOCKS.budget).encode(encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return ASCII
    return BLOCKS


def plot(acts: Sequence[ActRecord], width: int, style: Style = BLOCKS) -> list[str]:
    """Lines of at most ``width`` columns: the name and peak of each act at the left, seconds below."""
    top = nice(max([act.peak_bytes for act in acts] + [act.budget_bytes or 0 for act in acts] + [1]))
    seconds = max([act.points[-1].seconds for act in acts if act.points] + [1.0])
    margin = max(len(act.name) for act in acts) + 1
    left = margin + len(f"{top // 10**6} MB ")
    columns = max(MIN_COLUMNS, width - left - 2)
    lines: list[str] = []
    for act in acts:
        lines += _band(act, top, seconds / columns, columns, margin, style)
    return [*lines, *_time_axis(seconds, columns, left, style)]


def nice(size: float) -> int:
    """The next round number: 1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(size))
    for step in (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10):
        if size <= step * power * (1 + 1e-9):
            return round(step * power)
    return round(10 * power)


def buckets(points: Sequence[Point], per_column: float, columns: int) -> list[int | None]:
    """The highest sample of each column; a column between two samples takes the earlier one, after the last: None."""
    found: list[int | None] = [None] * columns
    for point in points:
        column = min(columns - 1, int(point.seconds / per_column))
        found[column] = max(found[column] or 0, point.bytes)
    last = max((i for i, value in enumerate(found) if value is not None), default=-1)
    for column in range(1, last):
        if found[column] is None:
            found[column] = found[column - 1]
    return found


def _band(act: ActRecord, top: int, per_column: float, columns: int, margin: int, style: Style) -> list[str]:
    heights = buckets(act.points, per_column, columns)
    side = [act.name, f"peak {act.peak_bytes / 1e6:.0f} MB", *[""] * (ROWS - 2)]
    label = len(f"{top // 10**6} MB ")
    lines = []
    for row in range(ROWS):
        low = top * (ROWS - 1 - row) / ROWS
        line = _budget_in(act.budget_bytes, low, top / ROWS)
        cells = "".join(_cell(value, low, top / ROWS, line, style) for value in heights)
        scale = f"{top // 10**6} MB " if row == 0 else ""
        lines.append(f"{side[row]:<{margin}}{scale:>{label}}{style.axis}{cells}".rstrip())
    return lines


def _budget_in(budget: int | None, low: float, height: float) -> bool:
    return budget is not None and low <= budget < low + height


def _cell(value: int | None, low: float, height: float, budget: bool, style: Style) -> str:
    steps = len(style.levels) - 1
    filled = 0.0 if value is None else min(1.0, max(0.0, (value - low) / height))
    # Any memory at all shows in the lowest row: a leak of a few MB must not round to nothing.
    level = round(filled * steps) or (1 if filled > 0 and low == 0 else 0)
    return style.budget if budget and level == 0 else style.levels[level]


def _time_axis(seconds: float, columns: int, left: int, style: Style) -> list[str]:
    step = nice(max(seconds / max(1, columns // 8), 0.5))
    marks = [float(mark) for mark in range(0, int(seconds) + 1, max(1, step))]
    text = [" "] * (columns + 8)
    for mark in marks:
        at = min(columns - 1, int(mark / seconds * columns))
        text[at : at + len(f"{mark:g}")] = f"{mark:g}"
    return [
        " " * left + style.corner + style.floor * columns,
        (" " * (left + 1) + "".join(text).rstrip() + " s"),
    ]
