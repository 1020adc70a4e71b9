"""What the demo shows: progress while it installs and plays, then tables, memory over time (as text, and as an SVG
file that needs nothing else) and checks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from xml.sax.saxutils import escape

from rich.console import Console
from rich.table import Table

from oomless.demo.record import ActName, ActRecord, DemoRecord, Form, Point, sum_by_role
from oomless.units import format_duration, format_size

#: A pipe has no width, and more columns show nothing more.
WIDEST = 100
#: Lines of text for each act, and how full a cell is: empty to full.
ROWS, MIN_COLUMNS, LEVELS = 4, 16, " ▁▂▃▄▅▆▇█"
#: Where the terminal's encoding has no blocks.
_ASCII = str.maketrans("▁▂▃▄▅▆▇█│─└┄", "....####|-+-")
WIDTH, HEIGHT = 860, 460
LEFT, RIGHT, TOP, BOTTOM = 70, 20, 54, 104
#: Okabe and Ito's palette, which colour-blind people can tell apart.
COLOURS = ("#d55e00", "#e69f00", "#cc79a7", "#0072b2", "#009e73", "#56b4e9")
STYLE = "text{font:13px sans-serif;fill:#333}.title{font-size:17px}.axis{stroke:#333}.grid{stroke:#ddd}"


def make_title(form: Form, agents: int) -> str:
    if form == "real":
        return f"The incident replayed: {agents} sessions of Claude Code, each with its MCP servers, in five acts"
    return f"The incident replayed: {agents} small agents, each with children that outlive it, in five acts"


def show_missing(console: Console, names: Sequence[str], size: int, folder: str) -> None:
    line = f"Installing {len(names)} programs into {folder}, about {format_size(size)}, once: {', '.join(names)}"
    _print_line(console, line)


def show_step(console: Console, name: str, step: str) -> None:
    _print_line(console, f"{name}: {step}" if name else step)


class Progress:
    """A line when an act begins and when it ends; on a terminal also what is in memory at the moment."""

    def __init__(self, console: Console, form: Form, agents: int) -> None:
        self._console, self._agents = console, agents
        self._status = console.status("")
        console.print(make_title(form, agents), style="bold")

    def act(self, name: ActName, what: str) -> None:
        self.note(f"{name}: {what}")
        if self._console.is_terminal:
            self._status.start()

    def tick(self, point: Point, finished: int) -> None:
        now = f"{format_size(point.bytes)}, {point.agents} agents, {point.processes} processes"
        self._status.update(f"{now}, {finished} of {self._agents} finished")

    def done(self, record: ActRecord) -> None:
        self.close()
        killed = f", {record.ended} killed by the demo" if record.ended else ""
        self.note(
            f"{record.name}: {record.finished} of {self._agents} finished in {format_duration(record.seconds)}, "
            f"peak {format_size(record.peak_bytes)}, {record.survivors} survivors{killed}"
        )

    def note(self, line: str) -> None:
        _print_line(self._console, line)

    def close(self) -> None:
        self._status.stop()


def show_record(console: Console, record: DemoRecord) -> None:
    console.print()
    console.print(_table_of_acts(record))
    console.print()
    source = record.acts[0].footprint_source.upper()
    console.print(f"Memory of all processes of an act ({source}) over time", highlight=False)
    for line in plot_text(record.acts, min(console.width, WIDEST) - 1, console.encoding):
        console.print(line, markup=False, highlight=False, no_wrap=True, crop=True)
    console.print()
    console.print(_table_of_roles(record))
    console.print()
    for name, reason in record.servers_missing.items():
        _print_line(console, f"Left out: {name}, {reason}")
    for tool in record.tools:
        if tool.errors:
            failed = f"{tool.errors} of {tool.calls} calls of {tool.tool} failed"
            _print_line(console, f"{tool.server}: {failed}: {tool.error}")
    broken = [check for check in record.checks if not check.passed]
    for check in broken:
        _print_line(console, f"Failed: {check.name} ({check.detail})")
    _print_line(console, f"{len(record.checks) - len(broken)} of {len(record.checks)} checks hold.")


def _print_line(console: Console, line: str) -> None:
    console.print(line, markup=False, highlight=False, soft_wrap=True)


def _make_table(first: str, *headings: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column(first, no_wrap=True)
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def _table_of_acts(record: DemoRecord) -> Table:
    table = _make_table("act", "agents", "procs", "peak", "budget", "finished", "time", "survivors", "oomless")
    for act in record.acts:
        table.add_row(
            act.name,
            str(act.agents_peak),
            str(act.processes_peak),
            format_size(act.peak_bytes),
            format_size(act.budget_bytes) if act.budget_bytes is not None else "-",
            f"{act.finished} of {record.agents}",
            format_duration(act.seconds),
            str(act.survivors),
            format_size(act.overhead_bytes) if act.overhead_bytes else "-",
            style=None if act.survivors == 0 else "yellow",
        )
    return table


def _table_of_roles(record: DemoRecord) -> Table:
    """Roles by their memory with all agents at once and with one at a time, and by what survived its killed agent."""
    by_name = {act.name: act for act in record.acts}
    columns = (
        ("parallel: at the peak", by_name["parallel"].at_peak),
        ("sequential: at the peak", by_name["sequential"].at_peak),
        ("parallel-killed: survivors", sum_by_role(by_name["parallel-killed"].left)),
    )
    table = _make_table("processes", *(heading for heading, _ in columns))
    for role in dict.fromkeys(share.role for _, shares in columns for share in shares):
        cells = [next((share for share in shares if share.role == role), None) for _, shares in columns]
        table.add_row(role, *(f"{cell.processes}, {format_size(cell.bytes)}" if cell else "-" for cell in cells))
    return table


# Memory over time


def find_scales(acts: Sequence[ActRecord]) -> tuple[float, int]:
    """The ends of both axes, seconds and bytes, which all acts share so that they compare."""
    seconds = max([act.points[-1].seconds for act in acts if act.points] + [1.0])
    return seconds, round_up(max([act.peak_bytes for act in acts] + [act.budget_bytes or 0 for act in acts] + [1]))


def round_up(size: float) -> int:
    """The next round number: 1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(size))
    steps = (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10)
    return round(next(step for step in steps if size <= step * power * (1 + 1e-9)) * power)


def plot_text(acts: Sequence[ActRecord], width: int, encoding: str | None = "utf-8") -> list[str]:
    """Lines of at most ``width`` columns: the name and peak of each act at the left, seconds below."""
    seconds, top = find_scales(acts)
    margin = max(len(act.name) for act in acts) + 1
    scale = f"{top // 10**6} MB "
    columns = max(MIN_COLUMNS, width - margin - len(scale) - 2)
    lines: list[str] = []
    for act in acts:
        heights = fill_columns(act.points, seconds / columns, columns)
        side = [act.name, f"peak {act.peak_bytes / 1e6:.0f} MB", *[""] * (ROWS - 2)]
        for row in range(ROWS):
            low, height = top * (ROWS - 1 - row) / ROWS, top / ROWS
            empty = "┄" if act.budget_bytes is not None and low <= act.budget_bytes < low + height else " "
            cells = "".join(_draw_cell((value or 0) - low, height, row == ROWS - 1, empty) for value in heights)
            lines.append(f"{side[row]:<{margin}}{scale if row == 0 else '':>{len(scale)}}│{cells}".rstrip())
    marks = [" "] * (columns + 8)
    for mark in range(0, int(seconds) + 1, max(1, round_up(max(seconds / max(1, columns // 8), 0.5)))):
        at = min(columns - 1, int(mark / seconds * columns))
        marks[at : at + len(str(mark))] = str(mark)
    left = " " * (margin + len(scale))
    lines += [left + "└" + "─" * columns, f"{left} {''.join(marks).rstrip()} s"]
    try:
        "".join(lines).encode(encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return [line.translate(_ASCII) for line in lines]
    return lines


def fill_columns(points: Sequence[Point], per_column: float, columns: int) -> list[int | None]:
    """The highest sample of each column; a column between two samples takes the earlier one, after the last: None."""
    values: list[int | None] = [None] * columns
    for point in points:
        column = min(columns - 1, int(point.seconds / per_column))
        values[column] = max(values[column] or 0, point.bytes)
    last = max((column for column, value in enumerate(values) if value is not None), default=-1)
    for column in range(1, last):
        if values[column] is None:
            values[column] = values[column - 1]
    return values


def _draw_cell(size: float, height: float, lowest: bool, empty: str) -> str:
    share = min(1.0, max(0.0, size / height))
    # Any memory at all shows in the lowest row: survivors of a few MB must not round to nothing.
    level = round(share * (len(LEVELS) - 1)) or (1 if share > 0 and lowest else 0)
    return LEVELS[level] if level else empty


def draw_svg(acts: Sequence[ActRecord], title: str) -> str:
    seconds, top = find_scales(acts)
    floor, right = HEIGHT - BOTTOM, WIDTH - RIGHT

    def x_at(time: float) -> float:
        return LEFT + (right - LEFT) * time / seconds

    def y_at(size: float) -> float:
        return floor - (floor - TOP) * size / top

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">',
        f"<title>{escape(title)}</title><style>{STYLE}</style>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>',
        _draw_text(LEFT, 28, title, "start", ' class="title"'),
        _draw_text(LEFT - 8, TOP - 10, "MB", "end"),
        _draw_text(right, floor + 36, "seconds since the act began", "end"),
        f'<path class="axis" fill="none" d="M{LEFT} {TOP}V{floor}H{right}"/>',
    ]
    for number in range(6):
        y = y_at(top * number / 5)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(_draw_text(LEFT - 8, y + 4, f"{top * number / 5e6:.0f}", "end"))
        parts.append(_draw_text(x_at(seconds * number / 5), floor + 18, f"{seconds * number / 5:.1f}", "middle"))
    for budget in sorted({act.budget_bytes for act in acts if act.budget_bytes is not None}):
        y = y_at(budget)
        line = f'<line x1="{LEFT}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}" stroke="#333" stroke-dasharray="6 4"/>'
        parts += [line, _draw_text(right, y - 6, f"budget {format_size(budget)}", "end")]
    for number, act in enumerate(acts):
        colour = COLOURS[number % len(COLOURS)]
        points = " ".join(f"{x_at(p.seconds):.1f},{y_at(p.bytes):.1f}" for p in act.points)
        parts.append(f'<polyline fill="none" stroke="{colour}" stroke-width="2" points="{points}"/>')
        x, y = LEFT + (number % 3) * 260, HEIGHT - 42 + (number // 3) * 22
        parts.append(f'<rect x="{x}" y="{y - 9}" width="18" height="4" fill="{colour}"/>')
        parts.append(_draw_text(x + 26, y, f"{act.name}, peak {format_size(act.peak_bytes)}", "start"))
    return "\n".join([*parts, "</svg>"]) + "\n"


def _draw_text(x: float, y: float, words: str, anchor: str, more: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{more}>{escape(words)}</text>'
