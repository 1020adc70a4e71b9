"""What is known of all hosts' sessions together: registered ones, discovered ones, and what detached from either."""

from __future__ import annotations

import sys

assert sys.platform == "linux"

from oomless.daemon.sessions.discovery import DiscoveredSessions
from oomless.daemon.sessions.host_sessions import RegisteredSessions
from oomless.daemon.sessions.leftovers import DetachedFromTrees
from oomless.model import DetachedProcess
from oomless.processes.descent import Descendants
from oomless.processes.ids import ProcessId


class AllSessions:
    def __init__(
        self, registered: RegisteredSessions, discovered: DiscoveredSessions, from_trees: DetachedFromTrees
    ) -> None:
        self._registered = registered
        self._discovered = discovered
        self._from_trees = from_trees

    def living(self) -> dict[ProcessId, str]:
        """Returns the processes of all living sessions with their hosts."""
        return self._discovered.living()

    def descendants(self) -> tuple[tuple[str, str, Descendants], ...]:
        """Returns host, id ("" for a discovered session) and descendants of each living session."""
        return (*self._registered.descendants(), *self._discovered.descendants())

    def detached(self) -> tuple[DetachedProcess, ...]:
        """Returns each living process once. What detached from a tool shell's tree is found by its mark as well when
        its session is cleaned up; the tree knows the reason."""
        known = (*self._registered.detached(), *self._from_trees.living())
        return tuple({ProcessId.of(process): process for process in known}.values())

    def detach_reasons(self) -> dict[ProcessId, str]:
        """Returns the reasons of all detached processes, those of discovered sessions too."""
        leftovers = self._discovered.leftovers.views()
        reasons = {ProcessId.of(process): process.spared for process in leftovers if process.spared}
        return reasons | {ProcessId.of(process): process.why for process in self.detached()}
