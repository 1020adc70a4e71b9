"""Who outlived the session of a tool shell because it had detached on purpose: listed for as long as it lives.

Not here: who is spared (``contain/shells/detached.py``), nor what is left by sessions that are only watched
(``left.py``).
"""

from __future__ import annotations

import sys
from collections.abc import Iterable

assert sys.platform == "linux"

from oomless.journal.facts import TreeIntent, TreeRow
from oomless.model import DetachedProcess, Survivor
from oomless.platform import proc
from oomless.redact import command_line

Who = tuple[int, int]


class Spared:
    def __init__(self) -> None:
        self._known: dict[Who, DetachedProcess] = {}

    def add(self, intent: TreeIntent, rows: tuple[Survivor, ...], at: float) -> None:
        host, _, session = intent.owner.partition(":")
        for row in rows:
            self._known[(row.pid, row.start)] = DetachedProcess(
                pid=row.pid,
                start=row.start,
                command=command_line((row.command,)),  # journals of earlier versions have it raw
                why=row.why,
                host=host,
                session=session,
                since=at,
            )

    def recover(self, rows: Iterable[TreeRow], boot: str) -> None:
        """From what the journal has of before."""
        for row in rows:
            if row.intent.boot_id == boot and row.ended_at is not None:
                for told in (row.record, row.sweep):
                    self.add(row.intent, told.left_running if told else (), row.ended_at)

    def now(self) -> tuple[DetachedProcess, ...]:
        self._known = {who: view for who, view in self._known.items() if _lives(who)}
        return tuple(self._known.values())


def _lives(who: Who) -> bool:
    stat = proc.read_stat(who[0])
    return stat is not None and stat.start == who[1] and stat.alive
