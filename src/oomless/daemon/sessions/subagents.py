"""The subagents inside hosts' processes, as far as hooks report them: a reservation each, from the request to the
end.

::

    waiting --admitted--> admitted --SubagentStart--> running --SubagentStop--> over
       |                     | the tool failed, was denied, or 120 s without a start
       +---- refused, hung up, or the session's process died (from every state) ----> over

A start names no request: it takes the reservation that is linked to its agent, else the oldest of its session and
type. If that guess turns out wrong when the link comes (PostToolUse), the two swap requests, for they are alike in
all else. A link without a start counts as one. A start for which nothing is reserved is accounted as it is. Any hook
may be lost, so every state ends by time at last.

Bookkeeping only: no clock, no admission, no processes.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator
from typing import Literal

from oomless.hosts.events import SubagentLaunched, SubagentRequested, SubagentStarted, SubagentStopped

#: Seconds from the answer to the start: SubagentStart comes within milliseconds, unless a person is asked first.
START_WITHIN = 120.0
#: Seconds without any hook from inside a running one until it counts as gone. SubagentStop or the death of its
#: session reports its end; this is for when the one was lost and the other does not come.
QUIET_FOR = 3600.0
#: A short one may have stopped before the link to its request comes.
STOPPED_KEPT = 256

State = Literal["waiting", "admitted", "running"]


class Subagent:
    """``session``, ``request`` and ``agent`` are the host's names for its session, the request and what came of it
    ("": none). ``heard_at`` is the time of the last hook about it; ``reserved`` (bytes), ``parent`` and ``reason``
    are admission's."""

    def __init__(
        self,
        host: str,
        session: str,
        agent_type: str,
        cwd: str,
        state: State,
        now: float,
        request: str = "",
        agent: str = "",
    ) -> None:
        self.id = "a" + os.urandom(4).hex()
        self.host, self.session, self.agent_type, self.cwd = host, session, agent_type, cwd
        self.request, self.agent = request, agent
        self.state: State = state
        self.since = self.heard_at = now
        self.parent: str | None = None
        self.reserved = 0
        self.reason = ""

    @property
    def name(self) -> str:
        return f"Agent:{self.agent_type}"

    @property
    def owner(self) -> str:
        return f"{self.host} {self.session}"

    def due(self) -> float | None:
        """When it is given up if nothing is heard. Waiting is bounded by its deadline."""
        if self.state == "waiting":
            return None
        return self.heard_at + (START_WITHIN if self.state == "admitted" else QUIET_FOR)


class Subagents:
    """Sessions are known by id alone, which hosts make unique. ``is_same_session``: whether two session ids are of
    one process (``/clear`` gives it another one)."""

    def __init__(self, is_same_session: Callable[[str, str], bool]) -> None:
        self._is_same_session = is_same_session
        self._all: dict[str, Subagent] = {}
        self._stopped: deque[tuple[str, str]] = deque(maxlen=STOPPED_KEPT)

    def __iter__(self) -> Iterator[Subagent]:
        return iter(tuple(self._all.values()))

    def __contains__(self, subagent: Subagent) -> bool:
        return subagent.id in self._all

    def of_session(self, session: str) -> list[Subagent]:
        """Returns those of the session, oldest first."""
        return [subagent for subagent in self._all.values() if self._is_same_session(subagent.session, session)]

    def by_agent(self, session: str, agent: str) -> Subagent | None:
        return next((s for s in self.of_session(session) if agent and s.agent == agent), None)

    def by_request(self, session: str, request: str) -> Subagent | None:
        return next((s for s in self.of_session(session) if request and s.request == request), None)

    # -- events --------------------------------------------------------------------------------------------

    def add_request(self, host: str, event: SubagentRequested, now: float) -> Subagent:
        subagent = Subagent(host, event.session, event.agent_type, event.cwd, "waiting", now, request=event.request)
        self._all[subagent.id] = subagent
        return subagent

    def mark_admitted(self, subagent: Subagent, reserved: int, reason: str, now: float) -> None:
        subagent.state, subagent.reserved, subagent.reason, subagent.heard_at = "admitted", reserved, reason, now

    def link_agent(self, event: SubagentLaunched, now: float) -> Subagent | None:
        """Links a request to its agent; returns the subagent that is over by this event."""
        requested = self.by_request(event.session, event.request)
        running = self.by_agent(event.session, event.agent or "")
        if event.over:
            return running or (requested if requested is not None and not requested.agent else None)
        if event.agent is None:
            return None
        if running is not None:
            running.heard_at = now
            if requested is not None and requested is not running:
                requested.request, running.request = running.request, requested.request
        elif requested is not None and not requested.agent and (event.session, event.agent) not in self._stopped:
            requested.agent, requested.heard_at = event.agent, now
            requested.state = "running"  # its start may be on its way, or lost
        return None

    def mark_started(self, host: str, event: SubagentStarted, now: float) -> Subagent | None:
        """Returns the subagent if nothing was reserved for it: it has to be accounted."""
        if (event.session, event.agent) in self._stopped:
            self._stopped.remove((event.session, event.agent))
        subagent = self.by_agent(event.session, event.agent) or self._oldest_admitted(event)
        if subagent is None:
            new = Subagent(host, event.session, event.agent_type, event.cwd, "running", now, agent=event.agent)
            self._all[new.id] = new
            return new
        if subagent.state != "running":
            subagent.since = now
        subagent.state, subagent.agent, subagent.heard_at = "running", event.agent, now
        return None

    def _oldest_admitted(self, event: SubagentStarted) -> Subagent | None:
        unlinked = (s for s in self.of_session(event.session) if s.state == "admitted" and not s.agent)
        return next((subagent for subagent in unlinked if subagent.agent_type == event.agent_type), None)

    def mark_stopped(self, event: SubagentStopped) -> Subagent | None:
        """Returns the subagent that is over by this event."""
        self._stopped.append((event.session, event.agent))
        return self.by_agent(event.session, event.agent)

    def note_activity(self, session: str, agent: str, now: float) -> None:
        subagent = self.by_agent(session, agent)
        if subagent is not None:
            subagent.heard_at = now

    # -- ends ----------------------------------------------------------------------------------------------

    def remove(self, subagent: Subagent) -> bool:
        """Returns False if it is gone already."""
        return self._all.pop(subagent.id, None) is not None

    def overdue(self, now: float) -> list[Subagent]:
        return [subagent for subagent in self._all.values() if (due := subagent.due()) is not None and due <= now]

    def next_due(self) -> float | None:
        return min((due for subagent in self._all.values() if (due := subagent.due()) is not None), default=None)
