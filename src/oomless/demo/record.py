"""What the demo finds out, as frozen facts: this is ``demo --json``.

How it is measured: ``measure.py``; what is concluded from it: ``verdict.py`` and, for the real agents,
``differences.py``.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from oomless.model import FootprintSource

Form = Literal["real", "synthetic"]
ActName = Literal["parallel", "sequential", "parallel-killed", "governed", "governed-killed"]
ACTS: tuple[ActName, ...] = ("parallel", "sequential", "parallel-killed", "governed", "governed-killed")


class Point(msgspec.Struct, frozen=True, kw_only=True):
    """One sample. ``bytes`` is the act's own memory, ``overhead_bytes`` that of oomless (daemon, shims, batch)."""

    seconds: float
    bytes: int
    agents: int
    processes: int
    overhead_bytes: int = 0


class Left(msgspec.Struct, frozen=True, kw_only=True):
    """A survivor as it was found, before any clean-up, and whose it was."""

    pid: int
    start: int
    role: str
    agent: str
    bytes: int


class Share(msgspec.Struct, frozen=True, kw_only=True):
    """What the processes of one kind took at a moment."""

    role: str
    processes: int
    bytes: int


class Passed(msgspec.Struct, frozen=True, kw_only=True):
    """What came by oomless in a governed act, by its journal: subagents that the gate admitted, servers and tool
    shells that ran as trees of their own."""

    subagents: int
    servers: int
    shells: int


class ActRecord(msgspec.Struct, frozen=True, kw_only=True):
    """``seconds``: to the end of the last agent (governed: until ``batch`` returned). ``killed``: agents that the
    demo ended by SIGKILL. ``repeated``: results that were made a second time. ``ended``: what the clean-up ended.
    ``agent_bytes``: the most that one agent took with all that it had started; ``at_peak``: whose the act's peak was.
    """

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
    left: tuple[Left, ...]
    ended: int
    killed: int
    repeated: int
    overhead_bytes: int
    agent_bytes: int
    at_peak: tuple[Share, ...]
    points: tuple[Point, ...]
    passed: Passed | None = None


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """What the governed acts must show, and whether they did."""

    name: str
    passed: bool
    detail: str


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """A program that was used, the package that it is from, and that one's version."""

    name: str
    package: str
    version: str


class Missing(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    reason: str


class Tool(msgspec.Struct, frozen=True, kw_only=True):
    """How often a server's tool was called and how often it answered with an error, in the acts without oomless in
    which no agent was killed. ``error``: the last one, shortened."""

    server: str
    tool: str
    calls: int
    errors: int
    error: str = ""


class Outlived(msgspec.Struct, frozen=True, kw_only=True):
    """Processes of one kind that were there 3 s after their session was killed: how many there were, how many of them
    ended by themselves while the act was watched, and how long after their session at most; ``bytes`` is what all of
    them took then."""

    role: str
    processes: int
    ended: int
    seconds: float
    bytes: int


class Subagents(msgspec.Struct, frozen=True, kw_only=True):
    """What began in a session while its subagent was at work, in the same acts: ``processes`` of the host or of its
    servers (``roles``: which), ``shells`` for the subagent's commands (as far as they were seen); a browser's helpers
    come and go as it likes and do not count. ``seconds``: how long a subagent was at work, the median.
    ``growth_bytes``: by how much the session's own process grew meanwhile, the median where one session ran at a
    time."""

    ran: int
    processes: int
    roles: tuple[str, ...] = ()
    shells: int
    seconds: float
    growth_bytes: int


class DemoRecord(msgspec.Struct, frozen=True, kw_only=True):
    """``agent_bytes``: what one agent takes: given for the synthetic form (its own memory; each child takes
    ``child_bytes``), measured for the real one (with all that it started). What the real form adds has a default;
    ``host_version`` is what Claude Code says of itself, ``browser`` what chrome-devtools-mcp can start."""

    schema: str = "oomless.demo/1"
    form: Form
    agents: int
    agent_bytes: int
    child_bytes: int | None = None
    agent_seconds: float | None = None
    shrunk_from: int | None = None
    acts: tuple[ActRecord, ...]
    checks: tuple[Check, ...]
    conclusion: tuple[str, ...]
    parts: tuple[Part, ...] = ()
    servers_missing: tuple[Missing, ...] = ()
    host_version: str | None = None
    browser: str | None = None
    tools: tuple[Tool, ...] = ()
    subagents: Subagents | None = None
    outlived: tuple[Outlived, ...] = ()
    differences: tuple[str, ...] = ()
    ok: bool
