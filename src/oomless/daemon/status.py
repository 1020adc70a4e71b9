"""The views of ``/v1/status`` and ``/v1/trees``: what the daemon's parts know, put together for readers."""

from __future__ import annotations

import os
import sys
import time

assert sys.platform == "linux"

from oomless import redact
from oomless.config import LiveSettings
from oomless.daemon.sessions.all_sessions import AllSessions
from oomless.daemon.sessions.hook_gate import HookGate
from oomless.daemon.sessions.idle import IdleTracker
from oomless.daemon.sessions.leftovers import Leftovers
from oomless.daemon.sessions.sampling import ProcessSampler
from oomless.daemon.trees.admission_gate import AdmissionGate
from oomless.daemon.trees.registry import Registry
from oomless.daemon.trees.tree import shown_name
from oomless.daemon.trees.victims import MemoryPressure
from oomless.journal.journal import Journal
from oomless.journal.trees import TreeRow
from oomless.protocol.views import DecisionView, StatusView, TreeView

DECISIONS_SHOWN = 20


class StatusViews:
    def __init__(
        self,
        *,
        settings: LiveSettings,
        journal: Journal,
        registry: Registry,
        gate: AdmissionGate,
        pressure: MemoryPressure,
        hooks: HookGate,
        sessions: AllSessions,
        leftovers: Leftovers,
        idle: IdleTracker,
        sampler: ProcessSampler,
    ) -> None:
        self._settings = settings
        self._journal = journal
        self._registry = registry
        self._gate = gate
        self._pressure = pressure
        self._hooks = hooks
        self._sessions = sessions
        self._leftovers = leftovers
        self._idle = idle
        self._sampler = sampler

    async def status(self) -> StatusView:
        """Knows every process that was born before the request. The process table is read for it at most a few times
        a second, however many readers there are."""
        self._gate.sample()
        await self._sampler.refresh()
        totals = self._gate.totals()
        return StatusView(
            pid=os.getpid(),
            memory=self._gate.memory,
            budget_bytes=totals.budget,
            reserved_bytes=totals.reserved_bytes,
            headroom_bytes=totals.headroom,
            pressure=self._pressure.views(),
            max_parallel=totals.max_parallel,
            trees=self._trees(),
            sessions=self._hooks.sessions(),
            leftovers=self._leftovers.views(),
            idle=self._idle.views(),
            detached=self._sessions.detached(),
            decisions=tuple(
                DecisionView(at=d.at, tree=d.tree, name=d.name, verdict=d.verdict, reason=d.reason)
                for d in self._journal.decisions.recent(DECISIONS_SHOWN)
            ),
            reap=self._settings.current().reap,
            problem=self._settings.problem,
        )

    def tree(self, id_or_name: str) -> TreeView | None:
        """An open or waiting one first, else the newest of the journal."""
        tree = self._registry.find(id_or_name)
        if tree is not None:
            return tree.view()
        view = next((view for view in self._trees() if id_or_name in (view.tree, view.name)), None)
        row = self._journal.trees.get(id_or_name) or self._journal.trees.find(id_or_name)
        return view or (ended_view(row) if row is not None else None)

    def _trees(self) -> tuple[TreeView, ...]:
        """What runs, then what waits, with the reason that admission gives for it now."""
        subagents = {subagent.id: subagent for subagent in self._hooks.subagents}
        waiting = (
            TreeView(
                tree=row.id,
                kind="subagent" if row.id in subagents else "tree",
                name=row.terms.name,
                class_name=row.terms.class_name,
                owner=subagents[row.id].owner if row.id in subagents else "",
                agent_type=subagents[row.id].agent_type if row.id in subagents else "",
                state="waiting",
                parent=row.terms.parent,
                reserved_bytes=row.need,
                limit_bytes=row.terms.limit,
                seconds=round(time.monotonic() - row.since, 3),
                reason=row.reason,
            )
            for row in self._gate.explain()
            if row.state == "waiting"
        )
        return (*(tree.view() for tree in self._registry.trees.values()), *self._hooks.views(), *waiting)


def ended_view(row: TreeRow) -> TreeView:
    """A tree of the past, from the journal."""
    record, sweep, intent = row.record, row.sweep, row.intent
    until = row.ended_at or time.time()
    survivors = record.survivors if record else len(sweep.left) if sweep else None
    return TreeView(
        tree=intent.tree,
        name=shown_name(intent.terms.name, intent.kind),
        class_name=intent.terms.class_name,
        owner=intent.owner,
        state="ended" if row.ended_at else "running",
        parent=intent.terms.parent,
        reserved_bytes=intent.reserved,
        used_bytes=record.peak_bytes if record else None,
        limit_bytes=intent.terms.limit,
        footprint_source=record.peak_source if record else None,
        rung=row.rung,
        pid=row.root.pid if row.root else None,
        start=row.root.start if row.root else None,
        seconds=record.seconds if record else round(until - intent.intended_at, 3),
        reason=(record.reason if record else "") or (sweep.reason if sweep else ""),
        exit_code=record.exit_code if record else None,
        status=record.status if record else "killed" if sweep else None,
        survivors=survivors,
        command=redact.printable_words(intent.argv),
    )
