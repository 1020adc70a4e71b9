"""Process ids: a pid with its start time, which together name one process for as long as the machine is up.

Standard library only: the shim and the fast commands import it. A process of another boot is named by
``model.Identity``.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NamedTuple, Protocol

    class Identified(Protocol):
        """Whatever names a process: a row of the process table, a ``ProcessInfo``, an ``Identity``."""

        @property
        def pid(self) -> int: ...
        @property
        def start(self) -> int: ...

    class ProcessId(NamedTuple):
        """``start`` is in clock ticks since boot on Linux and in microseconds since the epoch on macOS. It is
        compared with another of the same machine, never calculated with. A ``ProcessId`` equals the plain pair."""

        pid: int
        start: int

        @classmethod
        def of(cls, process: Identified) -> ProcessId: ...
else:
    # By hand, for a shim must not load ``typing`` (7 ms, 1 MB). The names with underscores are those of a named
    # tuple, by which msgspec knows one.
    class ProcessId(tuple):
        __slots__ = ()
        _fields = ("pid", "start")
        _field_defaults = {}  # noqa: RUF012
        __annotations__ = {"pid": int, "start": int}

        def __new__(cls, pid, start):
            return tuple.__new__(cls, (pid, start))

        @classmethod
        def of(cls, process):
            return tuple.__new__(cls, (process.pid, process.start))

        pid = property(lambda self: self[0])
        start = property(lambda self: self[1])

        def __repr__(self):
            return f"ProcessId(pid={self[0]}, start={self[1]})"

        def __getnewargs__(self):
            return tuple(self)
