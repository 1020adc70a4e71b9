"""The shim, but SIGTERM kills the tree at once, as exceeding a limit does, and what outlives the root has no grace.
So a benchmark can choose the moment. Started as ``boot.py`` is: ``_driven.py SPEC_FD TREE -- COMMAND``."""

from __future__ import annotations

import os
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "src"))

from oomless.contain import shim
from oomless.contain.cause import Cause
from oomless.lean import signal


class Driven(shim.Shim):
    def signalled(self, number: int, code: int) -> None:
        if number == signal.SIGTERM and self.cause is None:
            self.end(time.monotonic(), Cause("killed", 137, at_once=True))
            self._look(time.monotonic())

    def root_gone(self) -> None:
        super().root_gone()
        self.kill_at = min(self.kill_at or 0.0, time.monotonic())


if __name__ == "__main__":
    shim.Shim = Driven  # type: ignore[misc]
    shim.main(sys.argv)
