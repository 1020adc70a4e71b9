"""Ends the processes that somebody asks to have ended (``oomless reap --yes``), after looking at each once more.

It refuses some, runs the rounds of the kill protocol (``processes/kill.py``) and writes the row in the journal. The
client's verdicts are not trusted where the daemon knows better. What a registered session leaves is ended unasked:
``sessions/cleanup.py``.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Callable

assert sys.platform == "linux"

from oomless.daemon.governed_trees import GovernedTrees
from oomless.daemon.logs import Log
from oomless.daemon.sessions.all_sessions import AllSessions
from oomless.daemon.sessions.programs import known_programs
from oomless.daemon.tasks import TaskSet
from oomless.errors import JournalError
from oomless.journal.sessions import ReapRow
from oomless.model import Identity, Survivor
from oomless.platform import proc
from oomless.processes.ids import ProcessId
from oomless.processes.kill import KillRounds
from oomless.processes.kill_times import KillTimes
from oomless.protocol.reap_views import INCLUDABLE, PROVEN, Ended, Left, ReapAnswer, ReapItem, ReapRequest, Refusal
from oomless.redact import command_line

_COMMAND_KEPT = 200
_TIMES = KillTimes(round_every=0.02)


class Reaper:
    """``write`` takes the row into the journal; raises JournalError."""

    def __init__(
        self, trees: GovernedTrees, sessions: AllSessions, boot_id: str, write: Callable[[ReapRow], None], log: Log
    ) -> None:
        self._trees = trees
        self._sessions = sessions
        self._boot_id = boot_id
        self._write = write
        self._log = log
        self._one_at_a_time = asyncio.Lock()
        self._tasks = TaskSet(log, "reap failed")

    async def reap(self, asked: ReapRequest) -> ReapAnswer:
        """Goes on to its end, and into the journal, though whoever asked hangs up."""
        return await asyncio.shield(self._tasks.start(self._run(asked)))

    async def stop(self) -> None:
        await self._tasks.wait(_TIMES.give_up_after + _TIMES.grace)

    async def _run(self, asked: ReapRequest) -> ReapAnswer:
        async with self._one_at_a_time:
            items = {ProcessId(one.pid, one.start): one for one in asked.processes}
            verdicts = {who: self._refusal(one, asked.include) for who, one in items.items()}
            named = {who: _command(who[0]) for who, why in verdicts.items() if not why}
            reap = KillRounds(named, self._is_spared, _TIMES)
            await _rounds(reap)
            answer = _account(reap, named, verdicts)
            self._record(asked, items, answer)
            return answer

    # -- who is refused ------------------------------------------------------------------------------------

    def _refusal(self, one: ReapItem, include: tuple[str, ...]) -> str:
        """Why it is not signalled, or ""."""
        who = ProcessId(one.pid, one.start)
        asked_for = [verdict for verdict in include if verdict in INCLUDABLE]
        if one.verdict not in (*PROVEN, *asked_for):
            return f"the verdict {one.verdict} is not one to end it for"
        if one.pid <= 1 or one.pid == os.getpid():
            return "it is the daemon itself" if one.pid == os.getpid() else "it is the system's first process"
        start = proc.start_of(one.pid)
        if start is not None and start != one.start:
            return f"the pid {one.pid} is another process by now, which started later"
        if start is None:
            return ""
        return self._by_owner(who) or self._by_knowledge(who, asked_for)

    def _by_owner(self, who: ProcessId) -> str:
        uid = proc.real_uid(who[0])
        if uid is not None and uid != os.getuid():
            return f"it belongs to another user (uid {uid})"
        title = _protected(who[0])
        return f"{title} is never ended" if title else ""

    def _by_knowledge(self, who: ProcessId, asked_for: list[str]) -> str:
        if who in self._trees.roots() or self._trees.holds(who.pid):
            return "it is in a governed tree, which ends by itself"
        if who in self._sessions.living():
            return "it is the process of a session that lives"
        why = self._sessions.detach_reasons().get(who)
        return f"it is detached: {why}" if why and "detached" not in asked_for else ""

    def _is_spared(self, stat: proc.Stat) -> bool:
        """ProcessId was started by somebody that is being ended."""
        who = ProcessId.of(stat)
        return bool(self._by_owner(who) or self._by_knowledge(who, []))

    # -- the record ----------------------------------------------------------------------------------------

    def _record(self, asked: ReapRequest, items: dict[ProcessId, ReapItem], answer: ReapAnswer) -> None:
        def why(pid: int, start: int, how: str) -> str:
            one = items.get(ProcessId(pid, start))
            if one is None:
                return f"started by one that was being ended: {how}"
            return f"{one.verdict} ({'; '.join(one.evidence)}): {how}"

        row = ReapRow(
            host="",
            session="",
            process=Identity(boot_id=self._boot_id, pid=os.getpid(), start=proc.start_of(os.getpid()) or 0),
            at=time.time(),
            ended=tuple(_survivor(one, why(one.pid, one.start, one.how)) for one in answer.ended),
            left=tuple(_survivor(one, why(one.pid, one.start, one.why)) for one in answer.left),
            refused=tuple(
                Survivor(pid=one.pid, start=one.start, command="", why=why(one.pid, one.start, one.why))
                for one in answer.refused
            ),
            bytes_freed=answer.bytes_freed,
            bytes_source=answer.bytes_source,
            why=asked.why,
        )
        try:
            self._write(row)
        except JournalError as error:  # they have ended; only the history is lost
            self._log.error(error.line())
        self._log.info(f"{len(answer.ended)} processes ended: {asked.why}", bytes_freed=answer.bytes_freed)


async def _rounds(reap: KillRounds) -> None:
    began = time.monotonic()
    times = reap.times
    while not reap.step(hard=time.monotonic() - began >= times.grace):
        if time.monotonic() - began >= times.give_up_after:
            break
        await asyncio.sleep(times.round_every)


def _account(reap: KillRounds, commands: dict[ProcessId, str], verdicts: dict[ProcessId, str]) -> ReapAnswer:
    return ReapAnswer(
        ended=tuple(
            Ended(
                pid=who[0],
                start=who[1],
                command=commands.get(who, ""),
                how=how,
                bytes=reap.bytes_before.get(who, 0),
            )
            for who, how in reap.ended().items()
        ),
        left=tuple(
            Left(
                pid=stat.pid,
                start=stat.start,
                command=commands.get(ProcessId.of(stat), "") or stat.comm,
                why="uninterruptible" if stat.state == "D" else "may not be signalled",
            )
            for stat in reap.left()
        ),
        refused=tuple(Refusal(pid=who[0], start=who[1], why=why) for who, why in verdicts.items() if why),
        bytes_freed=reap.bytes_freed(),
        bytes_source=reap.source,
    )


def _survivor(one: Ended | Left, why: str) -> Survivor:
    return Survivor(pid=one.pid, start=one.start, command=one.command, why=why)


def _command(pid: int) -> str:
    return command_line(tuple(proc.cmdline(pid)))[:_COMMAND_KEPT]


def _protected(pid: int) -> str:
    """The title of the editor, extension host or terminal that it is, or ""."""
    from oomless import catalog

    argv = tuple(proc.cmdline(pid))
    known = known_programs().recognise(argv) if argv else None
    if known is None or known.program.kind not in catalog.PROTECTED:
        return ""
    return known.program.title
