"""Rules on the machine as a whole, and on figures that people take for one another. Pure."""

from __future__ import annotations

from oomless.census.findings.finding import Finding, Scene, Severity
from oomless.model import MachineMemory
from oomless.units import format_size

_WARNING, _CRITICAL = 0.80, 0.95
#: A sum of RSS so much above the honest one misleads, if it is a matter of so many bytes.
CONFUSING, CONFUSING_BYTES = 1.25, 200_000_000
HONEST = frozenset({"pss", "phys_footprint", "cgroup"})


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


def confused_figures(scene: Scene) -> Finding | None:
    """The sum of RSS, which counts shared pages in each process, is far above the honest sum."""
    known = ((one, scene.footprints.get(one.process.pid)) for one in scene.processes)
    read = [one for one, footprint in known if footprint is not None and footprint.source in HONEST]
    rss, honest = sum(one.process.rss_bytes for one in read), scene.size(read)
    if rss < honest * CONFUSING or rss - honest < CONFUSING_BYTES:
        return None
    return Finding(
        rule="confused-figures",
        severity="info",
        title=f"added up, RSS says {format_size(rss)} where {format_size(honest)} are used",
        evidence=(
            f"{len(read)} listed processes: sum of RSS {format_size(rss)}, of footprints {format_size(honest)}",
            "RSS counts each shared page once in every process; a footprint divides it. VIRT is address space,"
            " not memory",
        ),
        action="add up footprints, not RSS or VIRT as ps and top print them",
    )
