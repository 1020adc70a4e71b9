"""What the demo measures, as frozen facts (this is ``demo --json``), and the checks that they must pass. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec

from oomless.model import FootprintSource

Form = Literal["real", "synthetic"]
ActName = Literal["parallel", "sequential", "parallel-killed", "governed", "governed-killed"]
#: The budget of the governed acts as a share of the first act's peak, so that they cannot do as it did.
BUDGET_SHARE = 0.6
ACTS: tuple[ActName, ...] = ("parallel", "sequential", "parallel-killed", "governed", "governed-killed")


class Member(msgspec.Struct, frozen=True, kw_only=True):
    """A process of an act. ``role``: ``agent`` for an agent's root, ``oomless`` for one of ours, else a word for its
    kind. ``agent``: the name of the agent that it belongs to, empty if unknown."""

    pid: int
    start: int
    role: str
    agent: str
    bytes: int


class Point(msgspec.Struct, frozen=True, kw_only=True):
    """One sample. ``bytes`` is the act's own memory, ``overhead_bytes`` that of oomless (daemon, shims, batch)."""

    seconds: float
    bytes: int
    agents: int
    processes: int
    overhead_bytes: int = 0


class RoleShare(msgspec.Struct, frozen=True, kw_only=True):
    """What the processes of one role took at a moment."""

    role: str
    processes: int
    bytes: int


class Passed(msgspec.Struct, frozen=True, kw_only=True):
    """What came by oomless in a governed act, by its journal: subagents that were admitted, servers and tool shells
    that ran as trees of their own."""

    subagents: int
    servers: int
    shells: int


class ActRecord(msgspec.Struct, frozen=True, kw_only=True):
    """``seconds``: to the end of the last agent. ``killed``: agents that the demo killed. ``repeated``: results that
    were made twice. ``left``: the survivors before the demo killed them, ``ended`` of them. ``agent_bytes``: the most
    that one agent took with all that it had started. ``at_peak``: the roles that took the act's peak."""

    name: ActName
    agents_peak: int
    processes_peak: int
    peak_bytes: int
    footprint_source: FootprintSource
    budget_bytes: int | None
    finished: int
    seconds: float
    survivors: int
    survivors_bytes: int
    left: tuple[Member, ...]
    ended: int
    killed: int
    repeated: int
    overhead_bytes: int
    agent_bytes: int
    at_peak: tuple[RoleShare, ...]
    points: tuple[Point, ...]
    passed: Passed | None = None


class Check(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    passed: bool
    detail: str


class ToolCalls(msgspec.Struct, frozen=True, kw_only=True):
    """How often a server's tool answered in the acts ``parallel`` and ``sequential``, and how often with an error;
    ``error`` is the last one, shortened."""

    server: str
    tool: str
    calls: int
    errors: int
    error: str = ""


class DemoRecord(msgspec.Struct, frozen=True, kw_only=True):
    """``agent_bytes``: given for synthetic agents (one's own memory; each child takes ``child_bytes``), measured for
    real ones (with all that one had started). ``servers``: each with its version; ``servers_missing``: each with the
    reason. ``browser``: what chrome-devtools-mcp can start."""

    schema: str = "oomless.demo/1"
    form: Form
    agents: int
    agent_bytes: int
    child_bytes: int | None = None
    agent_seconds: float | None = None
    shrunk_from: int | None = None
    acts: tuple[ActRecord, ...]
    checks: tuple[Check, ...]
    servers: tuple[str, ...] = ()
    servers_missing: dict[str, str] = {}
    browser: str | None = None
    tools: tuple[ToolCalls, ...] = ()
    ok: bool


def sum_by_role(members: tuple[Member, ...]) -> tuple[RoleShare, ...]:
    """The largest first."""
    sizes: dict[str, list[int]] = {}
    for member in members:
        sizes.setdefault(member.role, []).append(member.bytes)
    shares = [RoleShare(role=role, processes=len(own), bytes=sum(own)) for role, own in sizes.items()]
    return tuple(sorted(shares, key=lambda share: (-share.bytes, share.role)))


def check_acts(acts: Sequence[ActRecord], agents: int) -> tuple[Check, ...]:
    """For both forms."""
    by_name = {act.name: act for act in acts}
    first = by_name["parallel"].peak_bytes or 1
    checks: list[Check] = []
    for act in (by_name["governed"], by_name["governed-killed"]):
        twice = f", {act.repeated} of them twice" if act.repeated else ""
        share, peak = act.peak_bytes / first, f"peak at most {BUDGET_SHARE:.0%} of the first act's"
        all_once = act.finished == agents and not act.repeated
        checks += [
            _check(act, "all finish, each once", all_once, f"{act.finished} of {agents}{twice}"),
            _check(act, "no survivors", act.survivors == 0, _count_processes(act)),
            _check(act, peak, share <= BUDGET_SHARE, f"{share:.0%}"),
            _check(act, "at least two at once", act.agents_peak >= 2, str(act.agents_peak)),
        ]
    return (*checks, _check_killed(by_name["governed-killed"], agents))


def check_real_acts(acts: Sequence[ActRecord], agents: int, tools: Sequence[ToolCalls]) -> tuple[Check, ...]:
    """What else must be so with real programs, or the figures would not be what they are said to be."""
    by_name = {act.name: act for act in acts}
    checks = [
        _check(by_name[name], "all finish", by_name[name].finished == agents, f"{by_name[name].finished} of {agents}")
        for name in ("parallel", "sequential")
    ]
    calls, wanted = sum(tool.calls for tool in tools), 2 * agents * len(tools)
    killed = by_name["parallel-killed"]
    checks += [
        Check(name="each agent calls each server", passed=calls == wanted, detail=f"{calls} of {wanted} answers"),
        _check_killed(killed, agents),
        _check(killed, "there are survivors", killed.survivors > 0, _count_processes(killed)),
    ]
    for act in (by_name["governed"], by_name["governed-killed"]):
        # More where an agent was tried again.
        by = act.passed or Passed(subagents=0, servers=0, shells=0)
        servers, shells = agents * len(tools), 3 * agents
        checks += [
            _check(act, "each subagent is admitted", by.subagents >= agents, f"{by.subagents} of {agents}"),
            _check(act, "each server comes by the prefix", by.servers >= servers, f"{by.servers} trees"),
            _check(act, "tool shells come by the prefix", by.shells >= shells, f"{by.shells} trees"),
        ]
    return tuple(checks)


def _check_killed(act: ActRecord, agents: int) -> Check:
    return _check(act, "each agent was killed once", act.killed == agents, f"{act.killed} of {agents}")


def _check(act: ActRecord, name: str, passed: bool, detail: str) -> Check:
    return Check(name=f"{act.name}: {name}", passed=passed, detail=detail)


def _count_processes(act: ActRecord) -> str:
    return f"{act.survivors} process" if act.survivors == 1 else f"{act.survivors} processes"
