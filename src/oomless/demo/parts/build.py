"""Building the parts that are missing, two at a time, and naming those that cannot be built.

Node and the CLI are needed: without them it fails. A server that cannot be built is left out with its reason, all
else goes on. One thread: each build is one child in a process group of its own, waited for by its pidfd; if we are
interrupted, the groups are killed and their drafts removed.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

assert sys.platform == "linux"

import msgspec

from oomless.demo.parts.cache import Cache, cache_folder, lacking, size
from oomless.demo.parts.catalog import ALL, CLAUDE, NODE, SERVERS, Part
from oomless.demo.parts.commands import node_binary, prepare
from oomless.demo.parts.servers import ServerPart, find_browser, server
from oomless.demo.parts.why import why
from oomless.errors import OomlessError

AT_ONCE = 2
LONGEST = 1800.0
#: Seconds between two looks at how far a build is: each walks through up to 20000 files.
LOOK = 1.0

#: Called with a part's name, what is being done, and how much of it is done (0 to 1; None: nobody knows).
OnProgress = Callable[[str, str, float | None], None]


class Built(msgspec.Struct, frozen=True, kw_only=True):
    """``servers_missing``: name and why, in one line. ``browser``: what chrome-devtools starts, if there is one."""

    node: str
    claude: str
    servers: dict[str, ServerPart]
    servers_missing: tuple[tuple[str, str], ...]
    browser: str | None


class Parts:
    """``folder``: default ``cache_folder()``."""

    def __init__(self, folder: Path | None = None) -> None:
        self._cache = Cache(folder or cache_folder())
        self.folder = self._cache.folder

    def missing(self) -> tuple[str, ...]:
        return tuple(part.name for part in self._missing())

    def size_estimate(self) -> int:
        """Bytes on disk that the missing parts will take."""
        return sum(part.bytes for part in self._missing())

    def build(self, on_progress: OnProgress) -> Built:
        """Builds what is missing; nothing to build: nothing is written. Raises OomlessError if Node or the CLI
        cannot be built, the disk is too full or the folder not writable."""
        failed: dict[str, str] = {}
        if self._missing():
            with self._cache.lock(lambda: on_progress("", "waiting for another build", None)) as lock:
                missing = self._missing()
                self._cache.check_room(sum(part.bytes for part in missing))
                failed = _Builds(self._cache, missing, lock, on_progress).run()
        for part in (NODE, CLAUDE):
            if not self._cache.ready(part):
                reason = failed.get(part.name, "it is gone again")
                raise OomlessError(
                    f"cannot install {part.package} {part.version}", reason, "try again when that is mended"
                )
        return self._built(failed)

    def _missing(self) -> list[Part]:
        return [part for part in ALL if not self._cache.ready(part)]

    def _built(self, failed: dict[str, str]) -> Built:
        node, browser = node_binary(self._cache.place(NODE)), find_browser()
        servers, lost = {}, []
        for part in SERVERS:
            reason = self._unusable(part, failed)
            if reason:
                lost.append((part.name, reason))
            else:
                servers[part.name] = server(part, self._cache.place(part), node, browser)
        return Built(
            node=str(node),
            claude=str(self._cache.place(CLAUDE) / CLAUDE.files[0]),
            servers=servers,
            servers_missing=tuple(lost),
            browser=browser,
        )

    def _unusable(self, part: Part, failed: dict[str, str]) -> str:
        place = self._cache.place(part)
        if not self._cache.ready(part):
            return failed.get(part.name, "it is gone again")
        if part.writes and not _writable(place / part.writes):
            return f"it writes into its own folder, and we may not: {place / part.writes}"
        return ""


def _writable(folder: Path) -> bool:
    """Whether it, or the folder in which it would be made, can be written to, and all that is in it."""
    if not folder.exists():
        return os.access(folder.parent, os.W_OK)
    return all(os.access(path, os.W_OK) for path in (folder, *folder.iterdir()))


class _Running:
    """One build: the child, its pidfd, and what it printed (the log file)."""

    def __init__(self, part: Part, cache: Cache, lock: int) -> None:
        self.part = part
        self.draft = cache.begin(part)
        command = prepare(part, self.draft, cache.place(NODE))
        self.started = time.monotonic()
        self._log = cache.log(part)
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                command.argv,
                cwd=self.draft,
                env=command.env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                pass_fds=(lock,),
            )
        self.pidfd = os.pidfd_open(self.process.pid)

    def output(self) -> str:
        return self._log.read_text(encoding="utf-8", errors="replace")

    def fraction(self) -> float:
        return min(0.99, size(self.draft) / self.part.bytes)

    def end(self) -> None:
        """The group's leader is not reaped yet, so its number is still that of its group."""
        if self.process.returncode is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        os.close(self.pidfd)


class _Builds:
    """The builds of one call, until all are done or failed."""

    def __init__(self, cache: Cache, todo: list[Part], lock: int, on_progress: OnProgress) -> None:
        self._cache = cache
        self._todo = todo
        self._lock = lock
        self._tell = on_progress
        self._running: list[_Running] = []
        self._failed: dict[str, str] = {}

    def run(self) -> dict[str, str]:
        """The reasons of those that failed, by name."""
        try:
            while self._todo or self._running:
                self._start()
                self._wait()
        finally:
            for build in self._running:
                build.end()
                self._cache.drop(build.part)
        return self._failed

    def _start(self) -> None:
        while len(self._running) < AT_ONCE:
            part = next((p for p in self._todo if p.source == "pip" or self._cache.ready(NODE)), None)
            if part is None:
                break
            self._todo.remove(part)
            self._tell(part.name, f"installing {part.package} {part.version}", 0.0)
            try:
                self._running.append(_Running(part, self._cache, self._lock))
            except OSError as error:
                self._fail(part, error.strerror or str(error))
        if not self._running:
            for part in self._todo:
                self._fail(part, "there is no Node to build it with")
            self._todo = []

    def _wait(self) -> None:
        if self._running:
            select.select([build.pidfd for build in self._running], [], [], LOOK)
        for build in list(self._running):
            if select.select([build.pidfd], [], [], 0)[0]:
                self._finish(build, build.process.wait())
            elif time.monotonic() - build.started > LONGEST:
                self._finish(build, None)
            else:
                step = f"installing {build.part.package} {build.part.version}"
                self._tell(build.part.name, step, build.fraction())

    def _finish(self, build: _Running, exit_code: int | None) -> None:
        self._running.remove(build)
        build.end()
        reason = self._keep(build, exit_code)
        if reason:
            self._fail(build.part, reason)
        else:
            self._tell(build.part.name, "ready", 1.0)

    def _keep(self, build: _Running, exit_code: int | None) -> str:
        """Puts the part in its place; the reason why not, if so."""
        if exit_code != 0:
            return why(build.output(), exit_code)
        lost = lacking(build.part, build.draft)
        if lost:
            return f"{lost} was not built"
        try:
            self._cache.finish(build.part)
        except OSError as error:
            return error.strerror or str(error)
        return ""

    def _fail(self, part: Part, reason: str) -> None:
        self._cache.drop(part)
        self._failed[part.name] = reason
        self._tell(part.name, f"left out: {reason}", None)
