"""The open trees: from the intent in the journal to the end in the journal, whatever dies in between.

If a shim dies, its tree is swept; if the daemon dies, the next one takes over what the journal holds open.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

assert sys.platform == "linux"

import msgspec

from oomless.contain.rungs.base import PID_NAMESPACE
from oomless.contain.sweep import Sweep
from oomless.daemon.events import EventBus, TreeEnded
from oomless.daemon.logs import Log
from oomless.daemon.sessions.leftovers import DetachedFromTrees
from oomless.daemon.tasks import TaskSet
from oomless.daemon.trees.stale_files import StaleFiles
from oomless.daemon.trees.tree import Tree
from oomless.errors import JournalError
from oomless.journal.journal import Journal
from oomless.journal.trees import SweepRow, TreeRow
from oomless.model import ExitRecord, Identity, Survivor, TreeKind
from oomless.paths import Paths
from oomless.platform import files, system
from oomless.platform.base import Platform
from oomless.platform.system import sum_footprints
from oomless.processes.ids import ProcessId
from oomless.processes.kill_times import KillTimes

#: Seconds that a tree that was granted may stay without a shim once its lease is gone.
START_WITHIN = 10.0
START_CHECK_EVERY = 0.1
#: A tool shell whose shim was killed is polled, for nothing reports the death of its last process.
ORPHANED_SHELL_EVERY = 2.0
#: Of so many of the newest trees the detached processes are listed again when the daemon starts.
ROWS_RECOVERED = 200


class Registry:
    """A ``GovernedTrees``. ``TreeEnded`` is published for every tree that is over, after the journal has it."""

    def __init__(self, paths: Paths, journal: Journal, platform: Platform, bus: EventBus, log: Log) -> None:
        self.paths = paths
        self._group_prefix = f"oomless-{paths.install_id()}-"
        self._rows = journal.trees
        self.own_pid = os.getpid()
        self._log = log
        self.trees: dict[str, Tree] = {}
        self.detached = DetachedFromTrees()
        self._stale_files = StaleFiles(paths, journal, log)
        self._platform = platform
        self._bus = bus
        self._tasks = TaskSet(log, "a sweep failed")
        self._sweeps: set[asyncio.Task[Any]] = set()
        self._own = frozenset([ProcessId(self.own_pid, system.start_of(self.own_pid) or 0)])

    # -- life ----------------------------------------------------------------------------------------------

    def add(self, tree: Tree) -> None:
        """Raises JournalError if the intent cannot be written; then nothing may be forked."""
        self._rows.intend(tree.intent)
        self.trees[tree.id] = tree

    def mark_started(self, tree: Tree, shim: Identity, root: Identity, rung: str, why_rung: str) -> None:
        tree.shim, tree.root, tree.rung, tree.why_rung = shim, root, rung, why_rung
        self._write(lambda: self._rows.mark_started(tree.id, shim, root, rung, why_rung, at=time.time()))
        if not tree.watch(shim, self.shim_died):
            self.shim_died(tree)

    def mark_ended(self, tree: Tree, record: ExitRecord) -> None:
        """By the shim's record. Its cgroups may still be there for some milliseconds: then they are swept."""
        if tree.closed.is_set():
            return
        if self._write(lambda: self._rows.mark_ended(tree.id, record, time.time())):
            with suppress(OSError):
                os.unlink(self._exit_file(tree.id))  # else the next daemon takes it in
        self.detached.add(tree.intent, record.left_running, time.time())
        self._forget(tree, f"{record.status}, exit {record.exit_code}")
        if any(os.path.exists(path) for path in tree.cgroups.values()):
            spared = frozenset(map(ProcessId.of, record.left_running))
            self._tasks.start(self._sweep(tree, "its cgroups were still there", close=False, spared=spared))
        elif self._stale_files.has_any(tree.id, {}):
            self._tasks.start(self._stale_files.clear_late(tree.id, {}))

    def mark_released(self, tree: Tree) -> None:
        """A slot has no processes: its end is the end of its lease."""
        if not tree.closed.is_set():
            self._write(lambda: self._rows.mark_released(tree.id, time.time()))
            self._forget(tree, "released")

    def lease_lost(self, tree: Tree) -> None:
        """The connection is gone. A shim reconnects by itself; without one there is no tree."""
        tree.writer = None
        if not tree.intent.kind.has_processes:
            self.mark_released(tree)
        elif tree.shim is None and not tree.closed.is_set():
            self._tasks.start(self._never_started(tree))

    def shim_died(self, tree: Tree) -> None:
        tree.unwatch()
        self._tasks.start(self._outlive_shim(tree, "its shim was killed"))

    async def _outlive_shim(self, tree: Tree, reason: str) -> None:
        """A tool shell whose shim was killed goes on as it would have without us, until its last process or its
        session ends. Any other tree is swept."""
        session = tree.intent.session
        if tree.intent.kind is TreeKind.SHELL and session is not None:
            await self._take_late_record(tree)
            if tree.closed.is_set():
                return
            if tree.watch(session.owner, self.session_died) and not await self._wait_until_empty(tree):
                return
        await self._end_without_shim(tree, reason)

    async def _wait_until_empty(self, tree: Tree) -> bool:
        """Returns when no process of it lives. False: its session died first, and ``session_died`` deals with it."""
        sweep = self._sweep_of(tree)
        while sweep.has_members():
            await asyncio.sleep(ORPHANED_SHELL_EVERY)
            if not tree.watched:
                return False
        tree.unwatch()
        return True

    def session_died(self, tree: Tree) -> None:
        tree.unwatch()
        self._tasks.start(self._end_without_shim(tree, "its session is gone"))

    async def stop(self) -> None:
        """Leaves the trees alone; a sweep that has begun is brought to its end."""
        for tree in self.trees.values():
            tree.unwatch()
        if self._sweeps:
            await asyncio.wait(set(self._sweeps), timeout=KillTimes().give_up_after)
        await self._tasks.cancel()

    # -- recovery ------------------------------------------------------------------------------------------

    def recover(self) -> list[Tree]:
        """Takes over what the journal holds open; returns the trees that live and whose shims will reconnect."""
        boot = self._platform.boot_id()
        rows = self._rows.recent(ROWS_RECOVERED)
        self.detached.recover(rows, boot)
        living = []
        for row in self._rows.open():
            tree = Tree(row.intent, "taken over from the daemon before")
            tree.shim, tree.root, tree.rung, tree.why_rung = row.shim, row.root, row.rung, row.why_rung
            self.trees[tree.id] = tree
            if row.intent.boot_id != boot:
                self._close_swept(tree, "the machine was restarted", 0, (), None)
            elif self._resume(tree, row):
                living.append(tree)
        self._stale_files.remove_groups(rows, self.trees)
        self._stale_files.remove_drafts(self.trees)
        self._tasks.start(self._stale_files.remove_forgotten(self.trees))
        return living

    def _resume(self, tree: Tree, row: TreeRow) -> bool:
        """True if the tree may still live; otherwise its end is under way."""
        if not row.intent.kind.has_processes:
            self.mark_released(tree)
            return False
        if row.shim is not None:
            if tree.watch(row.shim, self.shim_died):
                return True
            self._tasks.start(self._outlive_shim(tree, "its shim was killed while no daemon ran"))
            return False
        self._tasks.start(self._await_start(tree))
        return True

    async def _await_start(self, tree: Tree) -> None:
        """Granted by a daemon that died at once: its shim, if there is one, reconnects within seconds, unless it has
        ended already and its record is there. Checks are counted, and not the time: while this process is stopped,
        no message of the shim is read."""
        for _ in range(round(START_WITHIN / START_CHECK_EVERY)):
            if tree.shim is not None or tree.closed.is_set():
                break
            await self._take_late_record(tree)
            await asyncio.sleep(START_CHECK_EVERY)
        if tree.shim is None and not tree.closed.is_set():
            await self._never_started(tree)

    async def _never_started(self, tree: Tree) -> None:
        """Unless its shim is there and has not reconnected yet: a machine under load may delay it for ten seconds."""
        slow = tree.starting_shim()
        if slow is None or not tree.watch(slow, self.shim_died):
            await self._end_without_shim(tree, "it never started")

    # -- ends without a message -------------------------------------------------------------------------------

    async def _end_without_shim(self, tree: Tree, reason: str) -> None:
        """By the record on disk if there is one; otherwise what lives is killed here, and survivors are named."""
        self._protect_from_stop()
        await self._take_late_record(tree)
        if not tree.closed.is_set():
            await self._sweep(tree, reason, close=True)

    async def _take_late_record(self, tree: Tree) -> None:
        """The shim's last message may still be on its way through the socket, or its record be on disk."""
        if tree.writer is not None:
            try:
                await asyncio.wait_for(tree.closed.wait(), 0.2)
            except TimeoutError:
                pass
        record = None if tree.closed.is_set() else self._read_record(self._exit_file(tree.id))
        if record is not None:
            self.mark_ended(tree, record)

    async def _sweep(self, tree: Tree, reason: str, close: bool, spared: frozenset[ProcessId] = frozenset()) -> None:
        self._protect_from_stop()
        sweep = self._sweep_of(tree, spared)
        began = time.monotonic()
        while not sweep.step() and (pause := sweep.pause(time.monotonic() - began)) is not None:
            await asyncio.sleep(pause)
        left = sweep.left()
        text = f"{reason}; {sweep.ended} killed" + (f"; {len(left)} survivor{'s' * (len(left) > 1)}" if left else "")
        if sweep.gap and close and tree.shim is not None and tree.rung != PID_NAMESPACE:
            text += f"; {sweep.gap}"
        for process in left:
            self._log.warning("survivor", tree=tree.id, pid=process.pid, command=process.command, why=process.why)
        if close:
            running = sweep.detached()
            tmp = "" if left or running else await self._stale_files.remove_tmp(tree.id)
            text += f"; {tmp}" if tmp else ""
            self._close_swept(tree, text, sweep.ended, left, sweep.bytes_freed, running)
            self._stale_files.remove_drafts(self.trees)
        if self._stale_files.has_any(tree.id, tree.cgroups):
            self._tasks.start(self._stale_files.clear_late(tree.id, tree.cgroups))

    def _protect_from_stop(self) -> None:
        """The current task is finished before the daemon stops."""
        task = asyncio.current_task()
        assert task is not None
        self._sweeps.add(task)
        task.add_done_callback(self._sweeps.discard)

    def _sweep_of(self, tree: Tree, spared: frozenset[ProcessId] = frozenset()) -> Sweep:
        since = tree.intent.requester.start
        session = tree.intent.session if tree.intent.kind is TreeKind.SHELL else None
        sid = session.sid if session is not None else None
        return Sweep(tree.intent.marker, tree.cgroups, tree.known_members(), since, self._own | spared, sid)

    def _close_swept(
        self,
        tree: Tree,
        text: str,
        ended: int,
        left: tuple[Survivor, ...],
        freed: int | None,
        running: tuple[Survivor, ...] = (),
    ) -> None:
        self.detached.add(tree.intent, running, time.time())
        sweep = SweepRow(
            tree=tree.id,
            at=time.time(),
            reason=text,
            ended=ended,
            left=left,
            left_running=running,
            bytes_freed=freed,
        )
        self._write(lambda: self._rows.add_sweep(sweep))
        self._forget(tree, text)

    def _forget(self, tree: Tree, reason: str) -> None:
        tree.unwatch()
        tree.closed.set()
        self.trees.pop(tree.id, None)
        self._bus.publish(TreeEnded(tree=tree.id, name=tree.name, reason=reason))

    # -- figures -------------------------------------------------------------------------------------------

    def read_usage(self) -> list[tuple[str, int]]:
        """Bytes by id of the open trees, outer ones first. A tree without cgroups reports its use, or is measured by
        its known members while its shim reconnects."""
        used = []
        for tree in self.trees.values():
            memory = self._platform.cgroup_footprint(tree.cgroups) if tree.cgroups else None
            if memory is not None:
                tree.used = memory.used
            elif tree.writer is None and tree.members and not tree.cgroups:
                stats = [
                    stat for pid, start in tree.members if (stat := system.read_stat(pid)) and stat.start == start
                ]
                tree.used = sum_footprints(stats)
            if tree.used is not None:
                used.append((tree.id, tree.used))
        return used

    def find(self, id_or_name: str) -> Tree | None:
        if id_or_name in self.trees:
            return self.trees[id_or_name]
        return next((tree for tree in self.trees.values() if tree.intent.terms.name == id_or_name), None)

    def innermost_tree(self, pid: int) -> Tree | None:
        """The innermost open tree that the process runs in, by its cgroups or by descent from the shim."""
        inside = [tree for tree in self.trees.values() if tree.contains(pid, self._group_prefix + tree.id)]
        return max(inside, key=lambda tree: tree.intent.marker.count("/"), default=None)

    def any_open(self) -> bool:
        return bool(self.trees)

    def holds(self, pid: int) -> bool:
        return self.innermost_tree(pid) is not None

    def innermost(self, pid: int) -> str | None:
        tree = self.innermost_tree(pid)
        return tree.id if tree is not None else None

    def roots(self) -> set[ProcessId]:
        """Every shim, and what becomes one by exec (``run``) or stands before one (a tool shell)."""
        roots = set()
        for tree in self.trees.values():
            intent = tree.intent
            if intent.owner == "run" or intent.kind.has_session:
                roots.add(ProcessId(intent.requester.pid, intent.requester.start))
            if tree.shim is not None:
                roots.add(ProcessId(tree.shim.pid, tree.shim.start))
        return roots

    def _write(self, write: Callable[[], object]) -> bool:
        """A journal that cannot be written (a full disk) must not keep memory reserved for a tree that is gone: the
        row stays open, and the next daemon closes it by the same evidence."""
        try:
            write()
            return True
        except JournalError as error:
            self._log.error(error.line())
            return False

    def _exit_file(self, id: str) -> str:
        return f"{self.paths.exits}/{id}.json"

    def _read_record(self, path: str) -> ExitRecord | None:
        raw = files.read_file(path)
        try:
            return msgspec.json.decode(raw, type=ExitRecord) if raw else None
        except msgspec.MsgspecError as error:
            self._log.warning(f"an exit record cannot be read: {error}", path=path)
            return None
