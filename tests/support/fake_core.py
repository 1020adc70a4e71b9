"""A backend without leases, for tests of the surfaces around it."""

from __future__ import annotations

import asyncio

from oomless.daemon.message import Handler
from oomless.model import MachineMemory
from oomless.protocol.reap_views import ReapAnswer, ReapRequest
from oomless.protocol.views import EventView, Registration, StatusView, TreeView

TREE = TreeView(
    tree="t1", name="a b/c", owner="run", state="running", reserved_bytes=5, seconds=1.5, pid=7, class_name="x"
)


class FakeCore:
    def __init__(self) -> None:
        self.leases: list[tuple[int, bytes]] = []
        self.ended: list[tuple[str, str]] = []
        self.queues: list[asyncio.Queue[EventView]] = []
        self.unsubscribed = asyncio.Event()
        self.registered: list[Registration] = []

    async def start(self) -> None:
        pass

    async def stop(self) -> None:
        pass

    async def lease(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, peer_pid: int) -> None:
        line = await reader.readline()
        self.leases.append((peer_pid, line))
        writer.write(b"seen " + line)
        await writer.drain()

    async def status(self) -> StatusView:
        return StatusView(pid=1, memory=MachineMemory(total_bytes=2, available_bytes=1), trees=(TREE,))

    def tree(self, id_or_name: str) -> TreeView | None:
        return TREE if id_or_name in (TREE.tree, TREE.name) else None

    async def end(self, id_or_name: str, reason: str) -> bool:
        self.ended.append((id_or_name, reason))
        return self.tree(id_or_name) is not None

    def open_trees(self) -> int:
        return 1

    def hooks(self) -> dict[str, Handler]:
        return {}

    def register(self, asked: Registration) -> bool:
        self.registered.append(asked)
        return asked.pid == TREE.pid

    async def reap(self, asked: ReapRequest) -> ReapAnswer:
        return ReapAnswer()

    def subscribe(self) -> asyncio.Queue[EventView]:
        self.queues.append(asyncio.Queue())
        return self.queues[-1]

    def unsubscribe(self, queue: asyncio.Queue[EventView]) -> None:
        self.queues.remove(queue)
        self.unsubscribed.set()
