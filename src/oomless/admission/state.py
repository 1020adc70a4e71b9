"""What admission remembers between two events; ``machine.step`` makes the next state.

A state is never changed after it was made: ``reservations`` is a dict only for speed and is copied to be changed.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from oomless.admission.events import Ask, Holder, Policy
from oomless.model import Terms

Kind = Literal["never", "count", "mark", "budget", "available", "ceiling", "turn"]


class Reservation(msgspec.Struct, frozen=True, kw_only=True):
    """Admitted and not ended. ``used``: bytes, the last measured figure, trees nested in it included. ``takes_place``
    False: it does not count under the caps on count itself."""

    id: str
    terms: Terms
    reserved: int
    used: int = 0
    takes_place: bool = True
    since: float
    reason: str


class Block(msgspec.Struct, frozen=True, kw_only=True):
    """One inequality that does not hold: ``taken + charge <= total - headroom``, in bytes or (count) in places.

    ``charge`` is the need less what an enclosing reservation covers. ``group`` None: the whole machine. ``turn``
    means that all would hold, but ``first`` has waited too long to be passed."""

    kind: Kind
    group: str | None = None
    charge: int
    taken: int = 0
    total: int = 0
    headroom: int = 0
    holders: tuple[Holder, ...] = ()
    first: str = ""
    first_name: str = ""

    @property
    def scope(self) -> str:
        """What it holds for: a group, all requests under a ceiling, or the machine."""
        if self.group is not None:
            return f"group {self.group}"
        return "ceiling" if self.kind == "ceiling" else "machine"

    def key(self) -> tuple[str, str, str, frozenset[str]]:
        """Equal as long as there is nothing new to say, however the bytes wobble."""
        return (self.kind, self.scope, self.first, frozenset([h.id for h in self.holders]))


class Waiting(msgspec.Struct, frozen=True, kw_only=True):
    """Queued. ``ceiling`` is as of the last observation, ``sent`` the key of the last ``Wait``."""

    ask: Ask
    ceiling: int | None
    block: Block | None = None
    sent: tuple[str, str, str, frozenset[str]] | None = None


class State(msgspec.Struct, frozen=True, kw_only=True):
    """``available`` is the last observed figure; ``grown`` is what open trees were measured to have taken since.
    ``full``: the mark on use was passed, and has not been left behind since."""

    policy: Policy
    available: int
    grown: int = 0
    full: bool = False
    now: float = 0.0
    reservations: dict[str, Reservation] = {}
    queue: tuple[Waiting, ...] = ()
