"""What is commonly said of such an incident, and whether the case bears it out: one claim a function. Pure.

``unknown`` is an answer: what the case holds neither supports nor refutes it, and the evidence says what is missing.
"""

from __future__ import annotations

import re
from typing import Literal

import msgspec

from oomless.reports.diagnose.amounts import distinct_texts
from oomless.reports.diagnose.contradictions import Contradiction, adds_up, several_totals, span_of_parts, two_amounts
from oomless.reports.diagnose.facts import Case, CaseProcess, Copies, Total, format_lines
from oomless.units import format_size

Judgement = Literal["supported", "refuted", "unknown"]


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """``evidence`` names the lines of the text, or pids, that it stands on. ``about``: what the cause is, or a total
    that the text states."""

    text: str
    verdict: Judgement
    evidence: tuple[str, ...]
    about: Literal["cause", "total"] = "cause"


# -- what processes are: subagents, editors' helpers, copies of servers ---------------------------------------------


#: Measured with Claude Code 2.1.330 on Linux: five at once within one process, no process more, 37 MB together.
_IN_PROCESS = "Claude Code (2.1.330, measured on Linux) runs its subagents within the session's own process"
_NAMED = 6
_SUBAGENTS = re.compile(r"\b(?:sub-?agents?|tasks?)\b", re.IGNORECASE)


def each_subagent_is_a_process(case: Case) -> Claim:
    text = "each subagent is a process"
    called = _pids_called(case, "subagent")
    hosts = [host for host in _find_helpers(case) if host.pid in called]
    if any(session.number for session in case.inside):
        seen = tuple(f"session {each.session}: {each.number} run within its process" for each in case.inside)
        return Claim(text=text, verdict="refuted", evidence=(*seen, _IN_PROCESS))
    if hosts:
        lines = {host.pid: format_lines(_lines_called(case, host.pid)) for host in hosts}
        seen = tuple(f"PID {pid} ({at}): an extension host" for pid, at in lines.items())
        left = len(called) - len(hosts)
        others = (f"{left} other pids are called subagents as well, and not known",) if left else ()
        return Claim(text=text, verdict="unknown" if left else "refuted", evidence=(*seen, *others, _IN_PROCESS))
    absent = "no subagent is seen or named with a pid here" if case.origin == "text" else "none runs here now"
    missing = absent if not called else f"PIDs {_format_pids(called)} are not known"
    return Claim(text=text, verdict="unknown", evidence=(missing, _IN_PROCESS))


def helpers_are_subagents(case: Case) -> Claim:
    text = "the helpers are subagents"
    helpers = _find_helpers(case)
    if not helpers:
        missing = f"no helper of an editor {_seen_here(case)}"
        return Claim(text=text, verdict="unknown", evidence=(missing,))
    first = max(helpers, key=lambda helper: len(_kind_evidence(helper)))
    pids = _format_pids([helper.pid for helper in helpers])
    evidence = [
        f"PIDs {pids} are extension hosts: one a window, started and ended with it",
        *(f"PID {first.pid}: {line}" for line in _kind_evidence(first)),
        *_as_many(case, len(helpers)),
    ]
    return Claim(text=text, verdict="refuted", evidence=tuple(evidence))


def _kind_evidence(process: CaseProcess) -> tuple[str, ...]:
    """What says that it is what it is."""
    at = f"{format_lines(process.lines[:1])}: " if process.lines else ""
    by_command = (f"{at}{line}" for line in process.evidence if line.startswith("catalog:"))
    return (*by_command, *process.kind_evidence)


def _seen_here(case: Case) -> str:
    return "is seen or named here" if case.origin == "text" else "runs here now"


def _as_many(case: Case, helpers: int) -> tuple[str, ...]:
    """Their number against that of the subagents that the text speaks of."""
    counts = [listed.count for listed in case.enumerations if listed.count is not None]
    count = next((count for count in counts if _SUBAGENTS.search(count.what)), None)
    if count is None or count.number == helpers:
        return ()
    return (f"line {count.line}: {count.number} {count.what}, but {helpers} helpers",)


def servers_are_duplicated(case: Case) -> Claim:
    text = "servers are duplicated"
    if not case.copies:
        return Claim(text=text, verdict="unknown", evidence=(f"no known server {_seen_here(case)}",))
    several = [copies for copies in case.copies if copies.number > 1]
    if not several:
        single = tuple(f"{copies.name}: once ({_format_seen(copies)})" for copies in case.copies)
        return Claim(text=text, verdict="refuted", evidence=single)
    # Places first: that the same server is there for two terminals is what makes it a copy.
    several.sort(key=lambda copies: (len(copies.places) < 2, copies.name))
    at = "on" if case.origin == "text" else "in"
    return Claim(text=text, verdict="supported", evidence=tuple(_format_copies(copies, at) for copies in several))


def _format_copies(copies: Copies, preposition: str) -> str:
    at = f" {preposition} {' and '.join(copies.places)}" if copies.places else ""
    return f"{copies.name}: {copies.number} instances{at} ({_format_seen(copies)})"


def _format_seen(copies: Copies) -> str:
    pids = f"PIDs {_format_pids(list(copies.pids))}" if copies.pids else ""
    return ", ".join(part for part in (format_lines(copies.lines) if copies.lines else "", pids) if part)


def _find_helpers(case: Case) -> list[CaseProcess]:
    return [process for process in case.processes if process.kind == "extension-host"]


def _pids_called(case: Case, role: str) -> list[int]:
    return sorted({mention.pid for mention in case.mentions if role in mention.roles})


def _lines_called(case: Case, pid: int) -> list[int]:
    return [mention.line for mention in case.mentions if mention.pid == pid and "subagent" in mention.roles]


def _format_pids(pids: list[int]) -> str:
    more = f" and {len(pids) - _NAMED} more" if len(pids) > _NAMED else ""
    return ", ".join(str(pid) for pid in pids[:_NAMED]) + more


# -- use of memory, whether it comes back, and stated totals --------------------------------------------------------


#: Shares of what is accounted for: below the first a program is not to blame, above the second it is.
INNOCENT, GUILTY = 0.2, 0.5
_LOCAL_MODELS = ("ollama", "llama-server", "llama.cpp", "lm studio", "lmstudio", "vllm", "mlx_lm")
_ACCUSED = "claude-flow"


def subagents_never_release(case: Case) -> Claim:
    text = "subagents never release memory"
    if case.ended:
        surviving = [agent for agent in case.ended if agent.survivors]
        evidence = (
            f"journal: {len(case.ended)} governed agents ended, {len(surviving)} of them left processes behind",
            *(
                f"tree {agent.tree}: peak {format_size(agent.peak_bytes)}, {agent.survivors} survived"
                for agent in case.ended[:4]
            ),
        )
        verdict: Judgement = "supported" if len(surviving) == len(case.ended) else "refuted"
        return Claim(text=text, verdict=verdict, evidence=evidence)
    helpers = {process.pid for process in case.processes if process.kind == "extension-host"}
    called = {mention.pid for mention in case.mentions if "subagent" in mention.roles}
    evidence = ("the memory of a session's process is not here at two moments, before and after a subagent ended",)
    if called & helpers:
        lines = [mention.line for mention in case.mentions if mention.pid in called & helpers]
        at = format_lines(lines)
        what = f"{at}: the processes said to have stayed are extension hosts, which end with their window"
        evidence = (what, *evidence)
    return Claim(text=text, verdict="unknown", evidence=evidence)


def claude_flow_is_to_blame(case: Case) -> Claim:
    text = f"{_ACCUSED} is to blame"
    (_, most), evidence = _accused_footprint(case)
    others = [process for process in case.processes if process.server != _ACCUSED]
    accounted = sum(_footprint(process) for process in others) + most
    if not most:
        missing = f"no footprint of {_ACCUSED} is given here" if case.origin == "text" else "it does not run here now"
        return Claim(text=text, verdict="unknown", evidence=(*evidence, missing))
    if accounted == most:
        missing = "no footprint of any other process is given here"
        return Claim(text=text, verdict="unknown", evidence=(*evidence, missing))
    share = most / accounted
    largest = sorted(filter(_footprint, others), key=_footprint)[-3:]
    return Claim(
        text=text,
        verdict="refuted" if share < INNOCENT else "supported" if share > GUILTY else "unknown",
        evidence=(
            *evidence,
            f"at most {format_size(most)} of the {format_size(accounted)} that is accounted for, {share:.0%}",
            f"the largest others: {', '.join(map(_format_figure, reversed(largest)))}",
        ),
    )


def _footprint(process: CaseProcess) -> int:
    return process.footprint_bytes or 0


def _format_figure(process: CaseProcess) -> str:
    return f"PID {process.pid} {format_size(_footprint(process))} ({process.source})"


def _accused_footprint(case: Case) -> tuple[tuple[int, int], tuple[str, ...]]:
    """Bytes, at least and at most, and the evidence: by its processes, else by what the text says of it and how often
    it is there."""
    accused = [process for process in case.processes if process.server == _ACCUSED]
    seen = [process for process in accused if process.footprint_bytes is not None]
    if seen:
        size, figures = sum(map(_footprint, seen)), ", ".join(map(_format_figure, seen[:8]))
        return (size, size), (f"{_ACCUSED}: {format_size(size)} in {len(seen)} processes: {figures}",)
    stated = [figure for figure in case.figures if _ACCUSED in figure.name]
    if not stated:
        return (0, 0), ()
    number = next((copies.number for copies in case.copies if copies.name == _ACCUSED), 1)
    amounts = [figure.amount for figure in stated]
    low, high = min(amount.low for amount in amounts), max(amount.high for amount in amounts)
    each = max((figure.amount.high for figure in stated if figure.each), default=0)
    at, said = format_lines(figure.line for figure in stated), ", ".join(distinct_texts(amounts))
    evidence = [f"{at}: its footprint is {_format_range(low, high)} ({said})"]
    if number > 1 and each:
        evidence.append(f"{number} instances of {format_size(each)} each would be {format_size(number * each)}")
    return (low, max(high, number * each)), tuple(evidence)


def _format_range(low: int, high: int) -> str:
    return format_size(low) if low == high else f"{format_size(low)} to {format_size(high)}"


def smaller_model_saves(case: Case) -> Claim:
    text = "a smaller model saves local memory"
    local = [process for process in case.processes if _runs_model(process)]
    if local:
        evidence = tuple(f"PID {each.pid}: {each.command[:60]} runs a model on this machine" for each in local[:4])
        return Claim(text=text, verdict="supported", evidence=evidence)
    remote = "a hosted model runs at its provider: its size is in no process here, what is loaded here is the same"
    if case.small_model_failed:
        at = format_lines(case.small_model_failed)
        return Claim(
            text=text, verdict="refuted", evidence=(f"{at}: memory ran out with the smaller model as well", remote)
        )
    return Claim(text=text, verdict="unknown", evidence=("no run with a smaller model is described here", remote))


def _runs_model(process: CaseProcess) -> bool:
    command = process.command.lower()
    return any(name in command for name in _LOCAL_MODELS)


def stated_totals(case: Case) -> tuple[Claim, ...]:
    """That its parts give a total says nothing for it where the text has others for the same."""
    disputed = [dispute for rule in (several_totals, two_amounts) for dispute in rule(case)]
    return tuple(_judge_total(total, _find_dispute(total, disputed)) for total in case.totals)


def _find_dispute(total: Total, disputed: list[Contradiction]) -> Contradiction | None:
    return next((dispute for dispute in disputed if total.line in dispute.lines), None)


def _judge_total(total: Total, against: Contradiction | None) -> Claim:
    of = f" of {total.of}" if total.of else ""
    text = f"the total{of} is {total.amount.text}"
    at = f"line {total.line}"
    if len(total.parts) < 2:
        missing = f"{at}: not all of its parts are given with a figure"
        return Claim(text=text, verdict="unknown", evidence=(missing,), about="total")
    low, high = span_of_parts(total)
    evidence = f"{at}: its parts {' + '.join(part.text for part in total.parts[:12])} give {_format_range(low, high)}"
    if adds_up(total) and against is not None:
        others = f"{format_lines(against.lines)}: the text has several for it: {', '.join(against.values)}"
        return Claim(text=text, verdict="unknown", evidence=(evidence, others), about="total")
    verdict: Judgement = "supported" if adds_up(total) else "refuted"
    return Claim(text=text, verdict=verdict, evidence=(evidence,), about="total")


CLAIMS = (
    each_subagent_is_a_process,
    subagents_never_release,
    helpers_are_subagents,
    claude_flow_is_to_blame,
    servers_are_duplicated,
    smaller_model_saves,
)


def judge_claims(case: Case) -> tuple[Claim, ...]:
    return (*(rule(case) for rule in CLAIMS), *stated_totals(case))
