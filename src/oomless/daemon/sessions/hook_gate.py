"""The gate for subagents inside hosts' processes: what their hooks ask and report, over HTTP on 127.0.0.1 or as
commands on the Unix socket.

The answer to a request is held back until admission has decided, as a stream whose first bytes are the decision: so a
closed connection is noticed, and withdraws the request. Everything else is answered at once. Nothing here can break a
host's session: an event that is not understood has no effect, and every reservation ends by itself
(``subagents.py``).
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncGenerator, Iterable
from functools import partial
from typing import TYPE_CHECKING, TypedDict

import msgspec

assert sys.platform == "linux"

from oomless.admission.events import Admit, Refuse, Restore, Wait
from oomless.daemon.events import (
    EventBus,
    TreeAdmitted,
    TreeEnded,
    TreeEvent,
    TreeRefused,
    TreeWaiting,
    TreeWithdrawn,
)
from oomless.daemon.governed_trees import GovernedTrees
from oomless.daemon.message import Handler, Request, Response, error_response
from oomless.daemon.sessions.growth import SessionGrowth
from oomless.daemon.sessions.subagents import Subagent, Subagents
from oomless.daemon.trees import admission_gate
from oomless.hosts.events import (
    HookMapping,
    HostEvent,
    OtherEvent,
    RequestFailed,
    SubagentLaunched,
    SubagentRequested,
    SubagentStarted,
    SubagentStopped,
)
from oomless.model import LiveSession, Terms
from oomless.protocol.views import TreeView

if TYPE_CHECKING:
    from oomless.config import LiveSettings
    from oomless.daemon.sessions.host_sessions import RegisteredSessions
    from oomless.daemon.trees.limits import EffectiveLimits, LimitResolver


#: The class of every subagent; limits for one type of agent are given to the class ``HOST/TYPE``.
SUBAGENT_CLASS = "subagent"


class HookGate:
    """``mappings`` are those of all hosts. ``limits`` applies the settings, ``trees`` knows the governed tree that a
    session runs in, ``growth`` takes a point at the end of a subagent."""

    def __init__(
        self,
        mappings: Iterable[HookMapping],
        admission: admission_gate.AdmissionGate,
        sessions: RegisteredSessions,
        trees: GovernedTrees,
        settings: LiveSettings,
        limits: LimitResolver,
        bus: EventBus,
        growth: SessionGrowth,
    ) -> None:
        self._mappings = {mapping.host: mapping for mapping in mappings}
        self._admission = admission
        self._sessions = sessions
        self._settings = settings
        self._limits = limits
        self._trees = trees
        self._bus = bus
        self._growth = growth
        self._pending: dict[str, _Pending] = {}
        self._timer: asyncio.TimerHandle | None = None
        self.subagents = Subagents(sessions.is_same)

    def handlers(self) -> dict[str, Handler]:
        """Returns what answers the hooks of each host, by its name."""
        return {host: partial(self._handle, mapping) for host, mapping in self._mappings.items()}

    async def _handle(self, mapping: HookMapping, request: Request) -> Response:
        if request.path.count("/") != 2:
            return error_response(404, f"there is no {request.path}")
        if request.method != "POST":
            return error_response(405, "hooks use POST")
        try:
            event = mapping.parse_event(request.body)
        except ValueError as error:
            return error_response(400, str(error))
        if isinstance(event, SubagentRequested):
            return Response(stream=self._decide(mapping, event))
        self._apply(mapping, event)
        return Response(body=mapping.acknowledge())

    # -- a request -----------------------------------------------------------------------------------------

    async def _decide(self, mapping: HookMapping, event: SubagentRequested) -> AsyncGenerator[bytes, None]:
        """The same request may come twice, if the hook is installed twice: then both wait for one answer."""
        subagent = self.subagents.by_request(event.session, event.request) or self._ask(mapping, event)
        pending = self._pending.get(subagent.id)
        if pending is None:
            yield mapping.allow()
            return
        answer = None
        pending.connections += 1
        try:
            answer = await asyncio.shield(pending.request.answer)
        finally:
            pending.connections -= 1
            if answer is None and not pending.connections and subagent in self.subagents:
                self._publish(TreeWithdrawn, subagent, "the host did not wait for the answer")
                self._drop(subagent, "withdrawn")
        self._on_answer(subagent, pending.request.answer)  # its callback may be still to come
        if isinstance(answer, Refuse):
            yield mapping.refuse(answer.reason, answer.never)
        else:
            yield mapping.allow()

    def _ask(self, mapping: HookMapping, event: SubagentRequested) -> Subagent:
        subagent = self.subagents.add_request(mapping.host, event, time.monotonic())
        subagent.parent = self._parent(event.session, event.requester)
        limits = self._effective_limits(subagent)
        process = self._sessions.process_of(event.session)
        request = self._admission.request(
            subagent.id,
            msgspec.structs.replace(limits, wait=min(limits.wait, mapping.answer_within)),
            prior=mapping.subagent_bytes,
            requester=process.pid if process else None,
            on_wait=partial(self._on_wait, subagent),
        )
        self._pending[subagent.id] = _Pending(request)
        request.answer.add_done_callback(partial(self._on_answer, subagent))
        return subagent

    def _on_wait(self, subagent: Subagent, wait: Wait) -> None:
        subagent.reason = wait.reason
        self._publish(TreeWaiting, subagent, wait.reason)

    def _on_answer(self, subagent: Subagent, future: asyncio.Future[Admit | Refuse]) -> None:
        if self._pending.pop(subagent.id, None) is None:
            return  # applied already, or dropped in the same moment and its reservation with it
        answer = future.result()
        if isinstance(answer, Admit):
            self.subagents.mark_admitted(subagent, answer.reserved, answer.reason, time.monotonic())
            self._publish(TreeAdmitted, subagent, answer.reason)
            self._set_timer()
        else:
            self.subagents.remove(subagent)
            self._publish(TreeRefused, subagent, answer.reason)

    def _effective_limits(self, subagent: Subagent) -> EffectiveLimits:
        """Settings for this type of agent go before those for all subagents."""
        typed = f"{subagent.host}/{subagent.agent_type}"
        class_name = typed if typed in self._settings.current().classes else SUBAGENT_CLASS
        terms = Terms(name=subagent.name, class_name=class_name, parent=subagent.parent)
        limits = self._limits.resolve_or_skip_project(terms, subagent.cwd or "/")
        terms = msgspec.structs.replace(limits.terms, class_name=SUBAGENT_CLASS, limit=None)
        return msgspec.structs.replace(limits, terms=terms)

    def _parent(self, session: str, requester: str | None) -> str | None:
        """Returns the id of the subagent that asks, else of the governed tree that its host runs in."""
        outer = self.subagents.by_agent(session, requester) if requester else None
        if outer is not None:
            return outer.id
        process = self._sessions.process_of(session)
        return self._trees.innermost(process.pid) if process is not None else None

    # -- reports -------------------------------------------------------------------------------------------

    def _apply(self, mapping: HookMapping, event: HostEvent) -> None:
        now, over = time.monotonic(), None
        if isinstance(event, SubagentLaunched):
            over = self.subagents.link_agent(event, now)
        elif isinstance(event, RequestFailed):
            over = self.subagents.by_request(event.session, event.request)
        elif isinstance(event, SubagentStarted):
            new = self.subagents.mark_started(mapping.host, event, now)
            if new is not None:
                self._account(mapping, new)
        elif isinstance(event, SubagentStopped):
            over = self.subagents.mark_stopped(event)
        elif isinstance(event, OtherEvent) and event.agent:
            self.subagents.note_activity(event.session, event.agent, now)
        if over is not None:
            ran = over.state == "running"
            self._drop(over, _ENDS[type(event)])
            process = self._sessions.process_of(over.session)
            if ran and process is not None:
                self._growth.record_end(process)
        self._set_timer()

    def _account(self, mapping: HookMapping, subagent: Subagent) -> None:
        """It runs and cannot be refused any more: its memory is reserved without asking."""
        subagent.parent = self._parent(subagent.session, None)
        terms = self._effective_limits(subagent).terms
        subagent.reserved = mapping.subagent_bytes if terms.need is None else terms.need
        subagent.reason = "started without asking (a resumed agent or a teammate)"
        self._admission.restore(
            Restore(
                id=subagent.id,
                terms=msgspec.structs.replace(terms, group_budget=None, group_parallel=None),
                reserved=subagent.reserved,
                reason=subagent.reason,
                at=time.monotonic(),
            )
        )

    # -- ends ----------------------------------------------------------------------------------------------

    def end_session(self, session: str) -> None:
        """Ends all subagents of a session whose process has died."""
        for subagent in self.subagents.of_session(session):
            self._drop(subagent, "its session has ended")
        process = self._sessions.process_of(session)
        if process is not None:
            self._growth.forget(process)
        self._set_timer()

    def _drop(self, subagent: Subagent, reason: str) -> None:
        """Ends its request or its reservation, whatever its state is."""
        if not self.subagents.remove(subagent):
            return
        pending = self._pending.pop(subagent.id, None)
        if pending is not None and not pending.request.answer.done():
            self._admission.withdraw(subagent.id)
            pending.request.answer.set_result(Refuse(id=subagent.id, code=75, error=reason, reason=reason))
        else:
            self._publish(TreeEnded, subagent, reason)

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        due = self.subagents.next_due()
        if due is not None:
            delay = max(0.0, due - time.monotonic())
            self._timer = asyncio.get_running_loop().call_later(delay, self._expire)

    def _expire(self) -> None:
        self._timer = None
        for subagent in self.subagents.overdue(time.monotonic()):
            reason = "not started in time" if subagent.state == "admitted" else "no hook about it for too long"
            self._publish(TreeWithdrawn, subagent, reason)
            self._drop(subagent, reason)
        self._set_timer()

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _publish(self, kind: type[TreeEvent], subagent: Subagent, reason: str) -> None:
        self._bus.publish(kind(tree=subagent.id, name=subagent.name, reason=reason))

    # -- views ---------------------------------------------------------------------------------------------

    def views(self) -> tuple[TreeView, ...]:
        """Returns those with a reservation; those that wait are known to admission."""
        return tuple(self._view(subagent) for subagent in self.subagents if subagent.state != "waiting")

    def _view(self, subagent: Subagent) -> TreeView:
        running = subagent.state == "running"
        return TreeView(
            tree=subagent.id,
            kind=SUBAGENT_CLASS,
            name=subagent.name,
            class_name=SUBAGENT_CLASS,
            owner=subagent.owner,
            agent_type=subagent.agent_type,
            state="running",
            parent=subagent.parent,
            reserved_bytes=subagent.reserved,
            seconds=round(time.monotonic() - subagent.since, 3),
            reason=subagent.reason if running else f"{subagent.reason}; not started yet",
        )

    def sessions(self) -> tuple[LiveSession, ...]:
        """Returns the registered sessions, and those that only hooks have named, while something of theirs is
        reserved."""
        registered = self._sessions.all()
        known = {id for session in registered for id in session.ids}
        views = [
            LiveSession(
                host=session.host,
                sessions=tuple(session.ids),
                pid=session.process.pid,
                start=session.process.start,
                cwd=session.cwd,
                seconds=round(time.time() - session.at, 3),
                ends=self._growth.points_of(session.process),
                **self._counts(session.ids[-1]),
            )
            for session in registered
        ]
        unregistered = {s.session: s for s in self.subagents if s.session not in known}
        views += [
            LiveSession(host=s.host, sessions=(id,), cwd=s.cwd, **self._counts(id)) for id, s in unregistered.items()
        ]
        return tuple(views)

    def _counts(self, session: str) -> _Counts:
        subagents = self.subagents.of_session(session)
        waiting = sum(subagent.state == "waiting" for subagent in subagents)
        return {"subagents_running": len(subagents) - waiting, "subagents_waiting": waiting}


#: How an event that ends a subagent is named in the stream of events.
_ENDS: dict[type[HostEvent], str] = {
    SubagentLaunched: "launched",
    RequestFailed: "failed",
    SubagentStopped: "finished",
}


class _Counts(TypedDict):
    subagents_running: int
    subagents_waiting: int


class _Pending:
    """A request at the gate, and how many connections wait for its answer."""

    def __init__(self, request: admission_gate.PendingRequest) -> None:
        self.request = request
        self.connections = 0
