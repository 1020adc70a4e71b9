"""What is commonly said of such an incident, and whether the case bears it out: one claim a function, each with its
evidence. Pure.

``unknown`` is an answer: what the case holds neither supports nor refutes it, and the evidence says what is missing.
"""

from __future__ import annotations

from oomless.reports.diagnose.claims import memory, programs
from oomless.reports.diagnose.claims.claim import Claim
from oomless.reports.diagnose.facts import Case

__all__ = ["CLAIMS", "Claim", "claims"]

CLAIMS = (
    programs.each_subagent_is_a_process,
    memory.subagents_never_release,
    programs.helpers_are_subagents,
    memory.claude_flow_is_to_blame,
    programs.servers_are_duplicated,
    memory.smaller_model_saves,
)


def claims(case: Case) -> tuple[Claim, ...]:
    return (*(rule(case) for rule in CLAIMS), *memory.stated_totals(case))
