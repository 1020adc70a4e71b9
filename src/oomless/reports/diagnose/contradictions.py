"""Where a text disagrees with itself: one rule a function, on processes, on lists and on amounts. Pure.

A rule says something only where both sides cannot be right: figures of different moments, parts of a list, and what
rounding explains are no contradictions.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import combinations

import msgspec

from oomless.reports.diagnose.amounts import amounts_differ, distinct_texts
from oomless.reports.diagnose.facts import Amount, Case, CaseProcess, Enumeration, Figure, Mention, Total
from oomless.units import format_size


class Contradiction(msgspec.Struct, frozen=True, kw_only=True):
    """``values`` as they were written, ``lines`` where; ``about`` says in words what disagrees."""

    rule: str
    about: str
    values: tuple[str, ...]
    lines: tuple[int, ...]


# -- how many there are: a stated number and the list below it, two lists of the same processes ---------------------


#: Words that any list of processes may have.
_COMMON = frozenset(
    {
        *(
            "process",
            "processe",
            "memory",
            "running",
            "instance",
            "parent",
            "spawned",
            "with",
            "main",
            "total",
            "list",
        ),
        *(
            "from",
            "that",
            "this",
            "these",
            "those",
            "which",
            "each",
            "their",
            "were",
            "have",
            "into",
            "after",
            "before",
        ),
        *("evidence", "actual", "tree", "code", "node", "there", "they", "found", "monitor", "usage"),
    }
)
#: Without the endings of plurals.
_PROGRAMS = frozenset(
    {
        *("process", "instanc", "server", "helper", "agent", "subagent", "sub-agent", "worker", "task", "session"),
        *(
            "program",
            "command",
            "pid",
            "host",
            "window",
            "extension",
            "terminal",
            "tab",
            "container",
            "daemon",
            "job",
        ),
        *("tool", "servic", "invocation", "children", "orphan", "clon", "copi"),
    }
)
_PART = re.compile(r"[A-Za-z]{3,40}")
_WORD = re.compile(r"[A-Za-z]{4,40}")
#: Of more lists than that a text is no report that a person wrote.
_MOST_LISTS = 200


def stated_count(case: Case) -> Iterator[Contradiction]:
    """``9 servers:`` above a list of another number, of items and of the instances that they name."""
    for listed in case.enumerations:
        if listed.count is None or listed.partial:
            continue
        number, items = listed.count.number, len(listed.items)
        instances = sum(item.instances or 1 for item in listed.items)
        pids = sum(len(item.pids) for item in listed.items)
        if number not in (items, instances, pids) and _is_of(listed, listed.count.what):
            yield Contradiction(
                rule="stated-count",
                about=f"how many {listed.count.what} there are",
                values=(f"{number} stated", f"{instances} listed"),
                lines=(listed.count.line, *(item.line for item in listed.items)),
            )


def _is_of(listed: Enumeration, what: str) -> bool:
    """Whether the list is one of what was counted: programs of some sort, or items that have that name."""
    words = {word.lower().removesuffix("s").removesuffix("e") for word in what.split()}
    items = {
        word.lower().removesuffix("s").removesuffix("e") for item in listed.items for word in _PART.findall(item.text)
    }
    return what.split()[-1].lower().removesuffix("s").removesuffix("e") in _PROGRAMS or bool(words & items)


def two_lists(case: Case) -> Iterator[Contradiction]:
    """The same processes are listed twice under the same name, and not as many."""
    named = [listed for listed in case.enumerations if _pids_of_list(listed) and not listed.partial][:_MOST_LISTS]
    for first, second in combinations(named, 2):
        both = _pids_of_list(first) & _pids_of_list(second)
        if len(_pids_of_list(first)) == len(_pids_of_list(second)) or len(both) < 2 or first.moment != second.moment:
            continue
        words = _words_of_list(first) & _words_of_list(second)
        if words and len(both) * 2 > max(len(_pids_of_list(first)), len(_pids_of_list(second))):
            yield Contradiction(
                rule="two-lists",
                about=f"how many processes there are that both lists call {max(sorted(words), key=len)}",
                values=(f"{len(_pids_of_list(first))} listed", f"{len(_pids_of_list(second))} listed"),
                lines=tuple(item.line for enumeration in (first, second) for item in enumeration.items),
            )


def _pids_of_list(listed: Enumeration) -> frozenset[int]:
    return frozenset(pid for item in listed.items for pid in item.pids)


def _words_of_list(listed: Enumeration) -> frozenset[str]:
    text = " ".join((listed.lead, *(item.text for item in listed.items)))
    return frozenset(word.lower().removesuffix("s") for word in _WORD.findall(text)) - _COMMON


# -- a process with two figures, or with two roles ------------------------------------------------------------------


#: More mentions of one pid are not compared.
_MOST_MENTIONS = 300


def two_figures(case: Case) -> Iterator[Contradiction]:
    """The memory of one process, at what the text does not say are different moments."""
    table = {process.pid: process for process in case.processes if process.source.startswith("RSS")}
    for pid, group in _by_pid(case).items():
        figures = [(mention, mention.amount) for mention in group[:_MOST_MENTIONS] if mention.amount is not None]
        against = [
            (mention, amount)
            for mention, amount in figures
            if any(_same_moment(mention, second) and amounts_differ(amount, figure) for second, figure in figures)
        ]
        if against:
            yield Contradiction(
                rule="two-figures",
                about=f"the memory of PID {pid}",
                values=distinct_texts([amount for _, amount in against]),
                lines=tuple(sorted({mention.line for mention, _ in against})),
            )
        else:
            yield from _against_table(table.get(pid), figures)


def _against_table(process: CaseProcess | None, figures: list[tuple[Mention, Amount]]) -> Iterator[Contradiction]:
    """MB may be MiB in prose, and tables are in KiB: what that explains is no contradiction."""
    if process is None or process.footprint_bytes is None:
        return
    size = process.footprint_bytes
    for mention, amount in figures:
        if not mention.moment and not (amount.low * 0.92 <= size <= amount.high * 1.08):
            yield Contradiction(
                rule="two-figures",
                about=f"the memory of PID {process.pid}, in words and in the table",
                values=(amount.text, f"{size / 1e6:.0f} MB"),
                lines=(process.figure_line or process.lines[0], mention.line),
            )
            return


def two_roles(case: Case) -> Iterator[Contradiction]:
    """A process is one thing; a line that uses both words explains, and does not count."""
    for pid, group in _by_pid(case).items():
        plain = [mention for mention in group if len(mention.roles) == 1]
        roles = tuple(dict.fromkeys(mention.roles[0] for mention in plain))
        if len(roles) > 1:
            yield Contradiction(
                rule="two-roles",
                about=f"what PID {pid} is",
                values=roles,
                lines=tuple(sorted({mention.line for mention in plain})),
            )


def _by_pid(case: Case) -> dict[int, list[Mention]]:
    by_pid: dict[int, list[Mention]] = {}
    for mention in case.mentions:
        by_pid.setdefault(mention.pid, []).append(mention)
    return by_pid


def _same_moment(mention: Mention, other: Mention) -> bool:
    return mention.moment == other.moment


# -- amounts: two for one thing, several totals, and totals that are not the sum of their parts ---------------------


#: A stated total may be so much off its parts, which are rounded themselves.
SLACK = 0.02
_MOST_AMOUNTS = 400


def two_amounts(case: Case) -> Iterator[Contradiction]:
    """The same name, and amounts that cannot both be right. Numbered ones of a block (``Subagent 1: ...``) may differ
    among themselves, and count as what they span."""
    by_name: dict[tuple[str, bool], list[Figure]] = {}
    for figure in case.figures[:_MOST_AMOUNTS]:
        if not _is_total(figure, case.totals):
            by_name.setdefault((figure.name, figure.each), []).append(figure)
    for (name, each), group in by_name.items():
        reckonings = _join_numbered(group)
        against = [figure for figure in reckonings if any(_are_opposed(figure, second) for second in reckonings)]
        if against:
            yield Contradiction(
                rule="two-amounts",
                about=f"the memory of {'each ' if each else ''}{name}",
                values=distinct_texts([figure.amount for figure in against]),
                lines=tuple(sorted({figure.line for figure in group} & {reckoned.line for reckoned in against})),
            )


def _is_total(figure: Figure, totals: Iterable[Total]) -> bool:
    return not figure.each and any(total.line == figure.line and not total.of for total in totals)


def _join_numbered(group: list[Figure]) -> list[Figure]:
    """Numbered figures of one block are one, from the least to the most."""
    reckonings = [figure for figure in group if not figure.numbered]
    blocks: dict[int, list[Figure]] = {}
    for figure in group:
        if figure.numbered:
            blocks.setdefault(figure.block, []).append(figure)
    for members in blocks.values():
        low, high = min(figure.amount.low for figure in members), max(figure.amount.high for figure in members)
        first = members[0]
        text = first.amount.text if low == high else f"{format_size(low)} to {format_size(high)}"
        amount = Amount(low=low, high=high, about=any(figure.amount.about for figure in members), text=text)
        reckonings.append(
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
    return sorted(reckonings, key=lambda figure: figure.line)


def _are_opposed(figure: Figure, other: Figure) -> bool:
    return figure.line != other.line and figure.moment == other.moment and amounts_differ(figure.amount, other.amount)


def several_totals(case: Case) -> Iterator[Contradiction]:
    """Totals of everything for the same number of the same things; or without any, where no parts are given."""
    grand = [total for total in case.totals if not total.of][:_MOST_AMOUNTS]
    reported: set[frozenset[int]] = set()
    for about, group in _group_by_scene(grand):
        against = _find_disagreeing(group)
        lines = frozenset(total.line for total in against)
        if against and not any(lines <= before for before in reported):
            reported.add(lines)
            distinct = {total.amount.low: total.amount for total in reversed(against)}
            yield Contradiction(
                rule="several-totals",
                about=f"the total{about}",
                values=distinct_texts([distinct[low] for low in sorted(distinct)]),
                lines=tuple(sorted(lines)),
            )


def _group_by_scene(grand: list[Total]) -> list[tuple[str, list[Total]]]:
    """The larger groups first: one scene has several names (``5 subagents``, ``5 tasks``)."""
    by_scene: dict[tuple[int, str], list[Total]] = {}
    for total in grand:
        for scene in total.scene:
            by_scene.setdefault(scene, []).append(total)
    ordered = sorted(by_scene.items(), key=lambda pair: (-len(pair[1]), pair[0]))
    scenes = [(f" with {number} of: {what}", group) for (number, what), group in ordered]
    return [*scenes, ("", [total for total in grand if not total.scene and not total.parts])]


def _find_disagreeing(group: list[Total]) -> list[Total]:
    pairs = [
        pair
        for pair in combinations(group, 2)
        if pair[0].words == pair[1].words and amounts_differ(pair[0].amount, pair[1].amount)
    ]
    lines = {total.line for pair in pairs for total in pair}
    return [total for total in group if total.line in lines]


def wrong_sum(case: Case) -> Iterator[Contradiction]:
    """A total that its own parts do not give."""
    for total in case.totals:
        if len(total.parts) > 1 and not adds_up(total):
            low, high = span_of_parts(total)
            parts = format_size(low) if low == high else f"{format_size(low)} to {format_size(high)}"
            yield Contradiction(
                rule="wrong-sum",
                about=f"the total in line {total.line} and its parts",
                values=(total.amount.text, f"{parts} by its parts"),
                lines=(total.line,),
            )


def span_of_parts(total: Total) -> tuple[int, int]:
    """What the parts give, at least and at most."""
    return sum(part.low for part in total.parts), sum(part.high for part in total.parts)


def adds_up(total: Total) -> bool:
    low, high = span_of_parts(total)
    slack = max(SLACK, 0.1 if total.amount.about else 0)
    return total.amount.low <= high * (1 + slack) and total.amount.high >= low * (1 - slack)


RULES = (
    stated_count,
    two_lists,
    two_figures,
    two_roles,
    two_amounts,
    several_totals,
    wrong_sum,
)


def find_contradictions(case: Case) -> tuple[Contradiction, ...]:
    return tuple(contradiction for rule in RULES for contradiction in rule(case))
