"""Memory over time as an SVG file that needs nothing else: axes in MB and seconds, a legend, the budget. Pure.

The same in a terminal: ``chart.py``.
"""

from __future__ import annotations

from collections.abc import Sequence
from xml.sax.saxutils import escape

from oomless.demo.chart import nice
from oomless.demo.record import ActRecord
from oomless.units import format_size

WIDTH, HEIGHT = 860, 460
LEFT, RIGHT, TOP, BOTTOM = 70, 20, 54, 104
#: Told apart by people who see no red or green too (Okabe and Ito's palette).
COLOURS = ("#d55e00", "#e69f00", "#cc79a7", "#0072b2", "#009e73", "#56b4e9")
STYLE = "text{font:13px sans-serif;fill:#333}.title{font-size:17px}.axis{stroke:#333}.grid{stroke:#ddd}"


class Scale:
    """Seconds and bytes to places on the page."""

    def __init__(self, acts: Sequence[ActRecord]) -> None:
        self.seconds = max([point.seconds for act in acts for point in act.points[-1:]] + [1.0])
        peaks = [act.peak_bytes for act in acts] + [act.budget_bytes or 0 for act in acts]
        self.bytes = nice(max([*peaks, 1]))

    def x(self, seconds: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * seconds / self.seconds

    def y(self, size: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * size / self.bytes


def svg(acts: Sequence[ActRecord], title: str) -> str:
    scale = Scale(acts)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">',
        f"<title>{escape(title)}</title><style>{STYLE}</style>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>',
        _text(LEFT, 28, title, "start", ' class="title"'),
        *_axes(scale),
        *_budget(acts, scale),
        *(_line(act, scale, COLOURS[number % len(COLOURS)]) for number, act in enumerate(acts)),
        *_legend(acts),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _axes(scale: Scale) -> list[str]:
    parts = []
    for number in range(6):
        size, seconds = scale.bytes * number / 5, scale.seconds * number / 5
        y, x = scale.y(size), scale.x(seconds)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(_text(LEFT - 8, y + 4, f"{size / 1e6:.0f}", "end"))
        parts.append(_text(x, HEIGHT - BOTTOM + 18, f"{seconds:.1f}", "middle"))
    floor, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    parts.append(f'<path class="axis" fill="none" d="M{LEFT} {TOP}V{floor}H{right}"/>')
    parts.append(_text(LEFT - 8, TOP - 10, "MB", "end"))
    parts.append(_text(right, floor + 36, "seconds since the act began", "end"))
    return parts


def _budget(acts: Sequence[ActRecord], scale: Scale) -> list[str]:
    parts = []
    for budget in sorted({act.budget_bytes for act in acts if act.budget_bytes is not None}):
        y = scale.y(budget)
        parts.append(
            f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="#333" stroke-dasharray="6 4"/>'
        )
        parts.append(_text(WIDTH - RIGHT, y - 6, f"budget {format_size(budget)}", "end"))
    return parts


def _line(act: ActRecord, scale: Scale, colour: str) -> str:
    points = " ".join(f"{scale.x(p.seconds):.1f},{scale.y(p.bytes):.1f}" for p in act.points)
    return f'<polyline fill="none" stroke="{colour}" stroke-width="2" points="{points}"/>'


def _legend(acts: Sequence[ActRecord]) -> list[str]:
    parts = []
    for number, act in enumerate(acts):
        x, y = LEFT + (number % 3) * 260, HEIGHT - 42 + (number // 3) * 22
        colour = COLOURS[number % len(COLOURS)]
        parts.append(f'<rect x="{x}" y="{y - 9}" width="18" height="4" fill="{colour}"/>')
        parts.append(_text(x + 26, y, f"{act.name}, peak {format_size(act.peak_bytes)}", "start"))
    return parts


def _text(x: float, y: float, words: str, anchor: str, more: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{more}>{escape(words)}</text>'
