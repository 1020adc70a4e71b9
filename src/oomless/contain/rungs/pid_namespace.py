"""A tree in a PID namespace of its own: when its first process dies, the kernel kills all others, newborn ones too.

Memory and members are found by descent from the shim, as on the rung without groups. Standard library only.

Its first process, *init*, does nothing but reap orphans (the kernel does, where SIGCHLD is ignored) and die with the
shim. The command is its sibling, not its child, so that the shim itself has the command's exit status, signals and
job control::

    shim -- helper (makes the namespaces, forks both, ends) -- init
     ^---------- the subreaper that both fall to ------------- command -- ...

What a command can tell: it sees processes of its tree only, under other numbers; its parent is 0; where the user is
not root, files of other users belong to nobody (65534) and setuid programs (sudo) do not work.
"""

from __future__ import annotations

import os
import sys

assert sys.platform == "linux"

from oomless.contain.rungs.base import PID_NAMESPACE
from oomless.contain.rungs.subreaper import Subreaper
from oomless.lean import signal
from oomless.platform import namespaces, proc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection
    from typing import NoReturn

    from oomless.processes.ids import ProcessId


class PidNamespace(Subreaper):
    name = PID_NAMESPACE

    def __init__(self, skip: Collection[ProcessId] = (), enough: int | None = None) -> None:
        super().__init__(skip, enough)
        self._init = 0
        self._init_killed = False
        self._pidfd: int | None = None
        self._pipes: list[int] = []

    def make(self) -> None:
        super().make()
        self._pipes = [*os.pipe(), *os.pipe()]  # the leash of init, and the pids of init and root

    def enter(self) -> None:
        """Returns in the command; the process that called ends once it has written the pids of init and root to the
        shim."""
        leash, _, _, pids = self._pipes
        namespaces.leave()
        init = fork_init(leash)
        gate, opened = os.pipe()
        root = os.fork()
        if root:
            os.write(pids, f"{init} {root}".encode())
            os.write(opened, b"x")
            os._exit(0)
        os.close(opened)
        if not os.read(gate, 1):
            os._exit(127)  # killed before it could write: the shim would not know us
        os.close(gate)
        self.close()

    def root(self, forked: int) -> int:
        os.waitpid(forked, 0)
        os.set_blocking(self._pipes[2], False)
        try:
            pids = os.read(self._pipes[2], 64).split()
        except BlockingIOError:
            raise OSError(3, "the namespace's maker was killed") from None
        self._init, root = int(pids[0]), int(pids[1])
        self._pidfd = os.pidfd_open(self._init)  # our child by now, and not reaped: that very process
        os.write(self._pipes[1], b"x")
        return root

    def _stats(self, enough: int | None = None) -> list[proc.Stat]:
        return [stat for stat in super()._stats(enough) if stat.pid != self._init]

    def disband(self) -> None:
        if not self._stats():
            self.kill()

    def kill(self) -> None:
        """The kernel does not let go of init before all others are gone (pid_namespaces(7)). Beside a fork bomb
        init gets no processor for that (the tree was over after 2 s, once after 21), so that from the second round on
        the bomb's group is ended as it is without a namespace."""
        if self._pidfd is None:
            return
        if self._init_killed:
            super().kill()
        self._init_killed = True
        try:
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
        except ProcessLookupError:
            pass

    def close(self) -> None:
        """The leash goes too, which ends an init that was not killed."""
        for fd in self._pipes:
            os.close(fd)
        self._pipes = []
        if self._pidfd is not None:
            os.close(self._pidfd)
            self._pidfd = None


def fork_init(leash: int) -> int:
    """Its pid, once ``/proc`` is the namespace's own; raises OSError. ``leash``: the read end of a pipe whose other
    end is the shim's alone once the command runs."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        _be_init(leash, writer)
    os.close(writer)
    try:
        answer = os.read(reader, 200).decode()
    finally:
        os.close(reader)
    number, _, what = answer.partition(" ")
    if number != "0":
        os.waitpid(pid, 0)
        raise namespaces.NamespaceRefused(int(number or 3), what)
    return pid


def _be_init(leash: int, ready: int) -> NoReturn:
    try:
        os.setsid()
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # then the kernel reaps
        try:
            namespaces.own_proc()
            os.chdir("/")
        except OSError as error:
            what = error.what if isinstance(error, namespaces.NamespaceRefused) else ""
            os.write(ready, f"{error.errno} {what}".encode())
            os._exit(1)
        for fd in proc.own_descriptors():
            if fd not in (leash, ready):
                os.close(fd)
        os.write(ready, b"0 ")
        os.close(ready)
        # The first byte comes when the shim is our parent; until then its death would show as the end of the file.
        while os.read(leash, 1):
            proc.die_with_parent(0)  # as a parent outside of the namespace is seen from inside
            proc.name_self("oomless-init")
    finally:
        os._exit(0)


def try_namespace() -> tuple[bool, str]:
    """Whether this user may have one here, found by making one, and why (not)."""
    leash, hold = os.pipe()
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        _try_in_child(leash, writer)
    os.close(writer)
    os.close(leash)
    try:
        refused = os.read(reader, 400).decode()
        os.waitpid(pid, 0)
    finally:
        os.close(reader)
        os.close(hold)
    if not refused:
        way = "works here" if namespaces.privileged() else "works here through a user namespace"
        return True, f'{way}; opt-in (rung = "{PID_NAMESPACE}"): a command sees only its own tree, under other pids'
    return False, "; ".join(part for part in (f"the kernel refuses ({refused})", namespaces.forbidden_by()) if part)


def _try_in_child(leash: int, writer: int) -> NoReturn:
    try:
        namespaces.leave()
        fork_init(leash)
    except OSError as error:
        os.write(writer, (error.strerror or str(error)).encode())
    except BaseException as error:  # noqa: BLE001  whatever it is, the answer is no
        os.write(writer, repr(error).encode())
    finally:
        os._exit(0)
