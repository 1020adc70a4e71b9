"""What all trees together use, or those of a batch or project with a budget, and the end of one of them when that is
too much: ``admission/victims.py`` with eyes and hands.

Covers: who may be a victim, who does nothing, telling and ending. A victim is only a tree that ``run``, a batch or
``Governor`` has started, never a host's tool shells and servers (which end with their own limits and sessions), and
not one with a session in it that somebody sits at. Does not cover: the rules, sampling (``gate.py``), the limit of
each tree, which its shim or the kernel holds.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Mapping

assert sys.platform == "linux"

from oomless.admission.victims import EndOne, Share, Subject, Warn, Watch, in_use, judge_all, may_use
from oomless.config import Watched, headroom_bytes
from oomless.daemon.events import EventBus, MemoryWarning, VictimChosen
from oomless.daemon.logs import Log
from oomless.daemon.sessions.all_sessions import AllSessions
from oomless.daemon.sessions.sampling import ProcessSampler
from oomless.daemon.trees.admission_gate import Gate
from oomless.daemon.trees.leases import Leases
from oomless.daemon.trees.registry import Registry
from oomless.daemon.trees.tree import Tree
from oomless.journal.trees import TreeIntent
from oomless.platform import cgroup, proc
from oomless.protocol.views import PressureView

#: A tree that has used no more than ``IDLE_TICKS`` of CPU time for so long does nothing.
IDLE_AFTER, IDLE_TICKS = 2.0, 2


class Pressure:
    def __init__(
        self,
        registry: Registry,
        gate: Gate,
        settings: Watched,
        sessions: AllSessions,
        sampler: ProcessSampler,
        leases: Leases,
        bus: EventBus,
        log: Log,
    ) -> None:
        self._registry = registry
        self._gate = gate
        self._settings = settings
        self._sessions = sessions
        self._sampler = sampler
        self._leases = leases
        self._bus = bus
        self._log = log
        self._watches: dict[str | None, Watch] = {}
        self._quiet: dict[str, tuple[float, int]] = {}

    def check(self) -> bool:
        """Judges the figures of a fresh sample; True if the next one should come soon. Nobody is ended before a look
        at the process table, which notices a session only every five seconds where nothing else runs."""
        near, watches, actions = self._judge()
        if any(isinstance(action, EndOne) for action in actions):
            self._sampler.sample()
            near, watches, actions = self._judge()
        self._watches = watches
        for action in actions:
            if isinstance(action, EndOne):
                self._end_one(action)
            else:
                self._log.warning(action.reason)
                self._bus.publish(MemoryWarning(reason=action.reason))
        return near

    def views(self) -> tuple[PressureView, ...]:
        """By the last sample."""
        found = []
        for share in self._shares():
            watch = self._watches.get(share.group, Watch())
            found.append(
                PressureView(
                    group=share.group,
                    used_bytes=share.used,
                    may_use_bytes=share.allowed,
                    warned=watch.warned,
                    ending=watch.victim,
                )
            )
        return tuple(found)

    def _shares(self) -> tuple[Share, ...]:
        """Of all trees, and then of those of each group with a budget of its own."""
        settings, memory = self._settings.current(), self._gate.memory
        subjects = {tree.id: _subject(tree) for tree in self._registry.trees.values()}
        used = in_use(tuple(subjects.values()))
        headroom = headroom_bytes(settings, memory.total_bytes)
        allowed = may_use(settings.budget, memory.total_bytes, headroom, memory.available_bytes, used)
        found = [Share(fixed=settings.budget is not None, ids=frozenset(subjects), used=used, allowed=allowed)]
        intents = {tree.id: tree.intent for tree in self._registry.trees.values()}
        for group, budget in budgets(intents.values()).items():
            ids = frozenset(id for id in subjects if belongs(id, group, intents))
            mine = in_use(tuple(subjects[id] for id in ids))
            found.append(Share(group=group, ids=ids, used=mine, allowed=budget))
        return tuple(found)

    def _judge(self) -> tuple[bool, dict[str | None, Watch], tuple[Warn | EndOne, ...]]:
        now, marks, shares = time.monotonic(), self._settings.current().marks, self._shares()

        def above(mark: float) -> frozenset[str]:
            """Who is in a share that is."""
            return frozenset[str]().union(*(one.ids for one in shares if one.used >= mark * one.allowed))

        near = bool(above(marks.admit))
        if not near and all(watch == Watch() for watch in self._watches.values()):
            self._quiet.clear()
            return False, {}, ()
        subjects = self._subjects(near=above(marks.warn), over=above(marks.end), now=now)
        return near, *judge_all(self._watches, marks, shares, subjects, now)

    def _subjects(self, near: frozenset[str], over: frozenset[str], now: float) -> tuple[Subject, ...]:
        """Who does nothing is found out only where it may matter soon, who may be ended only where it matters."""
        held = tuple(self._registry.trees.values())
        idle = {tree.id for tree in held if tree.id in near and self._idle(tree, now)}
        unseated = over - self._attended() if over else over
        return tuple(
            _subject(
                tree,
                idle=tree.id in idle,
                eligible=tree.id in unseated and tree.intent.kind.may_be_victim and tree.writer is not None,
            )
            for tree in held
        )

    def _attended(self) -> set[str]:
        """Trees with a host's session in them that runs on a terminal."""
        found = set()
        for pid, start in self._sessions.living():
            stat = proc.read_stat(pid)
            tree = self._registry.around(pid) if stat is not None and stat.start == start and stat.tty else None
            while tree is not None:
                found.add(tree.id)
                tree = self._registry.trees.get(tree.intent.terms.parent or "")
        return found

    def _idle(self, tree: Tree, now: float) -> bool:
        groups = {pid for path in tree.cgroups.values() for pid in cgroup.pids_in(path)}
        pids = groups or {pid for pid, _ in tree.known_members()}
        ticks = sum(stat.cpu_ticks for pid in pids if (stat := proc.read_stat(pid)))
        since, before = self._quiet.get(tree.id, (now, ticks))
        if abs(ticks - before) > IDLE_TICKS:
            since, before = now, ticks
        self._quiet[tree.id] = since, before
        return now - since >= IDLE_AFTER

    def _end_one(self, action: EndOne) -> None:
        tree = self._registry.trees[action.id]
        self._log.warning(action.reason, tree=tree.id, name=tree.name)
        self._bus.publish(VictimChosen(tree=tree.id, name=tree.name, reason=action.reason))
        self._leases.end(tree, action.reason, victim=not action.alone)


def budgets(intents: Iterable[TreeIntent]) -> dict[str, int]:
    """Of each group that has one: what was said last, as for whoever asks."""
    found: dict[str, int] = {}
    for one in sorted(intents, key=lambda intent: intent.intended_at):
        if (group := one.terms.group) is not None and one.terms.group_budget is not None and one.kind.takes_place:
            found[group] = one.terms.group_budget
    return found


def belongs(id: str | None, group: str, intents: Mapping[str, TreeIntent]) -> bool:
    """To a group, with whatever is nested in its trees. Tool shells and servers are not counted in one by admission,
    so its trees are not ended for what those use."""
    while id is not None and (one := intents.get(id)) is not None:
        if one.terms.group == group and one.kind.takes_place:
            return True
        id = one.terms.parent
    return False


def _subject(tree: Tree, idle: bool = False, eligible: bool = False) -> Subject:
    intent = tree.intent
    return Subject(
        id=tree.id,
        name=tree.name,
        used=tree.used or 0,
        reserved=intent.reserved,
        parent=intent.terms.parent,
        since=intent.intended_at,
        eligible=eligible,
        retriable=tree.retriable,
        idle=idle,
    )
