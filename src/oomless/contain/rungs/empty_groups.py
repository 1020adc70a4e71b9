"""Groups of one installation that are not needed any more: where they may be, and their removal.

A shim removes its tree's groups; a daemon those of a shim that was killed. What stays is what both left, because they
were killed together, and folders in which a rung was tried. The kernel removes only groups without processes, so
no process is harmed here; a tree that is just starting must be named in ``keep``, for its groups are empty for a
moment. Standard library only.
"""

from __future__ import annotations

import os
import sys

assert sys.platform == "linux"

from oomless.platform import cgroup, proc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container, Iterable


def list_groups(folders: Iterable[str], install: str) -> list[str]:
    """The groups of that installation directly in those folders."""
    groups = []
    for folder in folders:
        try:
            names = os.listdir(folder)
        except OSError:
            continue  # it went with the tree around it
        groups += [f"{folder}/{name}" for name in names if name.startswith(f"oomless-{install}-")]
    return sorted(groups)


def remove_empty(folders: Iterable[str], install: str, keep: Container[str] = ()) -> list[str]:
    """Those that were removed. ``keep``: the names of groups of trees that live or are about to."""
    removed = []
    for path in list_groups(folders, install):
        name = os.path.basename(path)
        if name not in keep and not _is_probed(name) and cgroup.remove(path):
            removed.append(path)
    return removed


def _is_probed(name: str) -> bool:
    """``oomless-<install>-probe-<pid>`` (``choose.Probe``): that process may be looking into it right now."""
    kind, _, pid = name.split("-", 2)[2].partition("-")
    return kind == "probe" and pid.isdecimal() and proc.start_of(int(pid)) is not None
