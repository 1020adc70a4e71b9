"""Admission with a clock and eyes: feeds ``admission.step`` with requests, samples and time, and hands its answers
to those who wait.

Covers: the sampling of memory (once a second, and only while something runs or waits), deadlines, the settings as
they change. Does not cover: the rules (``admission/``), connections (``leases.py``), trees (``registry.py``).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from oomless.admission import events
from oomless.admission.explain import Explanation, Totals, explain, totals
from oomless.admission.machine import initial, next_deadline, step
from oomless.config import Watched
from oomless.daemon.trees.limits import policy
from oomless.platform.base import Platform

SAMPLE_EVERY = 1.0
#: So often when all trees together are near what they may use.
SAMPLE_OFTEN = 0.25
#: A burst of requests shares one sample: reservations, not samples, tell its members apart.
FRESH_FOR = 0.05


class Request:
    """One ask on its way: ``answer`` is set once, ``tell`` hears why it waits. ``ceiling`` is read anew with each
    sample: the headroom above the requester, less what its project wants free."""

    def __init__(self, ask: events.Ask, ceiling: Callable[[int], int | None], tell: Callable[[events.Wait], None]):
        self.ask = ask
        self.ceiling = ceiling
        self.tell = tell
        self.answer: asyncio.Future[events.Admit | events.Refuse] = asyncio.get_running_loop().create_future()


def ceiling(headroom: Callable[[], int | None], extra: int) -> Callable[[int], int | None]:
    """What one requester may count on when so much is available: no more than is left under the limits above it
    (``headroom``), and less what its project wants free beyond the user's own headroom (``extra``)."""

    def figure(available: int) -> int | None:
        bounds = [b for b in (headroom(), available if extra else None) if b is not None]
        return min(bounds) - extra if bounds else None

    return figure


class Gate:
    """``usage`` yields (id, bytes) of everything that is held, parents before what is nested in them."""

    def __init__(self, platform: Platform, settings: Watched, usage: Callable[[], list[tuple[str, int]]]) -> None:
        self._platform = platform
        self._settings = settings
        self._usage = usage
        self.memory = platform.memory()
        self._policy = policy(settings.current(), self.memory.total_bytes)
        self._state = initial(self._policy, self.memory.available_bytes, time.monotonic())
        #: Called with each sample; True: the next one should come soon.
        self.sampled: Callable[[], bool] = lambda: False
        self._near = False
        self._requests: dict[str, Request] = {}
        self._sampled = 0.0
        self._closed = False
        self._sampler: asyncio.TimerHandle | None = None
        self._deadline: asyncio.TimerHandle | None = None

    # -- in ------------------------------------------------------------------------------------------------

    def ask(self, request: Request) -> None:
        self.sample()
        self._requests[request.ask.id] = request
        self._feed(request.ask)

    def withdraw(self, id: str) -> None:
        """Whoever waited is gone."""
        if self._requests.pop(id, None) is not None:
            self._feed(events.Withdraw(id=id))

    def restore(self, event: events.Restore) -> None:
        self._feed(event)

    def end(self, id: str) -> None:
        """What a tree held is free again; a fresh sample lets the next one in on the spot."""
        self._feed(events.End(id=id, at=time.monotonic()))
        self._sampled = 0.0
        self.sample()

    def sample(self) -> None:
        """Settings, use and available memory as they are now (at most 50 ms old)."""
        now = time.monotonic()
        if self._closed or now - self._sampled < FRESH_FOR:
            return
        self._sampled = now
        self.memory = self._platform.memory()
        wanted = policy(self._settings.current(), self.memory.total_bytes)
        if wanted != self._policy:
            self._policy = wanted
            self._feed(events.Configure(policy=wanted))
        for id, used in self._usage():
            self._feed(events.Use(id=id, used=used))
        available = self.memory.available_bytes
        found = {id: request.ceiling(available) for id, request in self._requests.items()}
        ceilings = {id: ceiling for id, ceiling in found.items() if ceiling is not None}
        self._feed(events.Observe(available=available, at=now, ceilings=ceilings))
        self._near = self.sampled()

    # -- out -----------------------------------------------------------------------------------------------

    def explain(self) -> tuple[Explanation, ...]:
        return explain(self._state)

    def totals(self) -> Totals:
        return totals(self._state)

    def close(self) -> None:
        """Nobody is let in any more, whatever ends from now on."""
        self._closed = True
        for timer in (self._sampler, self._deadline):
            if timer is not None:
                timer.cancel()
        self._sampler = self._deadline = None

    def _feed(self, event: events.Event) -> None:
        if self._closed:
            return
        self._state, actions = step(self._state, event)
        for action in actions:
            request = self._requests.get(action.id)
            if request is None:
                continue
            if isinstance(action, events.Wait):
                request.tell(action)
            else:
                del self._requests[action.id]
                if not request.answer.done():
                    request.answer.set_result(action)
        self._arm()

    def _arm(self) -> None:
        """Timers only while there is something to time: an idle daemon does not wake up."""
        loop = asyncio.get_running_loop()
        busy = bool(self._state.held or self._state.queue)
        if busy and self._sampler is None:
            self._sampler = loop.call_later(SAMPLE_OFTEN if self._near else SAMPLE_EVERY, self._tick)
        elif not busy and self._sampler is not None:
            self._sampler.cancel()
            self._sampler = None
        due = next_deadline(self._state)
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        if due is not None:
            self._deadline = loop.call_later(max(0.0, due - time.monotonic()), self._overdue)

    def _tick(self) -> None:
        self._sampler = None
        self.sample()
        self._arm()

    def _overdue(self) -> None:
        self._deadline = None
        self._feed(events.Tick(at=time.monotonic()))
