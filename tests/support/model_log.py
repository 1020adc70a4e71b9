"""What the log of a scripted model shows."""

from __future__ import annotations

from collections.abc import Iterable

from oomless.demo.model import LogEntry


def peak_running(entries: Iterable[LogEntry], group: str) -> int:
    """The most conversations of ``group`` that ran at the same time."""
    running: set[tuple[str, str]] = set()
    peak = 0
    for entry in entries:
        if entry.group == group and entry.event == "asked":
            running.add((entry.session, entry.agent))
            peak = max(peak, len(running))
        elif entry.group == group and (entry.last or entry.event == "dropped"):
            running.discard((entry.session, entry.agent))
    return peak
