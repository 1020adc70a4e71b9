"""The whole demo: the memory check, the five acts in their order, what they show; for both forms of agents.

Each act: ``acts.py`` and ``governed.py``. The programs of the real form: ``parts/``. Printing: ``show.py``.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time

assert sys.platform == "linux"

import msgspec

from oomless import platform
from oomless.demo import acts, differences, governed, told, verdict
from oomless.demo.model import log
from oomless.demo.model.process import ModelProcess
from oomless.demo.pages import PAGES, script
from oomless.demo.parts import Built
from oomless.demo.parts.catalog import ALL, CLAUDE
from oomless.demo.real import Real
from oomless.demo.record import ActRecord, Check, DemoRecord, Missing, Part
from oomless.demo.sizing import Plan, check_room, make_plan
from oomless.demo.stage import Report, Stage
from oomless.demo.synthetic import Synthetic
from oomless.platform.base import Platform
from oomless.units import format_size

TICKS = os.sysconf("SC_CLK_TCK")
VERSION_SECONDS = 30


def available(here: Platform) -> int:
    """What the machine and every memory limit above this process leave."""
    headroom = here.headroom(os.getpid())
    free = here.memory().available_bytes
    return free if headroom is None else min(free, headroom)


# Synthetic agents


def prepare(agents: int, agent_bytes: int, seconds: float) -> Plan:
    """Raises Refused if the machine is too full for it, UsageError if the figures show nothing."""
    return make_plan(agents, agent_bytes, seconds, available(platform.current()))


def replay(plan: Plan, report: Report) -> DemoRecord:
    """Raises Interrupted on a signal; however it ends, nothing is left."""
    if plan.shrunk_from is not None:
        report.note(
            f"agents of {format_size(plan.agent_bytes)} instead of {format_size(plan.shrunk_from)}: more is not free"
        )
    with Stage(Synthetic(plan), platform.current(), report) as stage, governed.Throwaway(stage) as home:
        records = _perform(stage, home, "its agents hardly overlapped: try --seconds 5")
    return msgspec.structs.replace(
        _record(stage, records, verdict.checks(records, plan.agents)),
        agent_bytes=plan.agent_bytes,
        child_bytes=plan.child_bytes,
        agent_seconds=plan.seconds,
        shrunk_from=plan.shrunk_from,
    )


# Real ones


def check_real() -> None:
    """Raises Refused if the machine is too full for them."""
    check_room(len(PAGES), available(platform.current()))


def replay_real(built: Built, report: Report) -> DemoRecord:
    """As ``replay``, with the programs that were built."""
    real = Real(built)
    with Stage(real, platform.current(), report) as stage, governed.Throwaway(stage) as home:
        with ModelProcess(script(built.servers.values()), stage.folder) as model:
            real.url = model.url
            records = _perform(stage, home, "its sessions hardly overlapped: try again on a quieter machine")
            entries = log.read(model.log)
    return _with_facts(stage, real, records, entries)


def _with_facts(stage: Stage, real: Real, records: tuple[ActRecord, ...], entries: list[log.Entry]) -> DemoRecord:
    built, agents = real.built, len(real.names)
    offset = time.clock_gettime(time.CLOCK_BOOTTIME) - time.time()
    watched = (
        told.Watched(samples=stage.samples["parallel"], alone=False),
        told.Watched(samples=stage.samples["sequential"], alone=True),
    )
    tools = told.tools(entries, built.servers.values(), watched, offset)
    found = told.subagents(told.ran(entries, offset), watched, TICKS)
    outlived = told.outlived(stage.samples["parallel-killed"])
    checks = (*verdict.checks(records, agents), *verdict.real_checks(records, agents, tools))
    version = host_version(built.claude)
    return msgspec.structs.replace(
        _record(stage, records, checks),
        parts=tuple(
            Part(name=part.name, package=part.package, version=part.version)
            for part in ALL
            if part.name not in dict(built.servers_missing)
        ),
        servers_missing=tuple(Missing(name=name, reason=reason) for name, reason in built.servers_missing),
        host_version=version,
        browser=built.browser,
        tools=tools,
        subagents=found,
        outlived=outlived,
        differences=differences.differences(
            records,
            found,
            outlived,
            servers=tuple(built.servers),
            agents=agents,
            version=f"Claude Code {version}" if version else CLAUDE.package,
        ),
    )


def host_version(claude: str) -> str | None:
    """What it says of itself; None if it says nothing in time."""
    try:
        done = subprocess.run(
            [claude, "--version"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=VERSION_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    said = done.stdout.split()
    return said[0] if done.returncode == 0 and said else None


# Both


def _perform(stage: Stage, home: governed.Throwaway, todo: str) -> tuple[ActRecord, ...]:
    """``todo``: what to do when the first act is no measure for the governed ones."""
    first = acts.parallel(stage)
    second = acts.sequential(stage)
    third = acts.parallel_killed(stage)
    need = stage.agents.need(first)
    budget = governed.budget_of(need, first.peak_bytes, todo)
    whole = governed.governed(stage, home, need, budget, kill=False)
    killed = governed.governed(stage, home, need, budget, kill=True)
    stage.check()
    return first, second, third, whole, killed


def _record(stage: Stage, records: tuple[ActRecord, ...], checks: tuple[Check, ...]) -> DemoRecord:
    agents = len(stage.names)
    return DemoRecord(
        form=stage.agents.form,
        agents=agents,
        agent_bytes=records[1].agent_bytes,
        acts=records,
        checks=checks,
        conclusion=verdict.sentences(records, agents, checks),
        ok=all(check.passed for check in checks),
    )
