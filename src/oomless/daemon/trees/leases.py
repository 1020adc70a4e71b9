"""The daemon's side of the lease protocol (``protocol/wire.py``): one coroutine for each connection."""

from __future__ import annotations

import asyncio
import os
import sys
import time

assert sys.platform == "linux"

from typing import Any, NamedTuple

import msgspec

from oomless.admission.events import Admit, Refuse, Wait
from oomless.config import LiveSettings
from oomless.contain.rungs.base import PID_NAMESPACE
from oomless.contain.rungs.choose import Offer, RungChooser
from oomless.daemon.events import EventBus, TreeAdmitted, TreeRefused, TreeWaiting, TreeWithdrawn
from oomless.daemon.trees.admission_gate import AdmissionGate
from oomless.daemon.trees.limits import PRIOR, EffectiveLimits, LimitResolver
from oomless.daemon.trees.registry import Registry
from oomless.daemon.trees.tree import Tree, cgroup_name, shown_name
from oomless.errors import JournalError, OomlessError
from oomless.journal.trees import TreeIntent, TreeSession
from oomless.model import Identity
from oomless.platform import system
from oomless.platform.base import Platform
from oomless.processes import descendants
from oomless.processes.ids import ProcessId
from oomless.protocol import wire


class _Request(NamedTuple):
    """A request with its requester: ``parent`` is the governed tree that ``peer`` runs in."""

    lease: wire.LeaseRequest
    limits: EffectiveLimits
    peer: Identity
    parent: Tree | None
    writer: asyncio.StreamWriter


class Leases:
    def __init__(
        self,
        gate: AdmissionGate,
        registry: Registry,
        ladder: RungChooser,
        platform: Platform,
        settings: LiveSettings,
        limits: LimitResolver,
        bus: EventBus,
    ) -> None:
        self._gate = gate
        self._registry = registry
        self._ladder = ladder
        self._platform = platform
        self._settings = settings
        self._limits = limits
        self._bus = bus
        self._install = registry.paths.install_id()
        self._boot = platform.boot_id()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, peer_pid: int) -> None:
        """Serves one lease connection to its end; never raises for what the client does."""
        try:
            opening = wire.decode_from_client(await reader.readline())
        except (msgspec.MsgspecError, ValueError) as error:
            self._refuse(writer, 125, f"not a lease request: {error}", "use one version of oomless on both sides")
            return
        if isinstance(opening, wire.LeaseRequest | wire.AdoptRequest) and opening.v != wire.VERSION:
            why = f"it speaks version {opening.v} and this daemon {wire.VERSION}"
            self._refuse(
                writer, 125, f"the lease protocol does not match: {why}", "run oomless daemon stop, then try again"
            )
        elif isinstance(opening, wire.LeaseRequest):
            await self._new(opening, reader, writer, peer_pid)
        elif isinstance(opening, wire.AdoptRequest):
            await self._adopt(opening, reader, writer, peer_pid)
        else:
            self._refuse(writer, 125, "a lease opens with lease or adopt")

    # -- a new lease ---------------------------------------------------------------------------------------

    async def _new(
        self, lease: wire.LeaseRequest, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, peer_pid: int
    ) -> None:
        id = "t" + os.urandom(4).hex()
        peer = self._platform.identity(peer_pid)
        if peer is None:
            return  # gone already
        parent = self._parent(lease.parent, peer_pid)
        terms = msgspec.structs.replace(lease.terms, parent=parent.id if parent else None)
        try:
            limits = self._limits.resolve(terms, lease.cwd, lease.wait)
        except OomlessError as error:
            self._refuse(writer, error.exit_code, error.summary(), error.hint)
            return
        request = _Request(lease, limits, peer, parent, writer)
        if lease.kind.has_session:
            await self._attach(id, request, reader)
            return
        line = asyncio.ensure_future(reader.readline())
        pending = self._gate.request(
            id, limits, prior=PRIOR, requester=peer.pid, on_wait=lambda wait: self._send_wait(id, request, wait)
        )
        either: list[asyncio.Future[Any]] = [line, pending.answer]
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if not pending.answer.done():  # it hung up, or speaks out of turn
            _discard(line)
            self._gate.withdraw(id)
            reason = "the requester did not wait for the answer"
            self._bus.publish(TreeWithdrawn(tree=id, name=lease.name, reason=reason))
            return
        answer = pending.answer.result()
        if isinstance(answer, Refuse):
            _discard(line)
            self._bus.publish(TreeRefused(tree=id, name=lease.name, reason=answer.reason))
            self._refuse(writer, answer.code, answer.error, answer.hint)
            return
        tree = self._grant(answer, request)
        if tree is None:
            _discard(line)
            return
        await self._converse(tree, line, reader)

    async def _attach(self, id: str, request: _Request, reader: asyncio.StreamReader) -> None:
        """A host's tool shell or server: contained and bounded, never kept waiting, and not counted as a subagent."""
        lease = request.lease
        session = session_of(lease, self._boot, request.peer.pid)
        if session is None:
            self._refuse(request.writer, 125, "that session is not an ancestor: the command runs ungoverned")
            return
        tree = self._grant(Admit(id=id, reserved=0, reason=f"a {lease.kind} of a running session"), request, session)
        if tree is None:
            return
        self.restore(tree)
        await self._converse(tree, asyncio.ensure_future(reader.readline()), reader)

    def _parent(self, claimed: str | None, pid: int) -> Tree | None:
        """The governed tree that the request claims to come from, if the peer runs in it."""
        tree = self._registry.trees.get(claimed) if claimed else None
        return tree if tree is not None and tree.contains(pid, cgroup_name(self._install, tree.id)) else None

    def _send_wait(self, id: str, request: _Request, wait: Wait) -> None:
        self._bus.publish(TreeWaiting(tree=id, name=request.lease.name, reason=wait.reason))
        holders = tuple(self._holder(h.id, h.name, h.bytes) for h in wait.holders)
        self._send(request.writer, wire.WaitNotice(reason=wait.reason, ahead=wait.ahead, holders=holders))

    def _holder(self, id: str, name: str, size: int) -> wire.ReservationHolder:
        tree = self._registry.trees.get(id)
        return wire.ReservationHolder(
            tree=id, name=name, bytes=size, pid=tree.root.pid if tree and tree.root else None
        )

    def _grant(self, admit: Admit, request: _Request, session: TreeSession | None = None) -> Tree | None:
        """The intent goes to the journal before the answer goes out: whatever dies after that is found again."""
        lease, writer = request.lease, request.writer
        wanted = self._settings.current().rung
        if wanted == PID_NAMESPACE and lease.kind.has_session:
            wanted = "auto"  # a host refers to their processes by pid, and what detached from a shell goes on
        offer = self._ladder.choose(system.cgroups(request.peer.pid), wanted)
        intent = self._intent(admit, request, offer, session)
        tree = Tree(intent, admit.reason)
        tree.writer, tree.retriable = writer, lease.retriable
        try:
            self._registry.add(tree)
        except JournalError as error:
            self._gate.end(admit.id)
            self._refuse(writer, error.exit_code, error.summary(), error.hint)
            return None
        if session is None:  # a tool shell is not a decision
            self._bus.publish(TreeAdmitted(tree=admit.id, name=lease.name, reason=admit.reason))
        granted = wire.Grant(
            tree=intent.tree,
            reserved=intent.reserved,
            limit=intent.terms.limit,
            processes=intent.terms.processes,
            rung=intent.rung,
            why_rung=offer.why,
            cgroups=intent.cgroups,
            marker=intent.marker,
            exits=self._registry.paths.exits,
            reason=admit.reason,
        )
        self._send(writer, granted)
        return tree

    def _intent(self, admit: Admit, request: _Request, offer: Offer, session: TreeSession | None) -> TreeIntent:
        lease, parent, install = request.lease, request.parent, self._install
        contained = lease.kind.has_processes
        return TreeIntent(
            tree=admit.id,
            kind=lease.kind,
            terms=msgspec.structs.replace(request.limits.terms, name=shown_name(lease.name, lease.kind)),
            owner=lease.owner,
            argv=lease.argv,
            cwd=lease.cwd,
            boot_id=request.peer.boot_id,
            reserved=admit.reserved,
            rung=offer.name if contained else "",
            cgroups=offer.cgroups(cgroup_name(install, admit.id)) if contained else {},
            marker=f"{parent.intent.marker}/{admit.id}" if parent else f"{install}:{admit.id}",
            requester=request.peer,
            intended_at=time.time(),
            session=session,
        )

    # -- a lease that goes on ------------------------------------------------------------------------------

    async def _adopt(
        self, adopt: wire.AdoptRequest, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, peer_pid: int
    ) -> None:
        tree = self._registry.trees.get(adopt.tree)
        shim = self._platform.identity(peer_pid)
        if tree is None or shim is None or (shim.pid, shim.start) != (adopt.shim_pid, adopt.shim_start):
            self._send(writer, wire.UnknownTree())
            return
        tree.writer = writer
        self._send(writer, wire.AdoptConfirmed())
        await self._converse(tree, asyncio.ensure_future(reader.readline()), reader)

    async def _converse(self, tree: Tree, line: asyncio.Future[bytes], reader: asyncio.StreamReader) -> None:
        writer = tree.writer
        try:
            while raw := await line:
                self._apply(tree, wire.decode_from_client(raw))
                line = asyncio.ensure_future(reader.readline())
        except (msgspec.MsgspecError, ValueError, ConnectionError) as error:
            reason = f"its shim sent something else: {error}"
            self._bus.publish(TreeWithdrawn(tree=tree.id, name=tree.name, reason=reason))
        finally:
            if tree.writer is writer:
                self._registry.lease_lost(tree)

    def _apply(self, tree: Tree, message: wire.FromClient) -> None:
        if isinstance(message, wire.StartReport):
            shim = Identity(boot_id=self._boot, pid=message.shim_pid, start=message.shim_start)
            root = Identity(boot_id=self._boot, pid=message.root_pid, start=message.root_start)
            self._registry.mark_started(tree, shim, root, message.rung, message.why_rung)
        elif isinstance(message, wire.UsageReport):
            tree.used, tree.members, tree.escaped = message.used, set(message.members), message.escaped
        elif isinstance(message, wire.EndReport):
            self._registry.mark_ended(tree, message.record)

    def end(self, tree: Tree, reason: str, victim: bool = False) -> bool:
        if tree.writer is None:
            return False
        self._send(tree.writer, wire.EndOrder(reason=reason, victim=victim))
        return True

    def restore(self, tree: Tree) -> None:
        self._gate.restore(tree.restore_event())

    # -- out -----------------------------------------------------------------------------------------------

    def _refuse(self, writer: asyncio.StreamWriter, code: int, error: str, hint: str = "") -> None:
        self._send(writer, wire.RefusalNotice(code=code, error=error, hint=hint))

    @staticmethod
    def _send(writer: asyncio.StreamWriter, message: wire.FromDaemon) -> None:
        if not writer.is_closing():
            writer.write(wire.line(message))


def session_of(lease: wire.LeaseRequest, boot_id: str, peer: int) -> TreeSession | None:
    """The session that a tool shell or server says it is of, if that process really is above it."""
    if lease.session_pid is None or lease.session_start is None:
        return None
    owner = Identity(boot_id=boot_id, pid=lease.session_pid, start=lease.session_start)
    own = system.read_stat(peer)
    if own is None or not descendants.alive(ProcessId.of(owner)) or not descendants.is_below(peer, owner.pid):
        return None
    return TreeSession(owner=owner, sid=own.sid)


def _discard(line: asyncio.Future[bytes]) -> None:
    """Its result is not wanted, nor its error: a client that is killed with unread messages of ours leaves one."""
    line.cancel()
    line.add_done_callback(lambda done: done.cancelled() or done.exception())
