"""Saved process listings, read as they were printed: ``ps`` and ``top`` of Linux and macOS, lists of PIDs, reports.

``parse_listing`` is pure and takes any text. ``facts.py``: what it returns; ``table.py``: tables; ``values.py``:
numbers; ``parse.py``: a text as a whole; ``merge.py``: one row for each process.
"""

from __future__ import annotations

from oomless.listing.facts import Form, Listed, Listing, ListingSection, System, Unreadable
from oomless.listing.parse import parse_listing

__all__ = ["Form", "Listed", "Listing", "ListingSection", "System", "Unreadable", "parse_listing"]
