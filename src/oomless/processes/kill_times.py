"""How long the kill protocol takes and waits, wherever it is used. Standard library only, on every system."""

from __future__ import annotations


class KillTimes:
    """The seconds of one kill. ``grace``: from TERM to KILL. ``give_up_after``: of KILL rounds, until the processes
    that are left (uninterruptible, another user's) are named and left; ``give_up_at_most`` while they still get
    fewer, ``dying_for`` if all of them are only slow in dying. ``round_every``: between two rounds. ``quiet_rounds``:
    so many in a row have to find nobody."""

    __slots__ = ("dying_for", "give_up_after", "give_up_at_most", "grace", "quiet_rounds", "round_every")

    def __init__(
        self,
        grace: float | None = None,
        give_up_after: float | None = None,
        *,
        give_up_at_most: float = 30.0,
        dying_for: float = 60.0,
        round_every: float = 0.01,
        quiet_rounds: int = 3,
    ) -> None:
        self.grace = 1.0 if grace is None else grace
        self.give_up_after = 5.0 if give_up_after is None else give_up_after
        self.give_up_at_most = give_up_at_most
        self.dying_for = dying_for
        self.round_every = round_every
        self.quiet_rounds = quiet_rounds
