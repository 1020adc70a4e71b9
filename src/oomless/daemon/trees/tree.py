"""One open tree as the daemon knows it: what the journal has of it, facts that change, and the watch on its shim."""

from __future__ import annotations

import asyncio
import os
import time
from typing import TYPE_CHECKING

import msgspec

from oomless import redact
from oomless.admission.events import Restore
from oomless.journal.trees import TreeIntent
from oomless.model import Identity, TreeKind
from oomless.platform import system
from oomless.processes import descendants, ours
from oomless.processes.ids import ProcessId
from oomless.protocol.views import TreeView

if TYPE_CHECKING:
    from collections.abc import Callable

    from oomless.model import EscapedProcess

#: Names are shown in tables.
NAME_KEPT = 60
#: Rungs that have all controllers in the v2 tree.
V2 = ("cgroup2", "cgroup2+systemd")


class Tree:
    """``writer``: the lease connection, None while the shim reconnects. ``members``: those that the shim reported
    last: all of them without cgroups, otherwise those that escaped. ``closed`` is set once its end is in the journal.
    ``retriable``: it will be tried again if it fails."""

    def __init__(self, intent: TreeIntent, reason: str) -> None:
        self.intent = intent
        self.reason = reason
        self.shim: Identity | None = None
        self.root: Identity | None = None
        self.rung = intent.rung
        self.why_rung = ""
        self.used: int | None = None
        self.members: set[ProcessId] = set()
        self.escaped: tuple[EscapedProcess, ...] = ()
        self.writer: asyncio.StreamWriter | None = None
        self.retriable = False
        self.closed = asyncio.Event()
        self._pidfd: int | None = None
        # From here on by the monotonic clock, which nobody sets.
        self._since = time.monotonic() - max(0.0, time.time() - intent.intended_at)

    @property
    def id(self) -> str:
        return self.intent.tree

    @property
    def name(self) -> str:
        """As it may be shown. Journals of earlier versions have names of tool shells and servers with secrets."""
        return shown_name(self.intent.terms.name, self.intent.kind)

    @property
    def cgroups(self) -> dict[str, str]:
        """Only if its shim used them (it may have fallen through to another rung)."""
        return {} if self.rung == "subreaper" else self.intent.cgroups

    def watch(self, process: Identity, on_death: Callable[[Tree], None]) -> bool:
        """Calls ``on_death`` when that process is gone; False if it is already."""
        self.unwatch()
        fd = system.open_verified(process.pid, process.start)
        if fd is None:
            return False
        self._pidfd = fd
        asyncio.get_running_loop().add_reader(fd, on_death, self)
        return True

    def starting_shim(self) -> Identity | None:
        """The shim, if it lives but has reported nothing yet. Its arguments name the tree; that of a tool shell or
        server is its requester."""
        requester = self.intent.requester
        if self.intent.kind.has_session:
            return requester if system.start_of(requester.pid) == requester.start else None
        shim = find_shim(self.id)
        return Identity(boot_id=requester.boot_id, pid=shim.pid, start=shim.start) if shim else None

    @property
    def watched(self) -> bool:
        return self._pidfd is not None

    def unwatch(self) -> None:
        if self._pidfd is not None:
            asyncio.get_running_loop().remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = None

    def known_members(self) -> set[ProcessId]:
        known = set(self.members)
        if self.root is not None:
            known.add(ProcessId.of(self.root))
        return known

    def contains(self, pid: int, leaf: str) -> bool:
        """Whether ``pid`` runs inside: by its cgroups, or by descent from the shim. The mark in its environment
        alone proves nothing: a tmux server started in here hands it to strangers."""
        if any(leaf in path.split("/") for path in system.cgroups(pid).values()):
            return True
        shim = self.shim.pid if self.shim is not None else self.intent.requester.pid
        return pid != shim and descendants.is_below(pid, shim)

    def restore_event(self) -> Restore:
        """What admission is told of a tree that runs without having been asked for. Tool shells and servers take no
        place, and requests from inside of them are not under the bounds of their group: a subagent would wait for a
        place that the tool shell that it runs in has."""
        intent = self.intent
        terms = intent.terms
        if not intent.kind.takes_place:
            terms = msgspec.structs.replace(terms, group_budget=None, group_parallel=None)
        return Restore(
            id=intent.tree,
            terms=terms,
            reserved=intent.reserved,
            used=self.used or 0,
            takes_place=intent.kind.takes_place,
            at=time.monotonic(),
        )

    def _count_processes(self) -> int | None:
        if not self.cgroups:
            return len(self.members) if self.members else None
        return max((len(system.pids_in(path)) for path in self.cgroups.values()), default=None)

    def view(self, reason: str = "") -> TreeView:
        intent = self.intent
        return TreeView(
            tree=intent.tree,
            name=self.name,
            class_name=intent.terms.class_name,
            owner=intent.owner,
            state="running",
            parent=intent.terms.parent,
            reserved_bytes=intent.reserved,
            used_bytes=self.used,
            processes=self._count_processes(),
            limit_bytes=intent.terms.limit,
            footprint_source="cgroup" if "memory" in self.cgroups or self.rung in V2 else "pss",
            rung=self.rung,
            pid=self.root.pid if self.root else None,
            start=self.root.start if self.root else None,
            seconds=round(time.monotonic() - self._since, 3),
            reason=reason or self.reason,
            command=redact.printable_words(intent.argv),
            escaped=tuple(p for p in self.escaped if system.start_of(p.pid) == p.start),
        )


def find_shim(tree: str) -> system.Stat | None:
    """The process whose arguments say that it is the shim of that tree."""
    for stat in system.table().values():
        if stat.alive and ours.is_shim_of(system.cmdline(stat.pid), tree):
            return stat
    return None


def cgroup_name(install: str, id: str) -> str:
    """The name of a tree's folder in each hierarchy. A sweep touches only those of its own installation."""
    return f"oomless-{install}-{id}"


def shown_name(name: str, kind: TreeKind) -> str:
    """What a host starts is named by its command line, which may hold secrets: they are masked before it is cut, for
    half a secret does not look like one."""
    return redact.command_line((name,))[:NAME_KEPT] if kind.has_session else name
