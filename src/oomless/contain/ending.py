"""How a tree's end is carried out: signals to its members, patience with those that are slow to die, and the proof
that none is left.

Nothing here decides when to end a tree or how a rung kills. Standard library only.
"""

from __future__ import annotations

import os
import sys
import time

assert sys.platform == "linux"

from oomless.lean import loads
from oomless.platform import proc
from oomless.processes import descendants, ours
from oomless.processes.ids import ProcessId
from oomless.processes.kill_times import KillTimes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from oomless.contain.rungs.base import Rung

#: While a tree is ended it is looked at every 10 ms. A pause of so long means that we, or the machine, stood still,
#: and counts neither as grace nor as patience.
STOPPED_FOR = 1.0
COMMAND_KEPT = 200
#: Processes that have been signalled need the processor to die: looking for the rest takes at most a third of it.
SHARE = 2


class KillPatience:
    """How long the shim waits for processes that were killed and are not dead."""

    def __init__(self, times: KillTimes) -> None:
        self._times = times
        self._count: int | None = None
        self._look_at = 0.0
        self._looked_at: float | None = None

    def is_over(self, members: Callable[[], list[ProcessId]], kill_at: float, now: float) -> bool:
        """Whether those that are left are given up. Not while they still get fewer each second: once, on a loaded
        machine, 8 of a fork bomb's 2,000 had been named as survivors that were only late."""
        if now <= max(kill_at + self._times.give_up_after, self._look_at):
            return False
        left = members()
        before, self._count = self._count, len(left)
        self._look_at = now + min(1.0, self._times.give_up_after)
        if only_dying(left):
            return now > kill_at + self._times.dying_for
        return now > kill_at + self._times.give_up_at_most or (before is not None and self._count >= before)

    def postpone(self, kill_at: float | None, now: float) -> float | None:
        """``kill_at`` without the time for which we stood still since the look before."""
        if kill_at is not None and self._looked_at is not None and now - self._looked_at > STOPPED_FOR:
            kill_at += now - self._looked_at
        self._looked_at = None if kill_at is None else now
        return kill_at


def only_dying(members: Iterable[ProcessId]) -> bool:
    """Whether there are members, and none of them can live on: they are only slow in dying."""
    left = [stat for member in members if (stat := descendants.find_living(member)) is not None]
    return bool(left) and all(map(proc.dying, left))


def next_round(began: float, reachable: bool, times: KillTimes) -> float:
    """When the KILL round after the one that began then is due. A group is killed as a whole and needs no haste; a
    tree that is known by descent may fork at the rate at which it is looked at."""
    now = time.monotonic()
    return now + max(times.round_every if reachable else 0.0, SHARE * (now - began))


def signal_all(members: Iterable[ProcessId], number: int) -> None:
    for member in members:
        proc.send(*member, number)


def forward_signal(number: int, group: int | None, root: int, root_start: int | None) -> None:
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


def daemon_below(state: str, own: int) -> set[ProcessId]:
    """The daemon, if ``daemon.json`` names one that lives below us: a command in the tree may have started it, and
    then it is our descendant (it left the cgroup by itself, but nobody leaves a subreaper). It serves others and
    is spared."""
    try:
        with open(f"{state}/daemon.json", encoding="utf-8") as file:
            fields = loads(file.read())
        daemon = ProcessId(int(fields["pid"]), int(fields["start"]))
    except (OSError, ValueError, KeyError, TypeError):
        return set()
    stat = proc.read_stat(daemon.pid)
    if stat is None or stat.start != daemon.start or not ours.is_daemon(proc.cmdline(stat.pid)):
        return set()
    return {daemon} if descendants.is_below(daemon.pid, own) else set()


def is_empty(own: int, strangers: set[ProcessId], state: str) -> bool:
    """No descendant is left but ``strangers`` and theirs (jobs of a shell that did ``exec oomless``; the daemon,
    which is added to them). ECHILD is proof: a subreaper has every orphan of its tree as a child. For that reason
    the tree is gone, too, if all our children are strangers."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return True
    for stat in descendants.children(own):
        child = ProcessId.of(stat)
        if child not in strangers and ours.is_daemon(proc.cmdline(stat.pid)):
            strangers |= daemon_below(state, own)
        if child not in strangers:
            return False
    return bool(strangers)


def masked_command(pid: int) -> str:
    """Its command line as it may stand in a record: secrets masked. What does that is loaded for the rare tree only
    that leaves survivors (with ``re`` it takes 6 ms); if our package has gone meanwhile, nothing is shown."""
    try:
        from oomless.redact import command_line
    except ImportError:
        return ""
    return command_line(tuple(proc.cmdline(pid)))[:COMMAND_KEPT]


def remove_rung(rung: Rung) -> None:
    """A cgroup is busy for some milliseconds after its last member died; 1 s of tries, then the daemon's sweep."""
    until = time.monotonic() + 1.0
    while not rung.remove() and time.monotonic() < until:
        time.sleep(0.005)


def print_line(line: str) -> None:
    """One line on stderr, if it is still read."""
    try:
        os.write(2, (line + "\n").encode())
    except OSError:
        pass
