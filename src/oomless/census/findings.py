"""What is worth a warning, one rule a function, each with the evidence that it stands on. Pure.

So far: the machine as a whole is short of memory. Rules on single sessions and servers need a history.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from oomless.model import MachineMemory
from oomless.units import format_size

Severity = Literal["warning", "critical"]
_WARNING, _CRITICAL = 0.80, 0.95


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """``pids`` are the processes that it is about; none: the machine."""

    rule: str
    severity: Severity
    title: str
    pids: tuple[int, ...] = ()
    bytes_recoverable: int = 0
    evidence: tuple[str, ...]
    action: str


def findings(memory: MachineMemory) -> tuple[Finding, ...]:
    found = (memory_in_use(memory),)
    return tuple(finding for finding in found if finding is not None)


def memory_in_use(memory: MachineMemory) -> Finding | None:
    """More than 80 % of the machine's memory is in use (a warning), or more than 95 % (critical)."""
    used = memory.total_bytes - memory.available_bytes
    share = used / memory.total_bytes
    if share <= _WARNING:
        return None
    severity: Severity = "critical" if share > _CRITICAL else "warning"
    limit = _CRITICAL if severity == "critical" else _WARNING
    return Finding(
        rule="memory-in-use",
        severity=severity,
        title=f"{share:.0%} of the machine's memory is in use",
        evidence=(
            f"{format_size(used)} of {format_size(memory.total_bytes)} in use, {format_size(memory.available_bytes)}"
            f" available by the system's own estimate; {severity} is above {limit:.0%}",
        ),
        action="start no further agents now; end a session that is not needed",
    )


def at_least(found: tuple[Finding, ...], severity: Severity) -> bool:
    """Whether any finding is that severe or more."""
    return any(finding.severity in (severity, "critical") for finding in found)
