"""The whole demo: the memory check, the five acts in their order, and what they show."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable

assert sys.platform == "linux"

import msgspec

from oomless import platform
from oomless.demo.agents import PAGES, AgentPlan, Real, Synthetic, make_script, tool_name
from oomless.demo.model import LogEntry, ModelProcess, read_log
from oomless.demo.parts import Built, ServerPart
from oomless.demo.record import ActRecord, Check, DemoRecord, ToolCalls, check_acts, check_real_acts
from oomless.demo.show import Progress
from oomless.demo.stage import Stage, choose_budget, play_governed, play_parallel, play_sequential
from oomless.units import format_size

#: Characters of a tool's error that are kept.
LONGEST = 160


def find_available() -> int:
    """What the machine and every memory limit above this process leave."""
    current = platform.current()
    headroom = current.headroom(os.getpid())
    available = current.memory().available_bytes
    return available if headroom is None else min(available, headroom)


def replay(plan: AgentPlan, report: Progress) -> DemoRecord:
    """Raises Interrupted on a signal; however it ends, nothing is left."""
    if plan.shrunk_from is not None:
        size, wanted = format_size(plan.agent_bytes), format_size(plan.shrunk_from)
        report.note(f"agents of {size} instead of {wanted}: more is not free")
    with Stage(Synthetic(plan), platform.current(), report) as stage:
        acts = _play_acts(stage, "its agents hardly overlapped: try --seconds 5")
    return msgspec.structs.replace(
        _make_record(stage, acts, check_acts(acts, plan.agents)),
        agent_bytes=plan.agent_bytes,
        child_bytes=plan.child_bytes,
        agent_seconds=plan.seconds,
        shrunk_from=plan.shrunk_from,
    )


def replay_real(built: Built, report: Progress) -> DemoRecord:
    """As ``replay``, with the programs that were built."""
    real, servers = Real(built), built.servers.values()
    tools: list[ToolCalls] = []
    with Stage(real, platform.current(), report) as stage:
        with ModelProcess(make_script(servers), stage.folder) as model:
            real.url = model.url
            hint = "its sessions hardly overlapped: try again on a quieter machine"
            acts = _play_acts(stage, hint, lambda: tools.extend(count_calls(read_log(model.log), servers)))
    checks = (*check_acts(acts, len(PAGES)), *check_real_acts(acts, len(PAGES), tools))
    return msgspec.structs.replace(
        _make_record(stage, acts, checks),
        servers=tuple(f"{server.name} {server.version}" for server in servers),
        servers_missing=built.servers_missing,
        browser=built.browser,
        tools=tuple(tools),
    )


def count_calls(entries: Iterable[LogEntry], servers: Iterable[ServerPart]) -> list[ToolCalls]:
    results = [result for entry in entries for result in entry.results]
    calls = []
    for server in servers:
        answers = [result for result in results if result.tool == tool_name(server)]
        errors = [" ".join(result.text.split())[:LONGEST] for result in answers if result.error]
        last = errors[-1] if errors else ""
        calls.append(
            ToolCalls(server=server.name, tool=server.tool, calls=len(answers), errors=len(errors), error=last)
        )
    return calls


def _play_acts(stage: Stage, hint: str, after_two: Callable[[], None] = lambda: None) -> tuple[ActRecord, ...]:
    """``hint``: what to do when the first act is no measure for the governed ones. ``after_two`` is called when the
    two ungoverned acts in which no agent is killed are over."""
    parallel = play_parallel(stage)
    sequential = play_sequential(stage)
    after_two()
    killed = play_parallel(stage, kill=True)
    need = stage.agents.need(parallel)
    budget = choose_budget(need, parallel.peak_bytes, hint)
    governed = play_governed(stage, need, budget)
    governed_killed = play_governed(stage, need, budget, kill=True)
    stage.check_signal()
    return parallel, sequential, killed, governed, governed_killed


def _make_record(stage: Stage, acts: tuple[ActRecord, ...], checks: tuple[Check, ...]) -> DemoRecord:
    return DemoRecord(
        form=stage.agents.form,
        agents=len(stage.agents.names),
        agent_bytes=acts[1].agent_bytes,
        acts=acts,
        checks=checks,
        ok=all(check.passed for check in checks),
    )
