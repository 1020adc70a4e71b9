"""A case from a saved text: its tables as the census attributes them, and what its prose says. Pure.

What a process is comes from ``attribute_listing``, as for ``scan --from``; what only prose names is added.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import msgspec

from oomless.catalog import Catalog
from oomless.census.listing import ListingCensus, attribute_listing
from oomless.listing import Listing
from oomless.listing.merge import list_zombies
from oomless.redact import command_line
from oomless.reports.diagnose import prose, reckoning
from oomless.reports.diagnose.document import TextLine, read_lines
from oomless.reports.diagnose.facts import (
    Case,
    CaseProcess,
    Copies,
    Enumeration,
    Mention,
    case_process,
    count_copies,
    format_lines,
)
from oomless.reports.listing import listing_row, shown_command
from oomless.reports.scan import ProcessRow

_LONGEST_NAME = 60
_IN_BRACKETS = re.compile(r"\(([^()]{2,60}(?:\([^()]{2,20}\))?)\)")


def build_case(text: str, listing: Listing, catalog: Catalog) -> Case:
    printed = {row.line for section in listing.sections if section.form != "pid list" for row in section.rows}
    document = read_lines(text, listing.table_lines | printed)
    mentions = prose.find_mentions(document)
    census = attribute_listing(listing, catalog)
    processes = _join_processes(census, mentions, document)
    lists = prose.find_enumerations(document)
    said = (*prose.find_copies(document), *_listed_copies(lists))
    return Case(
        origin="text",
        memory=listing.memory,
        processes=processes,
        mentions=mentions,
        enumerations=lists,
        figures=reckoning.find_figures(document),
        totals=reckoning.find_totals(document),
        copies=_join_copies_by_server(said, processes, catalog),
        events=prose.find_events(document),
        small_model_failed=prose.find_failed_small_model(document),
        findings=census.findings,
        unreadable=(
            *(f"line {line.line}: {command_line((line.text[:200],))}" for line in listing.unreadable),
            *(
                f"line {row.line}: zombie {row.pid}, ended and not reaped by its parent"
                for row in list_zombies(listing)
            ),
        ),
    )


def _join_processes(
    census: ListingCensus, mentions: tuple[Mention, ...], document: tuple[TextLine, ...]
) -> tuple[CaseProcess, ...]:
    attributed = {process.process.pid: listing_row(process, census) for process in census.processes}
    by_pid = {pid: _of_row(pid, attributed.get(pid), census) for pid in census.rows}
    mentioned: dict[int, list[Mention]] = {}
    for mention in mentions:
        mentioned.setdefault(mention.pid, []).append(mention)
    named_in = _lines_naming_helper((line.number, line.text) for line in document)
    for pid, group in mentioned.items():
        by_pid[pid] = _add_mentions(by_pid.get(pid, CaseProcess(pid=pid)), group, bool(named_in))
    return tuple(_with_evidence(by_pid[pid], by_pid, named_in) for pid in sorted(by_pid))


def _of_row(pid: int, attributed: ProcessRow | None, census: ListingCensus) -> CaseProcess:
    """The row that ``scan`` shows; of what it does not list what the listing and the catalog say. A label that
    somebody wrote is no command."""
    row, known = census.rows[pid], census.known.get(pid)
    listed = row.listed
    process = attributed or ProcessRow(
        pid=pid,
        ppid=listed.ppid,
        command=shown_command(row),
        kind=known.program.kind if known else "other",
        footprint_bytes=listed.rss_bytes,
        footprint_source="listing",
        rss_bytes=listed.rss_bytes,
        evidence=(f"catalog: {known.program.title}, {known.by}",) if known else (),
        tty=listed.tty,
    )
    source = f"RSS, line {row.rss_line}" if row.rss_printed else f"line {row.rss_line} of the text"
    return case_process(
        process,
        place=listed.tty,
        program=known.program.name if known else process.host or "",
        source=source if row.rss_line is not None else "",
        figure_line=row.rss_line,
        lines=row.lines,
        is_command=row.is_command,
    )


def _add_mentions(process: CaseProcess, mentions: list[Mention], helper_named: bool) -> CaseProcess:
    """With what prose says of a process; what a table says of it stays."""
    first = next((mention for mention in mentions if mention.amount is not None), None)
    changes: dict[str, object] = {
        "lines": tuple(dict.fromkeys((*process.lines, *(mention.line for mention in mentions)))),
        "called": tuple(dict.fromkeys(name for mention in mentions if (name := _name_of_mention(mention)))),
    }
    if process.footprint_bytes is None and first is not None and first.amount is not None:
        changes |= {
            "footprint_bytes": (first.amount.low + first.amount.high) // 2,
            "source": f"line {first.line} of the text",
            "figure_line": first.line,
        }
    if process.ppid is None:
        parents = (mention.parent for mention in mentions)
        changes["ppid"] = next((parent for parent in parents if parent not in (None, process.pid)), None)
    if process.kind == "other":
        if any(_is_main(mention) for mention in mentions):
            changes["kind"] = "editor"
        elif _is_helper(mentions, helper_named):
            changes["kind"] = "extension-host"
    return msgspec.structs.replace(process, **changes)


def _name_of_mention(mention: Mention) -> str:
    """What stands in brackets by the pid, else the words above the list."""
    inner = _IN_BRACKETS.search(mention.said)
    text = inner[1] if inner else re.sub(r"\([^)]*\)|:$", "", mention.lead)
    text = re.sub(r"\s*-?\s*\bPID\s*\d+", "", text).strip(" -:")
    return command_line((text[:_LONGEST_NAME],)) if any(c.isalpha() for c in text) else ""


def _with_evidence(process: CaseProcess, by_pid: Mapping[int, CaseProcess], named_in: tuple[int, ...]) -> CaseProcess:
    if process.kind != "extension-host":
        return process
    return msgspec.structs.replace(process, kind_evidence=_helper_evidence(process, by_pid, named_in))


def _listed_copies(lists: Iterable[Enumeration]) -> tuple[Copies, ...]:
    """``NAME (2 instances)`` as an item of a list."""
    return tuple(
        Copies(name=item.text.split()[0].strip("`*:,"), number=item.instances, lines=(item.line,))
        for listed in lists
        for item in listed.items
        if item.instances is not None
    )


def _join_copies_by_server(
    said: Iterable[Copies], processes: Iterable[CaseProcess], catalog: Catalog
) -> tuple[Copies, ...]:
    """By server: what is said of it, and what the tables show."""
    names = {program.name for program in catalog.programs if program.kind == "server"}
    by_name: dict[str, list[Copies]] = {}
    for copies in said:
        if copies.name in names or "mcp" in copies.name.lower():
            by_name.setdefault(copies.name, []).append(copies)
    for copies in count_copies(processes):
        by_name.setdefault(copies.name, []).append(copies)
    return tuple(_join_copies(name, group) for name, group in sorted(by_name.items()))


def _join_copies(name: str, group: list[Copies]) -> Copies:
    number = max(copies.number for copies in group)
    return Copies(
        name=name,
        number=number,
        places=tuple(sorted({place for copies in group for place in copies.places})),
        lines=tuple(sorted({line for copies in group for line in copies.lines})),
        pids=tuple(sorted({pid for copies in group for pid in copies.pids})),
        only_said=number > max((copies.number for copies in group if copies.pids), default=1),
    )


# -- editors' helper programs in prose, where they only have a name -------------------------------------------------


_HELPER = re.compile(
    r"\b(?:VS ?Code|Code(?: - Insiders)?|VSCodium|Cursor|Windsurf)\b[\w ]{0,20}\bHelper\b(?!s? \((?:Renderer|GPU)\))",
    re.IGNORECASE,
)
_PLUGIN = re.compile(r"\bHelper \(Plugin\)|\b(?:Plugin|Node) Helper\b|\bextension host\b", re.IGNORECASE)
_MAIN = re.compile(r"\b(?:VS ?Code|VSCodium|Cursor|Windsurf)\b[^,;:]{0,20}\bmain process\b", re.IGNORECASE)
_PROGRAM = re.compile(r"\b(?:Code(?: - Insiders)?|VSCodium|Cursor) Helper \(Plugin\)")
#: Numbers are given in order: what a program starts at once has numbers close to its own, and to each other.
_NEAR, _TOGETHER = 256, 4


def _lines_naming_helper(document: Iterable[tuple[int, str]]) -> tuple[int, ...]:
    """The lines that name the helper program of extension hosts in full."""
    return tuple(number for number, text in document if _PROGRAM.search(text))


def _is_main(mention: Mention) -> bool:
    return _MAIN.search(mention.said) is not None


def _is_helper(mentions: Iterable[Mention], anywhere: bool) -> bool:
    """``anywhere``: the text names the program in full somewhere, so that "Code Helper" is short for it."""
    texts = [text for mention in mentions for text in (mention.said, mention.lead)]
    helper = any(_HELPER.search(text) for text in texts)
    return any(_PLUGIN.search(text) for text in texts) or (helper and anywhere)


def _helper_evidence(
    process: CaseProcess, by_pid: Mapping[int, CaseProcess], named_in: tuple[int, ...]
) -> tuple[str, ...]:
    """Why a process is an extension host, beside its command."""
    lines: list[str] = []
    if process.called:
        lines.append(f"{format_lines(process.lines)}: called {_quote_names(process)}")
    if named_in and not process.command:
        lines.append(
            f"{format_lines(named_in)}: the program is the editor's Helper (Plugin), which holds extensions (catalog:"
            " vscode, name of the helper program in the macOS bundle)"
        )
    parent = by_pid.get(process.ppid) if process.ppid is not None else None
    if parent is not None and parent.kind == "editor":
        lines.append(f"{format_lines(parent.lines)}: its parent is PID {parent.pid}, the editor's main process")
    main = parent if parent is not None and parent.kind == "editor" else _main_before(process, by_pid.values())
    return (*lines, *(_started_together(process, main, by_pid.values()) if main is not None else ()))


def _main_before(process: CaseProcess, others: Iterable[CaseProcess]) -> CaseProcess | None:
    """The main process of an editor with the number next below, where no parent is given."""
    before = [
        other
        for other in others
        if other.kind == "editor" and "Helper" not in other.command and 0 < process.pid - other.pid <= _NEAR
    ]
    return max(before, key=lambda other: other.pid, default=None) if process.ppid is None else None


def _quote_names(process: CaseProcess) -> str:
    return ", ".join(f'"{name}"' for name in process.called[:2])


def _started_together(process: CaseProcess, parent: CaseProcess, others: Iterable[CaseProcess]) -> list[str]:
    """Near the parent's number: started with the window, before any agent was."""
    hosts = (other.pid for other in others if other.kind == "extension-host")
    pids = sorted(pid for pid in hosts if 0 < pid - parent.pid <= _NEAR)
    run = _find_run(pids, process.pid)
    if len(run) < 2:
        return []
    listed, after = ", ".join(str(pid) for pid in run), run[0] - parent.pid
    main = f"PID {parent.pid}, the editor's main process ({format_lines(parent.lines)})"
    return [f"PIDs {listed} follow each other, {after} after {main}, as of programs that start with it"]


def _find_run(pids: list[int], pid: int) -> list[int]:
    """The numbers around ``pid`` that are close to one another."""
    run: list[int] = []
    for number in pids:
        if run and number - run[-1] > _TOGETHER:
            if pid in run:
                break
            run = []
        run.append(number)
    return run if pid in run else []
