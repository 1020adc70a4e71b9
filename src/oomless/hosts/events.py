"""What a host's hooks tell, as typed facts without the host's own words, and what a host's mapping must do.

The mapping for Claude Code is ``claude_hooks.py``. What follows from an event is ``hooks.py``'s business.
"""

from __future__ import annotations

from typing import Protocol

import msgspec


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """A subagent is about to be started, if we let it. ``use`` names the request among those of its session,
    ``within`` the subagent that asks (None: the session itself), ``kind`` the type of agent."""

    session: str
    use: str
    kind: str
    cwd: str = ""
    within: str | None = None


class Launched(msgspec.Struct, frozen=True, kw_only=True):
    """That request went through and made ``agent``. ``over``: and the agent has finished, or runs elsewhere."""

    session: str
    use: str
    agent: str | None = None
    over: bool = False


class Failed(msgspec.Struct, frozen=True, kw_only=True):
    """That request came to nothing."""

    session: str
    use: str


class Began(msgspec.Struct, frozen=True, kw_only=True):
    """A subagent runs: one that asked, or one that never does (a resumed agent, a teammate). May be told again for
    the same one."""

    session: str
    agent: str
    kind: str
    cwd: str = ""


class Finished(msgspec.Struct, frozen=True, kw_only=True):
    session: str
    agent: str


class Other(msgspec.Struct, frozen=True, kw_only=True):
    """Nothing that concerns us, but for being a sign of life of ``agent``, if it is from inside one."""

    session: str = ""
    agent: str | None = None


HostEvent = Wanted | Launched | Failed | Began | Finished | Other


class Mapping(Protocol):
    """Pure, both ways."""

    @property
    def host(self) -> str: ...

    def read(self, body: bytes) -> HostEvent:
        """Raises ValueError with one line about what is wrong with it."""
        ...

    def heard(self) -> bytes:
        """The answer to everything that we have no say in."""
        ...

    def allowed(self) -> bytes:
        """The answer to ``Wanted``: as if we had not been asked."""
        ...

    def refused(self, why: str, never: bool) -> bytes:
        """The answer to ``Wanted``: no, in words that tell the model what to do."""
        ...
