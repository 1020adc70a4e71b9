"""What the rest of the daemon asks about the open trees. ``trees/registry.py`` is the implementation."""

from __future__ import annotations

from typing import Protocol

from oomless.processes.ids import ProcessId


class GovernedTrees(Protocol):
    """A process in a governed tree ends with it, so everybody else leaves it alone."""

    def any_open(self) -> bool: ...

    def holds(self, pid: int) -> bool:
        """Whether the process runs in an open tree."""
        ...

    def innermost(self, pid: int) -> str | None:
        """The id of the innermost open tree that the process runs in."""
        ...

    def roots(self) -> set[ProcessId]:
        """The shims, and the requesters that become a shim by exec or stay above one."""
        ...
