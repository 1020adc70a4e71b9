"""Amounts: two for the same named thing, several totals of the same scene, and totals that are not the sum of their
parts. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import combinations

from oomless.reports.diagnose.amounts import differ, values
from oomless.reports.diagnose.contradictions.found import Contradiction
from oomless.reports.diagnose.facts import Amount, Case, Figure, Total
from oomless.units import format_size

#: A stated total may be so much off its parts, which are rounded themselves.
SLACK = 0.02
_MOST = 400


def two_amounts(case: Case) -> Iterator[Contradiction]:
    """The same name, and amounts that cannot both be right. Numbered ones of a block (``Subagent 1: ...``) may differ
    among themselves, and count as what they span."""
    by_name: dict[tuple[str, bool], list[Figure]] = {}
    for figure in case.figures[:_MOST]:
        if not _is_total(figure, case.totals):
            by_name.setdefault((figure.name, figure.each), []).append(figure)
    for (name, each), group in by_name.items():
        found = _reckonings(group)
        against = [one for one in found if any(_against(one, other) for other in found)]
        if against:
            yield Contradiction(
                rule="two-amounts",
                about=f"the memory of {'each ' if each else ''}{name}",
                values=values([one.amount for one in against]),
                lines=tuple(sorted({figure.line for one in against for figure in group if figure.line == one.line})),
            )


def _is_total(figure: Figure, totals: Iterable[Total]) -> bool:
    return not figure.each and any(one.line == figure.line and not one.of for one in totals)


def _reckonings(group: list[Figure]) -> list[Figure]:
    """Numbered figures of one block are one, from the least to the most."""
    found = [one for one in group if not one.numbered]
    blocks: dict[int, list[Figure]] = {}
    for one in group:
        if one.numbered:
            blocks.setdefault(one.block, []).append(one)
    for members in blocks.values():
        low, high = min(one.amount.low for one in members), max(one.amount.high for one in members)
        first = members[0]
        text = first.amount.text if low == high else f"{format_size(low)} to {format_size(high)}"
        amount = Amount(low=low, high=high, about=any(one.amount.about for one in members), text=text)
        found.append(
            Figure(
                line=first.line,
                name=first.name,
                each=True,
                numbered=True,
                amount=amount,
                block=first.block,
                moment=first.moment,
            )
        )
    return sorted(found, key=lambda one: one.line)


def _against(one: Figure, other: Figure) -> bool:
    return one.line != other.line and one.moment == other.moment and differ(one.amount, other.amount)


def several_totals(case: Case) -> Iterator[Contradiction]:
    """Totals of everything for the same number of the same things; or without any, where no parts are given."""
    grand = [one for one in case.totals if not one.of][:_MOST]
    told: set[frozenset[int]] = set()
    for about, group in _scenes(grand):
        against = _disagreeing(group)
        lines = frozenset(one.line for one in against)
        if against and not any(lines <= before for before in told):
            told.add(lines)
            distinct = {one.amount.low: one.amount for one in reversed(against)}
            yield Contradiction(
                rule="several-totals",
                about=f"the total{about}",
                values=values([distinct[low] for low in sorted(distinct)]),
                lines=tuple(sorted(lines)),
            )


def _scenes(grand: list[Total]) -> list[tuple[str, list[Total]]]:
    """The larger groups first: one scene has several names (``5 subagents``, ``5 tasks``)."""
    found: dict[tuple[int, str], list[Total]] = {}
    for one in grand:
        for scene in one.scene:
            found.setdefault(scene, []).append(one)
    ordered = sorted(found.items(), key=lambda pair: (-len(pair[1]), pair[0]))
    scenes = [(f" with {number} of: {what}", group) for (number, what), group in ordered]
    return [*scenes, ("", [one for one in grand if not one.scene and not one.parts])]


def _disagreeing(group: list[Total]) -> list[Total]:
    pairs = [
        pair
        for pair in combinations(group, 2)
        if pair[0].words == pair[1].words and differ(pair[0].amount, pair[1].amount)
    ]
    lines = {one.line for pair in pairs for one in pair}
    return [one for one in group if one.line in lines]


def wrong_sum(case: Case) -> Iterator[Contradiction]:
    """A total that its own parts do not give."""
    for one in case.totals:
        if len(one.parts) > 1 and not adds_up(one):
            low, high = span(one)
            parts = format_size(low) if low == high else f"{format_size(low)} to {format_size(high)}"
            yield Contradiction(
                rule="wrong-sum",
                about=f"the total in line {one.line} and its parts",
                values=(one.amount.text, f"{parts} by its parts"),
                lines=(one.line,),
            )


def span(total: Total) -> tuple[int, int]:
    """What the parts give, at least and at most."""
    return sum(one.low for one in total.parts), sum(one.high for one in total.parts)


def adds_up(total: Total) -> bool:
    low, high = span(total)
    slack = max(SLACK, 0.1 if total.amount.about else 0)
    return total.amount.low <= high * (1 + slack) and total.amount.high >= low * (1 - slack)
