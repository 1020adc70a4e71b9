"""What the scripted model's log and the samples tell of real agents: which tools answered, what began in a session
while its subagent was at work, and what outlived a session that was killed. Pure.

Each request names its session and its subagent, if it is of one; the time from a subagent's first request to its last
answer is the time in which a process of its own would have begun. Who is asked what: ``pages.py``.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence

import msgspec

from oomless.demo.model.log import Entry
from oomless.demo.pages import PAGES, group, tool_name
from oomless.demo.parts.servers import ServerPart
from oomless.demo.record import Outlived, Subagents, Tool
from oomless.demo.samples import Sample, Used

LONGEST = 160
#: What begins in a session is the host's or a server's, unless it is a tool shell (the subagent's own commands) or
#: one of the browser's helpers, which come and go as it likes.
SHELL, BROWSER = "shell", "browser"


#: Seconds after a session's death within which a server may take notice of it and end; 2.3 on a busy machine.
NOTICE = 3.0


class Ran(msgspec.Struct, frozen=True, kw_only=True):
    """One subagent: whose, and from when to when (seconds since the machine's start)."""

    page: str
    began: float
    ended: float


class Watched(msgspec.Struct, frozen=True, kw_only=True):
    """An act's samples and the times of its beginning and end. ``alone``: one session at a time."""

    samples: Sequence[Sample]
    alone: bool

    @property
    def began(self) -> float:
        return self.samples[0].at if self.samples else 0.0

    @property
    def ended(self) -> float:
        return self.samples[-1].at if self.samples else 0.0


def tools(
    entries: Iterable[Entry], servers: Iterable[ServerPart], acts: Sequence[Watched], offset: float
) -> tuple[Tool, ...]:
    """``offset``: what is to be added to the log's times to get those of the samples."""
    answers: dict[str, list[tuple[bool, str]]] = {}
    for entry in entries:
        if entry.event == "asked" and any(act.began <= entry.at + offset <= act.ended for act in acts):
            for result in entry.results:
                answers.setdefault(result.tool, []).append((result.error, result.text))
    return tuple(_tool(server, answers.get(tool_name(server), [])) for server in servers)


def _tool(server: ServerPart, answers: list[tuple[bool, str]]) -> Tool:
    errors = [text for error, text in answers if error]
    return Tool(
        server=server.name,
        tool=server.tool,
        calls=len(answers),
        errors=len(errors),
        error=" ".join(errors[-1].split())[:LONGEST] if errors else "",
    )


def ran(entries: Iterable[Entry], offset: float) -> list[Ran]:
    """All subagents that were answered to the end."""
    pages = {group(page): page for page in PAGES}
    began: dict[tuple[str, str], float] = {}
    found = []
    for entry in entries:
        key = (entry.session, entry.agent)
        if entry.group in pages and entry.event == "asked":
            began.setdefault(key, entry.at + offset)
        elif entry.group in pages and entry.event == "answered" and entry.last and key in began:
            found.append(Ran(page=pages[entry.group], began=began.pop(key), ended=entry.at + offset))
    return found


def subagents(found: Iterable[Ran], acts: Sequence[Watched], ticks: int) -> Subagents:
    """``ticks``: how many of the kernel's clock ticks are a second, in which it tells when a process began."""
    seen = [(one, act) for one in found for act in acts if act.began <= one.began and one.ended <= act.ended]
    new = [used for one, act in seen for used in _born(one, act, ticks)]
    added = [used for used in new if used.role not in (SHELL, BROWSER)]
    growth = [size for one, act in seen if act.alone and (size := _growth(one, act)) is not None]
    return Subagents(
        ran=len(seen),
        processes=len(added),
        roles=tuple(sorted({used.role for used in added})),
        shells=sum(used.role == SHELL for used in new),
        seconds=round(statistics.median(one.ended - one.began for one, _ in seen), 3) if seen else 0.0,
        growth_bytes=int(statistics.median(growth)) if growth else 0,
    )


def _born(one: Ran, act: Watched, ticks: int) -> list[Used]:
    """Begun after the subagent and seen while it was at work: a tool shell once, anything else twice (what was seen
    once may be a fork before its exec)."""
    found: dict[tuple[int, int], list[Used]] = {}
    for sample in act.samples:
        for used in sample.used if one.began <= sample.at <= one.ended else ():
            if used.agent == one.page and used.start / ticks > one.began:
                found.setdefault((used.pid, used.start), []).append(used)
    return [seen[-1] for seen in found.values() if seen[-1].role == SHELL or len(seen) > 1]


def _growth(one: Ran, act: Watched) -> int | None:
    """Of the session's own process, from the last sample before the subagent to the last one with it."""
    before = [size for sample in act.samples if sample.at <= one.began and (size := _root(sample, one.page))]
    during = [
        size for sample in act.samples if one.began < sample.at <= one.ended and (size := _root(sample, one.page))
    ]
    return during[-1] - before[-1] if before and during else None


def _root(sample: Sample, page: str) -> int:
    return sum(used.bytes for used in sample.used if used.role == "agent" and used.agent == page)


def outlived(samples: Sequence[Sample]) -> tuple[Outlived, ...]:
    """Of an act in which sessions were killed; the largest first."""
    found: dict[str, list[_Late]] = {}
    for agent, death in _deaths(samples).items():
        for late in _late(samples, agent, death):
            found.setdefault(late.role, []).append(late)
    rows = [
        Outlived(
            role=role,
            processes=len(late),
            ended=sum(one.ended for one in late),
            seconds=round(max((one.seconds for one in late if one.ended), default=0.0), 3),
            bytes=sum(one.bytes for one in late),
        )
        for role, late in found.items()
    ]
    return tuple(sorted(rows, key=lambda row: (-row.bytes, row.role)))


class _Late(msgspec.Struct, frozen=True, kw_only=True):
    role: str
    bytes: int
    seconds: float
    ended: bool


def _deaths(samples: Sequence[Sample]) -> dict[str, float]:
    """When each agent's root was seen last, if that is not the end of the samples."""
    seen = {used.agent: sample.at for sample in samples for used in sample.used if used.role == "agent"}
    return {agent: at for agent, at in seen.items() if at < samples[-1].at}


def _late(samples: Sequence[Sample], agent: str, death: float) -> list[_Late]:
    first: dict[tuple[int, int], Used] = {}
    last: dict[tuple[int, int], float] = {}
    for sample in samples:
        for used in sample.used:
            if used.agent == agent and used.bytes and used.role != "agent" and sample.at > death + NOTICE:
                first.setdefault((used.pid, used.start), used)
                last[(used.pid, used.start)] = sample.at
    end = samples[-1].at
    return [
        _Late(role=used.role, bytes=used.bytes, seconds=last[key] - death, ended=last[key] < end)
        for key, used in first.items()
    ]
