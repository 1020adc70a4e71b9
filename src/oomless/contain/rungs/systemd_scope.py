"""The rung of most Linux users: a tree in a scope that systemd's manager of the user has delegated to us.

One scope (``oomless-TAG.scope``) serves an installation; each tree is a group in it. A scope ends with its last
process, so each process that offers it to others has a holder in there: a shell that reads from a pipe and ends with
whoever has the other end. The scope itself outlives the holders as long as a tree is in it, and is entered again by
the next. Standard library only; ``join`` also runs in the shim's forked child.
"""

from __future__ import annotations

import os
import sys
import time

assert sys.platform == "linux"

from oomless.contain.rungs.cgroups import Cgroups
from oomless.contain.rungs.dbus import BusRefused
from oomless.contain.rungs.systemd_manager import SystemdManager
from oomless.platform import cgroup

SCOPE = ".scope"
#: After a failure the manager is left alone for so long.
RETRY_AFTER = 60.0
NEEDED = ("memory", "pids")
#: The group of the scope's holders. Earlier versions know it by this name.
HOLDERS = "keeper"


class ScopeHolder:
    """A process in the scope that ends by itself when this process closes the pipe or dies, whatever it dies of."""

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

    def is_alive(self) -> bool:
        try:
            return os.waitpid(self.pid, os.WNOHANG)[0] == 0
        except ChildProcessError:
            return False

    def release(self) -> None:
        os.close(self._writer)
        try:
            os.waitpid(self.pid, 0)
        except ChildProcessError:
            pass  # reaped by is_alive()


class DelegatedScope:
    """``tag`` names the scope (the install id); ``mount`` is where the v2 tree is, None if there is none."""

    def __init__(self, tag: str, mount: str | None) -> None:
        self.unit = f"oomless-{tag}{SCOPE}"
        self._mount = mount
        self._holder: ScopeHolder | None = None
        self._folder = ""
        self._reason = ""
        self._retry_at = 0.0

    def offer(self, groups: dict[str, str]) -> tuple[str, str]:
        """The scope's folder (or "") for a process in these groups, and the reason."""
        if os.geteuid() == 0:
            return "", "no systemd user manager is asked for root"
        folder, reason = self.folder()
        if not folder:
            return "", reason
        bounded = self._find_bound(groups.get("", "/"), folder)
        if bounded:
            return "", f"the tree would escape the memory limit of {bounded}"
        return folder, reason

    def folder(self) -> tuple[str, str]:
        """Makes or enters the scope unless that is done; a failure is remembered for a minute."""
        if self._mount is None:
            return "", "no v2 tree is mounted, so the systemd user manager has no memory controller to hand over"
        if self._holder is not None and (not self._holder.is_alive() or not os.path.isdir(self._folder)):
            self.close()
        if self._holder is None and time.monotonic() >= self._retry_at:
            try:
                self._folder = self._establish(self._mount)
                self._reason = f"the systemd user manager delegates {', '.join(NEEDED)} to {self.unit}"
            except OSError as error:
                self._folder, self._reason = "", explain_failure(error)
                self._retry_at = time.monotonic() + RETRY_AFTER
        return self._folder, self._reason

    def close(self) -> None:
        if self._holder is not None:
            self._holder.release()
        self._holder, self._folder = None, ""

    def _establish(self, mount: str) -> str:
        manager = SystemdManager.of_user()
        holder = None
        try:
            holder = ScopeHolder(self.unit)
            group = self._enter(manager, holder.pid)
            folder = mount + group
            _move_to_holders(folder, holder.pid)
            _enable(folder)
        except BaseException:
            if holder is not None:
                holder.release()
            raise
        finally:
            manager.close()
        self._holder = holder
        return folder

    def _enter(self, manager: SystemdManager, pid: int) -> str:
        """The group of the scope, which is there and ours from now on: made around the holder, or found. A scope that
        ends between the two questions is found to be gone and made."""
        try:
            return self._enter_existing(manager, pid)
        except BusRefused:
            pass
        try:
            manager.start_scope(self.unit, pid, "oomless: governed trees")
        except BusRefused:  # another process has made it meanwhile
            return self._enter_existing(manager, pid)
        return manager.group_of(self.unit)

    def _enter_existing(self, manager: SystemdManager, pid: int) -> str:
        group = manager.group_of(self.unit)
        if not group:
            raise BusRefused("", f"{self.unit} has no group")
        try:
            os.makedirs(f"{self._mount}{group}/{HOLDERS}", exist_ok=True)
        except OSError as error:
            raise BusRefused("", f"{self.unit} is not ours to divide: {error.strerror}") from None
        manager.attach(self.unit, f"/{HOLDERS}", pid)
        return group

    def _find_bound(self, group: str, folder: str) -> str:
        """The group with a memory limit that holds for a process in ``group`` and would not in the scope, or ""."""
        parts = group.strip("/").split("/")
        for length in range(len(parts), 0, -1):
            path = f"{self._mount}/{'/'.join(parts[:length])}"
            if f"{folder}/".startswith(f"{path}/"):
                break
            if path.startswith(f"{folder}/"):
                continue  # a tree of ours: a request from in there is for a nested one, which its reservation covers
            if cgroup.CgroupV2(path).is_bounded():
                return path.removeprefix(self._mount or "")
        return ""


class SystemdScope(Cgroups):
    """The v2 rung but for how it is entered: from a login session only the manager can move a process."""

    def make(self) -> None:
        """Not in a scope that has ended: its folder would be made anew, with nothing to bound a tree by."""
        scope = os.path.dirname(self.paths[""])
        if not os.path.isdir(scope):
            raise OSError(2, f"{os.path.basename(scope)} has ended")
        super().make()
        if not self.kernel_limit:
            self.close()
            self.remove()
            raise OSError(95, f"{os.path.basename(scope)} has no memory controller")

    def enter(self) -> None:
        try:
            super().enter()
        except PermissionError:
            _ask_manager(self.paths[""], os.getpid())

    def join(self, pid: int, controller: str) -> None:
        join(self.paths[controller], pid)


def join(path: str, pid: int) -> None:
    """Moves a process into the group at ``path``, by ourselves or by the manager; raises OSError."""
    try:
        cgroup.move(pid, path)
    except PermissionError:
        _ask_manager(path, pid)


def _ask_manager(path: str, pid: int) -> None:
    unit, folder = os.path.split(path)
    manager = SystemdManager.of_user()
    try:
        manager.attach(os.path.basename(unit), f"/{folder}", pid)
    finally:
        manager.close()


def _move_to_holders(folder: str, pid: int) -> None:
    """A group whose children have controllers may hold no process itself (cgroup-v2.rst, "no internal processes")."""
    os.makedirs(f"{folder}/{HOLDERS}", exist_ok=True)
    join(f"{folder}/{HOLDERS}", pid)


def _enable(folder: str) -> None:
    group = cgroup.CgroupV2(folder)
    missing = [name for name in NEEDED if name not in group.controllers()]
    if missing:
        raise OSError(95, f"the systemd user manager has no {' and no '.join(missing)} controller to hand over")
    if not group.has_kill:
        raise OSError(95, "this kernel has no cgroup.kill (it came with 5.14)")
    group.enable(*NEEDED)


def explain_failure(error: OSError) -> str:
    """Why there is no scope, and what would provide one."""
    reason = error.strerror or str(error)
    if isinstance(error, BusRefused):
        return f"the systemd user manager refuses: {reason}"
    if "no systemd user manager" in reason:
        return f"{reason}; one starts with a login through PAM (or: loginctl enable-linger)"
    if "controller to hand over" in reason:
        return f"{reason}; set Delegate=yes for user@.service, and boot with cgroup v2 alone"
    return reason
