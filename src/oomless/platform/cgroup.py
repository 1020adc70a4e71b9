"""Memory as the kernel's control groups count it, for both versions: limits above a process, use of a group.

Covers: where the memory controllers are mounted, the room under the tightest limit of all ancestor groups,
and the footprint and peak of one group. Does not cover: making, limiting or killing groups (``contain/``),
nor which processes are in one (``proc.cgroups``). Standard library only. A file that is missing or unreadable
is no limit.

Page cache that has not been used lately is given back before anything is refused, so it counts as free: usage
less ``inactive_file`` (cgroup-v2.rst; v1 needs the ``total_`` figure, its plain one leaves out the children).
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping

assert sys.platform == "linux"

from typing import NamedTuple

from oomless.platform.proc import cgroups, read_file

#: Without a limit, v1 shows the largest page-aligned number, 9223372036854771712.
_UNLIMITED = 1 << 60


class GroupMemory(NamedTuple):
    """``peak`` is the kernel's own high-water mark, page cache included; None before Linux 5.19 on v2."""

    used: int
    peak: int | None


class _Files(NamedTuple):
    limit: str
    usage: str
    peak: str
    inactive: bytes


_V1 = _Files("memory.limit_in_bytes", "memory.usage_in_bytes", "memory.max_usage_in_bytes", b"total_inactive_file")
_V2 = _Files("memory.max", "memory.current", "memory.peak", b"inactive_file")


class Mount(NamedTuple):
    """A hierarchy with memory accounting: ``controller`` as in ``/proc/N/cgroup``, ``root`` the group that is
    seen at ``point`` (a container may see only its own part)."""

    controller: str
    root: str
    point: str


def parse_mounts(mountinfo: str) -> list[Mount]:
    """The v1 memory hierarchy and the v2 tree in the text of ``/proc/self/mountinfo`` (proc(5))."""
    found = []
    for line in mountinfo.splitlines():
        left, _, right = line.partition(" - ")
        kind, _, options = right.partition(" ")
        fields = left.split(" ")
        if len(fields) < 5:
            continue
        if kind == "cgroup2":
            found.append(Mount("", _plain(fields[3]), _plain(fields[4])))
        elif kind == "cgroup" and "memory" in options.rpartition(" ")[2].split(","):
            found.append(Mount("memory", _plain(fields[3]), _plain(fields[4])))
    return found


def _plain(path: str) -> str:
    """Mount tables write blanks as octal escapes."""
    return path.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\")


def mounts() -> list[Mount]:
    return parse_mounts((read_file("/proc/self/mountinfo") or b"").decode("utf-8", "replace"))


def headroom(pid: int, where: list[Mount]) -> int | None:
    """Bytes left under the tightest limit above ``pid``, or None if there is none."""
    groups = cgroups(pid)
    rooms = []
    for mount in where:
        if mount.controller in groups:
            files = _V1 if mount.controller else _V2
            rooms += [_room(folder, files) for folder in _ancestors(mount, groups[mount.controller])]
    return min((room for room in rooms if room is not None), default=None)


def _ancestors(mount: Mount, path: str) -> Iterator[str]:
    """The folders of a group and of all groups around it, as far as this mount shows them."""
    root = mount.root.rstrip("/")
    if path != root and not path.startswith(root + "/"):
        return
    parts = [part for part in path[len(root) :].split("/") if part]
    if ".." in parts:  # the process is outside of our cgroup namespace (cgroup_namespaces(7))
        return
    for depth in range(len(parts), -1, -1):
        yield "/".join([mount.point.rstrip("/"), *parts[:depth]])


def _room(folder: str, files: _Files) -> int | None:
    limit = _number(folder, files.limit)
    if limit is None or limit >= _UNLIMITED:
        return None
    used = _used(folder, files)
    return None if used is None else max(0, limit - used)


def footprint(folders: Mapping[str, str]) -> GroupMemory | None:
    """What a governed tree uses, from its folders by controller (``"memory"``: v1, ``""``: v2); None if none
    of them counts memory or the group is gone."""
    for controller, files in (("memory", _V1), ("", _V2)):
        if controller in folders:
            used = _used(folders[controller], files)
            if used is not None:
                return GroupMemory(used, _number(folders[controller], files.peak))
    return None


def _used(folder: str, files: _Files) -> int | None:
    usage = _number(folder, files.usage)
    stat = read_file(f"{folder}/memory.stat")
    if usage is None or stat is None:
        return None
    for line in stat.splitlines():
        name, _, value = line.partition(b" ")
        if name == files.inactive:
            return max(0, usage - int(value))
    return usage


def _number(folder: str, name: str) -> int | None:
    """None where the file is missing or says ``max``."""
    raw = (read_file(f"{folder}/{name}") or b"").strip()
    return int(raw) if raw.isdigit() else None
