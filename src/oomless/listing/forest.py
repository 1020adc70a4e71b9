"""The parents that ``ps f`` draws instead of printing them. Pure.

procps draws a branch of four characters a level before the command, and puts the children of pid 1 at the left
margin, beside it: only whoever has another parent, that is listed too, stands below one (src/ps/display.c,
``ADOPTED``).
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from oomless.listing.facts import Listed

_FIRST = 1
_STEP = 4


def with_parents(rows: Sequence[tuple[Listed, int]]) -> tuple[Listed, ...]:
    """Rows in the order of the listing, each with the width of what is drawn before its command. Nothing is told
    where parents are printed, where nothing is drawn, and where rows were left out: the first process is not there,
    or a branch has no place to grow from."""
    plain = tuple(row for row, _ in rows)
    drawn = any(depth for _, depth in rows) and all(row.ppid is None for row in plain)
    if not drawn or (_FIRST, 0) not in {(row.pid, depth) for row, depth in rows}:
        return plain
    placed: list[Listed] = []
    above: list[int] = []
    for row, depth in rows:
        level, odd = divmod(depth, _STEP)
        if odd or level > len(above):
            return plain
        del above[level:]
        parent = above[-1] if above else _FIRST if row.pid != _FIRST else None
        placed.append(msgspec.structs.replace(row, ppid=parent))
        above.append(row.pid)
    return tuple(placed)
