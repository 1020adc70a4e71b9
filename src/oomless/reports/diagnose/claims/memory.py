"""Claims about memory: who uses it, whether it comes back, and stated totals. Pure."""

from __future__ import annotations

from oomless.reports.diagnose.amounts import values
from oomless.reports.diagnose.claims.claim import Claim, Judgement
from oomless.reports.diagnose.contradictions.found import Contradiction
from oomless.reports.diagnose.contradictions.sums import adds_up, several_totals, span, two_amounts
from oomless.reports.diagnose.facts import Amount, Case, CaseProcess, Total
from oomless.reports.diagnose.helpers import where
from oomless.units import format_size

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
