"""What a saved listing says, row for row: nothing is added to what stands in its text.

Only facts. Reading them is ``__init__.py``'s business, who owns a process is the census'.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from oomless.model import MachineMemory


class Listed(msgspec.Struct, frozen=True, kw_only=True):
    """One process. ``tty``: ``s008``, ``pts/3``, empty for none. ``command`` is as printed, ``cut`` if it was cut."""

    line: int
    pid: int
    ppid: int | None = None
    pgid: int | None = None
    sid: int | None = None
    user: str = ""
    tty: str = ""
    started: str = ""
    elapsed_seconds: float | None = None
    cpu_seconds: float | None = None
    rss_bytes: int | None = None
    vsz_bytes: int | None = None
    memory_share: float | None = None
    state: str = ""
    command: str = ""
    cut: bool = False


class Unreadable(msgspec.Struct, frozen=True, kw_only=True):
    """A line inside a table that does not fit its header."""

    line: int
    text: str


class Section(msgspec.Struct, frozen=True, kw_only=True):
    """Rows under one header. ``form``: ``ps aux``, ``ps -ef``, ``ps -eo``, ``top -b``, ``pid list`` or ``prose``;
    ``line``: of the header, or of the first row."""

    line: int
    form: str
    system: Literal["linux", "macos", ""] = ""
    rows: tuple[Listed, ...] = ()


class Listing(msgspec.Struct, frozen=True, kw_only=True):
    """``memory`` is what the header of top says of the machine."""

    sections: tuple[Section, ...] = ()
    unreadable: tuple[Unreadable, ...] = ()
    memory: MachineMemory | None = None

    @property
    def rows(self) -> tuple[Listed, ...]:
        return tuple(row for section in self.sections for row in section.rows)
