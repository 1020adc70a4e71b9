"""The subagents inside hosts' processes, as far as hooks tell: a reservation each, from the request to the end.

::

    waiting --admitted--> admitted --SubagentStart--> running --SubagentStop--> over
       |                     | the tool failed, was denied, or 120 s without a start
       +---- refused, hung up, or the session's process died (from every state) ----> over

A start names no request: it takes the reservation that is linked to its agent, else the oldest of its session and
type. If that guess turns out wrong when the link comes (PostToolUse), the two change names, for they are alike in
all else. A link without a start counts as one. A start for
which nothing is reserved is accounted as it is. Any hook may be lost, so every state ends by time at last.

Bookkeeping alone: no clock, no gate, no processes. Those are in ``hooks.py``.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator
from typing import Literal

from oomless.hosts.events import Began, Finished, Launched, Wanted

#: Seconds from the answer to the start: SubagentStart comes within milliseconds, unless a person is asked first.
START_WITHIN = 120.0
#: Seconds without any hook from inside a running one until it is taken for gone. Its end is told by SubagentStop or
#: by the death of its session; this is for when the one was lost and the other does not come.
QUIET_FOR = 3600.0
#: A short one may have finished before the word comes which request it was.
FINISHED_KEPT = 256

State = Literal["waiting", "admitted", "running"]


class Subagent:
    """``use`` and ``agent`` are the host's names for the request and for what came of it ("": none). ``heard`` is
    when we last had word of it; ``reserved``, ``parent`` and ``reason`` are what admission said."""

    def __init__(self, session: str, kind: str, cwd: str, state: State, now: float, use: str = "", agent: str = ""):
        self.id = "a" + os.urandom(4).hex()
        self.session, self.kind, self.cwd = session, kind, cwd
        self.use, self.agent = use, agent
        self.state: State = state
        self.since = self.heard = now
        self.parent: str | None = None
        self.reserved = 0
        self.reason = ""

    @property
    def name(self) -> str:
        return f"Agent:{self.kind}"

    def due(self) -> float | None:
        """When it is given up, if nothing is heard. Waiting is bounded by its deadline."""
        return {"waiting": None, "admitted": self.heard + START_WITHIN, "running": self.heard + QUIET_FOR}[self.state]


class Subagents:
    """``same``: whether two session ids are of one process (``/clear`` gives it another one)."""

    def __init__(self, same: Callable[[str, str], bool]) -> None:
        self._same = same
        self._all: dict[str, Subagent] = {}
        self._finished: deque[tuple[str, str]] = deque(maxlen=FINISHED_KEPT)

    def __iter__(self) -> Iterator[Subagent]:
        return iter(tuple(self._all.values()))

    def __contains__(self, one: Subagent) -> bool:
        return one.id in self._all

    def get(self, id: str) -> Subagent | None:
        return self._all.get(id)

    def of(self, session: str) -> list[Subagent]:
        """Oldest first."""
        return [one for one in self._all.values() if self._same(one.session, session)]

    def by_agent(self, session: str, agent: str) -> Subagent | None:
        return next((one for one in self.of(session) if agent and one.agent == agent), None)

    def by_use(self, session: str, use: str) -> Subagent | None:
        return next((one for one in self.of(session) if use and one.use == use), None)

    # -- what hooks tell -----------------------------------------------------------------------------------

    def wanted(self, event: Wanted, now: float) -> Subagent:
        one = Subagent(event.session, event.kind, event.cwd, "waiting", now, use=event.use)
        self._all[one.id] = one
        return one

    def admitted(self, one: Subagent, reserved: int, reason: str, now: float) -> None:
        one.state, one.reserved, one.reason, one.heard = "admitted", reserved, reason, now

    def launched(self, event: Launched, now: float) -> Subagent | None:
        """Links a request to its agent; returns the one that is over by this."""
        asked = self.by_use(event.session, event.use)
        agent = self.by_agent(event.session, event.agent or "")
        if event.over:
            return agent or (asked if asked is not None and not asked.agent else None)
        if event.agent is None:
            return None
        if agent is not None:
            agent.heard = now
            if asked is not None and asked is not agent:
                asked.use, agent.use = agent.use, asked.use
        elif asked is not None and not asked.agent and (event.session, event.agent) not in self._finished:
            asked.agent, asked.heard = event.agent, now
            asked.state = "running"  # its start may be on its way, or lost
        return None

    def began(self, event: Began, now: float) -> Subagent | None:
        """The one that runs now, if it is new and was not reserved; it has to be accounted."""
        if (event.session, event.agent) in self._finished:
            self._finished.remove((event.session, event.agent))
        one = self.by_agent(event.session, event.agent) or self._oldest(event)
        if one is None:
            new = Subagent(event.session, event.kind, event.cwd, "running", now, agent=event.agent)
            self._all[new.id] = new
            return new
        if one.state != "running":
            one.since = now
        one.state, one.agent, one.heard = "running", event.agent, now
        return None

    def _oldest(self, event: Began) -> Subagent | None:
        free = (one for one in self.of(event.session) if one.state == "admitted" and not one.agent)
        return next((one for one in free if one.kind == event.kind), None)

    def finished(self, event: Finished) -> Subagent | None:
        self._finished.append((event.session, event.agent))
        return self.by_agent(event.session, event.agent)

    def heard_of(self, session: str, agent: str, now: float) -> None:
        one = self.by_agent(session, agent)
        if one is not None:
            one.heard = now

    # -- ends ----------------------------------------------------------------------------------------------

    def remove(self, one: Subagent) -> bool:
        """False if it is gone already."""
        return self._all.pop(one.id, None) is not None

    def overdue(self, now: float) -> list[Subagent]:
        return [one for one in self._all.values() if (due := one.due()) is not None and due <= now]

    def next_due(self) -> float | None:
        return min((due for one in self._all.values() if (due := one.due()) is not None), default=None)
