"""The hosts' sessions that registered themselves, watched by pidfd until their process dies.

A host's session id names a conversation: ``/clear`` gives the same process another one, ``--resume`` gives another
process an old one. What is watched is the process, known by pid and start time, and no hook ends it: only its death
does. Then its subagents are over, and its leftovers are killed (``cleanup.py``, which is loaded for the first of
them). The journal keeps who is watched, for the next daemon.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

assert sys.platform == "linux"

from oomless.config import LiveSettings
from oomless.daemon.governed_trees import GovernedTrees
from oomless.daemon.logs import Log
from oomless.daemon.sessions.discovery import DiscoveredSessions
from oomless.daemon.sessions.sampling import ProcessSample, ProcessSampler
from oomless.daemon.tasks import TaskSet
from oomless.errors import JournalError
from oomless.journal.sessions import HostSession, ReapRow, SessionRows
from oomless.model import DetachedProcess, Identity
from oomless.platform import system
from oomless.processes.descendants import alive
from oomless.processes.descent import Descendants
from oomless.processes.ids import ProcessId
from oomless.protocol.log_file import Field
from oomless.protocol.views import Registration

if TYPE_CHECKING:
    from oomless.daemon.sessions.cleanup import CleanupResult

#: A daemon that stops lets the cleanup that it has begun finish, for at most so many seconds.
CLEANUP_WITHIN = 6.0
KEEP_ROWS = 1000
REAPS_SHOWN = 50


class RegisteredSession:
    """One process of a host. ``ids`` are the host's for it, newest last."""

    def __init__(self, host: str, process: Identity, cwd: str, at: float, pidfd: int) -> None:
        self.host, self.process, self.cwd, self.at = host, process, cwd, at
        self.ids: list[str] = []
        self.pidfd = pidfd
        self.descendants = Descendants(ProcessId.of(process))


class RegisteredSessions:
    """An observer of the sampler's.

    ``on_gone`` is called with each id of a session whose process has died, before its leftovers are dealt with.
    ``discovered`` hands over the descendants already remembered of a process that registers, and takes over what a
    session left where ``settings`` do not have it killed. ``sampler`` is asked for a sample when a session begins or
    dies.
    """

    def __init__(
        self,
        rows: SessionRows,
        boot_id: str,
        trees: GovernedTrees,
        log: Log,
        on_gone: Callable[[str], None],
        discovered: DiscoveredSessions,
        sampler: ProcessSampler,
        settings: LiveSettings,
    ) -> None:
        self._rows = rows
        self._boot_id = boot_id
        self._trees = trees
        self._log = log
        self._on_gone = on_gone
        self._discovered = discovered
        self._settings = settings
        self._sampler = sampler
        self._by_process: dict[ProcessId, RegisteredSession] = {}
        self._by_id: dict[str, RegisteredSession] = {}
        self._detached: list[DetachedProcess] = []
        self._tasks = TaskSet(log, "what a session left could not be cleaned up")

    # -- sessions ------------------------------------------------------------------------------------------

    def register(self, registration: Registration) -> bool:
        """Returns False if that process is gone, or cannot be a session."""
        if registration.pid <= 1 or registration.pid == os.getpid() or not registration.session:
            return False
        row = HostSession(
            host=registration.host,
            session=registration.session,
            process=Identity(boot_id=self._boot_id, pid=registration.pid, start=registration.start),
            cwd=registration.cwd,
            at=time.time(),
        )
        if self._watch(row) is None:
            return False
        self._write(lambda: self._rows.register(row))
        self._sampler.sample()
        return True

    def recover(self) -> None:
        """Watches again what an earlier daemon watched. What sessions left that died meanwhile is reported and not
        killed (``discovery.py``)."""
        self._rows.prune(KEEP_ROWS)
        for row in self._rows.open():
            if row.process.boot_id != self._boot_id or self._watch(row) is None:
                process = row.process
                self._write(lambda process=process: self._rows.mark_ended(process, time.time()))  # type: ignore[misc]
        for reap in self._rows.reaps(REAPS_SHOWN):
            if reap.session and reap.process.boot_id == self._boot_id:
                self._remember_detached(reap)

    def _watch(self, row: HostSession) -> RegisteredSession | None:
        process = ProcessId.of(row.process)
        session = self._by_process.get(process)
        if session is None:
            pidfd = system.open_verified(*process)
            if pidfd is None:
                return None
            session = RegisteredSession(row.host, row.process, row.cwd, row.at, pidfd)
            session.descendants = self._discovered.hand_over(process) or session.descendants
            self._by_process[process] = session
            asyncio.get_running_loop().add_reader(pidfd, self._on_death, session)
        if row.session in session.ids:
            session.ids.remove(row.session)
        session.ids.append(row.session)
        session.cwd = row.cwd or session.cwd
        self._by_id[row.session] = session
        return session

    def process_of(self, id: str) -> Identity | None:
        session = self._by_id.get(id)
        return session.process if session is not None else None

    def is_same(self, id: str, other_id: str) -> bool:
        """Whether two ids are of one process."""
        if id == other_id:
            return True
        session = self._by_id.get(id)
        return session is not None and session is self._by_id.get(other_id)

    def all(self) -> tuple[RegisteredSession, ...]:
        return tuple(self._by_process.values())

    def detached(self) -> tuple[DetachedProcess, ...]:
        """Returns what outlived its session, or could not be killed, and lives."""
        self._detached = [view for view in self._detached if alive(ProcessId.of(view))]
        return tuple(self._detached)

    # -- descendants ---------------------------------------------------------------------------------------

    def __bool__(self) -> bool:
        return bool(self._by_process)

    def hosts(self) -> dict[ProcessId, str]:
        return {process: session.host for process, session in self._by_process.items()}

    def descendants(self) -> list[tuple[str, str, Descendants]]:
        """Returns host, newest id and descendants of each session."""
        return [(session.host, session.ids[-1], session.descendants) for session in self._by_process.values()]

    def observe(self, sample: ProcessSample) -> None:
        for session in self._by_process.values():
            session.descendants.observe(sample.table, sample.governed, sample.lines)

    # -- ends ----------------------------------------------------------------------------------------------

    def _on_death(self, session: RegisteredSession) -> None:
        # A last sample first: fork events since the one before are still to be had.
        self._sampler.sample()
        self._unwatch(session)
        del self._by_process[ProcessId.of(session.process)]
        for id in session.ids:
            if self._by_id.get(id) is session:
                self._on_gone(id)  # while the ids still name one process
        for id in session.ids:
            if self._by_id.get(id) is session:
                del self._by_id[id]
        if self._settings.current().reap != "proven":  # proposed by "oomless reap", or only listed
            self._discovered.leftovers.add(session.host, session.ids[-1], session.descendants)
            self._write(lambda: self._rows.mark_ended(session.process, time.time()))
        else:
            self._tasks.start(self._clean_up(session))

    async def _clean_up(self, session: RegisteredSession) -> None:
        from oomless.daemon.sessions.cleanup import Cleanup

        result = await Cleanup(session.descendants, tuple(session.ids), self._trees).run()
        reap = ReapRow(
            host=session.host,
            session=session.ids[-1],
            process=session.process,
            at=time.time(),
            ended=result.ended,
            left=result.left,
            left_running=result.left_running,
            bytes_freed=result.bytes_freed,
        )
        has_rows = result.ended or result.left or result.left_running
        self._write(lambda: self._rows.mark_ended(session.process, reap.at, reap if has_rows else None))
        self._remember_detached(reap)
        self._log_result(session, result)

    def _log_result(self, session: RegisteredSession, result: CleanupResult) -> None:
        fields: dict[str, Field] = {"host": session.host, "session": session.ids[-1], "pid": session.process.pid}
        if result.ended:
            freed = result.bytes_freed
            self._log.info(f"killed {len(result.ended)} leftovers of a session", bytes_freed=freed, **fields)
        rows = [("a leftover could not be killed", row) for row in result.left]
        rows += [("a process of a session is detached", row) for row in result.left_running]
        for message, row in rows:
            self._log.warning(message, left=row.pid, command=row.command, why=row.why, **fields)

    def _remember_detached(self, reap: ReapRow) -> None:
        self._detached += [
            DetachedProcess(
                pid=row.pid,
                start=row.start,
                command=row.command,
                why=row.why,
                host=reap.host,
                session=reap.session,
                since=reap.at,
            )
            for row in (*reap.left_running, *reap.left)
        ]
        self.detached()

    def _unwatch(self, session: RegisteredSession) -> None:
        asyncio.get_running_loop().remove_reader(session.pidfd)
        os.close(session.pidfd)

    async def stop(self) -> None:
        """The sessions go on; the next daemon watches them again."""
        for session in self._by_process.values():
            self._unwatch(session)
        self._by_process.clear()
        await self._tasks.wait(CLEANUP_WITHIN)

    def _write(self, write: Callable[[], object]) -> None:
        """What cannot be written (a full disk) is only missing from the history, and watched by this daemon alone."""
        try:
            write()
        except JournalError as error:
            self._log.error(error.line())
