"""The rung of most Linux users: a tree in a group of the scope that systemd's manager of the user handed over.

It is the plain v2 rung (``members.Cgroups``) but for how it is entered: from a login session only the manager can
move a process (see ``manager.py``). Not here: the scope (``delegation.py``). Standard library only; ``join`` also
runs in the shim's forked child.
"""

from __future__ import annotations

import os
import sys

assert sys.platform == "linux"

from oomless.contain.rungs.members import Cgroups
from oomless.contain.rungs.systemd_manager import Manager
from oomless.platform import files

NAME = "cgroup2+systemd"
SCOPE = ".scope"


class Delegated(Cgroups):
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
            ask(self.paths[""], os.getpid())


def join(path: str, pid: int) -> None:
    """Moves a process into the group at ``path``, by ourselves or by the manager; raises OSError."""
    try:
        files.write(f"{path}/cgroup.procs", str(pid))
    except PermissionError:
        ask(path, pid)


def ask(path: str, pid: int) -> None:
    unit, folder = os.path.split(path)
    manager = Manager.of_user()
    try:
        manager.attach(os.path.basename(unit), f"/{folder}", pid)
    finally:
        manager.close()
