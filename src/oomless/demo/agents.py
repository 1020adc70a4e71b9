"""What the acts must know of the agents they start, in whatever form these are.

The two forms: ``synthetic.py`` (small Python processes) and ``real.py`` (sessions of Claude Code with the incident's
servers). An agent shows by two files in its act's folder how far it is: ``NAME.half`` half-way, ``NAME.json`` when
its work is done (a second result does not take its place: it becomes ``NAME.again``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import msgspec

from oomless.demo.record import ActRecord, Form

#: In an agent's environment, and so in that of everything it starts: whose it is, and the act's folder.
AGENT, FOLDER = "OOMLESS_DEMO_AGENT", "OOMLESS_DEMO_FOLDER"


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where an act plays. ``environ`` is the stage's, to which an agent's own is added."""

    folder: str
    governed: bool
    environ: dict[str, str]


class Start(msgspec.Struct, frozen=True, kw_only=True):
    """How an agent is started; ``env`` is added to the stage's."""

    command: tuple[str, ...]
    env: dict[str, str]
    cwd: str


class Agents(Protocol):
    """``inherited``: what of this process's environment the stage and all acts get. ``tick``: seconds between two
    samples. ``longest``: seconds until an act is given up."""

    @property
    def form(self) -> Form: ...

    @property
    def names(self) -> tuple[str, ...]: ...

    @property
    def inherited(self) -> Mapping[str, str]: ...

    @property
    def tick(self) -> float: ...

    @property
    def longest(self) -> float: ...

    def open(self, place: Place) -> None:
        """Makes in the act's folder what the agents need there, before the first of them starts."""
        ...

    def start(self, place: Place, name: str) -> Start: ...

    def role(self, command: Sequence[str]) -> tuple[str, str]:
        """What a process is by its command line: ``agent`` and its name for an agent's root, else a word for its
        kind, ``other`` if that does not show."""
        ...

    def need(self, parallel: ActRecord) -> int:
        """What is reserved for a governed agent."""
        ...
