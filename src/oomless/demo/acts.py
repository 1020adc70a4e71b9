"""The three acts without oomless: what the incident did, what was tried instead, and what an abort leaves.

The two governed acts: ``governed.py``. What an act is: ``stage.py``.
"""

from __future__ import annotations

import sys

assert sys.platform == "linux"

from oomless.demo.record import ActRecord
from oomless.demo.stage import Act, Stage

#: How long after its last agent's end a process counts as left over.
LINGER = 5.0


def parallel(stage: Stage) -> ActRecord:
    with Act(stage, "parallel", "all at once, nobody watching") as act:
        return _all_at_once(act, kill=False)


def parallel_killed(stage: Stage) -> ActRecord:
    with Act(stage, "parallel-killed", "all at once, each agent SIGKILLed half-way") as act:
        return _all_at_once(act, kill=True)


def sequential(stage: Stage) -> ActRecord:
    with Act(stage, "sequential", "one after another, nobody watching") as act:
        for name in stage.names:
            agent = act.start(name)
            while agent.poll() is None:
                act.check_time()
                act.step()
        return _finish(act)


def _all_at_once(act: Act, kill: bool) -> ActRecord:
    agents = [act.start(name) for name in act.stage.names]
    # Each is polled each time: an agent that is not reaped would be a zombie, not a survivor.
    while [agent for agent in agents if agent.poll() is None]:
        act.check_time()
        act.step()
        if kill:
            act.kill_halfway()
    return _finish(act)


def _finish(act: Act) -> ActRecord:
    act.agents_over()
    act.linger(LINGER)
    return act.close()
