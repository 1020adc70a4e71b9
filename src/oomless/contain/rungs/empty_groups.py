"""Groups of one installation that nobody needs any more: where they may be, and taking the empty ones away.

A shim removes its tree's groups; a daemon those of a shim that was killed. What stays is what both left, because they
were killed together, and folders in which a rung was tried. The kernel removes only groups without processes, so
nobody is harmed here; a tree that is just starting must be named in ``keep``, for its groups are empty for a moment.
Not here: ending who is in one (``contain/sweep.py``). Standard library only.
"""

from __future__ import annotations

import os
import sys

assert sys.platform == "linux"

from oomless.contain.rungs.choose import mounts
from oomless.platform import files, proc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container, Iterable


def around(cgroups: dict[str, str]) -> set[str]:
    """The folders of these groups (``proc.cgroups``) and of all groups around them, as far as they can be seen."""
    found = set()
    for controller, mount in mounts().items():
        place = cgroups.get(controller, "/..").rstrip("/")
        while ".." not in place:  # else it is outside of our cgroup namespace (cgroup_namespaces(7))
            found.add(mount + place)
            if not place:
                break
            place = place.rpartition("/")[0]
    return found


def made_in(places: Iterable[str], install: str) -> list[str]:
    """The groups of that installation directly in those folders."""
    found = []
    for place in places:
        try:
            names = os.listdir(place)
        except OSError:
            continue  # it went with the tree around it
        found += [f"{place}/{name}" for name in names if name.startswith(f"oomless-{install}-")]
    return sorted(found)


def remove_empty(places: Iterable[str], install: str, keep: Container[str] = ()) -> list[str]:
    """Those that were removed. ``keep``: the names of groups of trees that live or are about to."""
    removed = []
    for path in made_in(places, install):
        name = os.path.basename(path)
        if name not in keep and not _being_tried(name) and files.remove_cgroup(path):
            removed.append(path)
    return removed


def _being_tried(name: str) -> bool:
    """``oomless-<install>-probe-<pid>`` (``ladder.py``): that process may be looking into it right now."""
    kind, _, pid = name.split("-", 2)[2].partition("-")
    return kind == "probe" and pid.isdecimal() and proc.start_of(int(pid)) is not None
