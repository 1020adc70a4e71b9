"""Process ids: a pid with its start time, which together name one process for as long as the machine is up.

Standard library only: the shim and the fast commands import it. A process of another boot is named by
``model.Identity``.
"""

from __future__ import annotations

from typing import NamedTuple


class ProcessId(NamedTuple):
    """``start`` is in clock ticks since boot on Linux and in microseconds since the epoch on macOS. It is compared
    with another of the same machine, and never calculated with. A ``ProcessId`` equals the plain pair."""

    pid: int
    start: int
