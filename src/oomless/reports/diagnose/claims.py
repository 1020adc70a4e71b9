"""What is commonly said of such an incident, and whether the case bears it out: one claim a function. Pure.

``unknown`` is an answer: what the case holds neither supports nor refutes it, and the evidence says what is missing.
"""

from __future__ import annotations

import re
from typing import Literal

import msgspec

from oomless.reports.diagnose.amounts import values
from oomless.reports.diagnose.contradictions import Contradiction, adds_up, several_totals, span, two_amounts
from oomless.reports.diagnose.facts import Amount, Case, CaseProcess, Copies, Total
from oomless.reports.diagnose.helpers import where
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


def each_subagent_is_a_process(case: Case) -> Claim:
    text = "each subagent is a process"
    called = _pids_called(case, "subagent")
    hosts = [one for one in _helpers(case) if one.pid in called]
    inside = sum(one.number for one in case.inside)
    if inside:
        seen = tuple(f"session {one.session}: {one.number} run within its process" for one in case.inside)
        return Claim(text=text, verdict="refuted", evidence=(*seen, _IN_PROCESS))
    if hosts:
        number = len(hosts)
        seen = tuple(f"PID {one.pid} ({where(_lines_called(case, one.pid))}): an extension host" for one in hosts)
        left = len(called) - number
        others = (f"{left} other pids are called subagents as well, and not known",) if left else ()
        return Claim(text=text, verdict="unknown" if left else "refuted", evidence=(*seen, *others, _IN_PROCESS))
    nobody = "no subagent is seen or named with a pid here" if case.origin == "text" else "none runs here now"
    missing = nobody if not called else f"PIDs {_some(called)} are not known"
    return Claim(text=text, verdict="unknown", evidence=(missing, _IN_PROCESS))


def helpers_are_subagents(case: Case) -> Claim:
    text = "the helpers are subagents"
    helpers = _helpers(case)
    if not helpers:
        missing = f"no helper of an editor {_seen_here(case)}"
        return Claim(text=text, verdict="unknown", evidence=(missing,))
    first = max(helpers, key=lambda helper: len(_kind_evidence(helper)))
    evidence = [
        f"PIDs {_some([one.pid for one in helpers])} are extension hosts: one a window, started and ended with it",
        *(f"PID {first.pid}: {line}" for line in _kind_evidence(first)),
        *_as_many(case, len(helpers)),
    ]
    return Claim(text=text, verdict="refuted", evidence=tuple(evidence))


def _kind_evidence(process: CaseProcess) -> tuple[str, ...]:
    """What says that it is what it is."""
    at = f"{where(process.lines[:1])}: " if process.lines else ""
    by_command = (f"{at}{line}" for line in process.evidence if line.startswith("catalog:"))
    return (*by_command, *process.kind_evidence)


def _seen_here(case: Case) -> str:
    return "is seen or named here" if case.origin == "text" else "runs here now"


def _as_many(case: Case, helpers: int) -> tuple[str, ...]:
    """Their number against that of the subagents that the text speaks of."""
    counts = [one.count for one in case.enumerations if one.count is not None]
    said = next((one for one in counts if re.search(r"\b(?:sub-?agents?|tasks?)\b", one.what, re.IGNORECASE)), None)
    if said is None or said.number == helpers:
        return ()
    return (f"line {said.line}: {said.number} {said.what}, but {helpers} helpers",)


def servers_are_duplicated(case: Case) -> Claim:
    text = "servers are duplicated"
    if not case.copies:
        return Claim(text=text, verdict="unknown", evidence=(f"no known server {_seen_here(case)}",))
    several = [one for one in case.copies if one.number > 1]
    if not several:
        single = tuple(f"{one.name}: once ({_seen(one)})" for one in case.copies)
        return Claim(text=text, verdict="refuted", evidence=single)
    # Places first: that the same server is there for two terminals is what makes it a copy.
    several.sort(key=lambda one: (len(one.places) < 2, one.name))
    at = "on" if case.origin == "text" else "in"
    return Claim(text=text, verdict="supported", evidence=tuple(_copies(one, at) for one in several))


def _copies(one: Copies, where_at: str) -> str:
    at = f" {where_at} {' and '.join(one.places)}" if one.places else ""
    return f"{one.name}: {one.number} instances{at} ({_seen(one)})"


def _seen(one: Copies) -> str:
    pids = f"PIDs {_some(list(one.pids))}" if one.pids else ""
    return ", ".join(part for part in (where(one.lines) if one.lines else "", pids) if part)


def _helpers(case: Case) -> list[CaseProcess]:
    return [one for one in case.processes if one.kind == "extension-host"]


def _pids_called(case: Case, role: str) -> list[int]:
    return sorted({one.pid for one in case.mentions if role in one.roles})


def _lines_called(case: Case, pid: int) -> list[int]:
    return [one.line for one in case.mentions if one.pid == pid and "subagent" in one.roles]


def _some(pids: list[int]) -> str:
    more = f" and {len(pids) - _NAMED} more" if len(pids) > _NAMED else ""
    return ", ".join(str(pid) for pid in pids[:_NAMED]) + more


# -- who uses memory, whether it comes back, and stated totals ------------------------------------------------------


#: Who has less than the first share of what is accounted for is not to blame, who has more than the second is.
INNOCENT, GUILTY = 0.2, 0.5
_LOCAL_MODELS = ("ollama", "llama-server", "llama.cpp", "lm studio", "lmstudio", "vllm", "mlx_lm")
_ACCUSED = "claude-flow"


def subagents_never_release(case: Case) -> Claim:
    text = "subagents never release memory"
    if case.ended:
        left = [one for one in case.ended if one.survivors]
        evidence = (
            f"journal: {len(case.ended)} governed agents ended, {len(left)} of them left processes behind",
            *(
                f"tree {one.tree}: peak {format_size(one.peak_bytes)}, {one.survivors} survived"
                for one in case.ended[:4]
            ),
        )
        verdict: Judgement = "supported" if len(left) == len(case.ended) else "refuted"
        return Claim(text=text, verdict=verdict, evidence=evidence)
    helpers = {one.pid for one in case.processes if one.kind == "extension-host"}
    called = {one.pid for one in case.mentions if "subagent" in one.roles}
    evidence = ("the memory of a session's process is not here at two moments, before and after a subagent ended",)
    if called & helpers:
        lines = [one.line for one in case.mentions if one.pid in called & helpers]
        what = f"{where(lines)}: the processes said to have stayed are extension hosts, which end with their window"
        evidence = (what, *evidence)
    return Claim(text=text, verdict="unknown", evidence=evidence)


def claude_flow_is_to_blame(case: Case) -> Claim:
    text = f"{_ACCUSED} is to blame"
    own, told = _own(case)
    all_of_it = sum(one.footprint_bytes or 0 for one in case.processes if one.server != _ACCUSED) + own[1]
    if not own[1]:
        missing = f"no footprint of {_ACCUSED} is given here" if case.origin == "text" else "it does not run here now"
        return Claim(text=text, verdict="unknown", evidence=(*told, missing))
    if all_of_it == own[1]:
        return Claim(
            text=text, verdict="unknown", evidence=(*told, "no footprint of any other process is given here")
        )
    share = own[1] / all_of_it
    others = sorted((one for one in case.processes if one.footprint_bytes and one.server != _ACCUSED), key=_size)[-3:]
    largest = ", ".join(f"PID {one.pid} {format_size(_size(one))} ({one.source})" for one in reversed(others))
    evidence = (
        *told,
        f"at most {format_size(own[1])} of the {format_size(all_of_it)} that is accounted for, {share:.0%}",
        f"the largest others: {largest}",
    )
    verdict: Judgement = "refuted" if share < INNOCENT else "supported" if share > GUILTY else "unknown"
    return Claim(text=text, verdict=verdict, evidence=evidence)


def _size(process: CaseProcess) -> int:
    return process.footprint_bytes or 0


def _own(case: Case) -> tuple[tuple[int, int], tuple[str, ...]]:
    """The footprint, at least and at most, and the evidence: by its processes, else by what the text says of it, and
    how often that is there."""
    seen = [one for one in case.processes if one.server == _ACCUSED and one.footprint_bytes is not None]
    if seen:
        size = sum(_size(one) for one in seen)
        pids = ", ".join(f"PID {one.pid} {format_size(_size(one))} ({one.source})" for one in seen[:8])
        return (size, size), (f"{_ACCUSED}: {format_size(size)} in {len(seen)} processes: {pids}",)
    said = [one for one in case.figures if _ACCUSED in one.name]
    if not said:
        return (0, 0), ()
    copies = next((one.number for one in case.copies if one.name == _ACCUSED), 1)
    low, high = min(one.amount.low for one in said), max(one.amount.high for one in said)
    each = max((one.amount.high for one in said if one.each), default=0)
    found = [one.amount for one in said]
    told = [f"{where(one.line for one in said)}: its footprint is {_range(found)} ({', '.join(values(found))})"]
    if copies > 1 and each:
        told.append(f"{copies} instances of {format_size(each)} each would be {format_size(copies * each)}")
    return (low, max(high, copies * each)), tuple(told)


def _range(found: list[Amount]) -> str:
    low, high = min(one.low for one in found), max(one.high for one in found)
    return format_size(low) if low == high else f"{format_size(low)} to {format_size(high)}"


def smaller_model_saves(case: Case) -> Claim:
    text = "a smaller model saves local memory"
    local = [one for one in case.processes if any(name in one.command.lower() for name in _LOCAL_MODELS)]
    if local:
        seen = tuple(f"PID {one.pid}: {one.command[:60]} runs a model on this machine" for one in local[:4])
        return Claim(text=text, verdict="supported", evidence=seen)
    remote = "a hosted model runs at its provider: its size is in no process here, what is loaded here is the same"
    if case.small_model_failed:
        evidence = (f"{where(case.small_model_failed)}: memory ran out with the smaller model as well", remote)
        return Claim(text=text, verdict="refuted", evidence=evidence)
    return Claim(text=text, verdict="unknown", evidence=("no run with a smaller model is described here", remote))


def stated_totals(case: Case) -> tuple[Claim, ...]:
    """That its parts give a total says nothing for it where the text has others for the same."""
    disputed = [one for rule in (several_totals, two_amounts) for one in rule(case)]
    return tuple(_stated(one, _others(one, disputed)) for one in case.totals)


def _others(total: Total, disputed: list[Contradiction]) -> Contradiction | None:
    return next((one for one in disputed if total.line in one.lines), None)


def _stated(total: Total, against: Contradiction | None) -> Claim:
    of = f" of {total.of}" if total.of else ""
    text = f"the total{of} is {total.amount.text}"
    at = f"line {total.line}"
    if len(total.parts) < 2:
        missing = f"{at}: not all of its parts are given with a figure"
        return Claim(text=text, verdict="unknown", evidence=(missing,), about="total")
    low, high = span(total)
    parts = format_size(low) if low == high else f"{format_size(low)} to {format_size(high)}"
    evidence = f"{at}: its parts {' + '.join(one.text for one in total.parts[:12])} give {parts}"
    if adds_up(total) and against is not None:
        others = f"{where(against.lines)}: the text has several for it: {', '.join(against.values)}"
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


def claims(case: Case) -> tuple[Claim, ...]:
    return (*(rule(case) for rule in CLAIMS), *stated_totals(case))
