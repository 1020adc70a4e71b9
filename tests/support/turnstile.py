"""Lets tests on several workers run side by side, and some (``machine``) alone.

Two files are locked with flock(2), so that the end of a worker releases what it held. Whoever wants in passes the
*turnstile* first; one that wants to be alone keeps it until it has left, so that those who come after it wait, and it
waits only for those who are in.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class Turnstile:
    """Shared by all processes that give the same folder."""

    def __init__(self, folder: Path) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        self._turnstile, self._room = (os.open(folder / name, flags, 0o600) for name in ("turnstile", "room"))
        self._alone = False

    @contextmanager
    def beside_others(self) -> Iterator[None]:
        fcntl.flock(self._turnstile, fcntl.LOCK_EX)
        fcntl.flock(self._room, fcntl.LOCK_SH)
        fcntl.flock(self._turnstile, fcntl.LOCK_UN)
        try:
            yield
        finally:
            fcntl.flock(self._room, fcntl.LOCK_UN)

    @contextmanager
    def alone(self, stay: bool) -> Iterator[None]:
        """``stay``: the next one that this process lets in wants to be alone too; nobody comes in between."""
        if not self._alone:
            fcntl.flock(self._turnstile, fcntl.LOCK_EX)
            fcntl.flock(self._room, fcntl.LOCK_EX)
        self._alone = stay
        try:
            yield
        finally:
            if not stay:
                fcntl.flock(self._room, fcntl.LOCK_UN)
                fcntl.flock(self._turnstile, fcntl.LOCK_UN)
