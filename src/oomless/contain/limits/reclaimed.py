"""What the end of a tree gave back: its memory before and after, in the record and in the line of its reason.

Standard library only.
"""

from __future__ import annotations

import sys

assert sys.platform == "linux"

from oomless.units import format_duration, format_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oomless.contain.cause import Cause
    from oomless.contain.rungs.base import Rung


class Reclaimed:
    """``before``: bytes used when its end began, None if it was not measured; ``after``: by the survivors."""

    def __init__(self) -> None:
        self.before: int | None = None
        self.after: int | None = None

    def begin(self, rung: Rung, cause: Cause | None) -> None:
        """What was just measured is taken as it is; a tree that is to be killed at once is not kept waiting for the
        dear reading of one that the kernel does not account for."""
        if self.before is not None:
            return
        if cause is not None and cause.used is not None:
            self.before = cause.used
        elif rung.kernel_limit or cause is None or not cause.at_once:
            self.before = rung.usage()

    def finish(self, rung: Rung, cause: Cause, survivors: bool, now: float) -> None:
        """Completes the reason of an end that was ours."""
        if cause.used is not None:  # the kernel may have freed most of it before we came
            self.before = max(self.before or 0, cause.used)
        self.after = rung.usage() if survivors else 0
        if cause.since is not None:
            cause.reason += f" for {format_duration(max(0.1, now - cause.since))}"
        if cause.tells_freed and self.before is not None:
            cause.reason += f"; {format_size(max(0, self.before - self.after))} freed"
