"""Memory pressure: what all trees together use, or those of a batch or project with a budget, and the victim if
that is too much.

A victim is only a tree that ``run``, a batch or ``Governor`` has started, never a host's tool shells and servers
(which end with their own limits and sessions), and not one with a session in it that runs on a terminal.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Mapping

assert sys.platform == "linux"

from oomless.admission.victims import (
    Budget,
    Kill,
    Pressure,
    TreeUse,
    Warn,
    allowed_bytes,
    bytes_in_use,
    select_victims,
)
from oomless.config import LiveSettings, resolve_headroom
from oomless.daemon.events import EventBus, MemoryWarning, VictimChosen
from oomless.daemon.logs import Log
from oomless.daemon.sessions.all_sessions import AllSessions
from oomless.daemon.sessions.sampling import ProcessSampler
from oomless.daemon.trees.admission_gate import AdmissionGate
from oomless.daemon.trees.leases import Leases
from oomless.daemon.trees.registry import Registry
from oomless.daemon.trees.tree import Tree
from oomless.journal.trees import TreeIntent
from oomless.platform import system
from oomless.protocol.views import PressureView

#: A tree that has used no more than ``IDLE_TICKS`` of CPU time for so long does nothing.
IDLE_AFTER, IDLE_TICKS = 2.0, 2


class MemoryPressure:
    def __init__(
        self,
        registry: Registry,
        gate: AdmissionGate,
        settings: LiveSettings,
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
        self._pressures: dict[str | None, Pressure] = {}
        self._cpu_use: dict[str, tuple[float, int]] = {}

    def check(self) -> bool:
        """Uses the figures of a fresh sample; True if the next one should come soon. Nothing is killed before the
        process table is sampled, for without a session that is done only every five seconds."""
        near, pressures, actions = self._select()
        if any(isinstance(action, Kill) for action in actions):
            self._sampler.sample()
            near, pressures, actions = self._select()
        self._pressures = pressures
        for action in actions:
            if isinstance(action, Kill):
                self._kill(action)
            else:
                self._log.warning(action.reason)
                self._bus.publish(MemoryWarning(reason=action.reason))
        return near

    def views(self) -> tuple[PressureView, ...]:
        """By the last sample."""
        views = []
        for budget in self._budgets():
            pressure = self._pressures.get(budget.group, Pressure())
            views.append(
                PressureView(
                    group=budget.group,
                    used_bytes=budget.used,
                    may_use_bytes=budget.allowed,
                    warned=pressure.warned,
                    ending=pressure.victim,
                )
            )
        return tuple(views)

    def _budgets(self) -> tuple[Budget, ...]:
        """Of all trees, and then of those of each group with a budget of its own."""
        settings, memory = self._settings.current(), self._gate.memory
        uses = {tree.id: _tree_use(tree) for tree in self._registry.trees.values()}
        used = bytes_in_use(tuple(uses.values()))
        headroom = resolve_headroom(settings, memory.total_bytes)
        allowed = allowed_bytes(settings.budget, memory.total_bytes, headroom, memory.available_bytes, used)
        limits = [Budget(fixed=settings.budget is not None, ids=frozenset(uses), used=used, allowed=allowed)]
        intents = {tree.id: tree.intent for tree in self._registry.trees.values()}
        for group, budget in group_budgets(intents.values()).items():
            ids = frozenset(id for id in uses if is_in_group(id, group, intents))
            inside = bytes_in_use(tuple(uses[id] for id in ids))
            limits.append(Budget(group=group, ids=ids, used=inside, allowed=budget))
        return tuple(limits)

    def _select(self) -> tuple[bool, dict[str | None, Pressure], tuple[Warn | Kill, ...]]:
        now, marks, budgets = time.monotonic(), self._settings.current().marks, self._budgets()

        def above(mark: float) -> frozenset[str]:
            """The trees under a budget that is."""
            return frozenset[str]().union(*(budget.ids for budget in budgets if budget.used >= mark * budget.allowed))

        near = bool(above(marks.admit))
        if not near and all(pressure == Pressure() for pressure in self._pressures.values()):
            self._cpu_use.clear()
            return False, {}, ()
        uses = self._tree_uses(near=above(marks.warn), over=above(marks.end), now=now)
        return near, *select_victims(self._pressures, marks, budgets, uses, now)

    def _tree_uses(self, near: frozenset[str], over: frozenset[str], now: float) -> tuple[TreeUse, ...]:
        """Which trees are idle is found out only near a mark, which may be victims only above the last one."""
        trees = tuple(self._registry.trees.values())
        idle = {tree.id for tree in trees if tree.id in near and self._is_idle(tree, now)}
        unattended = over - self._attended() if over else over
        return tuple(
            _tree_use(
                tree,
                idle=tree.id in idle,
                eligible=tree.id in unattended and tree.intent.kind.may_be_victim and tree.writer is not None,
            )
            for tree in trees
        )

    def _attended(self) -> set[str]:
        """Trees with a host's session in them that runs on a terminal."""
        attended = set()
        for pid, start in self._sessions.living():
            stat = system.read_stat(pid)
            tree = (
                self._registry.innermost_tree(pid) if stat is not None and stat.start == start and stat.tty else None
            )
            while tree is not None:
                attended.add(tree.id)
                tree = self._registry.trees.get(tree.intent.terms.parent or "")
        return attended

    def _is_idle(self, tree: Tree, now: float) -> bool:
        groups = {pid for path in tree.cgroups.values() for pid in system.pids_in(path)}
        pids = groups or {pid for pid, _ in tree.known_members()}
        ticks = sum(stat.cpu_ticks for pid in pids if (stat := system.read_stat(pid)))
        since, before = self._cpu_use.get(tree.id, (now, ticks))
        if abs(ticks - before) > IDLE_TICKS:
            since, before = now, ticks
        self._cpu_use[tree.id] = since, before
        return now - since >= IDLE_AFTER

    def _kill(self, action: Kill) -> None:
        tree = self._registry.trees[action.id]
        self._log.warning(action.reason, tree=tree.id, name=tree.name)
        self._bus.publish(VictimChosen(tree=tree.id, name=tree.name, reason=action.reason))
        self._leases.end(tree, action.reason, victim=not action.alone)


def group_budgets(intents: Iterable[TreeIntent]) -> dict[str, int]:
    """Of each group that has one: the newest, as for a new request."""
    budgets: dict[str, int] = {}
    for intent in sorted(intents, key=lambda row: row.intended_at):
        if (
            (group := intent.terms.group) is not None
            and intent.terms.group_budget is not None
            and intent.kind.takes_place
        ):
            budgets[group] = intent.terms.group_budget
    return budgets


def is_in_group(id: str | None, group: str, intents: Mapping[str, TreeIntent]) -> bool:
    """Whether a tree is of a group, or nested in one that is. Tool shells and servers are not counted in one by
    admission, so its trees are not killed for what those use."""
    while id is not None and (intent := intents.get(id)) is not None:
        if intent.terms.group == group and intent.kind.takes_place:
            return True
        id = intent.terms.parent
    return False


def _tree_use(tree: Tree, idle: bool = False, eligible: bool = False) -> TreeUse:
    intent = tree.intent
    return TreeUse(
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
