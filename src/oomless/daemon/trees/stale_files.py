"""What dead trees leave besides processes: empty cgroups, half-written exit records, the folders of
``--private-tmp``.

A shim removes all of it itself. This is for where it was killed: after its tree was swept, and when a daemon starts.
Nothing is removed of a tree of which a process lives.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Container, Iterable
from contextlib import suppress

assert sys.platform == "linux"

from oomless.contain import private_tmp
from oomless.contain.rungs import empty_groups
from oomless.contain.sweep import Sweep
from oomless.daemon.logs import Log
from oomless.daemon.trees.tree import find_shim
from oomless.journal.journal import Journal
from oomless.journal.trees import TreeRow
from oomless.paths import Paths
from oomless.platform import system
from oomless.processes.ids import ProcessId
from oomless.units import format_size

LATE_CHECKS, LATE_EVERY = 60, 1.0


class StaleFiles:
    def __init__(self, paths: Paths, journal: Journal, log: Log) -> None:
        self._paths = paths
        self._journal = journal
        self._log = log

    def remove_groups(self, rows: list[TreeRow], living: Iterable[str]) -> None:
        """Removes empty cgroups of this installation that no tree of ``living`` is in. A daemon that died right after
        a tree's record came leaves them, or one that was killed together with a shim."""
        install = self._paths.install_id()
        keep = {f"oomless-{install}-{tree}" for tree in living}
        places = {os.path.dirname(path) for row in rows for path in row.intent.cgroups.values()}
        places |= system.folders_around(system.cgroups("self"))
        empty_groups.remove_empty(places, install, keep)
        for path in empty_groups.list_groups(places, install):
            if os.path.basename(path) not in keep and (pids := system.pids_in(path)):
                why = "the journal has no tree of that id; they are left alone"
                self._log.warning(
                    "processes in a cgroup of this installation",
                    path=path,
                    pids=" ".join(map(str, pids[:20])),
                    why=why,
                )

    def remove_drafts(self, living: Container[str]) -> None:
        """Exit records that a shim was writing when it was killed (``TREE.json.PID.new``)."""
        with suppress(OSError):
            for name in os.listdir(self._paths.exits):
                if name.endswith(".new") and name.partition(".")[0] not in living:
                    os.unlink(f"{self._paths.exits}/{name}")

    async def clear_late(self, tree: str, cgroups: dict[str, str]) -> None:
        """For a tree that is over, and whose members were killed and take seconds to die on a machine under load.
        What is still there after a minute is removed when a daemon starts."""
        for _ in range(LATE_CHECKS):
            await asyncio.sleep(LATE_EVERY)
            gone = [system.remove_group(path) for path in cgroups.values()]
            if all(gone) and not self._any_alive(tree):
                await self.remove_tmp(tree)
                return

    def has_any(self, tree: str, cgroups: dict[str, str]) -> bool:
        paths = [*cgroups.values(), private_tmp.folder(self._paths.state, tree)]
        return any(os.path.lexists(path) for path in paths)

    async def remove_tmp(self, tree: str) -> str:
        """The TMPDIR of a tree of which no process lives; returns a line for its reason, or "" if it has none. Other
        tasks run in between: a folder may hold a hundred thousand files."""
        removal = private_tmp.Removal(private_tmp.folder(self._paths.state, tree))
        if not os.path.lexists(removal.path):
            return ""
        for _ in removal.steps():
            await asyncio.sleep(0)
        if not removal.kept:
            return f"its TMPDIR was removed ({format_size(removal.bytes)})"
        self._log.warning("a private TMPDIR is kept", path=removal.path, why=removal.why, entries=removal.kept)
        return f"its TMPDIR is kept ({removal.why})"

    async def remove_forgotten(self, living: Container[str]) -> None:
        """Of trees that were closed with survivors, or whose daemon was killed before it removed them."""
        try:
            names = os.listdir(self._paths.tmp)
        except OSError:
            return
        for tree in names:
            if tree not in living and not self._any_alive(tree):
                await self.remove_tmp(tree)

    def _any_alive(self, tree: str) -> bool:
        """Whether a survivor lives, or a process with the tree's mark, or its shim (journals get lost)."""
        if find_shim(tree) is not None:
            return True
        row = self._journal.trees.get(tree)
        left = [] if row is None else [*(row.sweep.left if row.sweep else ())]
        if row is not None and row.record is not None:
            left += [*row.record.left, *row.record.left_running]
        known = map(ProcessId.of, left)
        return Sweep(f"{self._paths.install_id()}:{tree}", {}, known, 0).has_members()
