"""The synthetic agents as the acts start and recognise them. What such a process does: ``agent.py``."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence

assert sys.platform == "linux"

from oomless.demo import agent
from oomless.demo.agents import AGENT, Place, Start
from oomless.demo.record import ActRecord, Form
from oomless.demo.sizing import Plan

AGENT_FILE = os.path.abspath(agent.__file__)
#: A tree may grow beyond its expected size: kernel memory and page cache count in a cgroup, not in PSS.
NEED_SHARE = 1.06


class Synthetic:
    """Their size is known beforehand, so nothing is taken from the acts without oomless but their peak."""

    form: Form = "synthetic"
    tick = 0.1

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.names = tuple(f"agent-{number}" for number in range(1, plan.agents + 1))
        self.inherited: Mapping[str, str] = os.environ
        #: Longer than all agents one after another, twice, could ever take.
        self.longest = 30 + 2 * plan.agents * (plan.seconds + 5)

    def open(self, place: Place) -> None:
        """They need nothing but the folder."""

    def start(self, place: Place, name: str) -> Start:
        plan = self.plan
        sizes = map(str, (plan.agent_bytes, plan.child_bytes, plan.seconds, plan.life))
        command = (sys.executable, "-I", "-S", "-E", AGENT_FILE, "agent", name, place.folder, *sizes)
        return Start(command=command, env={AGENT: name}, cwd=place.folder)

    def role(self, command: Sequence[str]) -> tuple[str, str]:
        if AGENT_FILE not in command:
            return "other", ""
        rest = command[command.index(AGENT_FILE) + 1 :]
        role = rest[0] if rest else "other"
        return role, rest[1] if role == "agent" and len(rest) > 1 else ""

    def need(self, parallel: ActRecord) -> int:
        return int(self.plan.tree_bytes * NEED_SHARE)
