"""Pure: what a lease request amounts to under the settings, before admission sees it.

A declared need is ``need`` (``--expect``), else ``limit`` (``--memory`` reserves and limits), else what the
settings say for its class. Without any of these an estimate is reserved (``PRIOR``). Not here: whether it fits
(``admission/``), nor which file says what (``config.py``).
"""

from __future__ import annotations

import msgspec

from oomless.admission.events import Policy
from oomless.config import Settings, effective, headroom_bytes
from oomless.protocol.wire import Lease

#: Reserved for a command that nobody described: a small agent with its tools. An estimate, not a measurement;
#: when nothing runs, one may start whatever its estimate is.
PRIOR = 300 * 10**6


class Settled(msgspec.Struct, frozen=True, kw_only=True):
    """``extra_headroom``: what a project's file wants to stay free beyond the user's own headroom."""

    declared: int | None
    limit: int | None
    processes: int | None
    wait: float
    group: str | None
    group_budget: int | None
    group_parallel: int | None
    extra_headroom: int


def settle(lease: Lease, user: Settings, project: Settings, folder: str, total_bytes: int) -> Settled:
    """``project`` is what ``oomless.toml`` in ``folder`` says: it bounds, as one group, all that is asked for from
    below it; a batch has a group of its own, and then the tighter of both numbers holds for that."""
    merged = effective(user, project)
    own = merged.classes.get(lease.klass or "")
    limit = _tighter(lease.limit, own.memory if own else None)
    need = lease.need if lease.need is not None else (own.expect if own else None)
    bounded = project.budget is not None or project.max_parallel_subagents != "auto"
    return Settled(
        declared=limit if need is None else need,
        limit=limit,
        processes=_tighter(lease.processes, own.processes if own else None),
        wait=merged.wait if lease.wait is None else lease.wait,
        group=lease.group or (f"project {folder}" if bounded else None),
        group_budget=_tighter(lease.group_budget, project.budget),
        group_parallel=_tighter(lease.group_parallel, places(project)),
        extra_headroom=headroom_bytes(merged, total_bytes) - headroom_bytes(user, total_bytes),
    )


def policy(settings: Settings, total_bytes: int) -> Policy:
    return Policy(
        budget=settings.budget,
        admit_mark=settings.marks.admit,
        headroom=headroom_bytes(settings, total_bytes),
        max_parallel=places(settings),
    )


def places(settings: Settings) -> int | None:
    return None if settings.max_parallel_subagents == "auto" else settings.max_parallel_subagents


def _tighter(one: int | None, other: int | None) -> int | None:
    return min((size for size in (one, other) if size is not None), default=None)
