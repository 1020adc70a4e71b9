"""How large the synthetic agents may be on this machine, and whether it has room for the real ones: decided before
anything starts. Pure; the figures come from outside.

The budget of the governed acts is not decided here: it follows from what the first act really took (``governed.py``).
"""

from __future__ import annotations

import msgspec

from oomless.demo.agent import CHILDREN
from oomless.errors import Refused, UsageError
from oomless.units import format_size

MB = 10**6
DEFAULT_AGENTS, DEFAULT_MEMORY, DEFAULT_SECONDS = 5, 120 * MB, 2.0
#: The budget of the governed acts, as a share of the first act's peak, so that they cannot do as it did.
BUDGET_SHARE = 0.6
#: Two at once must fit in that share of what all take at once, with a tenth to spare: 2 x 1.1 <= 0.6 N.
MIN_AGENTS, MAX_AGENTS = 4, 50
MIN_MEMORY, MIN_CHILD = 12 * MB, 3 * MB
MIN_SECONDS, MAX_SECONDS = 1.0, 30.0
#: A bare interpreter with the agent's imports: 6 MB of PSS with CPython 3.11 where 20 share its text.
INTERPRETER = 7 * MB
#: The share of the available memory that the demo may take: the rest stays for whoever else is at work.
SHARE = 0.7


#: A session of Claude Code 2.1.330 with five servers and Chromium, where five run at a time (measured: 622 MB).
REAL_TREE = 700 * MB


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """``life``: after that many seconds the kernel ends each process of the demo, whatever happens."""

    agents: int
    agent_bytes: int
    seconds: float
    life: int
    shrunk_from: int | None = None

    @property
    def child_bytes(self) -> int:
        return child_size(self.agent_bytes)

    @property
    def tree_bytes(self) -> int:
        """What one agent takes at its height, children and interpreters included."""
        return tree_size(self.agent_bytes)


def child_size(agent_bytes: int) -> int:
    """25 MB beside an agent of 120 MB."""
    return max(MIN_CHILD, agent_bytes * 5 // 24)


def tree_size(agent_bytes: int) -> int:
    return agent_bytes + len(CHILDREN) * child_size(agent_bytes) + (1 + len(CHILDREN)) * INTERPRETER


def check_room(agents: int, available: int) -> None:
    """For real ones; raises Refused. Fewer would show nothing: two at once take 59 % of what four take."""
    if agents * REAL_TREE > available * SHARE:
        raise Refused(
            "not enough free memory for the demo",
            f"{agents} sessions with their servers need {format_size(int(agents * REAL_TREE / SHARE))} free, "
            f"{format_size(available)} are available",
            "close something, or use --synthetic",
        )


def make_plan(agents: int, agent_bytes: int, seconds: float, available: int) -> Plan:
    """Shrinks the agents until all fit at once; raises Refused when they would be too small to show anything."""
    _check(agents, agent_bytes, seconds)
    room = int(available * SHARE)
    fitting = _largest_fitting(agents, agent_bytes, room)
    if fitting is None:
        need = int(agents * tree_size(MIN_MEMORY) / SHARE)
        raise Refused(
            "not enough free memory for the demo",
            f"{agents} agents need {format_size(need)} free, {format_size(available)} are available",
            "close something" if agents == MIN_AGENTS else f"close something, or use --agents {MIN_AGENTS}",
        )
    # The first agent's leak must live through the sequential act, or it would be counted as clean.
    life = max(120, int(3 * agents * (seconds + 2)))
    shrunk = agent_bytes if fitting < agent_bytes else None
    return Plan(agents=agents, agent_bytes=fitting, seconds=seconds, life=life, shrunk_from=shrunk)


def _largest_fitting(agents: int, wanted: int, room: int) -> int | None:
    size = wanted
    while size >= MIN_MEMORY:
        if agents * tree_size(size) <= room:
            return size
        size = size * 9 // 10
    return MIN_MEMORY if agents * tree_size(MIN_MEMORY) <= room else None


def _check(agents: int, agent_bytes: int, seconds: float) -> None:
    if not MIN_AGENTS <= agents <= MAX_AGENTS:
        raise UsageError(
            f"--agents {agents} cannot be used",
            "two at once must fit in 60 % of what all take at once" if agents < MIN_AGENTS else "",
            f"give a number from {MIN_AGENTS} to {MAX_AGENTS}",
        )
    if agent_bytes < MIN_MEMORY:
        raise UsageError(
            f"--agent-memory {format_size(agent_bytes)} is too small to measure",
            "",
            f"give {format_size(MIN_MEMORY)} or more",
        )
    if not MIN_SECONDS <= seconds <= MAX_SECONDS:
        raise UsageError(
            f"--seconds {seconds:g} cannot be used", "", f"give a number from {MIN_SECONDS:g} to {MAX_SECONDS:g}"
        )
