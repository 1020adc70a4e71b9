"""Kills the processes that ``oomless reap --yes`` names, after checking each once more.

Some are refused: the client's verdicts are not trusted where the daemon knows better. What was done is a row of the
journal. Leftovers of a registered session are killed unasked, by ``sessions/cleanup.py``.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Callable, Mapping

assert sys.platform == "linux"

from oomless.daemon.governed_trees import GovernedTrees
from oomless.daemon.logs import Log
from oomless.daemon.sessions.all_sessions import AllSessions
from oomless.daemon.sessions.programs import known_programs
from oomless.daemon.tasks import TaskSet
from oomless.errors import JournalError
from oomless.journal.sessions import ReapRow
from oomless.model import Identity, Survivor
from oomless.platform import system
from oomless.processes.ids import ProcessId
from oomless.processes.kill import KillRounds
from oomless.processes.kill_times import KillTimes
from oomless.protocol.reap_views import (
    FORMER_VERDICTS,
    INCLUDABLE,
    PROVEN,
    ReapAnswer,
    ReapedProcess,
    ReapItem,
    ReapRequest,
    RefusedProcess,
    SurvivingProcess,
)
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

    async def reap(self, request: ReapRequest) -> ReapAnswer:
        """Runs to its end, and into the journal, also if the client hangs up."""
        return await asyncio.shield(self._tasks.start(self._run(request)))

    async def stop(self) -> None:
        await self._tasks.wait(_TIMES.give_up_after + _TIMES.grace)

    async def _run(self, request: ReapRequest) -> ReapAnswer:
        async with self._one_at_a_time:
            items = {ProcessId.of(item): item for item in request.processes}
            refusals = {process: self._refusal(item, request.include) for process, item in items.items()}
            commands = {process: _read_command(process.pid) for process, refusal in refusals.items() if not refusal}
            rounds = KillRounds(commands, self._is_spared, _TIMES)
            await _run_rounds(rounds)
            answer = _make_answer(rounds, commands, refusals)
            self._record(request, items, answer)
            return answer

    # -- refusals ------------------------------------------------------------------------------------------

    def _refusal(self, item: ReapItem, include: tuple[str, ...]) -> str:
        """Why the process is not signalled, or ""."""
        process = ProcessId.of(item)
        included = [FORMER_VERDICTS.get(verdict, verdict) for verdict in include]
        included = [verdict for verdict in included if verdict in INCLUDABLE]
        if FORMER_VERDICTS.get(item.verdict, item.verdict) not in (*PROVEN, *included):
            return f"a process with the verdict {item.verdict} is not killed"
        if process.pid <= 1 or process.pid == os.getpid():
            return "it is the daemon itself" if process.pid == os.getpid() else "it is the system's first process"
        start = system.start_of(process.pid)
        if start is not None and start != process.start:
            return f"the pid {process.pid} is another process by now, which started later"
        if start is None:
            return ""
        return self._refusal_by_owner(process) or self._refusal_by_daemon(process, included)

    def _refusal_by_owner(self, process: ProcessId) -> str:
        uid = system.real_uid(process.pid)
        if uid is not None and uid != os.getuid():
            return f"it belongs to another user (uid {uid})"
        title = _protected_title(process.pid)
        return f"{title} is never killed" if title else ""

    def _refusal_by_daemon(self, process: ProcessId, included: list[str]) -> str:
        if process in self._trees.roots() or self._trees.holds(process.pid):
            return "it is in a governed tree, which ends by itself"
        if process in self._sessions.living():
            return "it is the process of a session that lives"
        reason = self._sessions.detach_reasons().get(process)
        return f"it is detached: {reason}" if reason and "detached" not in included else ""

    def _is_spared(self, stat: system.Stat) -> bool:
        """Of a process that was started by one that is being killed."""
        process = ProcessId.of(stat)
        return bool(self._refusal_by_owner(process) or self._refusal_by_daemon(process, []))

    # -- the record ----------------------------------------------------------------------------------------

    def _record(self, request: ReapRequest, items: Mapping[ProcessId, ReapItem], answer: ReapAnswer) -> None:
        def survivor(
            process: ReapedProcess | SurvivingProcess | RefusedProcess, command: str, result: str
        ) -> Survivor:
            item = items.get(ProcessId.of(process))
            evidence = (
                f"{item.verdict} ({'; '.join(item.evidence)})" if item else "started by one that was being killed"
            )
            return Survivor(pid=process.pid, start=process.start, command=command, why=f"{evidence}: {result}")

        row = ReapRow(
            host="",
            session="",
            process=Identity(boot_id=self._boot_id, pid=os.getpid(), start=system.start_of(os.getpid()) or 0),
            at=time.time(),
            ended=tuple(survivor(process, process.command, process.how) for process in answer.ended),
            left=tuple(survivor(process, process.command, process.why) for process in answer.left),
            refused=tuple(survivor(process, "", process.why) for process in answer.refused),
            bytes_freed=answer.bytes_freed,
            bytes_source=answer.bytes_source,
            why=request.why,
        )
        try:
            self._write(row)
        except JournalError as error:  # they are dead; only the history is lost
            self._log.error(error.line())
        self._log.info(f"{len(answer.ended)} processes killed: {request.why}", bytes_freed=answer.bytes_freed)


async def _run_rounds(rounds: KillRounds) -> None:
    began, times = time.monotonic(), rounds.times
    while not rounds.step(hard=time.monotonic() - began >= times.grace):
        if time.monotonic() - began >= times.give_up_after:
            break
        await asyncio.sleep(times.round_every)


def _make_answer(
    rounds: KillRounds, commands: Mapping[ProcessId, str], refusals: Mapping[ProcessId, str]
) -> ReapAnswer:
    return ReapAnswer(
        ended=tuple(
            ReapedProcess(
                pid=process.pid,
                start=process.start,
                command=commands.get(process, ""),
                how=how,
                bytes=rounds.bytes_before.get(process, 0),
            )
            for process, how in rounds.ended().items()
        ),
        left=tuple(
            SurvivingProcess(
                pid=stat.pid,
                start=stat.start,
                command=commands.get(ProcessId.of(stat), "") or stat.comm,
                why="uninterruptible" if stat.state == "D" else "may not be signalled",
            )
            for stat in rounds.left()
        ),
        refused=tuple(
            RefusedProcess(pid=process.pid, start=process.start, why=refusal)
            for process, refusal in refusals.items()
            if refusal
        ),
        bytes_freed=rounds.bytes_freed(),
        bytes_source=rounds.source,
    )


def _read_command(pid: int) -> str:
    return command_line(tuple(system.cmdline(pid)))[:_COMMAND_KEPT]


def _protected_title(pid: int) -> str:
    """The title of the editor, extension host or terminal that the process runs, or ""."""
    from oomless import catalog

    argv = tuple(system.cmdline(pid))
    known = known_programs().recognise(argv) if argv else None
    if known is None or known.program.kind not in catalog.PROTECTED:
        return ""
    return known.program.title
