"""Tables without rich look as rich would have them, or are left to it."""

from __future__ import annotations

import io

import pytest
from rich import box
from rich.console import Console
from rich.table import Table

from oomless.cli.plain_table import Column, format_table

COLUMNS = [
    Column("TREE"),
    Column("NAME", fold=True),
    Column("USED", right=True),
    Column("WHY", fold=True, min_width=20),
]
ROWS = [["t1", "a long name", "1 MB", "it fits"], ["t1123", "x", "1.00 MB", ""]]


def by_rich(width: int, terminal: bool) -> str:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in COLUMNS:
        table.add_column(
            column.title, justify="right" if column.right else "left", min_width=column.min_width or None
        )
    for row in ROWS:
        table.add_row(*row)
    out = io.StringIO()
    Console(file=out, width=width, force_terminal=terminal, markup=False, highlight=False).print(table)
    return out.getvalue().removesuffix("\n")


@pytest.mark.parametrize("width", [60, 1000])
def test_it_looks_as_rich_has_it(width: int) -> None:
    assert format_table(COLUMNS, ROWS, width, bold=False) == by_rich(width, terminal=False)


def test_the_head_is_bold_on_a_terminal() -> None:
    text = format_table(COLUMNS, ROWS, 100, bold=True)
    assert text is not None
    assert text.splitlines()[1].startswith("\x1b[1m TREE")
    assert text.replace("\x1b[1m", "").replace("\x1b[0m", "") == by_rich(100, terminal=False)


def test_what_must_be_wrapped_or_is_not_ascii_is_left_to_rich() -> None:
    fits = len((format_table(COLUMNS, ROWS, 1000, bold=False) or "").splitlines()[0])
    assert format_table(COLUMNS, ROWS, fits, bold=False) is not None
    assert format_table(COLUMNS, ROWS, fits - 1, bold=False) is None
    assert format_table(COLUMNS, [["t1", "\u7aef\u672b", "1 MB", ""]], 1000, bold=False) is None
