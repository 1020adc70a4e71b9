"""Claims about what processes are: subagents, editors' helpers, copies of servers. Pure."""

from __future__ import annotations

import re

from oomless.reports.diagnose.claims.claim import Claim
from oomless.reports.diagnose.facts import Case, CaseProcess, Copies
from oomless.reports.diagnose.helpers import where

#: Measured with Claude Code 2.1.330 on Linux: five at once within one process, no process more, 37 MB together.
_IN_PROCESS = "Claude Code (2.1.330, measured on Linux) runs its subagents within the session's own process"
_NAMED = 6


def each_subagent_is_a_process(case: Case) -> Claim:
    text = "each subagent is a process"
    called = _pids_called(case, "subagent")
    hosts = [one for one in _helpers(case) if one.pid in called]
    inside = sum(one.number for one in case.inside)
    if inside:
        seen = tuple(f"session {one.session}: {one.number} run within its process" for one in case.inside)
        return Claim(text=text, verdict="refuted", evidence=(*seen, _IN_PROCESS))
    if hosts:
        number = len(hosts)
        seen = tuple(f"PID {one.pid} ({where(_lines_called(case, one.pid))}): an extension host" for one in hosts)
        left = len(called) - number
        others = (f"{left} other pids are called subagents as well, and not known",) if left else ()
        return Claim(text=text, verdict="unknown" if left else "refuted", evidence=(*seen, *others, _IN_PROCESS))
    nobody = "no subagent is seen or named with a pid here" if case.origin == "text" else "none runs here now"
    missing = nobody if not called else f"PIDs {_some(called)} are not known"
    return Claim(text=text, verdict="unknown", evidence=(missing, _IN_PROCESS))


def helpers_are_subagents(case: Case) -> Claim:
    text = "the helpers are subagents"
    helpers = _helpers(case)
    if not helpers:
        missing = f"no helper of an editor {_seen_here(case)}"
        return Claim(text=text, verdict="unknown", evidence=(missing,))
    first = max(helpers, key=lambda helper: len(_kind_evidence(helper)))
    evidence = [
        f"PIDs {_some([one.pid for one in helpers])} are extension hosts: one a window, started and ended with it",
        *(f"PID {first.pid}: {line}" for line in _kind_evidence(first)),
        *_as_many(case, len(helpers)),
    ]
    return Claim(text=text, verdict="refuted", evidence=tuple(evidence))


def _kind_evidence(process: CaseProcess) -> tuple[str, ...]:
    """What says that it is what it is."""
    at = f"{where(process.lines[:1])}: " if process.lines else ""
    by_command = (f"{at}{line}" for line in process.evidence if line.startswith("catalog:"))
    return (*by_command, *process.kind_evidence)


def _seen_here(case: Case) -> str:
    return "is seen or named here" if case.origin == "text" else "runs here now"


def _as_many(case: Case, helpers: int) -> tuple[str, ...]:
    """Their number against that of the subagents that the text speaks of."""
    counts = [one.count for one in case.enumerations if one.count is not None]
    said = next((one for one in counts if re.search(r"\b(?:sub-?agents?|tasks?)\b", one.what, re.IGNORECASE)), None)
    if said is None or said.number == helpers:
        return ()
    return (f"line {said.line}: {said.number} {said.what}, but {helpers} helpers",)


def servers_are_duplicated(case: Case) -> Claim:
    text = "servers are duplicated"
    if not case.copies:
        return Claim(text=text, verdict="unknown", evidence=(f"no known server {_seen_here(case)}",))
    several = [one for one in case.copies if one.number > 1]
    if not several:
        single = tuple(f"{one.name}: once ({_seen(one)})" for one in case.copies)
        return Claim(text=text, verdict="refuted", evidence=single)
    # Places first: that the same server is there for two terminals is what makes it a copy.
    several.sort(key=lambda one: (len(one.places) < 2, one.name))
    at = "on" if case.origin == "text" else "in"
    return Claim(text=text, verdict="supported", evidence=tuple(_copies(one, at) for one in several))


def _copies(one: Copies, where_at: str) -> str:
    at = f" {where_at} {' and '.join(one.places)}" if one.places else ""
    return f"{one.name}: {one.number} instances{at} ({_seen(one)})"


def _seen(one: Copies) -> str:
    pids = f"PIDs {_some(list(one.pids))}" if one.pids else ""
    return ", ".join(part for part in (where(one.lines) if one.lines else "", pids) if part)


def _helpers(case: Case) -> list[CaseProcess]:
    return [one for one in case.processes if one.kind == "extension-host"]


def _pids_called(case: Case, role: str) -> list[int]:
    return sorted({one.pid for one in case.mentions if role in one.roles})


def _lines_called(case: Case, pid: int) -> list[int]:
    return [one.line for one in case.mentions if one.pid == pid and "subagent" in one.roles]


def _some(pids: list[int]) -> str:
    more = f" and {len(pids) - _NAMED} more" if len(pids) > _NAMED else ""
    return ", ".join(str(pid) for pid in pids[:_NAMED]) + more
