"""What a host's hooks report about subagents, as typed events without the host's own words, and what a host's mapping
must provide."""

from __future__ import annotations

from typing import Protocol

import msgspec


class SubagentRequested(msgspec.Struct, frozen=True, kw_only=True):
    """A subagent is about to be started, if we allow it. ``request`` names the request within its session,
    ``requester`` the subagent that asks (None: the session itself)."""

    session: str
    request: str
    agent_type: str
    cwd: str = ""
    requester: str | None = None


class SubagentLaunched(msgspec.Struct, frozen=True, kw_only=True):
    """The request went through and made ``agent``. ``over``: the agent has finished already, or runs elsewhere."""

    session: str
    request: str
    agent: str | None = None
    over: bool = False


class RequestFailed(msgspec.Struct, frozen=True, kw_only=True):
    """The request came to nothing."""

    session: str
    request: str


class SubagentStarted(msgspec.Struct, frozen=True, kw_only=True):
    """A subagent runs: one that was requested, or one that never is (a resumed agent, a teammate). May come again for
    the same one."""

    session: str
    agent: str
    agent_type: str
    cwd: str = ""


class SubagentStopped(msgspec.Struct, frozen=True, kw_only=True):
    session: str
    agent: str


class OtherEvent(msgspec.Struct, frozen=True, kw_only=True):
    """Nothing that concerns us, except as a sign of life of ``agent``, if it comes from inside one."""

    session: str = ""
    agent: str | None = None


HostEvent = SubagentRequested | SubagentLaunched | RequestFailed | SubagentStarted | SubagentStopped | OtherEvent


class HookMapping(Protocol):
    """Between a host's JSON and events. Pure, both ways.

    ``answer_within``: seconds for which the host waits for an answer. ``subagent_bytes``: what one more subagent is
    expected to add to the host's process; what its tool shells use is theirs.
    """

    @property
    def host(self) -> str: ...
    @property
    def answer_within(self) -> float: ...
    @property
    def subagent_bytes(self) -> int: ...

    def parse_event(self, body: bytes) -> HostEvent:
        """Raises ValueError with one line about what is wrong with it."""
        ...

    def acknowledge(self) -> bytes:
        """Returns the answer to every event that we have no say in."""
        ...

    def allow(self) -> bytes:
        """Returns the answer to an admitted ``SubagentRequested``: as if we had not been asked."""
        ...

    def refuse(self, reason: str, never: bool) -> bytes:
        """Returns the answer to a refused ``SubagentRequested``, in words that tell the model what to do. ``never``:
        it would be refused again."""
        ...
