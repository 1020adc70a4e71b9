"""Who is ended when all trees together use more than they may, or those of a group with a budget of its own: pure,
``judge(watch, ...) -> (watch, actions)``.

Each tree may keep to its own limit and all of them be too much: N limits of 65 % of the memory are no limit. So there
are marks, shares of what all may use: above one nothing more is admitted (``policy.py``), above the next it is told,
above the last one tree is ended, and no other before that one is dead and the figures had time to follow
(systemd-oomd and Ray both wait: memory that is being freed still counts, and who does not wait ends one after the
other).

Nobody is ended for a fixed budget if that would not help: those who use too much are then not ours to end. The victim
is one of those that use more than was promised to them, if there are any, and among several whoever exceeds it by
far: nobody is ended for what another does. Then: one that will be tried again, one that does nothing, the youngest,
which is the cheapest to do again. Never by the kernel's score, which is for editors as for us. Who may be ended at
all is ``Subject.eligible``, decided in ``daemon/trees/victims.py``; nothing is ended here.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from oomless.config import MarkSettings
from oomless.units import format_size

#: Who is told to end has its grace of 1 s, and memory takes a while to be freed; then another is looked for.
DIES_WITHIN = 10.0
#: After a death, until the next may be chosen.
BACK_OFF = 2.0
#: A warning is over when so much less (as a share) is in use.
HYSTERESIS = 0.05


class Subject(msgspec.Struct, frozen=True, kw_only=True):
    """A held tree. ``used`` with what is nested in it. ``eligible``: it may be ended at all. ``retriable``: whoever
    started it will try again."""

    id: str
    name: str
    used: int
    reserved: int = 0
    parent: str | None = None
    since: float = 0.0
    eligible: bool = False
    retriable: bool = False
    idle: bool = False


class Watch(msgspec.Struct, frozen=True, kw_only=True):
    """What is remembered between two looks. ``due``: until then nobody is chosen, or the victim is dead. ``stubborn``
    were told to end and did not."""

    warned: bool = False
    victim: str | None = None
    due: float = 0.0
    stubborn: frozenset[str] = frozenset()


class Warn(msgspec.Struct, frozen=True, kw_only=True):
    reason: str


class EndOne(msgspec.Struct, frozen=True, kw_only=True):
    """``alone``: it is too much by itself, and would be again."""

    id: str
    reason: str
    alone: bool = False


class Share(msgspec.Struct, frozen=True, kw_only=True):
    """What the trees ``ids`` use together and may use (bytes): those of a group, or all. ``fixed``: somebody said so;
    else it is what the machine has, and whatever comes back helps."""

    group: str | None = None
    fixed: bool = True
    ids: frozenset[str]
    used: int
    allowed: int


def may_use(budget: int | None, total: int, headroom: int, available: int, used: int) -> int:
    """What all trees together may use. Without a fixed budget that is what they use and what is available above the
    headroom; but no less than half of the memory, for what other programs took is not freed by ending ours."""
    if budget is not None:
        return budget
    most = max(0, total - headroom)
    return min(most, max(used + available - headroom, most // 2))


def in_use(subjects: tuple[Subject, ...]) -> int:
    """By the outermost trees: what is nested is in their figures."""
    ids = {one.id for one in subjects}
    return sum(one.used for one in subjects if one.parent not in ids)


def judge_all(
    watches: Mapping[str | None, Watch],
    marks: MarkSettings,
    shares: tuple[Share, ...],
    subjects: tuple[Subject, ...],
    now: float,
) -> tuple[dict[str | None, Watch], tuple[Warn | EndOne, ...]]:
    """One at a time, whosever share it is for: what it frees counts for all that it is in."""
    found: dict[str | None, Watch] = {}
    actions: list[Warn | EndOne] = []
    busy = {group for group, watch in watches.items() if now < watch.due}
    overdue = {watch.victim for watch in watches.values() if watch.victim is not None and now >= watch.due}
    stubborn = frozenset(overdue).union(*(watch.stubborn for watch in watches.values()))
    for share in shares:
        mine = tuple(one for one in subjects if one.id in share.ids)
        if busy - {share.group}:
            mine = tuple(msgspec.structs.replace(one, eligible=False) for one in mine)
        watch = watches.get(share.group, Watch())
        watch = msgspec.structs.replace(watch, stubborn=stubborn)
        found[share.group], new = judge(watch, marks, share.allowed, mine, now, share.group, share.fixed)
        actions += new
        busy |= {share.group for action in new if isinstance(action, EndOne)}
    for group in watches.keys() - found.keys():  # the last of it has died, perhaps by us
        watch = _after_the_victim(watches[group], (), now)
        if now < watch.due:
            found[group] = watch
    return found, tuple(actions)


def judge(
    watch: Watch,
    marks: MarkSettings,
    allowed: int,
    subjects: tuple[Subject, ...],
    now: float,
    group: str | None = None,
    fixed: bool = True,
) -> tuple[Watch, tuple[Warn | EndOne, ...]]:
    """``subjects`` are those of ``group``, or all; ``fixed`` as in ``Share``."""
    used = in_use(subjects)
    watch = _after_the_victim(watch, subjects, now)
    if used < (marks.warn - HYSTERESIS) * allowed:
        return msgspec.structs.replace(watch, warned=False), ()
    actions: list[Warn | EndOne] = []
    if used >= marks.warn * allowed and not watch.warned:
        watch = msgspec.structs.replace(watch, warned=True)
        actions.append(Warn(reason=f"{_sum(used, allowed, _whose(group))}; at {marks.end:.0%} one of them is ended"))
    if used >= marks.end * allowed and watch.victim is None and now >= watch.due:
        candidates = tuple(one for one in subjects if one.eligible and one.id not in watch.stubborn)
        victim = choose(subjects, watch.stubborn)
        if victim is not None and (not fixed or used - in_use(candidates) < marks.end * allowed):
            watch = msgspec.structs.replace(watch, victim=victim.id, due=now + DIES_WITHIN)
            alone = fixed and victim.used >= marks.end * allowed
            why = _alone(victim, allowed, group) if alone else _why(victim, used, allowed, group)
            actions.append(EndOne(id=victim.id, reason=why, alone=alone))
    return watch, tuple(actions)


def choose(subjects: tuple[Subject, ...], stubborn: frozenset[str] = frozenset()) -> Subject | None:
    """The one to be ended; None if there is none that may be."""
    nested: dict[str | None, int] = {}
    for one in subjects:
        nested[one.parent] = nested.get(one.parent, 0) + one.used
    candidates = [one for one in subjects if one.eligible and one.id not in stubborn]
    excess = {one.id: max(0, one.used - nested.get(one.id, 0) - one.reserved) for one in candidates}
    worst = max(excess.values(), default=0)

    def order(one: Subject) -> tuple[bool, bool, bool, float, int]:
        to_blame = worst > 0 and 2 * excess[one.id] >= worst
        return not to_blame, not one.retriable, not one.idle, -one.since, -one.used

    return min(candidates, key=order, default=None)


def _after_the_victim(watch: Watch, subjects: tuple[Subject, ...], now: float) -> Watch:
    stubborn = watch.stubborn & {one.id for one in subjects}
    if watch.victim is None:
        return msgspec.structs.replace(watch, stubborn=stubborn, due=watch.due if now < watch.due else 0.0)
    if all(one.id != watch.victim for one in subjects):
        return msgspec.structs.replace(watch, victim=None, due=now + BACK_OFF, stubborn=stubborn)
    if now >= watch.due:
        return msgspec.structs.replace(watch, victim=None, stubborn=stubborn | {watch.victim})
    return watch


def _whose(group: str | None) -> str:
    return "all trees" if group is None else f"the trees of {group}"


def _sum(used: int, allowed: int, whose: str) -> str:
    return f"{whose} together use {format_size(used)} of the {format_size(allowed)} that they may"


def _alone(one: Subject, allowed: int, group: str | None) -> str:
    whose = _whose(group and "its group")
    used, may = format_size(one.used), format_size(allowed)
    return f"it alone uses {used} of the {may} that {whose} may, {format_size(one.reserved)} of it reserved"


def _why(one: Subject, used: int, allowed: int, group: str | None) -> str:
    own = f"{format_size(one.used)} by this one, {format_size(one.reserved)} of it reserved"
    whose = _whose(group and "its group")
    return f"ended for the others: {_sum(used, allowed, whose)}, {own}"
