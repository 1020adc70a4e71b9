"""The hosts' sessions that registered themselves, watched by pidfd until their process dies.

A host's session id names a conversation: ``/clear`` gives the same process another one, ``--resume`` gives another
process an old one. What we watch is the process, known by pid and start time, and it is never ended by a hook: only
its death ends it. Then its subagents are over (``hooks.py``), and what it left is ended as far as lineage proves it
(``descent/left.py``, ``descent/clearing.py``, which are loaded for the first of them). The journal keeps who is
watched, for the next daemon.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Callable, Container, Coroutine, Mapping
from typing import TYPE_CHECKING, Any

assert sys.platform == "linux"

from oomless.daemon.logs import Field, Log
from oomless.errors import JournalError
from oomless.journal.facts import HostSession, ReapRow
from oomless.journal.sessions import SessionRows
from oomless.model import DetachedProcess, Identity
from oomless.platform import proc
from oomless.platform.proc import Stat
from oomless.processes.descent import Memory, Trees, Who
from oomless.protocol.views import Registration

if TYPE_CHECKING:
    from oomless.daemon.sessions.cleanup import Cleared

#: A daemon that stops lets the clearing that it has begun come to its end.
CLEAR_WITHIN = 6.0
KEEP_ROWS = 1000
REAPS_SHOWN = 50


class Session:
    """One process of a host. ``ids`` are the host's for it, newest last."""

    def __init__(self, host: str, process: Identity, cwd: str, at: float, pidfd: int) -> None:
        self.host, self.process, self.cwd, self.at = host, process, cwd, at
        self.ids: list[str] = []
        self.pidfd = pidfd
        self.memory = Memory((process.pid, process.start))


class Sessions:
    """``gone`` is called with each id of a session whose process has died. ``before`` gives what is remembered of a
    process already; ``look`` asks for a look at the table at once (``descent/lookout.py``). ``keep`` is asked with
    host, id and memory of a dead session, and takes what it left if that is not to be ended."""

    def __init__(
        self,
        rows: SessionRows,
        boot_id: str,
        trees: Trees,
        log: Log,
        gone: Callable[[str], None],
        before: Callable[[Who], Memory | None],
        look: Callable[[], None],
        keep: Callable[[str, str, Memory], bool] = lambda host, session, memory: False,
    ) -> None:
        self._rows = rows
        self._keep = keep
        self._boot_id = boot_id
        self._trees = trees
        self._log = log
        self._gone = gone
        self._before = before
        self._ask_look = look
        self._by_process: dict[Who, Session] = {}
        self._by_id: dict[str, Session] = {}
        self._left: list[DetachedProcess] = []
        self._tasks: set[asyncio.Task[None]] = set()

    # -- who is watched ------------------------------------------------------------------------------------

    def register(self, asked: Registration) -> bool:
        """False if that process is gone, or none that could be a session."""
        if asked.pid <= 1 or asked.pid == os.getpid() or not asked.session:
            return False
        process = Identity(boot_id=self._boot_id, pid=asked.pid, start=asked.start)
        row = HostSession(host=asked.host, session=asked.session, process=process, cwd=asked.cwd, at=time.time())
        session = self._watch(row)
        if session is None:
            return False
        self._write(lambda: self._rows.register(row))
        self._ask_look()
        return True

    def recover(self) -> None:
        """Watches again what the daemon before watched. What those left that died meanwhile is told, not ended
        (``descent/unregistered.py``)."""
        self._rows.prune(KEEP_ROWS)
        for row in self._rows.open():
            if row.process.boot_id != self._boot_id or self._watch(row) is None:
                process = row.process
                self._write(lambda process=process: self._rows.ended(process, time.time()))  # type: ignore[misc]
        for reap in self._rows.reaps(REAPS_SHOWN):
            if reap.session and reap.process.boot_id == self._boot_id:
                self._remember_left(reap)

    def _watch(self, row: HostSession) -> Session | None:
        who = (row.process.pid, row.process.start)
        session = self._by_process.get(who)
        if session is None:
            pidfd = proc.open_verified(*who)
            if pidfd is None:
                return None
            session = Session(row.host, row.process, row.cwd, row.at, pidfd)
            session.memory = self._before(who) or session.memory
            self._by_process[who] = session
            asyncio.get_running_loop().add_reader(pidfd, self._died, session)
        if row.session in session.ids:
            session.ids.remove(row.session)
        session.ids.append(row.session)
        session.cwd = row.cwd or session.cwd
        self._by_id[row.session] = session
        return session

    def process(self, id: str) -> Identity | None:
        session = self._by_id.get(id)
        return session.process if session is not None else None

    def same(self, one: str, other: str) -> bool:
        """Whether two ids are of one process."""
        if one == other:
            return True
        session = self._by_id.get(one)
        return session is not None and session is self._by_id.get(other)

    def all(self) -> tuple[Session, ...]:
        return tuple(self._by_process.values())

    def left_running(self) -> tuple[DetachedProcess, ...]:
        self._left = [
            one for one in self._left if (s := proc.read_stat(one.pid)) and s.start == one.start and s.alive
        ]
        return tuple(self._left)

    # -- lineage -------------------------------------------------------------------------------------------

    def __bool__(self) -> bool:
        return bool(self._by_process)

    def hosts(self) -> dict[Who, str]:
        return {who: session.host for who, session in self._by_process.items()}

    def remembered(self) -> list[tuple[str, str, Memory]]:
        """Host, newest id and memory of each."""
        return [(session.host, session.ids[-1], session.memory) for session in self._by_process.values()]

    def look(
        self,
        table: Mapping[int, Stat],
        ours: set[Who],
        lines: Mapping[int, tuple[int, ...]],
        executed: Container[int] = (),
    ) -> None:
        """Remembers who descends from whom."""
        for session in self._by_process.values():
            session.memory.look(table, ours, lines)

    # -- ends ----------------------------------------------------------------------------------------------

    def _died(self, session: Session) -> None:
        """A last look first: what the kernel has told of since the one before is still to be had."""
        self._ask_look()
        self._unwatch(session)
        del self._by_process[(session.process.pid, session.process.start)]
        for id in session.ids:
            if self._by_id.get(id) is session:
                self._gone(id)  # while the ids still name one process
        for id in session.ids:
            if self._by_id.get(id) is session:
                del self._by_id[id]
        if self._keep(session.host, session.ids[-1], session.memory):
            self._write(lambda: self._rows.ended(session.process, time.time()))
        else:
            self._spawn(self._clear(session))

    async def _clear(self, session: Session) -> None:
        from oomless.daemon.sessions.cleanup import Clearing

        done = await Clearing(session.memory, tuple(session.ids), self._trees).run()
        at, id = time.time(), session.ids[-1]
        reap = ReapRow(
            host=session.host,
            session=id,
            process=session.process,
            at=at,
            ended=done.ended,
            left=done.left,
            left_running=done.left_running,
            bytes_freed=done.bytes_freed,
        )
        something = done.ended or done.left or done.left_running
        self._write(lambda: self._rows.ended(session.process, at, reap if something else None))
        self._remember_left(reap)
        self._tell(session, done)

    def _tell(self, session: Session, done: Cleared) -> None:
        fields: dict[str, Field] = {"host": session.host, "session": session.ids[-1], "pid": session.process.pid}
        if done.ended:
            freed = done.bytes_freed
            self._log.info(f"a session left {len(done.ended)} processes, ended", bytes_freed=freed, **fields)
        for one in (*done.left, *done.left_running):
            self._log.warning("left running", left=one.pid, command=one.command, why=one.why, **fields)

    def _remember_left(self, reap: ReapRow) -> None:
        self._left += [
            DetachedProcess(
                pid=one.pid,
                start=one.start,
                command=one.command,
                why=one.why,
                host=reap.host,
                session=reap.session,
                since=reap.at,
            )
            for one in (*reap.left_running, *reap.left)
        ]
        self.left_running()

    def _unwatch(self, session: Session) -> None:
        asyncio.get_running_loop().remove_reader(session.pidfd)
        os.close(session.pidfd)

    async def stop(self) -> None:
        """Sessions go on; the next daemon watches them again."""
        for session in self._by_process.values():
            self._unwatch(session)
        self._by_process.clear()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=CLEAR_WITHIN)

    def _write(self, write: Callable[[], object]) -> None:
        """What cannot be written (a full disk) is only missing from the history, and watched by this daemon alone."""
        try:
            write()
        except JournalError as error:
            self._log.error(error.line())

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self._log.error(f"what a session left could not be cleared: {task.exception()!r}")
