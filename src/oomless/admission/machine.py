"""``step``: one event in, the next state and the actions out.

The queue: oldest first, younger requests that fit may go ahead, none ahead of one that has waited too long.
ValueError for an id that is known already. Unknown ids are no error: ends and withdrawals cross with admissions on
their way.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec.structs import replace

from oomless.admission.events import (
    Action,
    Admit,
    Ask,
    Configure,
    End,
    Event,
    Observe,
    Policy,
    Refuse,
    Restore,
    Tick,
    Use,
    Wait,
    Withdraw,
)
from oomless.admission.explain import admission_reason, refusal, wait_reason
from oomless.admission.ledger import Ledger
from oomless.admission.policy import Room, above_mark, excused, failures, impossible
from oomless.admission.state import Block, Reservation, State, Waiting

#: The command contract's code for "refused for lack of memory".
REFUSED = 75


def initial(policy: Policy, available: int, at: float = 0.0) -> State:
    """Nothing reserved, no request waiting."""
    return State(policy=policy, available=available, now=at)


def step(state: State, event: Event) -> tuple[State, tuple[Action, ...]]:
    work = _Work(state, getattr(event, "at", None))
    if _TAKE[type(event)](work, event):
        work.drain_queue()
    return work.state(), tuple(work.actions)


def next_deadline(state: State) -> float | None:
    """When a ``Tick`` is due at the latest."""
    return min((w.ask.deadline for w in state.queue if w.ask.deadline is not None), default=None)


class _Work:
    """A copy of a state in the course of being changed by one event."""

    def __init__(self, state: State, at: float | None) -> None:
        self.before = state
        self.policy, self.available, self.grown = state.policy, state.available, state.grown
        self.full = state.full
        self.now = state.now if at is None else max(state.now, at)
        self.reservations = state.reservations
        self.queue = list(state.queue)
        self.actions: list[Action] = []

    def state(self) -> State:
        return State(
            policy=self.policy,
            available=self.available,
            grown=self.grown,
            full=self.full,
            now=self.now,
            reservations=self.reservations,
            queue=tuple(self.queue),
        )

    # Events: each returns whether a request may fit now or has to be sent a new reason.

    def ask(self, event: Ask) -> bool:
        if event.id in self.reservations or any(w.ask.id == event.id for w in self.queue):
            raise ValueError(f"the id {event.id!r} is known already")
        # An asker's ceiling is measured now, the other figures were at the last observation.
        ceiling = None if event.ceiling is None else event.ceiling + self.grown
        self.queue.append(Waiting(ask=event, ceiling=ceiling))
        return True

    def withdraw(self, event: Withdraw) -> bool:
        count = len(self.queue)
        self.queue = [w for w in self.queue if w.ask.id != event.id]
        return len(self.queue) < count

    def restore(self, event: Restore) -> bool:
        if any(w.ask.id == event.id for w in self.queue):
            raise ValueError(f"the id {event.id!r} is waiting and cannot be restored")
        if event.id not in self.reservations:
            self.reserve(
                Reservation(
                    id=event.id,
                    terms=event.terms,
                    reserved=event.reserved,
                    used=event.used,
                    takes_place=event.takes_place,
                    since=self.now,
                    reason=event.reason,
                )
            )
        return True

    def use(self, event: Use) -> bool:
        old = self.reservations.get(event.id)
        if old is None or old.used == event.used:
            return False
        if old.terms.parent not in self.reservations:
            self.grown += max(0, event.used - old.used)
        self.reservations = {**self.reservations, event.id: replace(old, used=event.used)}
        # Growth makes room for no request, and is most of what is reported.
        return event.used < old.used

    def end(self, event: End) -> bool:
        if event.id in self.reservations:
            self.reservations = {id: r for id, r in self.reservations.items() if id != event.id}
        return True

    def observe(self, event: Observe) -> bool:
        self.available = event.available
        self.queue = [self._observed(w, event.ceilings) for w in self.queue]
        self.grown = 0
        return True

    def _observed(self, waiting: Waiting, ceilings: dict[str, int]) -> Waiting:
        old = waiting.ceiling
        new = ceilings.get(waiting.ask.id, None if old is None else old - self.grown)
        return waiting if new == old else replace(waiting, ceiling=new)

    def configure(self, event: Configure) -> bool:
        self.policy = event.policy
        return True

    def tick(self, event: Tick) -> bool:
        return True

    # The queue

    def drain_queue(self) -> None:
        """Admits all that may start, refuses what cannot wait longer, and sends the others their reason."""
        self.full = above_mark(Ledger(self.reservations), self.policy, self.full)
        if not self.queue:
            return
        self._refuse_where(lambda w: impossible(self.policy, w.ask))
        while True:
            while self._admit_all(excuse=False) or self._admit_all(excuse=True):
                pass
            # A request that leaves the queue may have been in the way of others: admit again.
            if not self._refuse_where(lambda w: w.block if self._expired(w.ask) else None):
                break
        self._send_reasons()

    def reserve(self, reservation: Reservation) -> None:
        """A parent that is nested in it (two restored in a circle) does not count as its parent."""
        id, outer = reservation.id, reservation.terms.parent
        while outer is not None and outer != id:
            outer = self.reservations[outer].terms.parent if outer in self.reservations else None
        if outer == id:
            reservation = replace(reservation, terms=replace(reservation.terms, parent=None))
        self.reservations = {**self.reservations, id: reservation}

    def _expired(self, ask: Ask) -> bool:
        return ask.deadline is not None and ask.deadline <= self.now

    def _admit_all(self, *, excuse: bool) -> bool:
        """One pass over the queue, oldest first. With ``excuse``, nested requests are admitted where every tree waits
        for a nested one; that comes second, so that it is not used while another of them would have fitted."""
        if excuse and all(w.ask.terms.parent not in self.reservations for w in self.queue):
            return False
        ledger, closed, left = Ledger(self.reservations), dict[str, Waiting](), list[Waiting]()
        waited_in = self._waited_in(ledger, left, self.queue) if excuse else None
        for place, waiting in enumerate(self.queue):
            ask, room = waiting.ask, self._room(waiting)
            nested = ask.terms.parent in self.reservations
            failed = list(failures(ledger, self.policy, ask, room, self.full))
            block = next((b for b in failed if not excused(ledger, ask, b, waited_in)), None)
            if block is None and not nested:
                block = self._turn(waiting, closed, ledger)
            if block is None:
                self._admit(waiting, admission_reason(ledger, self.policy, ask, room, failed))
                ledger = Ledger(self.reservations)
                waited_in = self._waited_in(ledger, left, self.queue[place + 1 :]) if excuse else None
                continue
            if block.kind != "turn" and self.now - ask.at >= self.policy.starvation:
                closed.setdefault(block.scope, waiting)
            left.append(waiting if waiting.block == block else replace(waiting, block=block))
        admitted = len(left) < len(self.queue)
        self.queue = left
        return admitted

    def _room(self, waiting: Waiting) -> Room:
        ceiling = waiting.ceiling
        return Room(self.available - self.grown, None if ceiling is None else ceiling - self.grown)

    def _turn(self, waiting: Waiting, closed: dict[str, Waiting], ledger: Ledger) -> Block | None:
        """The older one that has waited too long to be passed by this one, if there is one in its way."""
        for scope in ("machine", f"group {waiting.ask.terms.group}", "ceiling"):
            first = closed.get(scope)
            if first is not None and (scope != "ceiling" or waiting.ceiling is not None):
                group = waiting.ask.terms.group if scope.startswith("group") else None
                return Block(
                    kind="turn",
                    group=group,
                    charge=waiting.ask.need,
                    holders=ledger.sums(group).holders,
                    first=first.ask.id,
                    first_name=first.ask.terms.name,
                )
        return None

    def _waited_in(self, ledger: Ledger, *queues: list[Waiting]) -> frozenset[str]:
        """The trees in which a request waits and will go on waiting."""
        parents = {w.ask.terms.parent for queue in queues for w in queue if not self._expired(w.ask)}
        return frozenset(node.reservation.id for parent in parents for node in ledger.ancestors(parent))

    def _admit(self, waiting: Waiting, why: str) -> None:
        ask = waiting.ask
        self.reserve(
            Reservation(
                id=ask.id,
                terms=ask.terms,
                reserved=ask.need,
                since=self.now,
                reason=why,
            )
        )
        self.actions.append(Admit(id=ask.id, reserved=ask.need, reason=why))

    def _refuse_where(self, blocked: Callable[[Waiting], Block | None]) -> bool:
        left = []
        for waiting in self.queue:
            ask, block = waiting.ask, blocked(waiting)
            if block is None:
                left.append(waiting)
                continue
            why = wait_reason(block, ask, self.policy)
            error = refusal(block, ask, self.policy, self.now - ask.at)
            self.actions.append(
                Refuse(
                    id=ask.id,
                    code=REFUSED,
                    error=error.summary(),
                    hint=error.hint,
                    reason=why,
                    never=block.kind == "never",
                )
            )
        refused = len(left) < len(self.queue)
        self.queue = left
        return refused

    def _send_reasons(self) -> None:
        for place, waiting in enumerate(self.queue):
            block = waiting.block
            if block is not None and waiting.sent != block.key():
                self.queue[place] = replace(waiting, sent=block.key())
                why = wait_reason(block, waiting.ask, self.policy)
                self.actions.append(Wait(id=waiting.ask.id, reason=why, ahead=place, holders=block.holders))


_TAKE: dict[type, Callable[[_Work, Any], bool]] = {
    Ask: _Work.ask,
    Withdraw: _Work.withdraw,
    Restore: _Work.restore,
    Use: _Work.use,
    End: _Work.end,
    Observe: _Work.observe,
    Configure: _Work.configure,
    Tick: _Work.tick,
}
