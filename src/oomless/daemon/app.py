"""The daemon's parts put together. Composition only."""

from __future__ import annotations

import asyncio
import sys

assert sys.platform == "linux"

from oomless import hosts
from oomless.config import LiveSettings
from oomless.contain.rungs.choose import RungChooser
from oomless.daemon.events import EventBus, EventStream, TreeEnded, record_decisions
from oomless.daemon.logs import Log
from oomless.daemon.message import Handler
from oomless.daemon.reaping import Reaper
from oomless.daemon.sessions.all_sessions import AllSessions
from oomless.daemon.sessions.ancestry_store import AncestryCheckpoint, AncestryStore
from oomless.daemon.sessions.discovery import DiscoveredSessions
from oomless.daemon.sessions.growth import SessionGrowth
from oomless.daemon.sessions.hook_gate import HookGate
from oomless.daemon.sessions.host_sessions import RegisteredSessions
from oomless.daemon.sessions.idle import IdleTracker
from oomless.daemon.sessions.programs import catalog_mistakes
from oomless.daemon.sessions.sampling import ProcessSampler
from oomless.daemon.status import StatusViews
from oomless.daemon.trees.admission_gate import AdmissionGate
from oomless.daemon.trees.leases import Leases
from oomless.daemon.trees.limits import LimitResolver
from oomless.daemon.trees.registry import Registry
from oomless.daemon.trees.victims import MemoryPressure
from oomless.journal.journal import Journal
from oomless.paths import Paths
from oomless.platform import current
from oomless.protocol.reap_views import ReapAnswer, ReapRequest
from oomless.protocol.views import EventView, Registration, StatusView, TreeView

#: Rows of trees that ended, and of decisions.
ROWS_KEPT = 5000


class App:
    """An ``api.Backend``. Raises JournalError if the journal cannot be opened."""

    def __init__(self, paths: Paths, log: Log) -> None:
        settings, platform, bus = LiveSettings(paths.config_file), current(), EventBus()
        for mistake in catalog_mistakes():
            log.warning(f"the user's known programs are ignored; {mistake}")
        self._journal = journal = Journal.open(paths.journal)
        rows, boot_id = journal.sessions, platform.boot_id()

        # Trees, from the request to the end.
        self._registry = registry = Registry(paths, journal, platform, bus, log)
        self._gate = gate = AdmissionGate(platform, settings, registry.read_usage)
        limits = LimitResolver(settings, platform, log)
        self._leases = Leases(gate, registry, RungChooser(paths.install_id()), platform, settings, limits, bus)

        # Sessions of hosts: each sample of the process table goes to those that watch them.
        self._sampler = sampler = ProcessSampler(registry)
        store = AncestryStore(journal.ancestry, boot_id, log)
        self._discovered = discovered = DiscoveredSessions(
            registry, lambda: self._registered.hosts(), sampler, log, store
        )
        self._registered = RegisteredSessions(
            rows, boot_id, registry, log, lambda id: self._hooks.end_session(id), discovered, sampler, settings
        )
        self._sessions = sessions = AllSessions(self._registered, discovered, registry.detached)
        self._checkpoint = AncestryCheckpoint(store, sessions.descendants, discovered.leftovers.has_root)
        self._idle = IdleTracker(lambda: [descendants for _, _, descendants in sessions.descendants()])
        growth = SessionGrowth(platform.private_bytes)
        mappings = (host.hook_mapping() for host in hosts.known())
        self._hooks = HookGate(mappings, gate, self._registered, registry, settings, limits, bus, growth)

        self._pressure = MemoryPressure(registry, gate, settings, sessions, sampler, self._leases, bus, log)
        self._reaper = Reaper(registry, sessions, boot_id, rows.add_reap, log)
        self._views = StatusViews(
            settings=settings,
            journal=journal,
            registry=registry,
            gate=gate,
            pressure=self._pressure,
            hooks=self._hooks,
            sessions=sessions,
            leftovers=discovered.leftovers,
            idle=self._idle,
            sampler=sampler,
        )

        # Readers of events see an end before what it makes room for.
        self._stream = EventStream(bus)
        record_decisions(bus, journal, log)
        bus.subscribe(TreeEnded, lambda event: gate.end(event.tree))

    async def start(self) -> None:
        """Takes over what the daemon before left open."""
        self._journal.prune(ROWS_KEPT)
        for tree in self._registry.recover():
            self._leases.restore(tree)
        self._gate.sampled = self._pressure.check
        self._discovered.recover()
        self._registered.recover()
        self._sampler.start(self._registered, self._discovered, self._idle, self._checkpoint)

    async def stop(self) -> None:
        self._hooks.close()
        self._gate.close()
        self._sampler.stop()
        self._checkpoint.write()
        self._discovered.stop()
        await self._reaper.stop()
        await self._registered.stop()
        await self._registry.stop()
        self._journal.close()

    # What the surfaces use.

    async def lease(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, peer_pid: int) -> None:
        await self._leases.serve(reader, writer, peer_pid)

    async def status(self) -> StatusView:
        return await self._views.status()

    def tree(self, id_or_name: str) -> TreeView | None:
        return self._views.tree(id_or_name)

    def open_trees(self) -> int:
        return len(self._registry.trees)

    async def end(self, id_or_name: str, reason: str) -> bool:
        tree = self._registry.find(id_or_name)
        return tree is not None and self._leases.end(tree, reason)

    def hooks(self) -> dict[str, Handler]:
        return self._hooks.handlers()

    def register(self, asked: Registration) -> bool:
        return self._registered.register(asked)

    async def reap(self, asked: ReapRequest) -> ReapAnswer:
        self._sampler.sample()  # what a session that has just been started is must be known
        return await self._reaper.reap(asked)

    def subscribe(self) -> asyncio.Queue[EventView]:
        return self._stream.open()

    def unsubscribe(self, queue: asyncio.Queue[EventView]) -> None:
        self._stream.close(queue)
