"""Rows of a journal that no daemon has written."""

from __future__ import annotations

import time
from typing import Any

from oomless.journal.trees import TreeIntent
from oomless.model import Identity, Terms


def bare_intent(tree: str, requester: Identity, marker: str) -> TreeIntent:
    """Of a tree without groups or limits that is open from now on."""
    return TreeIntent(
        tree=tree,
        terms=Terms(name=tree),
        owner="run",
        boot_id=requester.boot_id,
        reserved=1,
        rung="subreaper",
        cgroups={},
        marker=marker,
        requester=requester,
        intended_at=time.time(),
    )


BOOT = "11111111-2222-3333-4444-555555555555"


def identity(pid: int) -> Identity:
    return Identity(boot_id=BOOT, pid=pid, start=pid * 10)


def intent(tree: str = "t1", **changes: Any) -> TreeIntent:
    fields: dict[str, Any] = {
        "tree": tree,
        "owner": "run",
        "argv": ("python", "-c", "print('ü')"),
        "cwd": "/srv/project",
        "boot_id": BOOT,
        "reserved": 300_000_000,
        "rung": "cgroup2",
        "cgroups": {"": "/sys/fs/cgroup/oomless/t1"},
        "marker": "abcd:t1",
        "requester": identity(100),
        "intended_at": 1000.5,
    }
    terms: dict[str, Any] = {
        "name": "build",
        "class_name": "agent",
        "parent": "t0",
        "group": "batch7",
        "group_budget": 10**10,
        "group_parallel": 3,
        "limit": 400_000_000,
        "processes": 64,
    }
    terms |= {name: changes.pop(name) for name in [*changes] if name in terms}
    return TreeIntent(**{**fields, **changes, "terms": Terms(**terms)})
