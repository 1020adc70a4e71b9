"""How a tree's end is caused, carried out and worded: the pieces that the shim's loop puts together.

Nothing here decides when to end a tree (``shim.py``) or how a rung kills (``rungs/members.py``). Standard library
only.
"""

from __future__ import annotations

import os
import sys
import time

assert sys.platform == "linux"

from oomless.contain.cause import Cause as Cause
from oomless.contain.cause import exists as exists
from oomless.contain.cause import exited as exited
from oomless.contain.cause import interrupted as interrupted
from oomless.contain.cause import not_started as not_started
from oomless.contain.cause import verdict as verdict
from oomless.lean import loads
from oomless.platform import proc
from oomless.processes import descendants

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Container

    from oomless.contain.rungs.base import Rung

#: After so long of KILL rounds, whoever is left (uninterruptible, another user's) is named and left; not while they
#: still get fewer each second (once, on a loaded machine, 8 of a fork bomb's 2,000 had been named so).
GIVE_UP_AFTER, GIVE_UP_AT_MOST = 5.0, 30.0
#: Those that cannot live on, and are only long in dying (``proc.dying``), are waited for longer.
DYING_FOR = 60.0
#: While a tree is ended it is looked at every 10 ms. A pause of so long means that we, or the machine, stood still,
#: and counts neither as grace nor as patience.
STOPPED_FOR = 1.0
COMMAND_KEPT = 200
#: An argument of the daemon.
DAEMON = "oomless.daemon"
#: Who has been signalled needs the processor to die: looking for the rest takes at most a third of it.
ROUND_EVERY, SHARE = 0.01, 2


class Dying:
    """With those who were killed and are not dead."""

    def __init__(self) -> None:
        self._count: int | None = None
        self._look_at = 0.0
        self._looked_at: float | None = None

    def over(self, everybody: Callable[[], list[tuple[int, int]]], kill_at: float, now: float) -> bool:
        if now <= max(kill_at + GIVE_UP_AFTER, self._look_at):
            return False
        members = everybody()
        before, self._count = self._count, len(members)
        self._look_at = now + 1.0
        if only_dying(members):
            return now > kill_at + DYING_FOR
        return now > kill_at + GIVE_UP_AT_MOST or (before is not None and self._count >= before)

    def patience(self, kill_at: float | None, now: float) -> float | None:
        """``kill_at`` without the time for which we stood still since the look before."""
        if kill_at is not None and self._looked_at is not None and now - self._looked_at > STOPPED_FOR:
            kill_at += now - self._looked_at
        self._looked_at = None if kill_at is None else now
        return kill_at


def only_dying(members: list[tuple[int, int]]) -> bool:
    """Whether there is anybody, and nobody of them can live on."""
    left = [stat for pid, start in members if (stat := proc.read_stat(pid)) and stat.start == start and stat.alive]
    return bool(left) and all(map(proc.dying, left))


def next_round(began: float, reachable: bool) -> float:
    """When the KILL round after the one that began then is due. A group is killed as a whole and needs no haste; a
    tree that is known by descent may fork at the rate at which it is looked at."""
    now = time.monotonic()
    return now + max(ROUND_EVERY if reachable else 0.0, SHARE * (now - began))


def signal_all(members: list[tuple[int, int]], number: int) -> None:
    for pid, start in members:
        proc.send(pid, start, number)


def forward(number: int, group: int | None, root: int, root_start: int | None) -> None:
    """To the whole group that the root leads (as a terminal would), while the root is there to hold its number;
    to the root alone where it shares our own group."""
    if root_start is None:
        return
    if group is not None and proc.start_of(root) == root_start:
        try:
            os.killpg(group, number)  # ours: the root made it by setsid and is our child, not reaped yet
            return
        except (ProcessLookupError, PermissionError):
            pass
    proc.send(root, root_start, number)


def daemon_below(state: str, own: int) -> set[tuple[int, int]]:
    """The daemon, if ``daemon.json`` names one that lives below us: a command in the tree may have started it, and
    then it is our descendant (it left the cgroup by itself, but nobody leaves a subreaper). It serves others and
    is spared."""
    try:
        with open(f"{state}/daemon.json", encoding="utf-8") as file:
            found = loads(file.read())
        who = int(found["pid"]), int(found["start"])
    except (OSError, ValueError, KeyError, TypeError):
        return set()
    stat = proc.read_stat(who[0])
    is_it = stat and stat.start == who[1] and DAEMON in proc.cmdline(stat.pid)
    while is_it and stat and stat.pid != own:
        stat = proc.read_stat(stat.ppid)
    return {who} if is_it and stat else set()


def nobody(own: int, strangers: set[tuple[int, int]], state: str) -> bool:
    """No descendant is left but ``strangers`` and theirs (jobs of a shell that did ``exec oomless``; the daemon,
    which is added to them). ECHILD is proof: a subreaper has every orphan of its tree as a child. For that reason
    the tree is gone, too, if all our children are strangers."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return True
    for stat in descendants.children(own):
        if (stat.pid, stat.start) not in strangers and DAEMON in proc.cmdline(stat.pid):
            strangers |= daemon_below(state, own)
        if (stat.pid, stat.start) not in strangers:
            return False
    return bool(strangers)


def describe(
    members: list[tuple[int, int]], own: int, strangers: Container[tuple[int, int]]
) -> list[dict[str, object]]:
    """Survivors, as in the exit record."""
    below = [(stat.pid, stat.start) for stat in descendants.walk(own, strangers)]
    everyone = {who for who in (*members, *below) if who not in strangers}
    found: list[dict[str, object]] = []
    for pid, start in sorted(everyone):
        stat = proc.read_stat(pid)
        if stat is None or stat.start != start or not stat.alive:
            continue
        why = "does not answer SIGKILL (uninterruptible)" if stat.state == "D" else "may not be signalled"
        why = "has been killed, and is long in dying" if proc.dying(stat) else why
        found.append({"pid": pid, "start": start, "command": shown(pid) or stat.comm, "why": why})
    return found


def shown(pid: int) -> str:
    """Its command line as it may stand in a record: secrets masked. What does that is loaded for the rare tree only
    that leaves somebody (with ``re`` it takes 6 ms); if our package has gone meanwhile, nothing is shown."""
    try:
        from oomless.redact import command_line
    except ImportError:
        return ""
    return command_line(tuple(proc.cmdline(pid)))[:COMMAND_KEPT]


def remove(rung: Rung) -> None:
    """A cgroup is busy for some milliseconds after its last member died; 1 s of tries, then the daemon's sweep."""
    until = time.monotonic() + 1.0
    while not rung.remove() and time.monotonic() < until:
        time.sleep(0.005)


def say(line: str) -> None:
    """One line on stderr, if anybody still reads it."""
    try:
        os.write(2, (line + "\n").encode())
    except OSError:
        pass
