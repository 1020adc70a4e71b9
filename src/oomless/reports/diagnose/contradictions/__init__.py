"""Where a text disagrees with itself: one rule a function, on processes, on lists and on amounts. Pure.

A rule says something only where both sides cannot be right: figures of different moments, parts of a list, and what
rounding explains are no contradictions.
"""

from __future__ import annotations

from oomless.reports.diagnose.contradictions import lists, processes, sums
from oomless.reports.diagnose.contradictions.found import Contradiction
from oomless.reports.diagnose.facts import Case

__all__ = ["RULES", "Contradiction", "contradictions"]

RULES = (
    lists.stated_count,
    lists.two_lists,
    processes.two_figures,
    processes.two_roles,
    sums.two_amounts,
    sums.several_totals,
    sums.wrong_sum,
)


def contradictions(case: Case) -> tuple[Contradiction, ...]:
    return tuple(one for rule in RULES for one in rule(case))
