"""A stage on the machine itself, beside whatever else runs there: who is of it is told by a cgroup of its own.

In a pid namespace the kernel tells the daemon of no fork; here it remembers what it remembers on a user's machine.
What is recorded are the members of the cgroup, the machine's init, and whoever else adopts orphans (a subreaper).
Nobody else is looked at for the record, and nobody else is ended. Root only: the cgroup is made below one's own, of
the v2 tree, or of the v1 controller ``pids``. Not here: pid namespaces (``record.py``, ``stage_init.py``).
"""

from __future__ import annotations

import os
import secrets
import select
import signal
import subprocess
import sys
import time
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import cast

import msgspec

from oomless.census.daemon_facts import DaemonFacts
from oomless.model import Identity, ProcessInfo
from oomless.platform import cgroup, current, files, proc
from oomless.platform.base import Platform, Standing
from oomless.platform.cgroup import mount_points

assert sys.platform == "linux"

INIT = 1
ENTER = str(Path(__file__).with_name("stage_enter.py"))
#: Seconds until whatever was killed is gone.
ENDED = 20.0


class Group:
    """``path``: a folder of the v2 tree or of ``pids``. Its name is none that oomless takes for a governed tree."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def make(cls) -> Group:
        """Raises OSError, saying why there can be none."""
        if os.geteuid() != 0:
            raise OSError("a stage on the machine itself needs root")
        mounted, own = mount_points(), proc.cgroups("self")
        for controller in ("", "pids"):
            if controller in mounted and controller in own:
                path = Path(f"{mounted[controller]}{own[controller]}".rstrip("/"), f"scene-{secrets.token_hex(4)}")
                path.mkdir()
                if controller or (path / "cgroup.kill").exists():
                    return cls(path)
                path.rmdir()  # before Linux 5.14
        raise OSError("there is neither a v2 tree with cgroup.kill nor a v1 pids controller")

    def members(self) -> set[int]:
        """Of all groups below it too: a shim makes its own there."""
        return set(cgroup.pids_in(str(self.path)))

    def start(self, argv: Collection[str], env: Mapping[str, str], cwd: Path, errors: Path) -> int:
        """The pid of a process in it that runs ``argv`` and whose parents are gone; closed by itself when it ends."""
        with errors.open("wb") as err:
            done = subprocess.run(
                [sys.executable, "-I", "-S", ENTER, str(self.path), *argv], env=dict(env), cwd=cwd, check=True,
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=err, timeout=20,
            )  # fmt: skip
        return int(done.stdout)

    def await_end(self, pid: int, seconds: float) -> bool:
        """Of a member; False if it takes longer. Who has left the group has ended: nobody moves it out."""
        fd = self._opened(pid)
        if fd is None:
            return True
        try:
            poll = select.poll()
            poll.register(fd, select.POLLIN)
            return bool(poll.poll(seconds * 1000))
        finally:
            os.close(fd)

    def _opened(self, pid: int) -> int | None:
        """A pidfd of a member: who is one after it was opened is the one that it names, or came later and is one."""
        try:
            fd = os.pidfd_open(pid)
        except OSError:
            return None
        if pid in self.members():
            return fd
        os.close(fd)
        return None

    def end(self) -> None:
        """Kills whoever is in it, and removes it. Raises OSError if somebody stays."""
        deadline = time.monotonic() + ENDED
        while left := self.members():
            if time.monotonic() > deadline:
                raise OSError(f"still in {self.path}: {sorted(left)}")
            if not files.try_write(f"{self.path}/cgroup.kill", "1"):
                self._kill(left)
            time.sleep(0.02)  # v1 has no event for a group that became empty
        remove(self.path)

    def _kill(self, pids: Collection[int]) -> None:
        for pid in pids:
            fd = self._opened(pid)
            if fd is not None:
                try:
                    signal.pidfd_send_signal(fd, signal.SIGKILL)
                except ProcessLookupError:
                    pass  # it has ended meanwhile
                finally:
                    os.close(fd)


def remove(path: Path) -> None:
    """A group without members and those below it; a member that is just ending holds it for moments."""
    deadline = time.monotonic() + ENDED
    while not cgroup.remove(str(path)):
        if time.monotonic() > deadline:
            raise OSError(f"cannot remove {path}")
        time.sleep(0.02)


def remove_trees(install: str) -> None:
    """What a daemon that was killed with its shims could not remove: empty groups that carry its install id."""
    mounted, own = mount_points(), proc.cgroups("self")
    for controller in mounted.keys() & own.keys():
        for folder in Path(f"{mounted[controller]}{own[controller]}").glob(f"oomless-{install}-*"):
            remove(folder)


class Members:
    """The machine as ``take_snapshot`` reads it, cut down to those pids."""

    def __init__(self, group: Group, others: Collection[int]) -> None:
        self._group, self._others, self._all = group, frozenset(others), current()
        self.name, self.starts_per_second = self._all.name, self._all.starts_per_second

    def processes(self) -> list[ProcessInfo]:
        """The init's command line says nothing but what machine this is."""
        those = self._group.members() | self._others
        found = [process for process in self._all.processes() if process.pid in those]
        return [msgspec.structs.replace(p, name="init", command=("init",)) if p.pid == INIT else p for p in found]

    def identity(self, pid: int) -> Identity | None:
        return self._all.identity(pid)

    def environ(self, pid: int, names: frozenset[str]) -> dict[str, str]:
        return self._all.environ(pid, names)

    def standing(self, pids: Collection[int]) -> dict[int, Standing]:
        return self._all.standing(pids)


def listeners() -> set[int]:
    """Who has a socket for the kernel's process events: its port is the pid of who opened it, unless that has two
    (netlink(7)). Protocol 11 is the connector, and its first group those events."""
    lines = (proc.read_file("/proc/net/netlink") or b"").decode().splitlines()[1:]
    rows = (line.split() for line in lines)
    return {int(row[2]) for row in rows if row[1] == "11" and int(row[3], 16) & 1}


def platform(group: Group, others: Collection[int]) -> Platform:
    return cast(Platform, Members(group, others))


def of_these(facts: DaemonFacts, pids: Collection[int]) -> DaemonFacts:
    """The daemon also sees hosts of others that run beside."""
    return DaemonFacts(
        trees=tuple(tree for tree in facts.trees if tree.root_pid in pids),
        sessions=tuple(session for session in facts.sessions if session.pid in pids),
        detached=tuple(process for process in facts.detached if process.pid in pids),
        leftovers=tuple(process for process in facts.leftovers if process.pid in pids),
        idle=tuple(process for process in facts.idle if process.pid in pids),
        escaped=tuple(process for process in facts.escaped if process.pid in pids),
    )
