"""What happens to trees, as typed events, and the bus that hands each to its subscribers.

The journal, ``/events`` and admission are subscribers: who publishes knows none of them.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, ClassVar, Literal, TypeVar

import msgspec

from oomless.daemon.logs import Log
from oomless.errors import JournalError
from oomless.journal.decisions import Decision
from oomless.journal.journal import Journal
from oomless.protocol.views import EventView

#: Events that a slow reader of ``/events`` may be behind; then the oldest are dropped.
QUEUED = 256

Verdict = Literal["admitted", "waiting", "refused", "withdrawn"]


class DaemonEvent(msgspec.Struct, frozen=True, kw_only=True):
    """``at`` is seconds since the epoch. ``kind`` is how readers of ``/events`` know it."""

    kind: ClassVar[str]
    reason: str
    at: float = msgspec.field(default_factory=time.time)

    @property
    def text(self) -> str:
        return self.reason


class MemoryWarning(DaemonEvent, frozen=True, kw_only=True):
    """The trees together use almost all that they may."""

    kind: ClassVar[str] = "pressure"


class TreeEvent(DaemonEvent, frozen=True, kw_only=True):
    """``tree`` is the id of a tree, slot or subagent, or of a request for one."""

    tree: str
    name: str


class TreeEnded(TreeEvent, frozen=True, kw_only=True):
    """Nothing of it is reserved any more, and its end is in the journal."""

    kind: ClassVar[str] = "end"


class VictimChosen(TreeEvent, frozen=True, kw_only=True):
    """The tree is killed because too much memory is in use by all of them."""

    kind: ClassVar[str] = "victim"


class TreeDecision(TreeEvent, frozen=True, kw_only=True):
    kind: ClassVar[str] = "decision"
    verdict: ClassVar[Verdict]

    @property
    def text(self) -> str:
        return f"{self.verdict}: {self.reason}"


class TreeAdmitted(TreeDecision, frozen=True, kw_only=True):
    verdict: ClassVar[Verdict] = "admitted"


class TreeWaiting(TreeDecision, frozen=True, kw_only=True):
    """Published again when the reason changes."""

    verdict: ClassVar[Verdict] = "waiting"


class TreeRefused(TreeDecision, frozen=True, kw_only=True):
    verdict: ClassVar[Verdict] = "refused"


class TreeWithdrawn(TreeDecision, frozen=True, kw_only=True):
    """The requester is gone, or does not use what was admitted."""

    verdict: ClassVar[Verdict] = "withdrawn"


_E = TypeVar("_E", bound=DaemonEvent)


class EventBus:
    def __init__(self) -> None:
        self._handlers: list[tuple[type[DaemonEvent], Callable[[Any], None]]] = []

    def subscribe(self, kind: type[_E], handler: Callable[[_E], None]) -> None:
        """``handler`` is called with each event of that class or a subclass, in the order of the subscriptions."""
        self._handlers.append((kind, handler))

    def publish(self, event: DaemonEvent) -> None:
        """Returns when all subscribers have been called."""
        for kind, handler in self._handlers:
            if isinstance(event, kind):
                handler(event)


class EventStream:
    """The subscriber behind ``/events``: a bounded queue for each reader."""

    def __init__(self, bus: EventBus) -> None:
        self._queues: set[asyncio.Queue[EventView]] = set()
        bus.subscribe(DaemonEvent, self._send)

    def open(self) -> asyncio.Queue[EventView]:
        queue: asyncio.Queue[EventView] = asyncio.Queue(QUEUED)
        self._queues.add(queue)
        return queue

    def close(self, queue: asyncio.Queue[EventView]) -> None:
        self._queues.discard(queue)

    def _send(self, event: DaemonEvent) -> None:
        if not self._queues:
            return
        tree, name = (event.tree, event.name) if isinstance(event, TreeEvent) else ("", "")
        view = EventView(
            at=event.at,
            kind=event.kind,
            tree=tree,
            name=name,
            text=event.text,
        )
        for queue in self._queues:
            with suppress(asyncio.QueueEmpty):
                if queue.full():
                    queue.get_nowait()
            queue.put_nowait(view)


def record_decisions(bus: EventBus, journal: Journal, log: Log) -> None:
    """Every decision goes to the journal."""

    def record(event: TreeDecision) -> None:
        decision = Decision(at=event.at, tree=event.tree, name=event.name, verdict=event.verdict, reason=event.reason)
        try:
            journal.decisions.add(decision)
        except JournalError as error:  # the decision stands; only its history is lost
            log.error(error.line(), tree=event.tree)

    bus.subscribe(TreeDecision, record)
