"""Saved process listings, read as they were printed: ``ps`` and ``top`` of Linux and macOS, lists of PIDs, reports.

``parse`` is pure and takes any text. ``facts.py``: what it gives; ``columns.py``, ``rows.py``, ``block.py``: tables;
``mentions.py``: processes outside of tables; ``values.py``, ``memory.py``: numbers; ``parse.py``: all of it.
"""

from __future__ import annotations

from oomless.listing.facts import Form, Listed, Listing, Section, System, Unreadable
from oomless.listing.parse import parse

__all__ = ["Form", "Listed", "Listing", "Section", "System", "Unreadable", "parse"]
