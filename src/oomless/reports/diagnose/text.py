"""A case from a saved text: its tables as the listing read them, and what its prose says. Pure.

Who is who comes from the catalog for rows of a table, and from ``helpers.py`` for what prose only names.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import msgspec

from oomless.catalog import Catalog, Known
from oomless.listing import Listed, Listing
from oomless.redact import command_line
from oomless.reports.diagnose import helpers, prose, reckoning, story
from oomless.reports.diagnose.document import Line, lines
from oomless.reports.diagnose.facts import Case, Copies, Enumeration, Mention, Process

_LONGEST_NAME = 60
_IN_BRACKETS = re.compile(r"\(([^()]{2,60}(?:\([^()]{2,20}\))?)\)")


def build(text: str, listing: Listing, catalog: Catalog) -> Case:
    rows = [row for section in listing.sections if section.form != "pid list" for row in section.rows]
    document = lines(text, listing.table_lines | {row.line for row in rows})
    mentions = prose.mentions(document)
    processes = _processes(rows, mentions, document, catalog)
    lists = prose.enumerations(document)
    said = (*prose.copies(document), *_listed_copies(lists))
    return Case(
        origin="text",
        memory=listing.memory,
        processes=processes,
        mentions=mentions,
        enumerations=lists,
        figures=reckoning.figures(document),
        totals=reckoning.totals(document),
        copies=_copies(said, processes, catalog),
        events=story.events(document),
        small_model_failed=story.small_model_failed(document),
        unreadable=tuple(f"line {one.line}: {command_line((one.text[:200],))}" for one in listing.unreadable),
    )


def _processes(
    rows: Iterable[Listed], mentions: tuple[Mention, ...], document: tuple[Line, ...], catalog: Catalog
) -> tuple[Process, ...]:
    found: dict[int, Process] = {}
    for row in rows:
        if row.pid not in found:
            found[row.pid] = _of_row(row, catalog)
    by_pid: dict[int, list[Mention]] = {}
    for mention in mentions:
        by_pid.setdefault(mention.pid, []).append(mention)
    named_in = helpers.named((line.number, line.text) for line in document)
    for pid, about in by_pid.items():
        found[pid] = _mentioned(found.get(pid), pid, about, bool(named_in))
    return tuple(_with_evidence(one, found, named_in) for _, one in sorted(found.items()))


def _of_row(row: Listed, catalog: Catalog) -> Process:
    known = catalog.recognise((row.command,)) if row.command else None
    by = (f"line {row.line}: catalog: {known.program.title}, {known.by}",) if known else ()
    return Process(
        pid=row.pid,
        ppid=row.ppid,
        place=row.tty,
        command=command_line((row.command,)),
        kind=known.program.kind if known else "other",
        program=known.program.name if known else "",
        server=_server(known),
        bytes=row.rss_bytes,
        source=f"RSS, line {row.line}" if row.rss_bytes is not None else "",
        lines=(row.line,),
        evidence=by,
    )


def _server(known: Known | None) -> str:
    if known is None:
        return ""
    return known.program.name if known.program.kind == "server" else known.serves


def _mentioned(row: Process | None, pid: int, about: list[Mention], helper_named: bool) -> Process:
    """What prose says of a pid; what a table says of it stays."""
    first = next((one for one in about if one.amount is not None), None)
    process = row or Process(pid=pid)
    changes: dict[str, object] = {
        "lines": (*process.lines, *(one.line for one in about)),
        "called": tuple(dict.fromkeys(name for one in about if (name := _name(one)))),
    }
    if process.bytes is None and first is not None and first.amount is not None:
        changes |= {"bytes": (first.amount.low + first.amount.high) // 2, "source": f"line {first.line} of the text"}
    if process.ppid is None:
        changes["ppid"] = next((one.parent for one in about if one.parent not in (None, pid)), None)
    if process.kind == "other":
        if any(helpers.is_main(one) for one in about):
            changes["kind"] = "editor"
        elif helpers.is_helper(about, helper_named):
            changes["kind"] = "extension-host"
    return msgspec.structs.replace(process, **changes)


def _name(mention: Mention) -> str:
    """What stands in brackets by the pid, else the words above the list."""
    inner = _IN_BRACKETS.search(mention.said)
    text = inner[1] if inner else re.sub(r"\([^)]*\)|:$", "", mention.lead)
    text = re.sub(r"\s*-?\s*\bPID\s*\d+", "", text).strip(" -:")
    return command_line((text[:_LONGEST_NAME],)) if any(c.isalpha() for c in text) else ""


def _with_evidence(one: Process, all_of_them: dict[int, Process], named_in: tuple[int, ...]) -> Process:
    if one.kind != "extension-host":
        return one
    return msgspec.structs.replace(one, evidence=(*one.evidence, *helpers.evidence(one, all_of_them, named_in)))


def _listed_copies(lists: Iterable[Enumeration]) -> tuple[Copies, ...]:
    """``NAME (2 instances)`` as an item of a list."""
    return tuple(
        Copies(name=item.text.split()[0].strip("`*:,"), number=item.instances, lines=(item.line,))
        for one in lists
        for item in one.items
        if item.instances is not None
    )


def _copies(said: Iterable[Copies], processes: Iterable[Process], catalog: Catalog) -> tuple[Copies, ...]:
    """By server: what is said of it, and what the tables show."""
    names = {one.name for one in catalog.programs if one.kind == "server"}
    found: dict[str, list[Copies]] = {}
    for one in said:
        if one.name in names or "mcp" in one.name.lower():
            found.setdefault(one.name, []).append(one)
    for server, group in by_server(processes).items():
        found.setdefault(server, []).append(_seen(server, group))
    return tuple(_joined(name, group) for name, group in sorted(found.items()))


def by_server(processes: Iterable[Process]) -> dict[str, list[Process]]:
    found: dict[str, list[Process]] = {}
    for one in processes:
        if one.server:
            found.setdefault(one.server, []).append(one)
    return found


def _seen(server: str, group: list[Process]) -> Copies:
    """Where parents are known, an instance is a process with none of the same server above; else there is at least
    one for each terminal."""
    pids = {one.pid for one in group}
    roots = [one for one in group if one.ppid not in pids]
    places = tuple(sorted({one.place for one in group if one.place}))
    number = len(roots) if all(one.ppid is not None for one in group) else max(1, len(places))
    lines = tuple(line for one in group for line in one.lines)
    return Copies(name=server, number=number, places=places, lines=lines, pids=tuple(sorted(pids)))


def _joined(name: str, group: list[Copies]) -> Copies:
    return Copies(
        name=name,
        number=max(one.number for one in group),
        places=tuple(sorted({place for one in group for place in one.places})),
        lines=tuple(sorted({line for one in group for line in one.lines})),
        pids=tuple(sorted({pid for one in group for pid in one.pids})),
    )
