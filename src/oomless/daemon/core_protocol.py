"""All that the surfaces (HTTP, leases) know of the daemon's core."""

from __future__ import annotations

import asyncio
from typing import Protocol

from oomless.daemon.message import Handler
from oomless.protocol.reap_views import ReapAnswer, ReapRequest
from oomless.protocol.views import EventView, Registration, StatusView, TreeView


class CoreProtocol(Protocol):
    """Leases, trees and admission (``core.py``), as far as the surfaces use them."""

    async def start(self) -> None: ...

    async def stop(self) -> None:
        """Leaves the trees alone; they adopt themselves to the next daemon. Also called after a failed start."""
        ...

    async def lease(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, peer_pid: int) -> None:
        """Serves one lease connection to its end; nothing of it has been consumed."""
        ...

    def status(self) -> StatusView: ...

    def tree(self, id_or_name: str) -> TreeView | None: ...

    async def end(self, id_or_name: str, reason: str) -> bool:
        """False if there is no such open tree."""
        ...

    def open_trees(self) -> int: ...

    def hooks(self) -> dict[str, Handler]:
        """Who takes the hooks of each host."""
        ...

    def register(self, asked: Registration) -> bool:
        """False if the session's process is gone."""
        ...

    async def reap(self, asked: ReapRequest) -> ReapAnswer:
        """Returns when nobody of those that may be ended is left, or after some seconds."""
        ...

    def subscribe(self) -> asyncio.Queue[EventView]:
        """Bounded; the oldest is dropped when nobody takes them."""
        ...

    def unsubscribe(self, queue: asyncio.Queue[EventView]) -> None: ...
