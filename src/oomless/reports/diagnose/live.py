"""A case from this machine: one look of ``scan``, and what the journal holds of the time before.

The journal is opened for reading only, for the daemon is its one writer; where there is none, nothing was governed.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterable, Iterator

import msgspec

from oomless.catalog import Catalog

# ?? Database
from oomless.journal.database import Database
from oomless.journal.decisions import Decision
from oomless.journal.journal import Journal
from oomless.journal.schema import VERSION
from oomless.journal.sessions import ReapRow
from oomless.journal.trees import TreeRow
from oomless.paths import Paths
from oomless.platform import current
from oomless.redact import command_line
from oomless.reports.diagnose.facts import (
    Case,
    CaseEvent,
    CaseProcess,
    EndedAgent,
    Inside,
    case_process,
    count_copies,
)
from oomless.reports.look import Scanner, find_subagents, owner_of
from oomless.reports.scan import ProcessRow, ScanReport
from oomless.units import format_size, shorten

#: Rows of each table that are looked at; the newest of the time asked for are among them.
MOST_ROWS = 2000
#: A report that people read names no more events than this; the newest stay.
MOST_EVENTS = 200
_CUT = 60


class History(msgspec.Struct, frozen=True, kw_only=True):
    trees: tuple[TreeRow, ...] = ()
    decisions: tuple[Decision, ...] = ()
    reaps: tuple[ReapRow, ...] = ()
    problem: str = ""


def look_at_machine(paths: Paths, programs: Catalog, since: float) -> Case:
    """The case of this moment, with the journal from the time ``since`` on. Raises DaemonError and JournalError."""
    scanner = Scanner(current(), paths)
    scan = scanner.scan(scanner.status())
    running = Counter(owner_of(tree)[1] for tree in find_subagents(scan.status) if tree.state == "running")
    within = [Inside(session=session, number=number) for session, number in running.items()]
    return build_case(scan.report, within, read_history(paths.journal, since), programs, since)


def read_history(path: str, since: float) -> History:
    """What the journal holds from the time ``since`` on; raises JournalError. One of another version is left to the
    daemon, which brings it up to date, and named."""
    if not os.path.exists(path):
        return History()
    journal = Journal(Database.open_read_only(path))
    try:
        version = journal.database.version()
        if version != VERSION:
            return History(
                problem=f"the journal has schema {version}, not {VERSION}: start the daemon, which updates it"
            )
        return History(
            trees=tuple(row for row in journal.trees.recent(MOST_ROWS) if _last_moment(row) >= since),
            decisions=tuple(row for row in journal.decisions.recent(MOST_ROWS) if row.at >= since),
            reaps=tuple(row for row in journal.sessions.reaps(MOST_ROWS) if row.at >= since),
        )
    finally:
        journal.close()


def _last_moment(row: TreeRow) -> float:
    return row.ended_at or row.started_at or row.intent.intended_at


def build_case(
    report: ScanReport, inside: Iterable[Inside], history: History, catalog: Catalog, since: float
) -> Case:
    events = sorted(_read_events(history), key=lambda pair: pair[0])
    newest = [event for at, event in events if at >= since][-MOST_EVENTS:]
    processes = tuple(_make_process(row) for row in report.processes)
    return Case(
        origin="live",
        memory=report.memory,
        processes=processes,
        copies=count_copies(processes),
        events=tuple(newest),
        inside=tuple(session for session in inside if session.number),
        ended=tuple(_ended_agents(history.trees, catalog)),
        findings=report.findings,
        unreadable=(history.problem,) if history.problem else (),
    )


def _make_process(row: ProcessRow) -> CaseProcess:
    return case_process(row, place=_session_name(row), program=row.host or "", source=row.footprint_source or "")


def _session_name(row: ProcessRow) -> str:
    return f"{row.host or 'session'} {row.session.partition(':')[0][:8]}" if row.session else ""


def _ended_agents(trees: Iterable[TreeRow], catalog: Catalog) -> Iterator[EndedAgent]:
    """Only those that ran a known host: what a governed command does says nothing of agents."""
    for row in trees:
        known = catalog.recognise(row.intent.argv) if row.intent.argv else None
        if row.record is not None and known is not None and known.program.host:
            record = row.record
            yield EndedAgent(tree=record.tree, survivors=record.survivors, peak_bytes=record.peak_bytes)


def _read_events(history: History) -> Iterator[tuple[float, CaseEvent]]:
    for row in history.trees:
        yield from _tree_events(row)
    for decision in history.decisions:
        # The start of a tree tells that it was admitted at once.
        if decision.verdict != "admitted":
            text = f"{_short_name(decision.name)} {decision.verdict}: {decision.reason}"
            yield decision.at, _make_event(decision.at, text, "decisions")
    for reap in history.reaps:
        of = f"session {reap.host} {reap.session[:8]} ended" if reap.session else f"reap ({reap.why})"
        counts = f"{len(reap.ended)} killed, {len(reap.left)} survived, {len(reap.left_running)} detached"
        yield reap.at, _make_event(reap.at, f"{of}: {counts}", "reaps")


def _tree_events(row: TreeRow) -> Iterator[tuple[float, CaseEvent]]:
    name = f"{_short_name(row.intent.terms.name)} ({row.intent.tree})"
    if row.started_at is not None:
        yield row.started_at, _make_event(row.started_at, f"{name} started", "trees")
    if row.ended_at is None:
        return
    if row.record is not None:
        record = row.record
        peak = f"peak {format_size(record.peak_bytes)} ({record.peak_source})"
        end = f"{record.status}, {record.survivors} survivors, {peak}"
    elif row.sweep is not None:
        end = f"swept, {row.sweep.ended} killed, {len(row.sweep.left)} survived"
    else:
        end = "no record"
    yield row.ended_at, _make_event(row.ended_at, f"{name} ended: {end}", "trees")


def _short_name(name: str) -> str:
    return shorten(command_line((name,)), _CUT)


def _make_event(at: float, text: str, table: str) -> CaseEvent:
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))
    return CaseEvent(when=when, text=text, source=f"journal: {table}")
