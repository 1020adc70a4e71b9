"""What dead trees leave besides processes: empty groups, half an exit record, the folders of ``--private-tmp``.

A shim removes all of it itself. Here is what happens where it was killed: after its tree was swept, and for what is
still there when a daemon starts. Nothing is removed of a tree of which somebody lives. Not here: ending those
(``registry.py``), and the removal itself (``contain/private_tmp.py``, ``contain/rungs/empty_groups.py``).
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
from oomless.daemon.trees.tree import shim_of
from oomless.journal.journal import Journal
from oomless.journal.trees import TreeRow
from oomless.paths import Paths
from oomless.platform import system
from oomless.units import format_size

LATE_LOOKS, LATE_EVERY = 60, 1.0


class Remnants:
    def __init__(self, paths: Paths, journal: Journal, log: Log) -> None:
        self._paths = paths
        self._journal = journal
        self._log = log

    def remove_groups(self, rows: list[TreeRow], living: Iterable[str]) -> None:
        """Empty groups of our own that no tree of ``living`` is in: a daemon that died right after a tree's record
        came may have left them, or one that was killed together with a shim."""
        install = self._paths.install_id()
        keep = {f"oomless-{install}-{tree}" for tree in living}
        places = {os.path.dirname(path) for row in rows for path in row.intent.cgroups.values()}
        places |= system.folders_around(system.cgroups("self"))
        empty_groups.remove_empty(places, install, keep)
        for path in empty_groups.list_groups(places, install):
            if os.path.basename(path) not in keep and (pids := system.pids_in(path)):
                why = "no journal knows their tree; they are left alone"
                self._log.warning(
                    "processes in a group of ours", path=path, pids=" ".join(map(str, pids[:20])), why=why
                )

    def remove_drafts(self, living: Container[str]) -> None:
        """Exit records that a shim was writing when it was killed (``files.replace``: ``TREE.json.PID.new``)."""
        with suppress(OSError):
            for name in os.listdir(self._paths.exits):
                if name.endswith(".new") and name.partition(".")[0] not in living:
                    os.unlink(f"{self._paths.exits}/{name}")

    async def clear_late(self, tree: str, cgroups: dict[str, str]) -> None:
        """Of a tree that is over, whose members have been killed and are long in dying: seconds, on a machine under
        load. What is still there after a minute is seen to when a daemon starts."""
        for _ in range(LATE_LOOKS):
            await asyncio.sleep(LATE_EVERY)
            gone = [system.remove_group(path) for path in cgroups.values()]
            if all(gone) and not self._anybody(tree):
                await self.remove_tmp(tree)
                return

    def anything(self, tree: str, cgroups: dict[str, str]) -> bool:
        paths = [*cgroups.values(), private_tmp.folder(self._paths.state, tree)]
        return any(os.path.lexists(path) for path in paths)

    async def remove_tmp(self, tree: str) -> str:
        """Of a tree of which nobody lives; a line for its reason, or "" if it has none. Others have their turn
        meanwhile: a folder may hold a hundred thousand files."""
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
        """Of trees whose rows were closed while somebody lived, or whose daemon was killed before it came to it."""
        try:
            names = os.listdir(self._paths.tmp)
        except OSError:
            return
        for tree in names:
            if tree not in living and not self._anybody(tree):
                await self.remove_tmp(tree)

    def _anybody(self, tree: str) -> bool:
        """Whether anyone lives who was left then, or has the tree's mark, or its shim (journals get lost)."""
        if shim_of(tree) is not None:
            return True
        row = self._journal.trees.get(tree)
        left = [] if row is None else [*(row.sweep.left if row.sweep else ())]
        if row is not None and row.record is not None:
            left += [*row.record.left, *row.record.left_running]
        known = {(one.pid, one.start) for one in left}
        return Sweep(f"{self._paths.install_id()}:{tree}", {}, known, 0).has_members()
