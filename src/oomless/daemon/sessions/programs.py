"""The known programs as the daemon goes by them: read once, the user's own first.

A user's file with a mistake in it is passed over; the line about it is for the log. The catalog is loaded by the
first call: it costs a megabyte.
"""

from __future__ import annotations

import os
from functools import cache
from typing import TYPE_CHECKING

from oomless.paths import Paths

if TYPE_CHECKING:
    from oomless import catalog


def known_programs() -> catalog.Catalog:
    return _load()[0]


def catalog_mistakes() -> tuple[str, ...]:
    """Returns what is wrong with the user's file: one line, or none. Without such a file nothing is loaded."""
    return _load()[1] if os.path.lexists(Paths().catalog_file) else ()


@cache
def _load() -> tuple[catalog.Catalog, tuple[str, ...]]:
    from oomless import catalog

    mistakes: list[str] = []
    programs = catalog.load_or_default(Paths().catalog_file, mistakes.append)
    return programs, tuple(mistakes)
