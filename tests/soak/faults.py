"""The faults of a soak: commands are started, and at random moments somebody is killed who should not matter.

Covers: one round's commands, choosing victims, the books on who was hurt by us (their ends prove nothing), and what
no rung claims to reach then. Not here: who is who (``scene.py``), what must hold after it (``checks.py``).
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from oomless.contain.launch import BOOT
from oomless.errors import OomlessError
from oomless.platform import proc
from oomless.protocol.client import Client

from .scene import Crowd, Scene, Who, Work, read

KINDS = ("daemon", "shim", "client", "member", "both", "several")
RUNS = ("stays", "leaves", "forks", "grows", "nested", "waits", "beside")
#: Without cgroups a shim tells the daemon of its members after 0.1, 0.2, 0.4 and 0.8 s, and then once a second.
TOLD_AFTER = 2.5
#: A daemon that is killed so soon after a shim may not have ended what it swept.
SWEPT_WITHIN = 6.0


@dataclass
class Hits:
    """Whom we killed in a round. ``excused``: rosters of trees whose environment-wiped members may live on where
    there are no cgroups, for their shim was killed before any daemon can have known of them."""

    killed: set[Who] = field(default_factory=set)
    daemon_at: float | None = None
    shims: dict[Path, float] = field(default_factory=dict)
    excused: set[Path] = field(default_factory=set)

    def shim(self, roster: Path, now: float) -> None:
        """A daemon that started later may know of nobody, and no daemon of members so young."""
        self.shims[roster] = now
        ticks = (time.clock_gettime(time.CLOCK_BOOTTIME) - TOLD_AFTER) * os.sysconf("SC_CLK_TCK")
        wiped = [who for who, kind in read(roster) if kind == "wiped-environment"]
        if not wiped or any(start > ticks for _, start in wiped) or self.daemon_at is not None:
            self.excused.add(roster)

    def daemon(self, now: float) -> None:
        self.daemon_at = now
        self.excused.update(roster for roster, at in self.shims.items() if now - at < SWEPT_WITHIN)


class Faults:
    """``counts``: by kind, over all rounds. ``struck`` is called after each."""

    def __init__(self, scene: Scene, rng: random.Random, counts: dict[str, int], struck: Callable[[], None]) -> None:
        self.scene, self.rng, self.counts, self.struck = scene, rng, counts, struck
        self.hits = Hits()

    def play(self, faults: int) -> None:
        self.start()
        for _ in range(faults):
            # The one sleep there is: the moment of a fault is what is random here.
            time.sleep(self.rng.uniform(0, 0.7) if self.rng.random() < 0.7 else self.rng.uniform(0.7, 3))
            if self.rng.random() < 0.3:
                tell(self.rng.choice(self.scene.works))
            if self.rng.random() < 0.3:
                self.mislead()
            self.strike()
            for work in self.scene.works:
                if work.cut_short() and self.rng.random() < 0.5:
                    self.scene.resume(work)
            self.struck()

    def start(self) -> None:
        """Three to five commands at once: the rarest so far, and a batch more often than not."""
        rare = sorted(RUNS, key=lambda kind: (self.scene.started[self.scene.rung, kind], self.rng.random()))
        for kind in rare[: self.rng.randint(3, 4)]:
            self.scene.run(kind, self.rng)
        if self.rng.random() < 0.7:
            self.scene.batch(self.rng)

    def mislead(self) -> None:
        """Bystanders that look as if they were of a tree that runs: another installation's, and another variable."""
        try:
            found = Client(self.scene.paths, start=False).status().trees
        except OomlessError:
            return  # no daemon at the moment
        tree = next((tree.tree for tree in found if tree.state == "running"), None)
        if tree is not None:
            self.scene.bystander(OOMLESS_TREE=f"ffffffff:{tree}")
            self.scene.bystander(NO_OOMLESS_TREE=f"{self.scene.install}:{tree}")

    def strike(self) -> None:
        """The rarest kind so far that finds a victim now; none if everything has ended meanwhile."""
        crowd = self.scene.crowd()
        for kind in sorted(KINDS, key=lambda kind: (self.counts[kind], self.rng.random())):
            possible = victims(crowd, self.rng)[kind]
            if possible:
                chosen = self.rng.choice(possible)
                hit = [self.kill(who, crowd.daemon) for who in self.rng.sample(chosen, len(chosen))]
                self.counts[kind] += any(hit)
                return

    def kill(self, who: Who, daemon: Who | None) -> bool:
        """Books what it was first: who is gone cannot be asked any more."""
        tree = self.scene.tree_of(who)
        shim = proc.cmdline(who[0])[4:5] == [BOOT]
        if proc.kill(*who) != proc.SENT:
            return False
        now = time.monotonic()
        self.hits.killed.add(who)
        if who == daemon:
            self.hits.daemon(now)
        for work in self.scene.works:
            work.killed |= work.who == who
        if tree is not None:
            work, name = tree
            work.hurt.add(name)
            if shim:
                self.hits.shim(work.rosters[name], now)
        return True


def victims(crowd: Crowd, rng: random.Random) -> dict[str, list[list[Who]]]:
    """Who can be killed now, alone or together, by kind of fault."""
    daemon = [] if crowd.daemon is None else [crowd.daemon]
    everybody = [*daemon, *crowd.shims, *crowd.clients, *crowd.members]
    several = rng.sample(everybody, min(len(everybody), rng.randint(2, 5)))
    return {
        "daemon": [[one] for one in daemon],
        "shim": [[one] for one in crowd.shims],
        "client": [[one] for one in crowd.clients],
        "member": [[one] for one in crowd.members],
        "both": [[one, other] for one in daemon for other in crowd.shims],
        "several": [several] if len(several) > 1 else [],
    }


def tell(work: Work) -> None:
    """An ordinary end, so that faults meet trees that are ending. Not for batches: that would interrupt them."""
    if work.batch is None and work.running():
        work.told = True
        proc.send(*work.who, signal.SIGTERM)
