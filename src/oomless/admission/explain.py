"""Words and tables for people: why one waits, was admitted or refused, and what ``status --why`` shows.

Standard form of a refusal: ``oomless: <what>; <why>; <what to do>``. Nothing is decided here.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from oomless.admission.events import Ask, Holder, Policy
from oomless.admission.ledger import Ledger
from oomless.admission.policy import Room
from oomless.admission.state import Block, Held, State, Waiting
from oomless.errors import Refused
from oomless.model import Terms
from oomless.units import format_duration, format_size

_NAMED = 4


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """One held or waiting id. ``need`` is what it asked for, ``expected`` what it and all nested in it count for
    (held ones), ``since`` when it was admitted or asked."""

    id: str
    terms: Terms
    state: Literal["held", "waiting"]
    need: int
    reserved: int
    used: int
    expected: int
    since: float
    ahead: int = 0
    reason: str
    holders: tuple[Holder, ...] = ()


class Totals(msgspec.Struct, frozen=True, kw_only=True):
    """``held_bytes`` counts against ``budget``, ``growth_bytes`` (promised and not yet used) against
    ``available - headroom``, ``places`` against ``max_parallel``."""

    held: int
    waiting: int
    places: int
    max_parallel: int | None
    held_bytes: int
    growth_bytes: int
    used_bytes: int
    budget: int | None
    available: int
    headroom: int


def explain(state: State, id: str | None = None) -> tuple[Explanation, ...]:
    """All that is held, oldest first, then all that waits, in its order; or just that id (empty: unknown)."""
    ledger = Ledger(state.held)
    held = sorted(state.held.values(), key=lambda one: one.since)
    rows = [_held(ledger, one) for one in held if id in (None, one.id)]
    rows += [_waiting(state, w, n) for n, w in enumerate(state.queue) if id in (None, w.ask.id)]
    return tuple(rows)


def totals(state: State) -> Totals:
    sums = Ledger(state.held).sums()
    return Totals(
        held=len(state.held),
        waiting=len(state.queue),
        places=sums.places,
        max_parallel=state.policy.max_parallel,
        held_bytes=sums.expected,
        growth_bytes=sums.growth,
        used_bytes=sums.used,
        budget=state.policy.budget,
        available=state.available - state.grown,
        headroom=state.policy.headroom,
    )


def admission(ledger: Ledger, policy: Policy, ask: Ask, room: Room, failed: list[Block]) -> str:
    """Why it may start; ``failed`` are the inequalities that it was excused from."""
    sums, around = ledger.sums(), ledger.ancestors(ask.terms.parent)
    charge = ledger.charge(ask, around).bytes
    alone = next((block for block in failed if not ledger.sums(block.group).members), None)
    if alone is not None and alone.holders:
        return "only tool shells and servers are held, so one may start"
    if alone is not None:
        return f"nothing {'else is held' if alone.group is None else 'of its group is held'}, so one may start"
    if failed:
        return "everything that is held waits for a nested one, so one may start"
    if around and charge == 0:
        return f"it fits in the reservation of '{around[0].held.terms.name}'"
    if policy.budget is not None:
        free = policy.budget - sums.expected - charge
        return (
            f"{format_size(charge)} fit, {format_size(free)} of the budget of {format_size(policy.budget)} stay free"
        )
    free = room.available - policy.headroom - sums.growth - charge
    return f"{format_size(charge)} fit, {format_size(max(0, free))} stay free"


def reason(block: Block, ask: Ask, policy: Policy) -> str:
    """One sentence without a semicolon."""
    if block.kind == "never":
        return f"it needs {format_size(block.charge)} and the budget{_of_group(block)} is {format_size(block.total)}"
    if block.kind == "turn":
        return f"'{block.first_name}' has waited longer than {format_duration(policy.starvation)} and goes first"
    if block.kind == "count":
        return f"{block.taken} of {block.total} places{_of_group(block)} are taken, {_held_by(block, ask)}"
    if block.kind == "mark":
        used, most, budget = (format_size(size) for size in (block.taken, block.total, policy.budget or 0))
        return f"{used} of the budget of {budget} are in use and nothing starts above {most}, {_held_by(block, ask)}"
    need = f"it needs {format_size(ask.need)}"
    if block.charge < ask.need:
        need += f", {format_size(block.charge)} more than its parent has left,"
    return f"{need} and {_free(block)}, {_held_by(block, ask)}"


def refusal(block: Block, ask: Ask, policy: Policy, waited: float) -> Refused:
    why = reason(block, ask, policy)
    if block.kind == "never":
        return Refused(f"'{ask.terms.name}' can never run", why, "declare less, or raise the budget")
    what = (
        f"no place for '{ask.terms.name}'" if block.kind == "count" else f"not enough memory for '{ask.terms.name}'"
    )
    if block.kind == "turn":
        what = f"it is not the turn of '{ask.terms.name}'"
    todo = "wait with --wait 10m, or end one of them"
    if ask.deadline is not None and ask.deadline > ask.at:
        what += f" after {format_duration(waited)}"
        todo = "wait longer with --wait, or end one of them"
    return Refused(what, why, todo)


def _of_group(block: Block) -> str:
    return "" if block.group is None else " of its group"


def _free(block: Block) -> str:
    total, free = format_size(block.total), format_size(max(0, block.total - block.headroom - block.taken))
    if block.kind == "budget":
        return f"{free} of the budget{_of_group(block)} of {total} is free"
    where = "left under its own memory limit" if block.kind == "ceiling" else "available"
    kept, promised = format_size(block.headroom), format_size(block.taken)
    return f"{free} is free ({total} {where}, {kept} kept free, {promised} promised)"


def _held_by(block: Block, ask: Ask) -> str:
    named = [
        f"{h.name} ({format_size(h.bytes)}{', its own parent' if h.id == ask.terms.parent else ''})"
        for h in block.holders[:_NAMED]
    ]
    more = len(block.holders) - len(named)
    by = "by " if block.kind == "count" else "held by "
    return by + ", ".join(named) + (f" and {more} more" if more else "")


def _held(ledger: Ledger, one: Held) -> Explanation:
    return Explanation(
        id=one.id,
        terms=one.terms,
        state="held",
        need=one.reserved,
        reserved=one.reserved,
        used=one.used,
        expected=ledger.nodes[one.id].expected,
        since=one.since,
        reason=one.reason,
    )


def _waiting(state: State, waiting: Waiting, ahead: int) -> Explanation:
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
        reason="" if block is None else reason(block, ask, state.policy),
        holders=() if block is None else block.holders,
    )
