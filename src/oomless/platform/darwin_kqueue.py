"""The ends of processes as macOS tells them, by kqueue(2). Standard library only; not run on a Mac.

NOTE_TRACK, which would follow forks, is not there on macOS: NOTE_FORK says that there was one, not of whom.
"""

from __future__ import annotations

import select
import sys

assert sys.platform == "darwin"

#: As many at once as are fetched; more stay for the next time.
_BATCH = 256


class Kqueue:
    def __init__(self) -> None:
        self._queue = select.kqueue()
        self.fd = self._queue.fileno()

    def watch(self, pid: int) -> bool:
        """EV_CLEAR: a fork is told once. The kernel takes the entry away with the process."""
        notes = select.KQ_NOTE_EXIT | select.KQ_NOTE_FORK
        change = select.kevent(pid, select.KQ_FILTER_PROC, select.KQ_EV_ADD | select.KQ_EV_CLEAR, notes)
        try:
            self._queue.control([change], 0, 0)
            return True
        except ProcessLookupError:
            return False
        except OSError:
            return True  # it is there and not ours to watch; its start time is read all the same

    def take(self) -> None:
        while len(self._queue.control(None, _BATCH, 0)) == _BATCH:
            pass

    def close(self) -> None:
        self._queue.close()
