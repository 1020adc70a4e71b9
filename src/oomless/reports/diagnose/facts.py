"""The facts that a diagnosis stands on, each with where it is from: lines of a text, or the live machine.

Plain facts; what follows from them is in ``claims/`` and ``contradictions/``. Amounts are bytes, and ``text`` is as
it was written.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import msgspec

from oomless.census.findings import Finding
from oomless.model import MachineMemory
from oomless.reports.scan import ProcessRow

#: A list of line numbers for people has no more.
_LINES_NAMED = 6


class Amount(msgspec.Struct, frozen=True, kw_only=True):
    """``low`` and ``high`` are equal but for ``400-600 MB``; ``about``: the text says that it is not exact."""

    low: int
    high: int
    about: bool = False
    text: str


class Mention(msgspec.Struct, frozen=True, kw_only=True):
    """A pid in prose. ``roles``: what its line calls it, of the words that exclude each other; ``said``: the words by
    it, ``lead``: those above its list; ``parent``: the process that is said to have started it; ``moment``: words of
    time and measure."""

    line: int
    pid: int
    amount: Amount | None = None
    roles: tuple[str, ...] = ()
    said: str = ""
    lead: str = ""
    parent: int | None = None
    moment: frozenset[str] = frozenset()


class Count(msgspec.Struct, frozen=True, kw_only=True):
    """``9 active MCP servers``."""

    line: int
    number: int
    what: str


class ListItem(msgspec.Struct, frozen=True, kw_only=True):
    line: int
    text: str
    instances: int | None = None
    pids: tuple[int, ...] = ()


class Enumeration(msgspec.Struct, frozen=True, kw_only=True):
    """A list with the words above it. ``count``: how many those say that there are; ``partial``: they say that it is
    only a part."""

    items: tuple[ListItem, ...]
    lead: str = ""
    count: Count | None = None
    partial: bool = False
    moment: frozenset[str] = frozenset()


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """An amount that has a name. ``each``: of one of several. ``block``: figures of one block are of one reckoning;
    numbered ones there may differ (``numbered``)."""

    line: int
    name: str
    each: bool
    numbered: bool
    amount: Amount
    block: int
    moment: frozenset[str] = frozenset()


class Total(msgspec.Struct, frozen=True, kw_only=True):
    """``of``: what it is of, empty for all. ``parts``: the amounts above it that should make it up (empty if none
    are there). ``scene``: numbers of things that it is for, as ``(5, "subagent")``; ``words``: those of its
    surroundings that set it apart from others."""

    line: int
    amount: Amount
    of: str = ""
    parts: tuple[Amount, ...] = ()
    scene: frozenset[tuple[int, str]] = frozenset()
    words: frozenset[str] = frozenset()


class Copies(msgspec.Struct, frozen=True, kw_only=True):
    """A server that is said or seen to run several times. ``places``: terminals or sessions. ``only_said``: the text
    says more than its tables show."""

    name: str
    number: int
    places: tuple[str, ...] = ()
    lines: tuple[int, ...] = ()
    pids: tuple[int, ...] = ()
    only_said: bool = False


class CaseProcess(ProcessRow, frozen=True, kw_only=True):
    """A process of the case: its row, and what the text says of it.

    ``program``: the catalog's name for it. ``place``: its terminal, or its session. ``source`` and ``figure_line``:
    where its footprint is from. ``lines`` name it, ``called`` is what the text calls it, ``kind_evidence`` why it is
    known as an editor's helper.
    """

    program: str = ""
    place: str = ""
    source: str = ""
    figure_line: int | None = None
    lines: tuple[int, ...] = ()
    called: tuple[str, ...] = ()
    kind_evidence: tuple[str, ...] = ()


def case_process(
    row: ProcessRow,
    *,
    place: str,
    program: str,
    source: str,
    figure_line: int | None = None,
    lines: tuple[int, ...] = (),
    is_command: bool = True,
) -> CaseProcess:
    """The row with the facts around it; ``is_command``: its command is no label that somebody wrote."""
    fields = {name: getattr(row, name) for name in ProcessRow.__struct_fields__}
    if not is_command:
        fields |= {"command": ""}
    return CaseProcess(**fields, place=place, program=program, source=source, figure_line=figure_line, lines=lines)


def count_copies(processes: Iterable[CaseProcess]) -> tuple[Copies, ...]:
    """The servers that run, by name, each with its instances by the census. Processes of which neither parent nor
    place is known may all be of one instance."""
    servers: dict[str, list[CaseProcess]] = {}
    for process in processes:
        if process.server:
            servers.setdefault(process.server, []).append(process)
    return tuple(_make_copies(name, group) for name, group in sorted(servers.items()))


def _make_copies(name: str, group: list[CaseProcess]) -> Copies:
    roots = {process.instance or process.pid for process in group if process.ppid is not None or process.place}
    return Copies(
        name=name,
        number=max(1, len(roots)),
        places=tuple(sorted({process.place for process in group if process.place})),
        lines=tuple(line for process in group for line in process.lines),
        pids=tuple(sorted(process.pid for process in group)),
    )


class CaseEvent(msgspec.Struct, frozen=True, kw_only=True):
    """``when``: as the text says it, or a date; ``source``: a line, or the part of the journal."""

    when: str
    text: str
    source: str


class Inside(msgspec.Struct, frozen=True, kw_only=True):
    """Subagents that run within a session's own process."""

    session: str
    number: int


class EndedAgent(msgspec.Struct, frozen=True, kw_only=True):
    """A governed tree of a known host that ended, from the journal."""

    tree: str
    survivors: int
    peak_bytes: int


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """``copies``: which servers run, each as often as it is said or seen. ``small_model_failed``: the lines that say
    that memory ran out with a smaller model too. ``inside`` and ``ended`` are known of the live machine only."""

    origin: Literal["text", "live"]
    memory: MachineMemory | None = None
    processes: tuple[CaseProcess, ...] = ()
    mentions: tuple[Mention, ...] = ()
    enumerations: tuple[Enumeration, ...] = ()
    figures: tuple[Figure, ...] = ()
    totals: tuple[Total, ...] = ()
    copies: tuple[Copies, ...] = ()
    events: tuple[CaseEvent, ...] = ()
    small_model_failed: tuple[int, ...] = ()
    inside: tuple[Inside, ...] = ()
    ended: tuple[EndedAgent, ...] = ()
    findings: tuple[Finding, ...] = ()
    unreadable: tuple[str, ...] = ()


def format_lines(lines: Iterable[int]) -> str:
    """``line 3``, ``lines 3, 5``."""
    numbers = sorted(set(lines))
    shown = ", ".join(str(number) for number in numbers[:_LINES_NAMED])
    more = f" and {len(numbers) - _LINES_NAMED} more" if len(numbers) > _LINES_NAMED else ""
    return f"line{'s' if len(numbers) > 1 else ''} {shown}{more}"
