"""The whole demo: the memory check, the five acts in their order, what they show.

Each act: ``acts.py`` and ``governed.py``. Printing: ``show.py``.
"""

from __future__ import annotations

import os
import sys

assert sys.platform == "linux"

from oomless import platform
from oomless.demo import acts, governed, verdict
from oomless.demo.record import DemoRecord
from oomless.demo.sizing import Plan, make_plan
from oomless.demo.stage import Report, Stage
from oomless.platform.base import Platform
from oomless.units import format_size


def prepare(agents: int, agent_bytes: int, seconds: float) -> Plan:
    """Raises Refused if the machine is too full for it, UsageError if the figures show nothing."""
    return make_plan(agents, agent_bytes, seconds, available(platform.current()))


def replay(plan: Plan, report: Report) -> DemoRecord:
    """Raises Interrupted on a signal; however it ends, nothing is left."""
    if plan.shrunk_from is not None:
        report.note(
            f"agents of {format_size(plan.agent_bytes)} instead of {format_size(plan.shrunk_from)}: more is not free"
        )
    with Stage(plan, platform.current(), report) as stage, governed.Throwaway(stage) as home:
        return _perform(stage, home, plan)


def available(here: Platform) -> int:
    """What the machine and every memory limit above this process leave."""
    headroom = here.headroom(os.getpid())
    free = here.memory().available_bytes
    return free if headroom is None else min(free, headroom)


def _perform(stage: Stage, home: governed.Throwaway, plan: Plan) -> DemoRecord:
    first = acts.parallel(stage)
    others = [acts.sequential(stage), acts.parallel_killed(stage)]
    budget = governed.budget_of(plan, first.peak_bytes)
    whole = governed.governed(stage, home, budget, kill=False)
    killed = governed.governed(stage, home, budget, kill=True)
    records = (first, *others, whole, killed)
    stage.check()
    checks = verdict.checks(records, plan.agents)
    return DemoRecord(
        agents=plan.agents,
        agent_bytes=plan.agent_bytes,
        child_bytes=plan.child_bytes,
        agent_seconds=plan.seconds,
        shrunk_from=plan.shrunk_from,
        acts=records,
        checks=checks,
        conclusion=verdict.sentences(records, plan.agents, checks),
        ok=all(check.passed for check in checks),
    )
