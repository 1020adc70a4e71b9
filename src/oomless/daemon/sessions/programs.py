"""The known programs as the daemon goes by them: read once, the user's own first. A file of theirs that is broken is
done without; the line about it is for the log (``daemon/core.py``)."""

from __future__ import annotations

import os
from functools import cache
from typing import TYPE_CHECKING

from oomless.paths import Paths

if TYPE_CHECKING:
    from oomless import catalog


def known_programs() -> catalog.Catalog:
    return _read()[0]


def mistakes() -> tuple[str, ...]:
    """What is wrong with the user's file: a line, or none. Asked at the start, where nothing is read without need."""
    return _read()[1] if os.path.lexists(Paths().catalog_file) else ()


@cache
def _read() -> tuple[catalog.Catalog, tuple[str, ...]]:
    from oomless import catalog

    told: list[str] = []
    found = catalog.load_or_ours(Paths().catalog_file, told.append)
    return found, tuple(told)
