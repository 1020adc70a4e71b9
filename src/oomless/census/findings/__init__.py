"""What is worth a word, one rule a function, each with the evidence that it stands on and what a person can do.

Pure, over what one look at the machine has found. ``machine.py``: memory as a whole and misleading figures;
``sessions.py``: subagents and what is left; ``copies.py``: MCP servers; by what the daemon remembers, ``unused.py``:
servers that nobody uses, and ``history.py``: sessions that grow; ``unowned.py``: memory that is no process's.
"""

from __future__ import annotations

from oomless.census.findings.copies import duplicates, launcher_overhead, many_servers, superseded
from oomless.census.findings.finding import Finding, Scene, Severity
from oomless.census.findings.history import growing_sessions
from oomless.census.findings.machine import confused_figures, memory_in_use
from oomless.census.findings.sessions import detached, likely_orphans, many_subagents, not_ending, orphans
from oomless.census.findings.unowned import unaccounted_memory
from oomless.census.findings.unused import idle_servers, unused_servers

__all__ = ["SEVERITY_RANK", "Finding", "Scene", "Severity", "at_least", "findings"]

SEVERITY_RANK: dict[Severity, int] = {"critical": 0, "warning": 1, "info": 2}


def findings(scene: Scene) -> tuple[Finding, ...]:
    """The most severe first."""
    found = (
        memory_in_use(scene.memory) if scene.memory else None,
        unaccounted_memory(scene),
        many_subagents(scene),
        many_servers(scene),
        orphans(scene),
        likely_orphans(scene),
        superseded(scene),
        not_ending(scene),
        duplicates(scene),
        detached(scene),
        growing_sessions(scene),
        unused_servers(scene),
        idle_servers(scene),
        launcher_overhead(scene),
        confused_figures(scene),
    )
    return tuple(sorted((one for one in found if one is not None), key=lambda one: SEVERITY_RANK[one.severity]))


def at_least(found: tuple[Finding, ...], severity: Severity) -> bool:
    """Whether any finding is that severe or more."""
    return any(SEVERITY_RANK[finding.severity] <= SEVERITY_RANK[severity] for finding in found)
