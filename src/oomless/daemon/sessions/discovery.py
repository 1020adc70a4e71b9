"""The hosts' sessions that nobody registered: discovered by the catalog, watched by pidfd, never cleaned up.

While such a session lives its descendants are remembered like those of a registered one; if it registers later, they
are handed over. When its process dies nothing is killed: what it left is reported (``leftovers.py``).
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable, Container, Mapping

assert sys.platform == "linux"

from oomless.daemon.governed_trees import GovernedTrees
from oomless.daemon.logs import Log
from oomless.daemon.sessions.ancestry_store import AncestryStore
from oomless.daemon.sessions.leftovers import Leftovers
from oomless.daemon.sessions.programs import known_programs
from oomless.daemon.sessions.sampling import ProcessSample, ProcessSampler
from oomless.paths import Paths
from oomless.platform import system
from oomless.platform.system import Stat
from oomless.processes.descendants import alive
from oomless.processes.descent import Descendants
from oomless.processes.ids import ProcessId

#: One of these is in every command line of a host that the catalog knows (checked by a test).
HINTS = (b"claude", b"codex", b"gemini", b"opencode", b"cursor-agent")
#: Seconds within which a forked process has become what it is to be; an admitted tree's root waits for its groups.
YOUNG = 2.0


class DiscoveredSession:
    def __init__(self, host: str, process: ProcessId, pidfd: int, descendants: Descendants) -> None:
        self.host, self.process, self.pidfd, self.descendants = host, process, pidfd, descendants


class DiscoveredSessions:
    """An observer of the sampler's. ``registered`` yields the processes of registered sessions, with their hosts.
    ``sampler`` is asked for a sample when a session dies."""

    def __init__(
        self,
        trees: GovernedTrees,
        registered: Callable[[], Mapping[ProcessId, str]],
        sampler: ProcessSampler,
        log: Log,
        ancestry_store: AncestryStore,
    ) -> None:
        self._registered = registered
        self._sampler = sampler
        self._log = log
        self._recogniser = HostRecogniser()
        self._sessions: dict[ProcessId, DiscoveredSession] = {}
        self._store = ancestry_store
        self._recorded: dict[ProcessId, Descendants] = {}
        self.leftovers = Leftovers(trees, self.living, ancestry_store)

    def recover(self) -> None:
        """Loads what an earlier daemon stored. Descendants of living sessions are taken up when their session is
        discovered or registers; what the others left is reported, also where they died while no daemon ran."""
        table = system.table()
        for stored in self._store.load():
            root = stored.descendants.root
            if stored.died_at is None and alive(root, table):
                self._recorded[root] = stored.descendants
            else:
                self.leftovers.restore(stored, table)

    def __bool__(self) -> bool:
        return bool(self._sessions) or bool(self.leftovers)

    def observe(self, sample: ProcessSample) -> None:
        table = sample.table
        hosts, registered = self._recogniser.recognise(table, sample.executed), self._registered()
        for process, host in hosts.items():
            if process not in self._sessions and process not in registered and table[process.pid].alive:
                self._watch(host, process)
        for process, session in tuple(self._sessions.items()):
            if process not in hosts and process.pid in table and table[process.pid].start == process.start:
                self._unwatch(session)  # it was seen between fork and exec
            else:
                session.descendants.observe(table, sample.governed, sample.lines)
        self.leftovers.observe(sample)

    def descendants(self) -> list[tuple[str, str, Descendants]]:
        """Returns host, id (always "", as no hook gave one) and descendants of each session."""
        return [(session.host, "", session.descendants) for session in self._sessions.values()]

    def hand_over(self, process: ProcessId) -> Descendants | None:
        """Returns the remembered descendants of a process that registers, and stops watching it."""
        session = self._sessions.get(process)
        if session is None:
            return self._recorded.pop(process, None)
        self._unwatch(session)
        return session.descendants

    def living(self) -> dict[ProcessId, str]:
        """Returns the processes of all living sessions, registered ones too, with their hosts."""
        return {process: session.host for process, session in self._sessions.items()} | dict(self._registered())

    def _watch(self, host: str, process: ProcessId) -> None:
        pidfd = system.open_verified(*process)
        if pidfd is not None:
            descendants = self._recorded.pop(process, None) or Descendants(process)
            self._sessions[process] = session = DiscoveredSession(host, process, pidfd, descendants)
            asyncio.get_running_loop().add_reader(pidfd, self._on_death, session)

    def _unwatch(self, session: DiscoveredSession) -> None:
        del self._sessions[session.process]
        asyncio.get_running_loop().remove_reader(session.pidfd)
        os.close(session.pidfd)

    def _on_death(self, session: DiscoveredSession) -> None:
        # A last sample first: what was born since the one before may still be visible as a child.
        self._sampler.sample()
        if session.process not in self._sessions:
            return
        self._unwatch(session)
        leftovers = self.leftovers.add(session.host, "", session.descendants)
        if leftovers:
            self._log.info(
                "a discovered session has leftovers",
                host=session.host,
                pid=session.process.pid,
                processes=leftovers,
            )

    def stop(self) -> None:
        for session in tuple(self._sessions.values()):
            self._unwatch(session)


class HostRecogniser:
    """Which processes of our own user run agents: each command line is read once, and again after an exec.

    The catalog costs a megabyte, so it is loaded for the first command line with a word of a known host in it (or at
    once if the user has a catalog of their own). A new process is read again at each sample while it is young, and
    once after that: it may have been seen between fork and exec, and its name may stay the same. From then on it is
    read again when it changes its name.
    """

    def __init__(self) -> None:
        self._read: dict[int, tuple[int, str]] = {}
        self._read_again: set[int] = set()
        self._hosts: dict[ProcessId, str] = {}
        self._uid = os.geteuid()

    def recognise(self, table: Mapping[int, Stat], executed: Container[int] = ()) -> dict[ProcessId, str]:
        """Returns the hosts' processes and their names. An unreadable command line counts as unknown."""
        again, self._read_again = self._read_again, set()
        before, self._read = self._read, {}
        hosts, self._hosts = self._hosts, {}
        young = system.start_of_age(YOUNG)
        for pid, stat in table.items():
            known = before.get(pid)
            new = known is None or known[0] != stat.start
            if new or stat.start > young:
                self._read_again.add(pid)
            if known is not None and not new and known[1] == stat.comm and pid not in again and pid not in executed:
                self._read[pid] = known
                if (pid, stat.start) in hosts:
                    process = ProcessId(pid, stat.start)
                    self._hosts[process] = hosts[process]
                continue
            self._read[pid] = (stat.start, stat.comm)
            raw = system.raw_cmdline(pid)
            process = ProcessId(pid, stat.start)
            # An ending or dead process has no arguments any more: it stays what it was.
            host = self._host_of(pid, raw) if raw else hosts.get(process, "")
            if host:
                self._hosts[process] = host
        return self._hosts

    def _host_of(self, pid: int, raw: bytes) -> str:
        """Returns the name of the host that this command line runs, or ""."""
        if not (any(hint in raw for hint in HINTS) or os.path.exists(Paths().catalog_file)):
            return ""
        if system.owner_uid(pid) != self._uid:
            return ""
        argv = tuple(part.decode("utf-8", "replace") for part in raw.rstrip(b"\0").split(b"\0"))
        known = known_programs().recognise(argv)
        return known.program.name if known is not None and known.program.host else ""
