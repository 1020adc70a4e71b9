"""A part of the v2 tree that systemd's manager of the user has handed over to us: one scope for an installation.

Covers: having that scope (``oomless-TAG.scope``, made through ``manager.py``), keeping it, its controllers, and whom
it may be offered to. Each tree is a group in it. A scope ends with its last process, so each process that offers it
to others has a keeper in there: a shell that reads from a pipe and ends with whoever holds the other end. The scope
itself outlives them as long as a tree is in it, and is entered again by the next. Not here: one tree in it
(``delegated.py``) and the other rungs (``ladder.py``). Standard library only.
"""

from __future__ import annotations

import os
import sys
import time

assert sys.platform == "linux"

from oomless.contain.rungs.dbus import Refused
from oomless.contain.rungs.systemd_manager import Manager
from oomless.contain.rungs.systemd_scope import SCOPE, join
from oomless.platform import files

#: After a failure the manager is left alone for so long.
RETRY_AFTER = 60.0
NEEDED = ("memory", "pids")
KEEPER = "keeper"


class Keeper:
    """Ends by itself when this process closes the pipe or dies, whatever it dies of."""

    def __init__(self, unit: str) -> None:
        reader, self._writer = os.pipe()
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        try:
            self.pid = os.posix_spawn(
                "/bin/sh",
                ["sh", "-c", f"read end # keeps {unit}"],
                {},
                file_actions=[
                    (os.POSIX_SPAWN_DUP2, reader, 0),
                    (os.POSIX_SPAWN_DUP2, null, 1),
                    (os.POSIX_SPAWN_DUP2, null, 2),
                ],
                setsid=True,
                setsigmask=(),
                setsigdef=[number for number in range(1, 32) if number not in (9, 19)],
            )
        except BaseException:
            os.close(self._writer)
            raise
        finally:
            os.close(reader)
            os.close(null)

    def alive(self) -> bool:
        try:
            return os.waitpid(self.pid, os.WNOHANG)[0] == 0
        except ChildProcessError:
            return False

    def let_go(self) -> None:
        os.close(self._writer)
        try:
            os.waitpid(self.pid, 0)
        except ChildProcessError:
            pass  # reaped by alive()


class Delegation:
    """``tag`` names the scope (the install id); ``mount`` is where the v2 tree is, None if there is none."""

    def __init__(self, tag: str, mount: str | None) -> None:
        self.unit = f"oomless-{tag}{SCOPE}"
        self._mount = mount
        self._keeper: Keeper | None = None
        self._folder = ""
        self._why = ""
        self._retry_at = 0.0

    def offer(self, cgroups: dict[str, str]) -> tuple[str, str]:
        """The scope's folder (or "") for a process in these groups, and why."""
        if os.geteuid() == 0:
            return "", "no systemd user manager is asked for root"
        folder, why = self.folder()
        if not folder:
            return "", why
        bound = self._bound(cgroups.get("", "/"), folder)
        if bound:
            return "", f"the tree would escape the memory limit of {bound}"
        return folder, why

    def folder(self) -> tuple[str, str]:
        """Makes or enters the scope unless that is done; a failure is remembered for a minute."""
        if self._mount is None:
            return "", "no v2 tree is mounted, so the systemd user manager has no memory controller to hand over"
        if self._keeper is not None and (not self._keeper.alive() or not os.path.isdir(self._folder)):
            self.close()
        if self._keeper is None and time.monotonic() >= self._retry_at:
            try:
                self._folder = self._establish(self._mount)
                self._why = f"the systemd user manager delegates {', '.join(NEEDED)} to {self.unit}"
            except OSError as error:
                self._folder, self._why = "", explained(error)
                self._retry_at = time.monotonic() + RETRY_AFTER
        return self._folder, self._why

    def close(self) -> None:
        if self._keeper is not None:
            self._keeper.let_go()
        self._keeper, self._folder = None, ""

    def _establish(self, mount: str) -> str:
        manager = Manager.of_user()
        keeper = None
        try:
            keeper = Keeper(self.unit)
            group = self._enter(manager, keeper.pid)
            folder = mount + group
            _keep_apart(folder, keeper.pid)
            _enable(folder)
        except BaseException:
            if keeper is not None:
                keeper.let_go()
            raise
        finally:
            manager.close()
        self._keeper = keeper
        return folder

    def _enter(self, manager: Manager, pid: int) -> str:
        """The group of the scope, which is there and ours from now on: made around the keeper, or found. A scope that
        ends between the two questions is found to be gone and made."""
        try:
            return self._found(manager, pid)
        except Refused:
            pass
        try:
            manager.start_scope(self.unit, pid, "oomless: governed trees")
        except Refused:  # somebody else has made it meanwhile
            return self._found(manager, pid)
        return manager.group_of(self.unit)

    def _found(self, manager: Manager, pid: int) -> str:
        group = manager.group_of(self.unit)
        if not group:
            raise Refused("", f"{self.unit} has no group")
        try:
            os.makedirs(f"{self._mount}{group}/{KEEPER}", exist_ok=True)
        except OSError as error:
            raise Refused("", f"{self.unit} is not ours to divide: {error.strerror}") from None
        manager.attach(self.unit, f"/{KEEPER}", pid)
        return group

    def _bound(self, group: str, folder: str) -> str:
        """The group with a memory limit that holds for a process in ``group`` and would not in the scope, or ""."""
        parts = group.strip("/").split("/")
        for length in range(len(parts), 0, -1):
            path = f"{self._mount}/{'/'.join(parts[:length])}"
            if f"{folder}/".startswith(f"{path}/"):
                break
            if path.startswith(f"{folder}/"):
                continue  # a tree of ours: who is in there asks for a nested one, which its reservation covers
            if any(files.read_int(f"{path}/{name}") is not None for name in ("memory.max", "memory.high")):
                return path.removeprefix(self._mount or "")
        return ""


def _keep_apart(folder: str, pid: int) -> None:
    """A group whose children have controllers may hold no process itself (cgroup-v2.rst, "no internal processes")."""
    os.makedirs(f"{folder}/{KEEPER}", exist_ok=True)
    join(f"{folder}/{KEEPER}", pid)


def _enable(folder: str) -> None:
    given = files.read(f"{folder}/cgroup.controllers").split()
    missing = [name for name in NEEDED if name not in given]
    if missing:
        raise OSError(95, f"the systemd user manager has no {' and no '.join(missing)} controller to hand over")
    if not os.path.exists(f"{folder}/cgroup.kill"):
        raise OSError(95, "this kernel has no cgroup.kill (it came with 5.14)")
    files.write(f"{folder}/cgroup.subtree_control", " ".join(f"+{name}" for name in NEEDED))


def explained(error: OSError) -> str:
    """Why there is none, and what would raise it."""
    why = error.strerror or str(error)
    if isinstance(error, Refused):
        return f"the systemd user manager refuses: {why}"
    if "no systemd user manager" in why:
        return f"{why}; one starts with a login through PAM (or: loginctl enable-linger)"
    if "controller to hand over" in why:
        return f"{why}; set Delegate=yes for user@.service, and boot with cgroup v2 alone"
    return why
