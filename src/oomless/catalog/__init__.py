"""Known programs as data: which there are (``*.toml``), reading and checking them, and recognising one argument list.

``program.py``: one entry; ``match.py``: asking the catalog; ``read.py``: the files, ours and the user's own. Who owns
a process comes from lineage and marks (``census/attribution.py``); a name in an argument list is the weakest evidence
of all.
"""

from __future__ import annotations

from oomless.catalog.match import Catalog, Remembering
from oomless.catalog.program import ONLY_BELOW, PROTECTED, Kind, Known, Program
from oomless.catalog.read import FILES, load, load_or_ours, read

__all__ = [
    "FILES",
    "ONLY_BELOW",
    "PROTECTED",
    "Catalog",
    "Kind",
    "Known",
    "Program",
    "Remembering",
    "load",
    "load_or_ours",
    "read",
]
