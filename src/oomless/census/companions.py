"""Companions of a proven orphan or superseded server: what it leaves beside itself. Pure.

Two kinds, both without a parent, and with a standard input that proves nothing: what a server had started, in the
process group and session that its host gave it; and the crash handler of a browser, which leads a process session of
its own and yet serves that browser alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from oomless.census.attribution import Attributed
from oomless.census.ownerless import UNREAD, detach_reason, with_verdict
from oomless.platform.base import Standing
from oomless.processes.command import is_crash_handler

#: Verdicts that a companion shares, with the confidence of the server or browser.
_KILLABLE = ("orphan", "superseded")


def find_companions_of_servers(
    ownerless: Iterable[Attributed], orphans: Iterable[Attributed], standings: Mapping[int, Standing]
) -> Iterator[Attributed]:
    """Of the roots ``ownerless``, whose standard input says nothing, those in the process group of one of
    ``orphans``. A process that left what its host gave it, ignores SIGHUP, or listens on a port or a Unix socket is
    none."""
    groups = {_group(server): server for server in orphans}
    for attributed in ownerless:
        server = groups.get(_group(attributed)) if attributed.session else None
        standing = standings.get(attributed.pid, UNREAD)
        if server is None or standing.stdin == "held" or standing.serves or detach_reason(standing):
            continue
        process = attributed.process
        place = f"it is in the process group {process.pgid} and session {process.sid} of the server"
        orphan = f"{server.pid}, which is an orphan of the session {attributed.session}"
        yield with_verdict(attributed, "orphan", server.confidence, f"{place} {orphan}; its parent is gone")


def _group(attributed: Attributed) -> tuple[str | None, int, int]:
    return attributed.session, attributed.process.pgid, attributed.process.sid


def find_crash_handlers(attributed: Iterable[Attributed], standings: Mapping[int, Standing]) -> Iterator[Attributed]:
    """Crash handlers that lost their parents, where all browsers that may be theirs share one verdict."""
    browsers: dict[tuple[str | None, str], list[Attributed]] = {}
    handlers = []
    for process in attributed:
        if is_crash_handler(process.process.command):
            handlers.append(process)
        elif process.kind == "browser":
            browsers.setdefault((process.session, _folder(process)), []).append(process)
    for handler in handlers:
        theirs = [
            browser
            for browser in browsers.get((handler.session, _folder(handler)), [])
            if browser.process.start <= handler.process.start
        ]
        verdicts = {browser.verdict for browser in theirs}
        if not handler.session or not handler.chain_broken or len(verdicts) != 1 or verdicts.isdisjoint(_KILLABLE):
            continue
        pid = handler.pid
        if pid in standings and not detach_reason(standings[pid]):
            oldest = min(theirs, key=lambda browser: (browser.process.start, browser.pid))
            evidence = f"it is the crash handler of the browser {oldest.pid}, which is {oldest.verdict}"
            yield with_verdict(handler, oldest.verdict, oldest.confidence, evidence)


def _folder(attributed: Attributed) -> str:
    return "".join(attributed.process.command[:1]).rpartition("/")[0]
