"""Tables without rich, which takes 25 ms to load and lay out one: the same look, where no cell must be wrapped.

Where one must be, or where the width of a character is not certain, rich prints it.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from oomless.cli.output import PIPE_WIDTH, console

if TYPE_CHECKING:
    from collections.abc import Sequence

_GAP = "   "
#: What makes rich treat a pipe as a terminal.
_FORCED = ("FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE")


#: In the place of a row: a blank line.
SECTION: tuple[str, ...] = ()


class Column:
    """``right``: aligned to the right. ``fold``: a long cell is wrapped at any character, down to ``min_width``."""

    __slots__ = ("fold", "min_width", "right", "title")

    def __init__(self, title: str, *, right: bool = False, fold: bool = False, min_width: int = 0) -> None:
        self.title, self.right, self.fold, self.min_width = title, right, fold, min_width


def print_table(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> None:
    """On stdout. Cells are printable (``output.printable``)."""
    text = None if any(name in os.environ for name in _FORCED) else format_table(columns, rows, *screen())
    if text is None:
        _print_by_rich(columns, rows)
    else:
        print(text)  # noqa: T201


def format_table(
    columns: Sequence[Column], rows: Sequence[Sequence[str]], screen_width: int, bold: bool
) -> str | None:
    """The table as text, or None if it is wider than the screen or not plain ASCII."""
    lines = [[column.title for column in columns], *rows]
    if not all(cell.replace("…", "").isascii() for line in lines for cell in line):
        return None
    widths = [
        max(column.min_width, *map(len, cells))
        for column, cells in zip(columns, zip(*filter(None, lines), strict=True), strict=True)
    ]
    total = sum(widths) + len(_GAP) * (len(columns) - 1)
    if total + 2 > screen_width:
        return None
    blank = " " * (total + 2)
    head, *body = (_format_line(columns, widths, line) if line else blank for line in lines)
    head = f"\x1b[1m{head}\x1b[0m" if bold else head
    return "\n".join([blank, head, f" {'─' * total} ", *body, blank])


def _format_line(columns: Sequence[Column], widths: Sequence[int], line: Sequence[str]) -> str:
    cells = (
        f"{cell:>{width}}" if column.right else f"{cell:{width}}"
        for column, width, cell in zip(columns, widths, line, strict=True)
    )
    return f" {_GAP.join(cells)} "


def screen() -> tuple[int, bool]:
    """Its width in characters, and whether it is a terminal that shows bold; as rich finds them."""
    if not (sys.stdout.encoding or "").lower().startswith("utf"):
        return 0, False
    terminal = sys.stdout.isatty()
    if terminal and os.environ.get("TERM", "").lower() in ("dumb", "unknown", ""):
        return 0, False
    given = os.environ.get("COLUMNS", "")
    if given.isdecimal():
        return int(given), terminal
    if not terminal:
        return PIPE_WIDTH, False
    return os.get_terminal_size(sys.stdout.fileno()).columns, True


def _print_by_rich(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> None:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(
            column.title,
            justify="right" if column.right else "left",
            no_wrap=not column.fold,
            overflow="fold" if column.fold else "ellipsis",
            min_width=column.min_width or None,
        )
    for row in rows:
        if row:
            table.add_row(*row)
        else:
            table.add_section()
    console().print(table)
