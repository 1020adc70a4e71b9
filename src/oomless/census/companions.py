"""Who is known by its company: what a proven orphan or superseded server leaves beside itself. Pure.

Two kinds, both without a parent and with no standard input that would tell: what a server had started, in the process
group and session that its host gave it, and the crash handler of a browser, which leads a process session of its own
and yet serves that browser alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from oomless.census.attribution import Attributed
from oomless.census.ownerless import UNREAD, judged, own_reason
from oomless.platform.base import Standing
from oomless.processes.command import is_crash_handler

#: As sure as the server or browser that it goes with.
_ENDABLE = ("orphan", "superseded")


def of_servers(
    lost: Iterable[Attributed], proven: Iterable[Attributed], standings: Mapping[int, Standing]
) -> Iterator[Attributed]:
    """``lost``: roots that nobody lives to own, and of whose standard input nothing is known. Whoever left what its
    host gave it, ignores SIGHUP, or listens at a port or a Unix socket, is not told here."""
    groups = {_group(one): one for one in proven}
    for one in lost:
        found = groups.get(_group(one)) if one.session else None
        standing = standings.get(one.process.pid, UNREAD)
        if found is None or standing.stdin == "held" or standing.serves or own_reason(standing):
            continue
        pid, process = found.process.pid, one.process
        where = f"it is in the process group {process.pgid} and session {process.sid} of the server {pid}"
        why = f"{where}, which is an orphan of the session {one.session}; who started it is gone"
        yield judged(one, "orphan", found.confidence, why)


def _group(one: Attributed) -> tuple[str | None, int, int]:
    return one.session, one.process.pgid, one.process.sid


def of_browsers(found: Iterable[Attributed], standings: Mapping[int, Standing]) -> Iterator[Attributed]:
    """Crash handlers that lost their parents, where all browsers that may be theirs share one verdict."""
    browsers: dict[tuple[str | None, str], list[Attributed]] = {}
    handlers = []
    for one in found:
        if is_crash_handler(one.process.command):
            handlers.append(one)
        elif one.kind == "browser":
            browsers.setdefault((one.session, _folder(one)), []).append(one)
    for one in handlers:
        theirs = [each for each in browsers.get((one.session, _folder(one)), []) if not _younger(each, one)]
        verdicts = {each.verdict for each in theirs}
        if not one.session or not one.detached or len(verdicts) != 1 or verdicts.isdisjoint(_ENDABLE):
            continue
        if one.process.pid in standings and not own_reason(standings[one.process.pid]):
            first = min(theirs, key=lambda each: (each.process.start, each.process.pid))
            why = f"it is the crash handler of the browser {first.process.pid}, which is {first.verdict}"
            yield judged(one, first.verdict, first.confidence, why)


def _folder(one: Attributed) -> str:
    return "".join(one.process.command[:1]).rpartition("/")[0]


def _younger(one: Attributed, than: Attributed) -> bool:
    return one.process.start > than.process.start
