"""What the figures say: the checks that the acts must pass, and two or three sentences. Pure.

Nothing is claimed here that is not computed from the records: a governed act that did no better makes a failed
check, and its own sentence.
"""

from __future__ import annotations

from collections.abc import Sequence

from oomless.demo.record import ActRecord, Check, Passed, Tool
from oomless.demo.sizing import BUDGET_SHARE
from oomless.units import format_duration, format_size


def checks(acts: Sequence[ActRecord], agents: int) -> tuple[Check, ...]:
    """For both forms."""
    by_name = {act.name: act for act in acts}
    first = by_name["parallel"]
    found: list[Check] = []
    for act in (by_name["governed"], by_name["governed-killed"]):
        share = _share(act, first)
        once = "" if not act.repeated else f", {act.repeated} of them twice"
        found += [
            _check(
                act,
                "all finish, each once",
                act.finished == agents and not act.repeated,
                f"{act.finished} of {agents}{once}",
            ),
            _check(act, "nothing is left", act.survivors == 0, _processes(act.survivors)),
            _check(act, f"peak at most {BUDGET_SHARE:.0%} of the first act's", share <= BUDGET_SHARE, f"{share:.0%}"),
            _check(act, "at least two at once", act.agents_peak >= 2, str(act.agents_peak)),
        ]
    killed = by_name["governed-killed"]
    found.append(
        _check(killed, "each agent was killed once", killed.killed == agents, f"{killed.killed} of {agents}")
    )
    return tuple(found)


def real_checks(acts: Sequence[ActRecord], agents: int, tools: Sequence[Tool]) -> tuple[Check, ...]:
    """What else must be so with real programs, or the figures would not be what they are said to be."""
    by_name = {act.name: act for act in acts}
    found: list[Check] = []
    for act in (by_name["parallel"], by_name["sequential"]):
        found.append(_check(act, "all finish", act.finished == agents, f"{act.finished} of {agents}"))
    calls, wanted = sum(tool.calls for tool in tools), 2 * agents * len(tools)
    every = Check(name="each agent calls each server", passed=calls == wanted, detail=f"{calls} of {wanted} answers")
    killed = by_name["parallel-killed"]
    found += [
        every,
        _check(killed, "each agent was killed once", killed.killed == agents, f"{killed.killed} of {agents}"),
        _check(killed, "something is left", killed.survivors > 0, _processes(killed.survivors)),
    ]
    for act in (by_name["governed"], by_name["governed-killed"]):
        found += _passed(act, agents, len(tools))
    return tuple(found)


def _passed(act: ActRecord, agents: int, servers: int) -> list[Check]:
    """More where an agent began again."""
    by = act.passed or Passed(subagents=0, servers=0, shells=0)
    return [
        _check(act, "each subagent passes the gate", by.subagents >= agents, f"{by.subagents} of {agents}"),
        _check(act, "each server comes by the prefix", by.servers >= agents * servers, f"{by.servers} trees"),
        _check(act, "tool shells come by the prefix", by.shells >= 3 * agents, f"{by.shells} trees"),
    ]


def sentences(acts: Sequence[ActRecord], agents: int, found: Sequence[Check]) -> tuple[str, ...]:
    by_name = {act.name: act for act in acts}
    return (
        _ungoverned(by_name["parallel"], by_name["sequential"], by_name["parallel-killed"], agents),
        _governed(by_name["governed"], by_name["governed-killed"], by_name["parallel"], agents),
        _outcome(found),
    )


def _ungoverned(first: ActRecord, second: ActRecord, killed: ActRecord, agents: int) -> str:
    return (
        f"Ungoverned, {agents} agents at once peaked at {format_size(first.peak_bytes)} and left {_left(first)}; "
        f"one after another they took {format_duration(second.seconds)} instead of "
        f"{format_duration(first.seconds)}, peaked at {_share(second, first):.0%} of that and left {_left(second)}; "
        f"killed half-way they left {_left(killed)}."
    )


def _governed(whole: ActRecord, killed: ActRecord, first: ActRecord, agents: int) -> str:
    return (
        f"Governed under a budget of {format_size(whole.budget_bytes or 0)}, at most {whole.agents_peak} ran at "
        f"once, the peak was {_share(whole, first):.0%} of the first act's, {whole.finished} of {agents} finished "
        f"in {format_duration(whole.seconds)} and left {_left(whole)}; with {killed.killed} SIGKILLed half-way, "
        f"{killed.finished} of {agents} finished and left {_left(killed)}."
    )


def _outcome(found: Sequence[Check]) -> str:
    failed = [f"{check.name} ({check.detail})" for check in found if not check.passed]
    if failed:
        return "Not as it must be: " + "; ".join(failed) + "."
    return f"All {len(found)} checks hold."


def _check(act: ActRecord, name: str, passed: bool, detail: str) -> Check:
    return Check(name=f"{act.name}: {name}", passed=passed, detail=detail)


def _share(act: ActRecord, first: ActRecord) -> float:
    return act.peak_bytes / first.peak_bytes if first.peak_bytes else 1.0


def _processes(count: int) -> str:
    return f"{count} process" if count == 1 else f"{count} processes"


def _left(act: ActRecord) -> str:
    return f"{_processes(act.survivors)} with {format_size(act.survivors_bytes)}" if act.survivors else "nothing"
