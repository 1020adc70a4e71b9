"""The daemon's side of the lease protocol (``protocol/wire.py``): one coroutine a connection.

Covers: reading and answering messages, and what each means for gate and registry. Does not cover: the rules
(``admission/``), what happens to trees without a connection (``registry.py``).
"""

from __future__ import annotations

import asyncio
import os
import sys
import time

assert sys.platform == "linux"

from pathlib import Path
from typing import Any

import msgspec

from oomless.admission.events import Admit, Ask, Refuse, Wait
from oomless.config import Settings, Watched, find_project, load
from oomless.contain.rungs.choose import PID_NAMESPACE, Ladder
from oomless.daemon.trees.admission_gate import Gate, Request, ceiling
from oomless.daemon.trees.intents import belongs_to, intent_of, leaf, restore_of
from oomless.daemon.trees.limits import PRIOR, Settled, settle
from oomless.daemon.trees.registry import Registry
from oomless.daemon.trees.tree import Tree
from oomless.errors import JournalError, OomlessError
from oomless.journal.facts import Session
from oomless.model import Identity
from oomless.platform import proc
from oomless.platform.linux import Linux
from oomless.protocol import wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Literal

    Verdict = Literal["admitted", "waiting", "refused", "withdrawn"]


class Leases:
    """``note`` records a decision: id, name, verdict, reason."""

    def __init__(
        self,
        gate: Gate,
        registry: Registry,
        ladder: Ladder,
        platform: Linux,
        settings: Watched,
        note: Callable[[str, str, Verdict, str], None],
    ) -> None:
        self._gate = gate
        self._registry = registry
        self._ladder = ladder
        self._platform = platform
        self._settings = settings
        self._note = note
        self._install = registry.paths.install_id()
        self._boot = platform.boot_id()
        self._home = str(Path.home())

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, peer_pid: int) -> None:
        """One lease connection to its end; never raises for what the other side does."""
        try:
            opening = wire.decode_from_client(await reader.readline())
        except (msgspec.MsgspecError, ValueError) as error:
            self._refuse(
                writer, 125, f"oomless: that is not a lease request; {error}; both sides must be one version"
            )
            return
        if isinstance(opening, wire.Lease | wire.Adopt) and opening.v != wire.VERSION:
            why = f"it speaks version {opening.v} and this daemon {wire.VERSION}"
            self._refuse(
                writer, 125, f"oomless: the lease protocol does not match; {why}; oomless daemon stop, then again"
            )
        elif isinstance(opening, wire.Lease):
            await self._new(opening, reader, writer, peer_pid)
        elif isinstance(opening, wire.Adopt):
            await self._adopt(opening, reader, writer, peer_pid)
        else:
            self._refuse(writer, 125, "oomless: a lease opens with lease or adopt")

    # -- a new lease ---------------------------------------------------------------------------------------

    async def _new(
        self, lease: wire.Lease, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, peer_pid: int
    ) -> None:
        id = "t" + os.urandom(4).hex()
        peer = self._platform.identity(peer_pid)
        if peer is None:
            return  # gone already
        try:
            settled = self.settle(lease)
        except OomlessError as error:
            self._refuse(writer, error.exit_code, error.line())
            return
        parent = self._parent(lease.parent, peer_pid)
        if lease.kind in ("shell", "server"):
            await self._attend(id, lease, settled, parent, peer, reader, writer)
            return
        request = self._request(id, lease, settled, parent, peer, writer)
        line = asyncio.ensure_future(reader.readline())
        self._gate.ask(request)
        either: list[asyncio.Future[Any]] = [line, request.answer]
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if not request.answer.done():  # it hung up, or speaks out of turn
            _let_go(line)
            self._gate.withdraw(id)
            self._note(id, lease.name, "withdrawn", "it did not wait for the answer")
            return
        answer = request.answer.result()
        if isinstance(answer, Refuse):
            _let_go(line)
            self._note(id, lease.name, "refused", answer.reason)
            self._refuse(writer, answer.code, answer.error)
            return
        tree = self._admit(answer, lease, settled, parent, peer, writer)
        if tree is None:
            _let_go(line)
            return
        await self._converse(tree, line, reader)

    async def _attend(
        self,
        id: str,
        lease: wire.Lease,
        settled: Settled,
        parent: Tree | None,
        peer: Identity,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        """A host's tool shell or server: contained and bounded, never kept waiting, and not counted as a subagent."""
        session = belongs_to(lease, self._boot, peer.pid)
        if session is None:
            self._refuse(writer, 125, "oomless: that session is not an ancestor; the command runs as it is")
            return
        admit = Admit(id=id, reserved=0, reason=f"a {lease.kind} of a running session")
        tree = self._admit(admit, lease, settled, parent, peer, writer, session)
        if tree is None:
            return
        self.restore(tree)
        await self._converse(tree, asyncio.ensure_future(reader.readline()), reader)

    def settle(self, lease: wire.Lease) -> Settled:
        """Under the user's settings and those of the project that it is asked from; raises ConfigError."""
        file = find_project(lease.cwd, self._home)
        project = load(file, project=True) if file else Settings()
        folder = os.path.dirname(file) if file else ""
        return settle(lease, self._settings.current(), project, folder, self._gate.memory.total_bytes)

    def _parent(self, claimed: str | None, pid: int) -> Tree | None:
        """The governed tree that the request comes from, if that is true."""
        tree = self._registry.trees.get(claimed) if claimed else None
        return tree if tree is not None and tree.contains(pid, leaf(self._install, tree.id)) else None

    def _request(
        self,
        id: str,
        lease: wire.Lease,
        settled: Settled,
        parent: Tree | None,
        peer: Identity,
        writer: asyncio.StreamWriter,
    ) -> Request:
        room = ceiling(lambda: self._platform.headroom(peer.pid), settled.extra_headroom)

        def tell(wait: Wait) -> None:
            self._note(id, lease.name, "waiting", wait.reason)
            holders = tuple(self._holder(h.id, h.name, h.bytes) for h in wait.holders)
            self._send(writer, wire.Waiting(reason=wait.reason, ahead=wait.ahead, holders=holders))

        now = time.monotonic()
        ask = Ask(
            id=id,
            name=lease.name,
            klass=lease.klass,
            declared=settled.declared,
            prior=PRIOR,
            limit=settled.limit,
            parent=parent.id if parent else None,
            group=settled.group,
            group_budget=settled.group_budget,
            group_parallel=settled.group_parallel,
            ceiling=room(self._gate.memory.available_bytes),
            deadline=now + settled.wait,
            at=now,
        )
        return Request(ask, room, tell)

    def _holder(self, id: str, name: str, size: int) -> wire.Holder:
        tree = self._registry.trees.get(id)
        return wire.Holder(tree=id, name=name, bytes=size, pid=tree.root.pid if tree and tree.root else None)

    def _admit(
        self,
        admit: Admit,
        lease: wire.Lease,
        settled: Settled,
        parent: Tree | None,
        peer: Identity,
        writer: asyncio.StreamWriter,
        session: Session | None = None,
    ) -> Tree | None:
        """The intent goes to the journal before the answer goes out: whatever dies after that is found again."""
        wanted = self._settings.current().rung
        if wanted == PID_NAMESPACE and lease.kind in ("shell", "server"):
            wanted = "auto"  # its host speaks of their processes by number, and some of a shell's are spared
        offer = self._ladder.choose(proc.cgroups(peer.pid), wanted)
        intent = intent_of(admit, lease, settled, parent, peer, offer, self._install, session)
        tree = Tree(intent, admit.reason)
        tree.writer, tree.retriable = writer, lease.retriable
        try:
            self._registry.add(tree)
        except JournalError as error:
            self._gate.end(admit.id)
            self._refuse(writer, error.exit_code, error.line())
            return None
        if session is None:  # a tool shell is not a decision
            self._note(admit.id, lease.name, "admitted", admit.reason)
        granted = wire.Granted(
            tree=intent.tree,
            reserved=intent.reserved,
            limit=intent.limit,
            processes=intent.processes,
            rung=intent.rung,
            why_rung=offer.why,
            cgroups=intent.cgroups,
            marker=intent.marker,
            exits=self._registry.paths.exits,
            reason=admit.reason,
        )
        self._send(writer, granted)
        return tree

    # -- a lease that goes on ------------------------------------------------------------------------------

    async def _adopt(
        self, adopt: wire.Adopt, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, peer_pid: int
    ) -> None:
        tree = self._registry.trees.get(adopt.tree)
        shim = self._platform.identity(peer_pid)
        if tree is None or shim is None or (shim.pid, shim.start) != (adopt.shim_pid, adopt.shim_start):
            self._send(writer, wire.Unknown())
            return
        tree.writer = writer
        self._send(writer, wire.Adopted())
        await self._converse(tree, asyncio.ensure_future(reader.readline()), reader)

    async def _converse(self, tree: Tree, line: asyncio.Future[bytes], reader: asyncio.StreamReader) -> None:
        writer = tree.writer
        try:
            while raw := await line:
                self._take(tree, wire.decode_from_client(raw))
                line = asyncio.ensure_future(reader.readline())
        except (msgspec.MsgspecError, ValueError, ConnectionError) as error:
            self._note(tree.id, tree.intent.name, "withdrawn", f"its shim sent something else: {error}")
        finally:
            if tree.writer is writer:
                self._registry.lease_lost(tree)

    def _take(self, tree: Tree, message: wire.FromClient) -> None:
        if isinstance(message, wire.Started):
            shim = Identity(boot_id=self._boot, pid=message.shim_pid, start=message.shim_start)
            root = Identity(boot_id=self._boot, pid=message.root_pid, start=message.root_start)
            self._registry.started(tree, shim, root, message.rung, message.why_rung)
        elif isinstance(message, wire.Usage):
            tree.used, tree.members, tree.escaped = message.used, set(message.members), message.escaped
        elif isinstance(message, wire.Ended):
            self._registry.ended(tree, message.record)

    def end(self, tree: Tree, reason: str, victim: bool = False) -> bool:
        if tree.writer is None:
            return False
        self._send(tree.writer, wire.End(reason=reason, victim=victim))
        return True

    def restore(self, tree: Tree) -> None:
        self._gate.restore(restore_of(tree.intent, tree.used or 0, time.monotonic()))

    # -- out -----------------------------------------------------------------------------------------------

    def _refuse(self, writer: asyncio.StreamWriter, code: int, error: str) -> None:
        self._send(writer, wire.Refused(code=code, error=error))

    @staticmethod
    def _send(writer: asyncio.StreamWriter, message: wire.FromDaemon) -> None:
        if not writer.is_closing():
            writer.write(wire.line(message))


def _let_go(line: asyncio.Future[bytes]) -> None:
    """Whatever it brings, or has brought: a client that is killed with unread words of ours leaves an error here."""
    line.cancel()
    line.add_done_callback(lambda done: done.cancelled() or done.exception())
