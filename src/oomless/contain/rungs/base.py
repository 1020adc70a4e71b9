"""What every rung offers the shim, which touches a tree in no other way; and the names of the rungs.

A rung bounds and kills exactly one tree. It raises OSError from ``make``, ``enter`` and ``join`` only; everything
later must bear processes and files that vanish. Standard library only.
"""

from __future__ import annotations

#: In a scope of systemd's user manager, with controllers of its own.
SYSTEMD_SCOPE = "cgroup2+systemd"
#: The one rung that is opt-in.
PID_NAMESPACE = "pid-namespace"
#: The one that is always to be had.
SUBREAPER = "subreaper"
#: What descent cannot reach, said beforehand by ``doctor`` and in the record of a tree whose shim was killed.
SUBREAPER_GAP = (
    "if its shim is killed, a process that wiped its environment and lost its parent within the last second "
    "cannot be told from others"
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    from oomless.processes.ids import ProcessId

    class Rung(Protocol):
        name: str
        #: Where ``peak`` and ``usage`` come from: ``cgroup``, ``pss`` or ``pss+anon`` (``measure_pss``).
        source: str

        @property
        def kernel_limit(self) -> bool:
            """The kernel enforces the memory limit by itself; else the shim polls ``usage``."""
            ...

        #: The daemon can reach every member without the shim; else the shim reports them.
        reachable: bool
        #: Its own directories by controller (``""``: the v2 tree); empty without.
        paths: dict[str, str]

        def make(self) -> None:
            """Prepares the rung before the fork; raises OSError, then another rung is taken."""
            ...

        def fork(self) -> int:
            """As fork(2); the child calls ``enter``. Raises OSError."""
            ...

        def enter(self) -> None:
            """In the forked child, before exec: from here on it and all that it forks belong to the tree."""
            ...

        def root(self, forked: int) -> int:
            """In the shim, once the command runs: its pid, given the process that was forked and has entered."""
            ...

        def events(self) -> list[int]:
            """Descriptors to poll: when one is readable, ``breach`` is worth asking."""
            ...

        def breach(self) -> str | None:
            """Why the kernel had to end something in this tree, or None."""
            ...

        def members(self) -> list[ProcessId]:
            """All living processes of the tree, zombies excluded."""
            ...

        def usage(self) -> int:
            """Bytes used now."""
            ...

        def resident(self) -> int:
            """Sum of RSS where the kernel does not account for the tree: counts shared pages once a process, so
            it is a cheap upper bound of ``usage``."""
            ...

        def processes(self) -> int:
            """How many processes the tree has now."""
            ...

        def peak(self) -> int:
            """The most bytes that were used at once, as far as this rung can tell."""
            ...

        def disband(self) -> None:
            """The root is gone: if no other member is left either, what the rung itself keeps alive ends."""
            ...

        def kill(self) -> None:
            """One round of SIGKILL for all members; called until no member is left."""
            ...

        def join(self, pid: int, controller: str) -> None:
            """Moves a process that left the tree's group of that controller back there; raises OSError."""
            ...

        def release(self, pids: list[int]) -> None:
            """Moves those out of the tree's groups: they are not of the tree any more."""
            ...

        def remove(self) -> bool:
            """Takes the rung's own things away; False if they are still in use."""
            ...

        def close(self) -> None:
            """Gives up descriptors (in the child and at the end)."""
            ...
