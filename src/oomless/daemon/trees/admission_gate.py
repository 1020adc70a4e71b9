"""Admission with a clock: feeds ``admission.step`` with requests, samples and time, and passes its answers on.

Memory is sampled once a second, and only while something runs or waits. The settings are read again when they change.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from oomless.admission import events
from oomless.admission.explain import Explanation, Totals, explain, sum_totals
from oomless.admission.machine import initial, next_deadline, step
from oomless.config import LiveSettings
from oomless.daemon.trees.limits import EffectiveLimits, policy_of
from oomless.platform.base import Platform

SAMPLE_EVERY = 1.0
#: So often when all trees together are near what they may use.
SAMPLE_OFTEN = 0.25
#: A burst of requests shares one sample: reservations, not samples, tell its members apart.
FRESH_FOR = 0.05


class PendingRequest:
    """``answer`` is set once; ``on_wait`` is called with each new reason why the request waits. ``requester`` is the
    pid under whose memory limits the request has to fit, if it is known; ``extra_headroom`` as in
    ``EffectiveLimits``."""

    def __init__(
        self, ask: events.Ask, requester: int | None, extra_headroom: int, on_wait: Callable[[events.Wait], None]
    ) -> None:
        self.ask = ask
        self.requester = requester
        self.extra_headroom = extra_headroom
        self.on_wait = on_wait
        self.answer: asyncio.Future[events.Admit | events.Refuse] = asyncio.get_running_loop().create_future()


class AdmissionGate:
    """``read_usage`` returns (id, bytes) of everything admitted, parents before what is nested in them."""

    def __init__(
        self, platform: Platform, settings: LiveSettings, read_usage: Callable[[], list[tuple[str, int]]]
    ) -> None:
        self._platform = platform
        self._settings = settings
        self._read_usage = read_usage
        self.memory = platform.memory()
        self._policy = policy_of(settings.current(), self.memory.total_bytes)
        self._state = initial(self._policy, self.memory.available_bytes, time.monotonic())
        #: Called with each sample; True: the next one should come soon.
        self.sampled: Callable[[], bool] = lambda: False
        self._near = False
        self._requests: dict[str, PendingRequest] = {}
        self._sampled = 0.0
        self._closed = False
        self._sampler: asyncio.TimerHandle | None = None
        self._deadline: asyncio.TimerHandle | None = None

    # -- in ------------------------------------------------------------------------------------------------

    def request(
        self,
        id: str,
        limits: EffectiveLimits,
        *,
        prior: int,
        requester: int | None,
        on_wait: Callable[[events.Wait], None],
    ) -> PendingRequest:
        """``prior``: bytes to reserve where ``limits`` declare no need. May be answered before this returns."""
        self.sample()
        now = time.monotonic()
        ask = events.Ask(
            id=id,
            terms=limits.terms,
            prior=prior,
            ceiling=self._ceiling(requester, limits.extra_headroom),
            deadline=now + limits.wait,
            at=now,
        )
        request = self._requests[id] = PendingRequest(ask, requester, limits.extra_headroom, on_wait)
        self._feed(ask)
        return request

    def _ceiling(self, requester: int | None, extra_headroom: int) -> int | None:
        """What one requester may count on: no more than is left under the memory limits above it, and less what its
        project wants to stay available beyond the user's own headroom."""
        above = self._platform.headroom(requester) if requester is not None else None
        bounds = [b for b in (above, self.memory.available_bytes if extra_headroom else None) if b is not None]
        return min(bounds) - extra_headroom if bounds else None

    def withdraw(self, id: str) -> None:
        """The requester is gone."""
        if self._requests.pop(id, None) is not None:
            self._feed(events.Withdraw(id=id))

    def restore(self, event: events.Restore) -> None:
        self._feed(event)

    def end(self, id: str) -> None:
        """The reservation is free again; a fresh sample admits the next request at once."""
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
        wanted = policy_of(self._settings.current(), self.memory.total_bytes)
        if wanted != self._policy:
            self._policy = wanted
            self._feed(events.Configure(policy=wanted))
        for id, used in self._read_usage():
            self._feed(events.Use(id=id, used=used))
        measured = {id: self._ceiling(one.requester, one.extra_headroom) for id, one in self._requests.items()}
        ceilings = {id: ceiling for id, ceiling in measured.items() if ceiling is not None}
        available = self.memory.available_bytes
        self._feed(events.Observe(available=available, at=now, ceilings=ceilings))
        self._near = self.sampled()

    # -- out -----------------------------------------------------------------------------------------------

    def explain(self) -> tuple[Explanation, ...]:
        return explain(self._state)

    def totals(self) -> Totals:
        return sum_totals(self._state)

    def close(self) -> None:
        """Nothing is admitted any more, whatever ends from now on."""
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
                request.on_wait(action)
            else:
                del self._requests[action.id]
                if not request.answer.done():
                    request.answer.set_result(action)
        self._arm()

    def _arm(self) -> None:
        """Timers only while there is something to time: an idle daemon does not wake up."""
        loop = asyncio.get_running_loop()
        busy = bool(self._state.reservations or self._state.queue)
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
