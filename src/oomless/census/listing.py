"""Whose the processes of a saved listing are: the same attribution as of the live machine, from what was printed.

A listing has no environments, no descriptors and no start times that could be verified, so it carries fewer verdicts:
what a chain of parents or the catalog says, and what started later where it prints when (``etime``, ``lstart``).
Where it prints no parents, a server belongs to the one host on its terminal, with all its programs there. Whatever
is not told stays unknown.
Pure. Reading text is ``platform/listing``'s business, the answer for users is made in ``listed_report.py``.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping

import msgspec

from oomless.catalog import Catalog
from oomless.census.attribution import Attributed, attribute
from oomless.census.listing_lost import likely
from oomless.census.listing_shells import between, left
from oomless.census.snapshot import Marks, Snapshot
from oomless.census.verdicts import settle
from oomless.listing import Listed, Listing
from oomless.listing.merge import Merged, merge
from oomless.listing.values import moment, rough_moments
from oomless.model import ProcessInfo
from oomless.processes import words
from oomless.processes.command import parse, to_be

#: By the only host on its terminal: a person may have started it there beside the host.
TERMINAL = 0.6
#: For what a listing does not tell; no process has such a number.
NOT_TOLD = -1
#: A name that the kernel cut is completed if only one known program begins so; shorter ones say too little.
_LONG_NAME = 15
_PER_SECOND = 100
#: Seconds: what ``ps`` prints in minutes.
_ROUGH = 60.0
_NAME = re.compile(r"\b[0-9]+:[0-9]+\b")


class Census(msgspec.Struct, frozen=True, kw_only=True):
    """``processes`` are those worth a row, by pid; ``rows`` all that were read. ``timed``: whether the listing says
    what was started first."""

    processes: tuple[Attributed, ...]
    rows: Mapping[int, Merged]
    timed: bool


def census(listing: Listing, catalog: Catalog) -> Census:
    rows = merge(listing)
    seen, timed = snapshot(rows, catalog)
    found = between(_by_terminal(_instances(attribute(seen, (), catalog), rows), rows), seen, rows)
    if timed:
        found = _whole(found, settle(found, seen, {}), rows)
    found = likely(found, rows)
    found = (*found, *left(found, seen, rows, catalog, timed))
    told = {one.process.pid: one for one in found}
    for process in seen.processes:
        if process.pid not in told and rows[process.pid].mentioned:
            told[process.pid] = _unknown(process)
    names = _plain_names(told)
    processes = tuple(_worded(told[pid], rows[pid], names) for pid in sorted(told))
    return Census(processes=processes, rows=rows, timed=timed)


def snapshot(rows: Mapping[int, Merged], catalog: Catalog) -> tuple[Snapshot, bool]:
    """What a look at the machine would have shown, as far as it is printed; and whether its start times count."""
    starts, rough = _starts([row.listed for row in rows.values()])
    names = tuple({name for program in catalog.programs for name in program.executables})
    processes = tuple(_process(rows[pid], starts.get(pid, 0), names) for pid in sorted(rows))
    marks = tuple(Marks() for _ in processes)
    seen = Snapshot(processes=processes, marks=marks, starts_per_second=_PER_SECOND, starts_within=rough)
    return seen, bool(starts)


def _process(row: Merged, start: int, names: tuple[str, ...]) -> ProcessInfo:
    one = row.listed
    argv = _argv(row, names)
    return ProcessInfo(
        pid=one.pid,
        ppid=NOT_TOLD if one.ppid is None else one.ppid,
        pgid=NOT_TOLD if one.pgid is None else one.pgid,
        sid=NOT_TOLD if one.sid is None else one.sid,
        tty=0,
        start=start,
        uid=int(one.user) if _is_number(one.user) else NOT_TOLD,
        state=one.state,
        name=argv[0] if argv else "",
        command=argv,
        rss_bytes=one.rss_bytes or 0,
        terminal=one.tty,
    )


def _argv(row: Merged, names: tuple[str, ...]) -> tuple[str, ...]:
    """The command's words; none of a label that somebody wrote. A name with blanks is no line of words, which an
    empty argument behind it says."""
    command, one = row.listed.command, row.listed
    if not row.is_command:
        return ()
    if not one.name_only or command.startswith("/"):
        return words.of_line(command)
    if one.cut and len(command) >= _LONG_NAME:
        whole = [name for name in names if name.startswith(command)]
        command = whole[0] if len(whole) == 1 else command
    return (command, "") if " " in command else (command,)


def _starts(rows: list[Listed]) -> tuple[dict[int, int], float]:
    """Hundredths of a second on some clock, if that is told of all; else nothing. And by how many seconds the
    difference of two may be too large."""
    ages = {row.pid: row.elapsed_seconds for row in rows}
    moments = {row.pid: moment(row.started) for row in rows}
    elapsed = {pid: -age for pid, age in ages.items() if age is not None}
    known = {pid: at for pid, at in moments.items() if at is not None}
    found = next((told for told in (elapsed, known) if len(told) == len(rows)), {})
    by_pid = sorted(rows, key=lambda row: row.pid)
    if not found and (minutes := rough_moments([row.started for row in by_pid])):
        found = {row.pid: at * _ROUGH for row, at in zip(by_pid, minutes, strict=True)}
        return {pid: round(at * _PER_SECOND) for pid, at in found.items()}, _ROUGH
    first = min(found.values(), default=0.0)
    return {pid: round((at - first) * _PER_SECOND) for pid, at in found.items()}, 0.0


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit()


def _instances(found: Iterable[Attributed], rows: Mapping[int, Merged]) -> tuple[Attributed, ...]:
    """Servers of several processes whose parents are not printed: on one terminal, in the order of their numbers,
    they are of one instance until a program comes again."""
    found = tuple(found)
    last: dict[tuple[str, str], tuple[int, set[tuple[str, ...]]]] = {}
    roots: dict[int, int] = {}
    for one in found:
        row, pid = rows[one.process.pid].listed, one.process.pid
        if one.server is None or row.ppid is not None or not row.tty:
            continue
        command = parse(to_be(one.process.command))
        program = (command.path, command.script, command.module)
        root, programs = last.get((one.server, row.tty), (pid, set()))
        if program in programs:
            root, programs = pid, set()
        last[one.server, row.tty] = root, programs | {program}
        roots[pid] = root
    return tuple(_of_instance(one, roots.get(one.process.pid)) for one in found)


def _of_instance(one: Attributed, root: int | None) -> Attributed:
    if root is None or root == one.process.pid:
        return one
    why = f"on the terminal of {root}, and another program of the same server: taken for one instance"
    return msgspec.structs.replace(one, instance=root, evidence=(*one.evidence, why))


def _by_terminal(found: Iterable[Attributed], rows: Mapping[int, Merged]) -> tuple[Attributed, ...]:
    """Servers without a printed parent go to the one host on their terminal."""
    found = tuple(found)
    hosts: dict[str, list[Attributed]] = {}
    for one in found:
        if one.kind == "session":
            hosts.setdefault(rows[one.process.pid].listed.tty, []).append(one)
    return tuple(_placed(one, rows[one.process.pid].listed, hosts) for one in found)


def _placed(one: Attributed, row: Listed, hosts: Mapping[str, list[Attributed]]) -> Attributed:
    if one.server is None or one.host is not None or row.ppid is not None or not row.tty:
        return one
    there = hosts.get(row.tty, [])
    if len(there) > 1 and _is_one(there):
        there = there[:1]
    if len(there) != 1:
        count = "no host" if not there else f"{len(there)} hosts"
        why = f"terminal {row.tty}: the listing has {count} on it"
        return msgspec.structs.replace(one, evidence=(*one.evidence, why))
    host = there[0]
    why = f"terminal {row.tty}: that of {host.host} {host.process.pid}, and of no other host in the listing"
    return msgspec.structs.replace(
        one,
        verdict="owned",
        confidence=TERMINAL,
        host=host.host,
        session=host.session,
        session_root=host.process.pid,
        evidence=(why, *one.evidence),
    )


def _is_one(hosts: Collection[Attributed]) -> bool:
    """One session of several processes, as Codex' script with the program that it starts: not the same one twice."""
    programs = [parse(one.process.command).program for one in hosts]
    return len({one.host for one in hosts}) == 1 and len(set(programs)) == len(programs)


def _whole(
    before: tuple[Attributed, ...], after: tuple[Attributed, ...], rows: Mapping[int, Merged]
) -> tuple[Attributed, ...]:
    """Where a command is cut, that another is the same is not told: such copies keep their first verdict."""
    cut = {one.instance for one in before if one.instance is not None and rows[one.process.pid].listed.cut}
    return tuple(old if old.instance in cut else new for old, new in zip(before, after, strict=True))


def _unknown(process: ProcessInfo) -> Attributed:
    return Attributed(process=process, kind="other", verdict="unknown", confidence=0.0)


def _plain_names(told: Mapping[int, Attributed]) -> dict[str, str]:
    """Sessions are named by pid and start, and no start is the machine's: by pid alone."""
    roots = {one.session_root for one in told.values() if one.session_root is not None}
    return {_name(told[pid]): str(pid) for pid in roots if pid in told}


def _name(one: Attributed) -> str:
    return f"{one.process.pid}:{one.process.start}"


def _worded(one: Attributed, row: Merged, names: Mapping[str, str]) -> Attributed:
    """With the lines that it stands on, and without start times."""
    evidence = (*one.evidence, *_completed(one, row.listed), *row.evidence)
    session = names.get(one.session, one.session) if one.session else one.session
    return msgspec.structs.replace(one, session=session, evidence=tuple(_plain(line, names) for line in evidence))


def _completed(one: Attributed, row: Listed) -> tuple[str, ...]:
    if not (row.cut and row.name_only) or one.process.name == row.command or not one.process.name:
        return ()
    return (f"the system cut its name to {row.command!r}: of the known ones only one begins so",)


def _plain(text: str, names: Mapping[str, str]) -> str:
    text = _NAME.sub(lambda found: names.get(found[0], found[0]), text)
    return text.replace("live parent chain", "chain of parents in the listing")
