"""Reasons and tables for people: why a request waits, was admitted or refused, and the rows of ``status --why``."""

from __future__ import annotations

from typing import Literal

import msgspec

from oomless.admission.events import Ask, Holder, Policy
from oomless.admission.ledger import Ledger
from oomless.admission.policy import Room
from oomless.admission.state import Block, Reservation, State, Waiting
from oomless.errors import Refused
from oomless.model import Terms
from oomless.units import format_duration, format_size

_NAMED = 4


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """One open tree or waiting request, in bytes. ``need`` is what it asked for, ``expected`` what an open tree and
    all nested in it count for, ``since`` when it was admitted or asked."""

    id: str
    terms: Terms
    state: Literal["running", "waiting"]
    need: int
    reserved: int
    used: int
    expected: int
    since: float
    ahead: int = 0
    reason: str
    holders: tuple[Holder, ...] = ()


class Totals(msgspec.Struct, frozen=True, kw_only=True):
    """``reserved_bytes`` (the larger of reservation and use of each) counts against ``budget``, ``growth_bytes``
    (reserved and not yet used) against ``available - headroom``, ``places`` against ``max_parallel``."""

    running: int
    waiting: int
    places: int
    max_parallel: int | None
    reserved_bytes: int
    growth_bytes: int
    used_bytes: int
    budget: int | None
    available: int
    headroom: int


def explain(state: State, id: str | None = None) -> tuple[Explanation, ...]:
    """All open trees, oldest first, then all waiting requests, in their order; or just that id (empty: unknown)."""
    ledger = Ledger(state.reservations)
    reservations = sorted(state.reservations.values(), key=lambda reservation: reservation.since)
    rows = [_explain_running(ledger, r) for r in reservations if id in (None, r.id)]
    rows += [_explain_waiting(state, w, n) for n, w in enumerate(state.queue) if id in (None, w.ask.id)]
    return tuple(rows)


def sum_totals(state: State) -> Totals:
    sums = Ledger(state.reservations).sums()
    return Totals(
        running=len(state.reservations),
        waiting=len(state.queue),
        places=sums.places,
        max_parallel=state.policy.max_parallel,
        reserved_bytes=sums.expected,
        growth_bytes=sums.growth,
        used_bytes=sums.used,
        budget=state.policy.budget,
        available=state.available - state.grown,
        headroom=state.policy.headroom,
    )


def admission_reason(ledger: Ledger, policy: Policy, ask: Ask, room: Room, failed: list[Block]) -> str:
    """Why it may start; ``failed`` are the inequalities that it was excused from."""
    sums, around = ledger.sums(), ledger.ancestors(ask.terms.parent)
    charge = ledger.charge(ask, around).bytes
    alone = next((block for block in failed if not ledger.sums(block.group).members), None)
    if alone is not None and alone.holders:
        return "only tool shells and servers are running, so one tree may start"
    if alone is not None:
        return f"nothing {'else' if alone.group is None else 'of its group'} is running, so one may start"
    if failed:
        return "every running tree waits for a nested one, so one may start"
    if around and charge == 0:
        return f"fits in the reservation of '{around[0].reservation.terms.name}'"
    if policy.budget is not None:
        left = format_size(policy.budget - sums.expected - charge)
        return f"reserved {format_size(charge)}, {left} of {format_size(policy.budget)} budget left"
    left = format_size(max(0, room.available - policy.headroom - sums.growth - charge))
    return f"reserved {format_size(charge)}, {left} of memory left"


def wait_reason(block: Block, ask: Ask, policy: Policy) -> str:
    """One sentence with the exact sums and who has reserved them."""
    if block.kind in ("never", "turn"):
        return _shortage(block, ask, policy)
    if block.kind == "count":
        return f"{_shortage(block, ask, policy)}: {_list_holders(block, ask)}"
    if block.kind == "mark":
        return f"{_shortage(block, ask, policy)}, used by {_list_holders(block, ask)}"
    sums = ""
    if block.kind in ("available", "ceiling"):
        where = "available" if block.kind == "available" else "left under its own memory limit"
        headroom, growth = format_size(block.headroom), format_size(block.taken)
        sums = f" ({format_size(block.total)} {where}, {headroom} headroom, {growth} reserved and not yet used)"
    return f"{_shortage(block, ask, policy)}{sums}, reserved by {_list_holders(block, ask)}"


def refusal(block: Block, ask: Ask, policy: Policy, waited: float) -> Refused:
    """The exact sums are in ``wait_reason``, for ``status --why``."""
    name, why = ask.terms.name, _shortage(block, ask, policy)
    if block.kind == "never":
        return Refused(f"'{name}' can never run", why, "declare less, or raise the budget")
    what = f"not enough memory for '{name}'"
    if block.kind == "count":
        what = f"no place for '{name}'"
    elif block.kind == "turn":
        what = f"not yet the turn of '{name}'"
    hint = "wait with --wait 10m"
    if ask.deadline is not None and ask.deadline > ask.at:
        what += f" after {format_duration(waited)}"
        hint = "wait longer with --wait"
    if block.holders and block.kind != "turn":
        largest, others = block.holders[0], len(block.holders) - 1
        more = f" ({others} other{'s run' if others > 1 else ' runs'} too)" if others else ""
        verb = "runs with" if block.kind == "count" else "uses" if block.kind == "mark" else "has reserved"
        hint = f"'{largest.name}' {verb} {format_size(largest.bytes)}{more}; {hint}"
    return Refused(what, why, hint)


def _shortage(block: Block, ask: Ask, policy: Policy) -> str:
    """What is missing, in short."""
    group = "" if block.group is None else " of its group"
    if block.kind == "never":
        return f"needs {format_size(block.charge)}, the budget{group} is {format_size(block.total)}"
    if block.kind == "turn":
        return f"'{block.first_name}' has waited longer than {format_duration(policy.starvation)} and goes first"
    if block.kind == "count":
        return f"{block.taken} of {block.total} places{group} taken"
    if block.kind == "mark":
        used, most, budget = (format_size(size) for size in (block.taken, block.total, policy.budget or 0))
        return f"{used} of {budget} budget in use, nothing starts above {most}"
    need = f"needs {format_size(ask.need)}"
    if block.charge < ask.need:
        need += f" ({format_size(block.charge)} more than its parent has left)"
    left = format_size(max(0, block.total - block.headroom - block.taken))
    if block.kind == "budget":
        return f"{need}, {left} of {format_size(block.total)} budget{group} left"
    return f"{need}, {left} free"


def _list_holders(block: Block, ask: Ask) -> str:
    named = [
        f"{h.name} ({format_size(h.bytes)}{', its own parent' if h.id == ask.terms.parent else ''})"
        for h in block.holders[:_NAMED]
    ]
    more = len(block.holders) - len(named)
    return ", ".join(named) + (f" and {more} more" if more else "")


def _explain_running(ledger: Ledger, reservation: Reservation) -> Explanation:
    return Explanation(
        id=reservation.id,
        terms=reservation.terms,
        state="running",
        need=reservation.reserved,
        reserved=reservation.reserved,
        used=reservation.used,
        expected=ledger.nodes[reservation.id].expected,
        since=reservation.since,
        reason=reservation.reason,
    )


def _explain_waiting(state: State, waiting: Waiting, ahead: int) -> Explanation:
    ask, block = waiting.ask, waiting.block
    return Explanation(
        id=ask.id,
        terms=ask.terms,
        state="waiting",
        need=ask.need,
        reserved=0,
        used=0,
        expected=0,
        since=ask.at,
        ahead=ahead,
        reason="" if block is None else wait_reason(block, ask, state.policy),
        holders=() if block is None else block.holders,
    )
