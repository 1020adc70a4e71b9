"""What is different from the incident's account, in sentences that are computed from what this run measured. Pure.

The account: each subagent is a process of 400 to 600 MB that is never ended, and the servers are innocent. Whatever
the measurement says, the sentence says: if a subagent began processes, they are counted here.
"""

from __future__ import annotations

from collections.abc import Sequence

from oomless.demo.record import ActRecord, Outlived, Share, Subagents
from oomless.units import format_size

#: In words, for roles that are no server's name.
CLAUDE = ("agent", "claude")
WORDS = {"agent": "Claude Code", "claude": "Claude Code", "shell": "tool shells", "other": "others"}


def differences(
    acts: Sequence[ActRecord],
    found: Subagents,
    outlived: Sequence[Outlived],
    servers: Sequence[str],
    agents: int,
    version: str,
) -> tuple[str, ...]:
    by_name = {act.name: act for act in acts}
    first, second, killed = by_name["parallel"], by_name["sequential"], by_name["parallel-killed"]
    return (
        _subagents(found, version),
        _whose(second),
        _duplicates(first, agents, servers),
        _released(second, agents),
        _leaks(killed, outlived, servers),
    )


def _subagents(found: Subagents, version: str) -> str:
    if not found.ran:
        return "The account says that each subagent is a process of 400 to 600 MB; here none ran, so nothing is said."
    shells = _count(found.shells, "tool shell") if found.shells else ""
    if found.processes:
        also = f", and {shells}" if shells else ""
        named = _listed([WORDS.get(role, role) for role in found.roles])
        began = f"{_count(found.processes, 'process')} began in their sessions ({named}){also}"
    else:
        began = "no process began in their sessions" + (f" but {shells}" if shells else "")
    grew = "grew by" if found.growth_bytes >= 0 else "shrank by"
    return (
        f"The account says that each subagent is a process of 400 to 600 MB. With {version}, while "
        f"{_count(found.ran, 'subagent')} worked ({found.seconds:.1f} s each), {began}; "
        f"the session's own process {grew} {format_size(abs(found.growth_bytes))}."
    )


def _whose(act: ActRecord) -> str:
    """One session at a time: the peak is that of one agent, unless something of the earlier ones was left."""
    total = sum(share.bytes for share in act.at_peak) or 1
    parts = [f"{_named(share)} {format_size(share.bytes)} ({share.bytes / total:.0%})" for share in act.at_peak[:7]]
    processes = sum(share.processes for share in act.at_peak)
    return (
        f"One session with its servers took {format_size(act.agent_bytes)} in up to {processes} processes: "
        f"{', '.join(parts)}."
    )


def _duplicates(act: ActRecord, agents: int, servers: Sequence[str]) -> str:
    of_servers = [share for share in act.at_peak if share.role in servers]
    count, size = sum(share.processes for share in of_servers), sum(share.bytes for share in of_servers)
    mine = sum(share.bytes for share in act.at_peak if share.role in CLAUDE)
    return (
        f"What multiplied is sessions: {agents} of them had {_count(count, 'process')} of {len(servers)} servers "
        f"with {format_size(size)}, and {format_size(mine)} of Claude Code, "
        f"{_count(act.processes_peak, 'process')} in all."
    )


def _released(act: ActRecord, agents: int) -> str:
    """The account: one after another fails too, only later, for nothing is given back."""
    left = (
        f"{_count(act.survivors, 'process')} with {format_size(act.survivors_bytes)}" if act.survivors else "nothing"
    )
    ratio = act.peak_bytes / act.agent_bytes if act.agent_bytes else 0.0
    return (
        f"The account says that memory is never given back. One after another, {agents} sessions that ended by "
        f"themselves left {left}, and their peak was {ratio:.1f} times that of one."
    )


def _leaks(killed: ActRecord, outlived: Sequence[Outlived], servers: Sequence[str]) -> str:
    if not outlived:
        return "Killed half-way, no session left anything that lived 3 s longer: no program among them leaked."
    innocent = [name for name in servers if name not in {row.role for row in outlived}]
    claude = "" if any(row.role in CLAUDE for row in outlived) else ", and nothing of Claude Code itself"
    ended = f"; {_listed(innocent)} ended at once" if innocent else ""
    last = f" At the end {_count(killed.survivors, 'process')} with {format_size(killed.survivors_bytes)} were left."
    return f"What outlived its killed session: {', '.join(map(_outlived, outlived))}{claude}{ended}.{last}"


def _outlived(row: Outlived) -> str:
    what = f"{row.processes} of {WORDS.get(row.role, row.role)} ({format_size(row.bytes)}"
    if not row.ended:
        return f"{what}, still there at the end)"
    who = "itself" if row.ended == 1 else "themselves"
    which = "" if row.ended == row.processes else f"{row.ended} of them "
    return f"{what}, {which}ended by {who} within {row.seconds:.1f} s)"


def _named(share: Share) -> str:
    return WORDS.get(share.role, share.role)


def _count(number: int, noun: str) -> str:
    plural = noun + ("es" if noun.endswith("s") else "s")
    return f"{number} {noun if number == 1 else plural}"


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
