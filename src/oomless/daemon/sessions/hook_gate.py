"""Subagents inside a host's process at the gate: what its hooks ask and tell, over HTTP on 127.0.0.1.

The answer to a request is held back until admission has one, as a stream whose first bytes are the decision: so the
end of the connection is noticed, and withdraws. Everything else is answered at once. Nothing here can break a host's
session: what we don't understand has no effect, and every reservation ends by itself (``subagents.py``).

Not here: the host's own words (``claude_hooks.py``), the rules (``admission/``), processes (``registered.py``).
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncGenerator, Callable
from functools import partial
from typing import TYPE_CHECKING, TypedDict

assert sys.platform == "linux"

from oomless.admission.events import Admit, Ask, Refuse, Restore, Wait
from oomless.daemon.message import Request, Response, failure
from oomless.daemon.sessions.growth import Growth
from oomless.daemon.sessions.subagents import Subagent, Subagents
from oomless.daemon.trees import admission_gate
from oomless.hosts.events import Began, Failed, Finished, HostEvent, Launched, Mapping, Other, Wanted
from oomless.model import LiveSession
from oomless.protocol import wire
from oomless.protocol.views import TreeView

if TYPE_CHECKING:
    from typing import Literal

    from oomless.config import Watched
    from oomless.daemon.sessions.host_sessions import Sessions
    from oomless.daemon.trees.limits import Settled

    Note = Callable[[str, str, Literal["admitted", "waiting", "refused", "withdrawn"], str], None]

KLASS = "subagent"
#: What one more subagent is expected to add to its host's process: five at once added 37 MB to one of Claude Code
#: 2.1.330, twenty 62 MB, and thirty one after another 53 MB. What its tool shells use is theirs.
PRIOR = 40 * 10**6
#: Claude Code gives a hook 600 s, and then goes on as if it had said nothing.
LONGEST_WAIT = 590.0


class Around:
    """What the gate must know of where a session runs: the governed tree around a process (its id), and what is left
    under the memory limits above it."""

    def __init__(self, tree: Callable[[int], str | None], headroom: Callable[[int], int | None]) -> None:
        self.tree, self.headroom = tree, headroom


class Hooks:
    """``settle`` applies the settings, ``note`` records a decision, ``freed`` is told of the end of what was held,
    ``growth`` of the end of a subagent."""

    def __init__(
        self,
        mapping: Mapping,
        admission: admission_gate.Gate,
        sessions: Sessions,
        settings: Watched,
        settle: Callable[[wire.Lease], Settled],
        around: Around,
        note: Note,
        freed: Callable[[str, str, str], None],
        growth: Growth,
    ) -> None:
        self._mapping = mapping
        self._gate = admission
        self._sessions = sessions
        self._settings = settings
        self._settle = settle
        self._around = around
        self._note = note
        self._freed = freed
        self._growth = growth
        self._waiting: dict[str, _Waiting] = {}
        self._timer: asyncio.TimerHandle | None = None
        self.subagents = Subagents(sessions.same)

    async def __call__(self, request: Request) -> Response:
        if request.path.count("/") != 2:
            return failure(404, f"there is no {request.path}")
        if request.method != "POST":
            return failure(405, "hooks are told by POST")
        try:
            event = self._mapping.read(request.body)
        except ValueError as error:
            return failure(400, str(error))
        if isinstance(event, Wanted):
            return Response(stream=self._decide(event))
        self._take(event)
        return Response(body=self._mapping.heard())

    # -- a request -----------------------------------------------------------------------------------------

    async def _decide(self, event: Wanted) -> AsyncGenerator[bytes, None]:
        """The same request may come twice, if the hook is installed twice: then both wait for one answer."""
        one = self.subagents.by_use(event.session, event.use) or self._ask(event)
        waiting = self._waiting.get(one.id)
        if waiting is None:
            yield self._mapping.allowed()
            return
        answer = None
        waiting.clients += 1
        try:
            answer = await asyncio.shield(waiting.request.answer)
        finally:
            waiting.clients -= 1
            if answer is None and not waiting.clients and one in self.subagents:
                self._note(one.id, one.name, "withdrawn", "its host did not wait for the answer")
                self._drop(one, "withdrawn")
        self._answered(one, waiting.request.answer)  # its callback may be still to come
        if isinstance(answer, Refuse):
            yield self._mapping.refused(answer.reason, answer.never)
        else:
            yield self._mapping.allowed()

    def _ask(self, event: Wanted) -> Subagent:
        now = time.monotonic()
        one = self.subagents.wanted(event, now)
        settled = self._settled(one)
        one.parent = self._parent(event.session, event.within)
        process = self._sessions.process(event.session)
        room = admission_gate.ceiling(
            lambda: self._around.headroom(process.pid) if process else None, settled.extra_headroom
        )
        ask = Ask(
            id=one.id,
            name=one.name,
            klass=KLASS,
            declared=settled.declared,
            prior=PRIOR,
            parent=one.parent,
            group=settled.group,
            group_budget=settled.group_budget,
            group_parallel=settled.group_parallel,
            ceiling=room(self._gate.memory.available_bytes),
            deadline=now + min(settled.wait, LONGEST_WAIT),
            at=now,
        )
        request = admission_gate.Request(ask, room, partial(self._waits, one))
        self._waiting[one.id] = _Waiting(request)
        request.answer.add_done_callback(partial(self._answered, one))
        self._gate.ask(request)
        return one

    def _waits(self, one: Subagent, wait: Wait) -> None:
        one.reason = wait.reason
        self._note(one.id, one.name, "waiting", wait.reason)

    def _answered(self, one: Subagent, future: asyncio.Future[Admit | Refuse]) -> None:
        if self._waiting.pop(one.id, None) is None:
            return  # told already, or dropped in the same moment and with it what it held
        answer = future.result()
        if isinstance(answer, Admit):
            self.subagents.admitted(one, answer.reserved, answer.reason, time.monotonic())
            self._note(one.id, one.name, "admitted", answer.reason)
            self._arm()
        else:
            self.subagents.remove(one)
            self._note(one.id, one.name, "refused", answer.reason)

    def _settled(self, one: Subagent) -> Settled:
        """Settings for this type of agent go before those for all subagents."""
        typed = f"{self._mapping.host}/{one.kind}"
        klass = typed if typed in self._settings.current().classes else KLASS
        return self._settle(wire.Lease(v=wire.VERSION, kind="slot", name=one.name, klass=klass, cwd=one.cwd or "/"))

    def _parent(self, session: str, within: str | None) -> str | None:
        """The subagent that asks, else the governed tree that its host runs in."""
        outer = self.subagents.by_agent(session, within) if within else None
        if outer is not None:
            return outer.id
        process = self._sessions.process(session)
        return self._around.tree(process.pid) if process is not None else None

    # -- what is told --------------------------------------------------------------------------------------

    def _take(self, event: HostEvent) -> None:
        now, over = time.monotonic(), None
        if isinstance(event, Launched):
            over = self.subagents.launched(event, now)
        elif isinstance(event, Failed):
            over = self.subagents.by_use(event.session, event.use)
        elif isinstance(event, Began):
            new = self.subagents.began(event, now)
            if new is not None:
                self._account(new)
        elif isinstance(event, Finished):
            over = self.subagents.finished(event)
        elif isinstance(event, Other) and event.agent:
            self.subagents.heard_of(event.session, event.agent, now)
        if over is not None:
            ran = over.state == "running"
            self._drop(over, type(event).__name__.lower())
            process = self._sessions.process(over.session)
            if ran and process is not None:
                self._growth.ended(process)
        self._arm()

    def _account(self, one: Subagent) -> None:
        """It runs and cannot be refused any more: held without question."""
        settled = self._settled(one)
        one.parent = self._parent(one.session, None)
        one.reserved = PRIOR if settled.declared is None else settled.declared
        one.reason = "it started without asking (a resumed agent or a teammate)"
        self._gate.restore(
            Restore(
                id=one.id,
                name=one.name,
                klass=KLASS,
                reserved=one.reserved,
                parent=one.parent,
                group=settled.group,
                reason=one.reason,
                at=time.monotonic(),
            )
        )

    # -- ends ----------------------------------------------------------------------------------------------

    def session_gone(self, session: str) -> None:
        for one in self.subagents.of(session):
            self._drop(one, "its session is gone")
        process = self._sessions.process(session)
        if process is not None:
            self._growth.forget(process)
        self._arm()

    def _drop(self, one: Subagent, how: str) -> None:
        """Whatever its state is: it waits and holds no longer."""
        if not self.subagents.remove(one):
            return
        waiting = self._waiting.pop(one.id, None)
        if waiting is not None and not waiting.request.answer.done():
            self._gate.withdraw(one.id)
            waiting.request.answer.set_result(Refuse(id=one.id, code=75, error=how, reason=how))
        else:
            self._freed(one.id, one.name, how)

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        due = self.subagents.next_due()
        if due is not None:
            delay = max(0.0, due - time.monotonic())
            self._timer = asyncio.get_running_loop().call_later(delay, self._expire)

    def _expire(self) -> None:
        self._timer = None
        for one in self.subagents.overdue(time.monotonic()):
            how = "it was not started" if one.state == "admitted" else "nothing was heard of it any more"
            self._note(one.id, one.name, "withdrawn", how)
            self._drop(one, how)
        self._arm()

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # -- views ---------------------------------------------------------------------------------------------

    def owner(self, one: Subagent) -> str:
        return f"{self._mapping.host} {one.session}"

    def views(self) -> tuple[TreeView, ...]:
        """Those that hold something; who waits is known to admission."""
        return tuple(self._view(one) for one in self.subagents if one.state != "waiting")

    def _view(self, one: Subagent) -> TreeView:
        started = one.state == "running"
        return TreeView(
            tree=one.id,
            kind=KLASS,
            name=one.name,
            klass=KLASS,
            owner=self.owner(one),
            state="running",
            parent=one.parent,
            reserved_bytes=one.reserved,
            seconds=round(time.monotonic() - one.since, 3),
            reason=one.reason if started else f"{one.reason}; it has not started yet",
        )

    def sessions(self) -> tuple[LiveSession, ...]:
        """The watched ones, and those that only hooks have told of, as long as something of theirs is held."""
        watched = self._sessions.all()
        known = {id for session in watched for id in session.ids}
        views = [
            LiveSession(
                host=session.host,
                sessions=tuple(session.ids),
                pid=session.process.pid,
                start=session.process.start,
                cwd=session.cwd,
                seconds=round(time.time() - session.at, 3),
                ends=self._growth.of(session.process),
                **self._counts(session.ids[-1]),
            )
            for session in watched
        ]
        unknown = {one.session: one.cwd for one in self.subagents if one.session not in known}
        host = self._mapping.host
        views += [LiveSession(host=host, sessions=(id,), cwd=cwd, **self._counts(id)) for id, cwd in unknown.items()]
        return tuple(views)

    def _counts(self, session: str) -> _Counts:
        found = self.subagents.of(session)
        waiting = sum(one.state == "waiting" for one in found)
        return {"subagents_running": len(found) - waiting, "subagents_waiting": waiting}


class _Counts(TypedDict):
    subagents_running: int
    subagents_waiting: int


class _Waiting:
    """A request at the gate, and how many connections wait for its answer."""

    def __init__(self, request: admission_gate.Request) -> None:
        self.request = request
        self.clients = 0
