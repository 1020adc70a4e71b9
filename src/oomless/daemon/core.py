"""Leases, trees and admission put together: what the surfaces know as ``CoreProtocol`` (``views.py``).

Wiring only. The parts: ``trees/gate.py`` (admission with a clock), ``trees/registry.py`` (open trees),
``trees/leases.py`` (the protocol), ``sessions/host_sessions.py`` (registered sessions), ``sessions/discovery.py``
(discovered ones), ``sessions/sampling.py`` (samples of the process table), ``sessions/idle.py`` (idle servers),
``sessions/hook_gate.py`` (subagents), ``trees/pressure.py`` (who is ended for all),
``contain/rungs/choose.py`` (rungs), ``journal/``.
"""

from __future__ import annotations

import asyncio
import sys
import time
from contextlib import suppress

assert sys.platform == "linux"

from oomless import redact
from oomless.config import Watched
from oomless.contain.rungs.choose import Ladder
from oomless.daemon.logs import Log
from oomless.daemon.message import Handler
from oomless.daemon.reaping import Known, Reaper
from oomless.daemon.sessions.ancestry_store import AncestryCheckpoint, AncestryStore
from oomless.daemon.sessions.discovery import DiscoveredSessions
from oomless.daemon.sessions.growth import SessionGrowth
from oomless.daemon.sessions.hook_gate import HookGate
from oomless.daemon.sessions.host_sessions import RegisteredSessions
from oomless.daemon.sessions.idle import IdleTracker
from oomless.daemon.sessions.programs import catalog_mistakes
from oomless.daemon.sessions.sampling import ProcessSampler
from oomless.daemon.trees.admission_gate import Gate
from oomless.daemon.trees.leases import Leases
from oomless.daemon.trees.limits import LimitResolver
from oomless.daemon.trees.registry import Registry
from oomless.daemon.trees.tree import Tree, shown_name
from oomless.daemon.trees.victims import Pressure
from oomless.errors import JournalError
from oomless.hosts.claude_code.hooks import ClaudeHooks
from oomless.journal.ancestry import LineageRows
from oomless.journal.database import Journal
from oomless.journal.facts import Decision, TreeRow
from oomless.journal.sessions import SessionRows
from oomless.model import DetachedProcess
from oomless.paths import Paths
from oomless.platform.linux import Linux
from oomless.processes.descent import Descendants
from oomless.processes.ids import ProcessId
from oomless.protocol.reap_views import ReapAnswer, ReapRequest
from oomless.protocol.views import DecisionView, EventView, Registration, StatusView, TreeView

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Literal

    Verdict = Literal["admitted", "waiting", "refused", "withdrawn"]

EVENTS_KEPT = 256
DECISIONS_SHOWN = 20
KEEP_ROWS = 5000


class Core:
    """Raises JournalError if the journal cannot be opened."""

    def __init__(self, paths: Paths, log: Log) -> None:
        self._paths = paths
        self._settings = settings = Watched(paths.config_file)
        self._log = log
        for mistake in catalog_mistakes():
            log.warning(f"the user's known programs are passed over; {mistake}")
        self._journal = Journal.open(paths.journal)
        platform = Linux()
        self._registry = Registry(paths, self._journal, platform, log, self._freed)
        self._gate = Gate(platform, settings, self._registry.usage)
        ladder = Ladder(paths.install_id())
        limits = LimitResolver(settings, platform, log)
        self._leases = Leases(self._gate, self._registry, ladder, platform, settings, limits, self._note)
        self._subscribers: set[asyncio.Queue[EventView]] = set()
        trees = self._registry
        rows = SessionRows(self._journal)
        self._sampler = ProcessSampler(trees)
        sample = self._sampler.sample
        store = AncestryStore(LineageRows(self._journal), platform.boot_id(), log)
        self._discovered = DiscoveredSessions(trees, self._hosts, sample, log, store)
        self._checkpoint = AncestryCheckpoint(store, self._descendants, self._discovered.leftovers.has_root)
        self._sessions = RegisteredSessions(
            rows, platform.boot_id(), trees, log, self._session_gone, self._discovered.hand_over, sample, self._keep
        )
        sessions = self._discovered.living
        self._pressure = Pressure(
            self._registry, self._gate, settings, sessions, sample, self._leases.end, self._publish, log
        )
        self._idle = IdleTracker(lambda: [descendants for _, _, descendants in self._descendants()])
        known = Known(trees.holds, lambda: set(trees.roots()), lambda: {**sessions()}, self._spared)
        self._reaper = Reaper(known, platform.boot_id(), rows.reaped, log)
        growth = SessionGrowth(platform.private_bytes)
        self._hooks = HookGate(
            ClaudeHooks(),
            self._gate,
            self._sessions,
            trees,
            settings,
            limits,
            self._note,
            self._over,
            growth,
        )

    async def start(self) -> None:
        """Takes over what the daemon before left open."""
        self._journal.prune(KEEP_ROWS)
        for tree in self._registry.recover():
            self._leases.restore(tree)
        self._gate.sampled = self._pressure.look
        self._discovered.recover()
        self._sessions.recover()
        self._sampler.start(self._sessions, self._discovered, self._idle, self._checkpoint)

    async def stop(self) -> None:
        self._hooks.close()
        self._gate.close()
        self._sampler.stop()
        self._checkpoint.write()
        self._discovered.stop()
        await self._reaper.stop()
        await self._sessions.stop()
        await self._registry.stop()
        self._journal.close()

    async def lease(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, peer_pid: int) -> None:
        await self._leases.serve(reader, writer, peer_pid)

    # -- hosts ---------------------------------------------------------------------------------------------

    def hooks(self) -> dict[str, Handler]:
        return {ClaudeHooks.host: self._hooks}

    def register(self, asked: Registration) -> bool:
        return self._sessions.register(asked)

    async def reap(self, asked: ReapRequest) -> ReapAnswer:
        self._sampler.sample()  # a session that nobody registered is known by a look
        return await self._reaper.reap(asked)

    def _hosts(self) -> dict[ProcessId, str]:
        return self._sessions.hosts()

    def _descendants(self) -> tuple[tuple[str, str, Descendants], ...]:
        return (*self._sessions.descendants(), *self._discovered.descendants())

    def _session_gone(self, id: str) -> None:
        self._hooks.end_session(id)

    def _keep(self, host: str, session: str, descendants: Descendants) -> bool:
        """Whether what a registered session left is only told, as the settings may say: with "ask" it is proposed by
        ``oomless reap``, with "off" it is not even that."""
        if self._settings.current().reap == "proven":
            return False
        self._discovered.leftovers.add(host, session, descendants)
        return True

    def _spared(self) -> dict[tuple[int, int], str]:
        """Who outlived its session and is left alone, and why."""
        left = (*self._sessions.detached(), *self._registry.spared.living())
        unregistered = {(one.pid, one.start): one.spared for one in self._discovered.leftovers.views() if one.spared}
        return unregistered | {(one.pid, one.start): one.why for one in left}

    # -- views ---------------------------------------------------------------------------------------------

    def status(self) -> StatusView:
        self._gate.sample()
        self._sampler.sample()
        totals = self._gate.totals()
        return StatusView(
            pid=self._registry.own_pid,
            memory=self._gate.memory,
            budget_bytes=totals.budget,
            held_bytes=totals.held_bytes,
            headroom_bytes=totals.headroom,
            pressure=self._pressure.views(),
            max_parallel=totals.max_parallel,
            trees=self._views(),
            sessions=self._hooks.sessions(),
            leftovers=self._discovered.leftovers.views(),
            idle=self._idle.views(),
            detached=self._detached(),
            decisions=tuple(
                DecisionView(at=d.at, tree=d.tree, name=d.name, verdict=d.verdict, reason=d.reason)
                for d in self._journal.decisions(DECISIONS_SHOWN)
            ),
            reap=self._settings.current().reap,
            problem=self._settings.problem,
        )

    def _detached(self) -> tuple[DetachedProcess, ...]:
        """Each once: what a tool shell's tree has spared is found by its mark as well, when its session is cleared.
        The tree knows why."""
        known = (*self._sessions.detached(), *self._registry.spared.living())
        return tuple({(one.pid, one.start): one for one in known}.values())

    def _views(self) -> tuple[TreeView, ...]:
        """What is held, then what waits, with the reason that admission gives for each now."""
        explained = {one.id: one for one in self._gate.explain()}
        views = [tree.view() for tree in self._registry.trees.values()]
        views += self._hooks.views()
        inside = {one.id: self._hooks.owner(one) for one in self._hooks.subagents}
        views += [
            TreeView(
                tree=one.id,
                kind="subagent" if one.id in inside else "tree",
                name=one.terms.name,
                class_name=one.terms.class_name,
                owner=inside.get(one.id, ""),
                state="waiting",
                parent=one.terms.parent,
                reserved_bytes=one.need,
                limit_bytes=one.terms.limit,
                seconds=round(time.monotonic() - one.since, 3),
                reason=one.reason,
            )
            for one in explained.values()
            if one.state == "waiting"
        ]
        return tuple(views)

    def tree(self, id_or_name: str) -> TreeView | None:
        found = self._registry.find(id_or_name)
        if found is not None:
            return found.view()
        inside = next((v for v in self._views() if id_or_name in (v.tree, v.name)), None)
        row = self._journal.tree(id_or_name) or self._journal.find(id_or_name)
        return inside or (ended_view(row) if row is not None else None)

    def open_trees(self) -> int:
        return len(self._registry.trees)

    async def end(self, id_or_name: str, reason: str) -> bool:
        tree = self._registry.find(id_or_name)
        return tree is not None and self._leases.end(tree, reason)

    # -- events --------------------------------------------------------------------------------------------

    def subscribe(self) -> asyncio.Queue[EventView]:
        queue: asyncio.Queue[EventView] = asyncio.Queue(EVENTS_KEPT)
        self._subscribers.add(queue)
        return queue

    def unsubscribe(self, queue: asyncio.Queue[EventView]) -> None:
        self._subscribers.discard(queue)

    def _publish(self, kind: str, tree: str, name: str, text: str) -> None:
        event = EventView(at=time.time(), kind=kind, tree=tree, name=name, text=text)
        for queue in self._subscribers:
            with suppress(asyncio.QueueEmpty):
                if queue.full():
                    queue.get_nowait()
            queue.put_nowait(event)

    def _note(self, tree: str, name: str, verdict: Verdict, reason: str) -> None:
        self._publish("decision", tree, name, f"{verdict}: {reason}")
        try:
            self._journal.decide(Decision(at=time.time(), tree=tree, name=name, verdict=verdict, reason=reason))
        except JournalError as error:  # the decision stands; only its history is lost
            self._log.error(error.line(), tree=tree)

    def _freed(self, tree: Tree, how: str) -> None:
        self._over(tree.id, tree.name, how)

    def _over(self, id: str, name: str, how: str) -> None:
        self._publish("end", id, name, how)
        self._gate.end(id)


def ended_view(row: TreeRow) -> TreeView:
    """A tree of the past, from the journal."""
    record, sweep, intent = row.record, row.sweep, row.intent
    until = row.ended_at or time.time()
    left = record.survivors if record else len(sweep.left) if sweep else None
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
        survivors=left,
        command=redact.words(intent.argv),
    )
