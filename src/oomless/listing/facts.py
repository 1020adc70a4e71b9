"""What a saved listing says, as it is printed: rows, lines that could not be read, the machine's memory.

Every field is text of its line, or a number that such text says; what a line does not say is None or empty.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from oomless.model import MachineMemory

Form = Literal["ps aux", "ps -ef", "ps -eo", "top -b", "top -l", "pid list", "prose"]
System = Literal["linux", "macos", ""]


class Listed(msgspec.Struct, frozen=True, kw_only=True):
    """One process of a listing; ``line`` counts from 1. ``tty``: ``pts/3``, ``s008``, "" for none. ``memory_share``
    is a fraction of the machine's. ``command`` is as printed, ``cut`` if its end seems to be missing, ``name_only``
    if it is a program's name or path without arguments. ``started`` is text: its form says too little to count by."""

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
    command: str
    cut: bool = False
    name_only: bool = False


class Unreadable(msgspec.Struct, frozen=True, kw_only=True):
    """A line within a table that is no row of it."""

    line: int
    text: str


class ListingSection(msgspec.Struct, frozen=True, kw_only=True):
    """One table or list. ``line`` is that of its header, or of its first row."""

    line: int
    form: Form
    system: System
    rows: tuple[Listed, ...]


class Listing(msgspec.Struct, frozen=True, kw_only=True):
    """``memory`` is from the header of Linux's top; that of macOS does not say what is available. ``table_lines``:
    all that belong to tables, with their headers, what goes on in the next line, and what could not be read."""

    sections: tuple[ListingSection, ...] = ()
    unreadable: tuple[Unreadable, ...] = ()
    memory: MachineMemory | None = None
    table_lines: frozenset[int] = frozenset()

    @property
    def rows(self) -> tuple[Listed, ...]:
        return tuple(row for section in self.sections for row in section.rows)
