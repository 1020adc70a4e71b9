"""Saved process listings, read as they were printed: ``ps`` and ``top`` of Linux and macOS, lists of PIDs, reports.

``parse`` is pure and takes any text. ``facts.py``: what it gives; ``table.py``: tables; ``parse.py``: all of a text;
``values.py``: numbers; ``merge.py``: one row for each process.
"""

from __future__ import annotations

from oomless.listing.facts import Form, Listed, Listing, ListingSection, System, Unreadable
from oomless.listing.parse import parse

__all__ = ["Form", "Listed", "Listing", "ListingSection", "System", "Unreadable", "parse"]
