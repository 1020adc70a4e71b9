"""Victim selection: which tree is killed when all of them use more than they may, or those of a group with a budget.

Each tree may keep to its own limit and all of them be too much: N limits of 65 % of the memory are no limit. So there
are marks, shares of what all may use. Above one nothing more is admitted (``policy.py``), above the next there is a
warning, above the last one tree is killed. No other is chosen until that one is dead and the figures had time to
follow: memory that is being freed still counts (systemd-oomd and Ray wait as well).

Nothing is killed for a fixed budget if that would not free enough. Victims, in order: over their reservation by about
as much as the worst, retriable, idle, newest (the cheapest to do again). Never by the kernel's score, which is for
editors as for us. Which trees may be victims at all is ``TreeUse.eligible``, decided by the caller.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from oomless.config import MarkSettings
from oomless.units import format_size

#: A tree that is told to end has its grace of 1 s, and memory takes a while to be freed; then another is chosen.
DIES_WITHIN = 10.0
#: Seconds after a death until the next victim may be chosen.
BACK_OFF = 2.0
#: A warning is over when so much less (as a share) is in use.
HYSTERESIS = 0.05


class TreeUse(msgspec.Struct, frozen=True, kw_only=True):
    """An open tree. ``used``: bytes, what is nested in it included. ``eligible``: it may be a victim. ``retriable``:
    it will be tried again if it fails."""

    id: str
    name: str
    used: int
    reserved: int = 0
    parent: str | None = None
    since: float = 0.0
    eligible: bool = False
    retriable: bool = False
    idle: bool = False


class Pressure(msgspec.Struct, frozen=True, kw_only=True):
    """What is remembered of one budget between two samples. ``due``: until then no victim is chosen, or the one that
    was chosen is dead. ``stubborn`` were told to end and did not."""

    warned: bool = False
    victim: str | None = None
    due: float = 0.0
    stubborn: frozenset[str] = frozenset()


class Warn(msgspec.Struct, frozen=True, kw_only=True):
    reason: str


class Kill(msgspec.Struct, frozen=True, kw_only=True):
    """``alone``: the tree exceeds the budget by itself, and would again."""

    id: str
    reason: str
    alone: bool = False


class Budget(msgspec.Struct, frozen=True, kw_only=True):
    """What the trees ``ids`` use together and may use (bytes): those of a group, or all. ``fixed``: it was set;
    otherwise it is what the machine has, and whatever is freed helps."""

    group: str | None = None
    fixed: bool = True
    ids: frozenset[str]
    used: int
    allowed: int


def allowed_bytes(budget: int | None, total: int, headroom: int, available: int, used: int) -> int:
    """What all trees together may use. Without a fixed budget that is what they use and what is available above the
    headroom; but no less than half of the memory, for what other programs took is not freed by killing ours."""
    if budget is not None:
        return budget
    most = max(0, total - headroom)
    return min(most, max(used + available - headroom, most // 2))


def bytes_in_use(trees: tuple[TreeUse, ...]) -> int:
    """By the outermost trees: what is nested is in their figures."""
    ids = {tree.id for tree in trees}
    return sum(tree.used for tree in trees if tree.parent not in ids)


def select_victims(
    pressures: Mapping[str | None, Pressure],
    marks: MarkSettings,
    budgets: tuple[Budget, ...],
    trees: tuple[TreeUse, ...],
    now: float,
) -> tuple[dict[str | None, Pressure], tuple[Warn | Kill, ...]]:
    """One victim at a time, whichever budget it is for: what it frees counts for all budgets that it is in.
    ``pressures`` and the first part of the result are by group."""
    following: dict[str | None, Pressure] = {}
    actions: list[Warn | Kill] = []
    busy = {group for group, pressure in pressures.items() if now < pressure.due}
    overdue = {p.victim for p in pressures.values() if p.victim is not None and now >= p.due}
    stubborn = frozenset(overdue).union(*(pressure.stubborn for pressure in pressures.values()))
    for budget in budgets:
        inside = tuple(tree for tree in trees if tree.id in budget.ids)
        if busy - {budget.group}:
            inside = tuple(msgspec.structs.replace(tree, eligible=False) for tree in inside)
        pressure = msgspec.structs.replace(pressures.get(budget.group, Pressure()), stubborn=stubborn)
        following[budget.group], new = select_victim(
            pressure, marks, budget.allowed, inside, now, budget.group, budget.fixed
        )
        actions += new
        busy |= {budget.group for action in new if isinstance(action, Kill)}
    for group in pressures.keys() - following.keys():  # the last tree of it has died, perhaps killed by us
        pressure = _after_victim(pressures[group], (), now)
        if now < pressure.due:
            following[group] = pressure
    return following, tuple(actions)


def select_victim(
    pressure: Pressure,
    marks: MarkSettings,
    allowed: int,
    trees: tuple[TreeUse, ...],
    now: float,
    group: str | None = None,
    fixed: bool = True,
) -> tuple[Pressure, tuple[Warn | Kill, ...]]:
    """For one budget: ``trees`` are those of ``group``, or all; ``allowed`` and ``fixed`` as in ``Budget``."""
    used = bytes_in_use(trees)
    pressure = _after_victim(pressure, trees, now)
    if used < (marks.warn - HYSTERESIS) * allowed:
        return msgspec.structs.replace(pressure, warned=False), ()
    actions: list[Warn | Kill] = []
    if used >= marks.warn * allowed and not pressure.warned:
        pressure = msgspec.structs.replace(pressure, warned=True)
        in_use = _in_use(used, allowed, group, fixed)
        actions.append(Warn(reason=f"memory pressure: {in_use}; at {marks.end:.0%} one tree is killed"))
    if used >= marks.end * allowed and pressure.victim is None and now >= pressure.due:
        candidates = tuple(tree for tree in trees if tree.eligible and tree.id not in pressure.stubborn)
        victim = choose_victim(trees, pressure.stubborn)
        if victim is not None and (not fixed or used - bytes_in_use(candidates) < marks.end * allowed):
            pressure = msgspec.structs.replace(pressure, victim=victim.id, due=now + DIES_WITHIN)
            alone = fixed and victim.used >= marks.end * allowed
            in_use = _in_use(victim.used if alone else used, allowed, group, fixed)
            actions.append(Kill(id=victim.id, reason=_kill_reason(victim, in_use, alone), alone=alone))
    return pressure, tuple(actions)


def choose_victim(trees: tuple[TreeUse, ...], stubborn: frozenset[str] = frozenset()) -> TreeUse | None:
    """None if no tree may be a victim."""
    nested: dict[str | None, int] = {}
    for tree in trees:
        nested[tree.parent] = nested.get(tree.parent, 0) + tree.used
    candidates = [tree for tree in trees if tree.eligible and tree.id not in stubborn]
    excess = {tree.id: max(0, tree.used - nested.get(tree.id, 0) - tree.reserved) for tree in candidates}
    worst = max(excess.values(), default=0)

    def order(tree: TreeUse) -> tuple[bool, bool, bool, float, int]:
        to_blame = worst > 0 and 2 * excess[tree.id] >= worst
        return not to_blame, not tree.retriable, not tree.idle, -tree.since, -tree.used

    return min(candidates, key=order, default=None)


def _after_victim(pressure: Pressure, trees: tuple[TreeUse, ...], now: float) -> Pressure:
    stubborn = pressure.stubborn & {tree.id for tree in trees}
    if pressure.victim is None:
        return msgspec.structs.replace(pressure, stubborn=stubborn, due=pressure.due if now < pressure.due else 0.0)
    if all(tree.id != pressure.victim for tree in trees):
        return msgspec.structs.replace(pressure, victim=None, due=now + BACK_OFF, stubborn=stubborn)
    if now >= pressure.due:
        return msgspec.structs.replace(pressure, victim=None, stubborn=stubborn | {pressure.victim})
    return pressure


def _in_use(used: int, allowed: int, group: str | None, fixed: bool) -> str:
    what = "budget" if fixed else "usable memory"
    of = f" of {group}" if group is not None else ""
    return f"{format_size(used)} of {format_size(allowed)} {what}{of} in use"


def _kill_reason(victim: TreeUse, in_use: str, alone: bool) -> str:
    reserved = f"reserved {format_size(victim.reserved)}"
    if alone:
        return f"killed for exceeding the budget by itself: {in_use}, {reserved}"
    return f"killed under memory pressure: {in_use}; this tree used {format_size(victim.used)}, {reserved}"
