"""Rows of a journal that no daemon has written."""

from __future__ import annotations

import time

from oomless.journal.facts import TreeIntent
from oomless.model import Identity


def bare_intent(tree: str, requester: Identity, marker: str) -> TreeIntent:
    """Of a tree without groups or limits that is open from now on."""
    return TreeIntent(
        tree=tree,
        name=tree,
        owner="run",
        boot_id=requester.boot_id,
        reserved=1,
        rung="subreaper",
        cgroups={},
        marker=marker,
        requester=requester,
        intended_at=time.time(),
    )
