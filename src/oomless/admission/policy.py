"""The inequalities of admission and what excuses an ask from them, as pure functions over a ledger.

An ask may start when each of these holds, for the machine and (the first two) for every group that it is in:

* count:     places taken + 1 <= places
* mark:      sum(used) < its share of the budget (only for the machine)
* budget:    sum(max(reserved, used)) + need <= budget
* available: sum(max(reserved - used, 0)) + need <= available - headroom
* ceiling:   the same with what is left under the requester's own ancestor cgroups

and when no older request has waited too long to be passed (``machine.py``). How nested trees are charged is in
``ledger.py``.
"""

from __future__ import annotations

from collections.abc import Iterator, Set

from oomless.admission.events import Ask, Policy
from oomless.admission.ledger import Ledger, LedgerNode
from oomless.admission.state import Block

#: How far below the mark use must fall, as a share of the budget, until something may start again.
HYSTERESIS = 0.05


class Room:
    """The memory that one ask may count on, growth since the last observation taken off."""

    __slots__ = ("available", "ceiling")

    def __init__(self, available: int, ceiling: int | None) -> None:
        self.available, self.ceiling = available, ceiling


def impossible(policy: Policy, ask: Ask) -> Block | None:
    """A declared need above a fixed budget can never run. With only an estimate it may try."""
    for group, budget in ((ask.terms.group, ask.terms.group_budget), (None, policy.budget)):
        declared = ask.terms.need
        if budget is not None and declared is not None and declared > budget:
            return Block(kind="never", group=group, charge=declared, total=budget)
    return None


def failures(ledger: Ledger, policy: Policy, ask: Ask, room: Room, full: bool = False) -> Iterator[Block]:
    """Each inequality that does not hold, those of groups first: an ask that its group keeps waiting has no claim
    on the machine yet."""
    around = ledger.ancestors(ask.terms.parent)
    for group, budget, places in _groups(ask, around):
        yield from _count(ledger, ask, around, group, places)
        yield from _budget(ledger, ask, around, group, budget)
    yield from _count(ledger, ask, around, None, policy.max_parallel)
    if full:
        yield from _mark(ledger, ask, around, policy)
    yield from _budget(ledger, ask, around, None, policy.budget)
    yield from _memory(ledger, ask, around, policy.headroom, room)


def excused(ledger: Ledger, ask: Ask, block: Block, waited_in: Set[str] | None) -> bool:
    """True where waiting would be for nothing.

    With no tree inside that scope, a request may start whatever its size. A nested request may also start when every
    tree there waits for a nested one itself (``waited_in``, None: not considered), because none would make room. Then
    the count needs no excuse: the innermost of those trees has its place to give."""
    members = ledger.sums(block.group).members
    if not members:
        return True
    if waited_in is None or block.kind == "count":
        return False
    own = {node.reservation.id for node in ledger.ancestors(ask.terms.parent)}
    return bool(own) and all(id in waited_in or id in own for id in members)


def _groups(ask: Ask, around: list[LedgerNode]) -> Iterator[tuple[str, int | None, int | None]]:
    """The ask's own group and those of the trees around it: what is nested in a batch's job is in the batch."""
    seen = set()
    for terms in (ask.terms, *(node.reservation.terms for node in around)):
        if terms.group is not None and terms.group not in seen:
            seen.add(terms.group)
            yield terms.group, terms.group_budget, terms.group_parallel


def _count(
    ledger: Ledger, ask: Ask, around: list[LedgerNode], group: str | None, places: int | None
) -> Iterator[Block]:
    if places is None:
        return
    sums, charge = ledger.sums(group), ledger.charge(ask, around, group)
    if charge.places and sums.places + charge.places > places:
        yield Block(
            kind="count", group=group, charge=charge.places, taken=sums.places, total=places, holders=sums.placed
        )


def above_mark(ledger: Ledger, policy: Policy, was: bool) -> bool:
    """Whether so much is in use that nothing more may start."""
    if policy.budget is None:
        return False
    return ledger.sums().used >= (policy.admit_mark - (HYSTERESIS if was else 0.0)) * policy.budget


def _mark(ledger: Ledger, ask: Ask, around: list[LedgerNode], policy: Policy) -> Iterator[Block]:
    sums, charge = ledger.sums(), ledger.charge(ask, around)
    if policy.budget is not None and not _covered(around, charge.bytes):
        yield Block(
            kind="mark",
            charge=charge.bytes,
            taken=sums.used,
            total=int(policy.admit_mark * policy.budget),
            holders=sums.holders,
        )


def _budget(
    ledger: Ledger, ask: Ask, around: list[LedgerNode], group: str | None, budget: int | None
) -> Iterator[Block]:
    if budget is None:
        return
    sums, charge = ledger.sums(group), ledger.charge(ask, around, group)
    if sums.expected + charge.bytes > budget and not _covered(around, charge.bytes):
        yield Block(
            kind="budget",
            group=group,
            charge=charge.bytes,
            taken=sums.expected,
            total=budget,
            holders=sums.holders,
        )


def _memory(ledger: Ledger, ask: Ask, around: list[LedgerNode], headroom: int, room: Room) -> Iterator[Block]:
    sums, charge = ledger.sums(), ledger.charge(ask, around)
    if _covered(around, charge.bytes):
        return
    if sums.growth + charge.bytes > room.available - headroom:
        yield Block(
            kind="available",
            charge=charge.bytes,
            taken=sums.growth,
            total=room.available,
            headroom=headroom,
            holders=sums.holders,
        )
    if room.ceiling is not None and sums.growth + charge.bytes > room.ceiling - headroom:
        yield Block(
            kind="ceiling",
            charge=charge.bytes,
            taken=sums.growth,
            total=room.ceiling,
            headroom=headroom,
            holders=sums.holders,
        )


def _covered(around: list[LedgerNode], charge: int) -> bool:
    """A nested request inside a reservation that was granted reserves nothing new, however short memory is by now."""
    return bool(around) and charge == 0
