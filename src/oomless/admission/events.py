"""The events that admission takes and the actions that it answers with, as frozen structs.

Sizes are bytes. Times (``at``, ``deadline``) are seconds on whatever monotonic clock the caller keeps; an event
without ``at`` happens at the time of the last one that had it.
"""

from __future__ import annotations

import msgspec

from oomless.model import Terms


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """``budget``: bytes that all trees together may use (None: no fixed cap). ``headroom``: bytes of the available
    memory that are not reserved. ``max_parallel``: places (None: as memory allows). ``starvation``: after so many
    seconds of waiting no younger request goes first. ``admit_mark``: above that share of a fixed budget in use
    nothing more starts, until it is a twentieth of it less."""

    budget: int | None = None
    admit_mark: float = 1.0
    headroom: int = 0
    max_parallel: int | None = None
    starvation: float = 30.0


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    """May this start? ``terms.need`` is what was declared, ``prior`` the estimate that is reserved without it.
    ``ceiling``: bytes left under the requester's own ancestor cgroups (None: no limit there). A ``deadline`` at or
    before ``at`` fails fast, None waits for ever."""

    id: str
    terms: Terms
    prior: int = 0
    ceiling: int | None = None
    deadline: float | None = None
    at: float

    @property
    def need(self) -> int:
        """Bytes to reserve."""
        return self.prior if self.terms.need is None else self.terms.need


class Withdraw(msgspec.Struct, frozen=True, kw_only=True):
    """The requester is gone."""

    id: str


class Restore(msgspec.Struct, frozen=True, kw_only=True):
    """What runs already (adopted after a restart, or started without asking): admitted at once, whatever it needs.
    ``takes_place`` False: it does not count under the caps on count (a tool shell, a server)."""

    id: str
    terms: Terms
    reserved: int
    used: int = 0
    takes_place: bool = True
    reason: str = "it ran already when the daemon started"
    at: float


class Use(msgspec.Struct, frozen=True, kw_only=True):
    """Measured memory (bytes) of an open tree, trees nested in it included. One round of samples gives parents
    before what is nested in them, and all of them before ``Observe``: any other order errs on the safe side."""

    id: str
    used: int


class End(msgspec.Struct, frozen=True, kw_only=True):
    """An open tree is gone. What it freed counts from the next ``Observe`` on, where no budget is set."""

    id: str
    at: float


class Observe(msgspec.Struct, frozen=True, kw_only=True):
    """Fresh figures: the OS's available memory, and ceilings by ask id (one not named keeps its last figure)."""

    available: int
    at: float
    ceilings: dict[str, int] = {}


class Configure(msgspec.Struct, frozen=True, kw_only=True):
    policy: Policy


class Tick(msgspec.Struct, frozen=True, kw_only=True):
    """Time has passed."""

    at: float


Event = Ask | Withdraw | Restore | Use | End | Observe | Configure | Tick


class Holder(msgspec.Struct, frozen=True, kw_only=True):
    """A tree with the bytes that it counts for: the larger of reservation and use, what is nested in it included."""

    id: str
    name: str
    bytes: int


class Admit(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    reserved: int
    reason: str


class Wait(msgspec.Struct, frozen=True, kw_only=True):
    """Sent when the request is queued and when its reason changes in kind or in the holders, not with every byte.
    ``ahead``: how many older ones wait too."""

    id: str
    reason: str
    ahead: int
    holders: tuple[Holder, ...]


class Refuse(msgspec.Struct, frozen=True, kw_only=True):
    """``code`` is the exit code, ``error`` says what and why, ``hint`` what to do, ``reason`` is for the record.
    ``never``: it cannot run under these settings, however long it waits."""

    id: str
    code: int
    error: str
    hint: str = ""
    reason: str
    never: bool = False


Action = Admit | Wait | Refuse
