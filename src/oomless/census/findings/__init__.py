"""Findings: what a person should know about one reading of the machine, each with its evidence and what to do.

Pure. One rule is one function: on memory (``memory.py``), sessions and their processes (``sessions.py``), and MCP
servers (``servers.py``).
"""

from __future__ import annotations

from oomless.census.findings.finding import SEVERITY_RANK, Finding, Inventory, Severity
from oomless.census.findings.memory import confused_figures, memory_in_use, unaccounted_memory
from oomless.census.findings.servers import (
    duplicate_servers,
    idle_servers,
    launcher_overhead,
    many_servers,
    superseded_servers,
    unused_servers,
)
from oomless.census.findings.sessions import (
    background_not_ending,
    detached_processes,
    growing_sessions,
    likely_orphans,
    many_subagents,
    orphans,
)

__all__ = ["SEVERITY_RANK", "Finding", "Inventory", "Severity", "at_least", "list_findings"]


def list_findings(inventory: Inventory) -> tuple[Finding, ...]:
    """The most severe first."""
    rules = (
        memory_in_use,
        unaccounted_memory,
        many_subagents,
        many_servers,
        orphans,
        likely_orphans,
        superseded_servers,
        background_not_ending,
        duplicate_servers,
        detached_processes,
        growing_sessions,
        unused_servers,
        idle_servers,
        launcher_overhead,
        confused_figures,
    )
    findings = (rule(inventory) for rule in rules)
    return tuple(sorted(filter(None, findings), key=lambda finding: SEVERITY_RANK[finding.severity]))


def at_least(findings: tuple[Finding, ...], severity: Severity) -> bool:
    """Whether any finding is that severe or more."""
    return any(SEVERITY_RANK[finding.severity] <= SEVERITY_RANK[severity] for finding in findings)
