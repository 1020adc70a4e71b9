"""Processes that a dead session left, for the tests of reap."""

from __future__ import annotations

from oomless.journal.journal import Journal
from oomless.journal.sessions import ReapRow
from oomless.paths import Paths

#: Starts the server below a parent that ends at once, its stdin a pipe that nobody writes to, and says its pid.
ORPHAN = """
import os, sys
os.setsid()  # as a terminal's shell does: what init itself started would be in init's own
end, other = os.pipe()
if os.fork() == 0:
    os.dup2(end, 0); os.close(end); os.close(other)
    pid = os.getpid()
    os.write(1, f"{pid}\\n".encode())
    null = os.open(os.devnull, os.O_WRONLY); os.dup2(null, 1); os.dup2(null, 2)
    os.execv(sys.argv[1], sys.argv[2:])
"""


def records() -> list[ReapRow]:
    journal = Journal.open(Paths().journal)
    try:
        return journal.sessions.reaps()
    finally:
        journal.close()
