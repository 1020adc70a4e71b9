"""Known programs as data: the entries (``*.toml``), and which of them a command is (``programs.py``)."""

from __future__ import annotations

from oomless.catalog.programs import (
    ONLY_BELOW,
    PROTECTED,
    CachedCatalog,
    Catalog,
    Kind,
    ProgramMatch,
    load,
    load_or_default,
)

__all__ = [
    "ONLY_BELOW",
    "PROTECTED",
    "CachedCatalog",
    "Catalog",
    "Kind",
    "ProgramMatch",
    "load",
    "load_or_default",
]
