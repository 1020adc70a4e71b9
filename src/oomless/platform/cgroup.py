"""Control groups of both versions: mounts, members, use and limits.

A *folder* is the directory of one group in one hierarchy. A group that spans several hierarchies is a dictionary of
folders by controller, as ``/proc/N/cgroup`` names them: ``"memory"`` and ``"pids"`` for version 1, ``""`` for the
version 2 tree. Sizes are bytes. A file that is missing or unreadable is no limit and no figure, never an error;
what makes or enters a group raises OSError. Standard library only.

Page cache that has not been used lately is given back before anything is refused, so it counts as free: usage less
``inactive_file`` (cgroup-v2.rst; v1 needs the ``total_`` figure, its plain one leaves out the children).
"""

from __future__ import annotations

import os
import sys

assert sys.platform == "linux"

from oomless.lean import signal
from oomless.platform import files, proc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

#: Without a limit, v1 shows the largest page-aligned number, 9223372036854771712.
_UNLIMITED = 1 << 60
#: Where in a scope of ours those are that are in no tree any more: what a tool shell leaves running on purpose.
OUTSIDE = "outside"
_CONTROLLERS = ("memory", "pids")


# -- the mount table -------------------------------------------------------------------------------------------


class Mount:
    """A hierarchy: ``controller`` as in ``/proc/N/cgroup``, ``root`` the group that is seen at ``point`` (a container
    may see only its own part)."""

    __slots__ = ("controller", "point", "root")

    def __init__(self, controller: str, root: str, point: str) -> None:
        self.controller, self.root, self.point = controller, root, point


def parse_mounts(mountinfo: str) -> list[Mount]:
    """The v2 tree and the v1 hierarchies of memory and pids in the text of ``/proc/self/mountinfo`` (proc(5))."""
    mounts = []
    for line in mountinfo.splitlines():
        left, _, right = line.partition(" - ")
        kind, _, options = right.partition(" ")
        fields = left.split(" ")
        if len(fields) < 5:
            continue
        root, point = _unescape(fields[3]), _unescape(fields[4])
        if kind == "cgroup2":
            mounts.append(Mount("", root, point))
        elif kind == "cgroup":
            controllers = options.rpartition(" ")[2].split(",")
            mounts += [Mount(name, root, point) for name in _CONTROLLERS if name in controllers]
    return mounts


def _unescape(path: str) -> str:
    """Mount tables write blanks as octal escapes."""
    return path.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\")


def read_mounts() -> list[Mount]:
    return parse_mounts((proc.read_file("/proc/self/mountinfo") or b"").decode("utf-8", "replace"))


def mount_points() -> dict[str, str]:
    """The mount point by v1 controller, ``""`` for the v2 tree; the first where there are several."""
    points: dict[str, str] = {}
    for mount in read_mounts():
        points.setdefault(mount.controller, mount.point)
    return points


def own_folders() -> dict[str, str]:
    """The folders of the group that this process is in."""
    points = mount_points()
    return {name: points[name] + path for name, path in proc.cgroups("self").items() if name in points}


def folders_around(groups: Mapping[str, str]) -> set[str]:
    """The folders of these groups (``proc.cgroups``) and of all groups around them, as far as they can be seen."""
    folders = set()
    for controller, point in mount_points().items():
        place = groups.get(controller, "/..").rstrip("/")
        while ".." not in place:  # else it is outside of our cgroup namespace (cgroup_namespaces(7))
            folders.add(point + place)
            if not place:
                break
            place = place.rpartition("/")[0]
    return folders


# -- one group -------------------------------------------------------------------------------------------------


class CgroupV1Memory:
    """The v1 memory controller of one group. ``memory.limit_in_bytes`` is enforced by the kernel: measured, it never
    overshoots. Its OOM killer takes one process only."""

    controller = "memory"

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self._oom_fd: int | None = None

    def set_limit(self, limit: int) -> None:
        files.write(f"{self.folder}/memory.limit_in_bytes", str(limit))
        # Only after the plain limit, and only where swap is accounted.
        files.try_write(f"{self.folder}/memory.memsw.limit_in_bytes", str(limit))

    def watch_oom(self) -> int:
        """An eventfd that fires when the kernel runs out of memory in here (cgroup-v1 memory.txt, part 10)."""
        event = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        control = os.open(f"{self.folder}/memory.oom_control", os.O_RDONLY | os.O_CLOEXEC)
        try:
            files.write(f"{self.folder}/cgroup.event_control", f"{event} {control}")
        except OSError:
            os.close(event)
            raise
        finally:
            os.close(control)
        self._oom_fd = event
        return event

    def oom_kills(self) -> int:
        """How many processes the kernel has killed here for memory."""
        if self._oom_fd is not None:
            try:
                os.eventfd_read(self._oom_fd)
            except BlockingIOError:
                pass
        return files.read_field(f"{self.folder}/memory.oom_control", "oom_kill") or 0

    def limit(self) -> int | None:
        limit = files.read_int(f"{self.folder}/memory.limit_in_bytes")
        return None if limit is None or limit >= _UNLIMITED else limit

    def used(self) -> int | None:
        return _without_inactive(self.folder, "memory.usage_in_bytes", "total_inactive_file")

    def peak(self) -> int | None:
        """The kernel's own high-water mark, page cache included."""
        return files.read_int(f"{self.folder}/memory.max_usage_in_bytes")

    def close(self) -> None:
        if self._oom_fd is not None:
            os.close(self._oom_fd)
            self._oom_fd = None


class CgroupV2:
    """One group of the v2 tree. Where the memory controller is still on v1 (a hybrid set-up), the folder has no
    ``memory.*`` files; then the group names and kills its members and bounds nothing. ``cgroup.kill`` exists since
    kernel 5.14, ``memory.peak`` since 5.19."""

    controller = ""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self._oom_fd: int | None = None

    def _has(self, name: str) -> bool:
        return os.path.exists(f"{self.folder}/{name}")

    @property
    def has_kill(self) -> bool:
        return self._has("cgroup.kill")

    @property
    def has_memory(self) -> bool:
        return self._has("memory.max")

    def set_limit(self, limit: int) -> None:
        files.write(f"{self.folder}/memory.max", str(limit))
        # With swap, memory.max alone let a 120 MB process live under 64 MiB.
        files.try_write(f"{self.folder}/memory.swap.max", "0")
        files.try_write(f"{self.folder}/memory.oom.group", "1")

    def watch_oom(self) -> int:
        """A descriptor that polls readable (POLLPRI) when the kernel ended something here."""
        self._oom_fd = os.open(f"{self.folder}/memory.events.local", os.O_RDONLY | os.O_CLOEXEC)
        return self._oom_fd

    def oom_kills(self) -> int:
        """How many processes the kernel has killed here for memory."""
        return files.read_field(f"{self.folder}/memory.events.local", "oom_kill") or 0

    def limit(self) -> int | None:
        return files.read_int(f"{self.folder}/memory.max")

    def is_bounded(self) -> bool:
        """Whether it has a memory limit, a hard or a soft one."""
        return any(files.read_int(f"{self.folder}/{name}") is not None for name in ("memory.max", "memory.high"))

    def used(self) -> int | None:
        return _without_inactive(self.folder, "memory.current", "inactive_file")

    def peak(self) -> int | None:
        """The kernel's own high-water mark, page cache included; None before Linux 5.19."""
        return files.read_int(f"{self.folder}/memory.peak")

    def controllers(self) -> list[str]:
        """Those that may be handed on to its children."""
        return files.read(f"{self.folder}/cgroup.controllers").split()

    def enable(self, *controllers: str) -> None:
        """Hands those on to its children; raises OSError."""
        files.write(f"{self.folder}/cgroup.subtree_control", " ".join(f"+{name}" for name in controllers))

    def kill(self) -> None:
        files.try_write(f"{self.folder}/cgroup.kill", "1")

    def freeze(self, frozen: bool) -> bool:
        """Stops its members, or lets them run again; none of them notices. False where there is no freezer."""
        return files.try_write(f"{self.folder}/cgroup.freeze", "1" if frozen else "0")

    def close(self) -> None:
        if self._oom_fd is not None:
            os.close(self._oom_fd)
            self._oom_fd = None


class CgroupPids:
    """The limit on processes of one group, in a v1 or a v2 folder. The kernel counts threads as well."""

    def __init__(self, folder: str) -> None:
        self.folder = folder

    @classmethod
    def of(cls, folders: Mapping[str, str]) -> CgroupPids | None:
        """Where the kernel counts the processes of that group, or None."""
        for controller in ("pids", ""):
            if controller in folders and os.path.exists(f"{folders[controller]}/pids.max"):
                return cls(folders[controller])
        return None

    def set_limit(self, processes: int) -> None:
        files.write(f"{self.folder}/pids.max", str(processes))

    def stop_forks(self) -> None:
        """No process of the group can fork any more, which makes a kill by listing certain."""
        files.try_write(f"{self.folder}/pids.max", "0")

    def count(self) -> int:
        return files.read_int(f"{self.folder}/pids.current") or 0

    def refused_forks(self) -> int:
        """How many forks have failed so far. A fork in a group below it that fails at its limit is counted there (v1,
        and v2 before 6.11), or in both, which does no harm: only growth is looked at."""
        folders = subfolders(self.folder)
        return sum(files.read_field(f"{folder}/pids.events", "max") or 0 for folder in folders)


def _without_inactive(folder: str, usage: str, inactive: str) -> int | None:
    used = files.read_int(f"{folder}/{usage}")
    if used is None:
        return None
    return max(0, used - (files.read_field(f"{folder}/memory.stat", inactive) or 0))


class GroupMemory:
    """``peak`` is the kernel's own high-water mark, page cache included; None before Linux 5.19 on v2."""

    __slots__ = ("peak", "used")

    def __init__(self, used: int, peak: int | None) -> None:
        self.used, self.peak = used, peak


def footprint(folders: Mapping[str, str]) -> GroupMemory | None:
    """What the members of a group use together; None if none of its folders counts memory or the group is gone."""
    for controller, kind in (("memory", CgroupV1Memory), ("", CgroupV2)):
        if controller in folders:
            group = kind(folders[controller])
            used = group.used()
            if used is not None:
                return GroupMemory(used, group.peak())
    return None


def headroom(pid: int, mounts: list[Mount]) -> int | None:
    """Bytes left under the tightest limit above ``pid``, or None if there is none."""
    groups = proc.cgroups(pid)
    rooms = []
    for mount in mounts:
        if mount.controller in groups and mount.controller != "pids":
            kind = CgroupV1Memory if mount.controller else CgroupV2
            rooms += [_room(kind(folder)) for folder in _seen_ancestors(mount, groups[mount.controller])]
    return min((room for room in rooms if room is not None), default=None)


def _seen_ancestors(mount: Mount, path: str) -> Iterator[str]:
    """The folders of a group and of all groups around it, as far as this mount shows them."""
    root = mount.root.rstrip("/")
    if path != root and not path.startswith(root + "/"):
        return
    parts = [part for part in path[len(root) :].split("/") if part]
    if ".." in parts:  # the process is outside of our cgroup namespace (cgroup_namespaces(7))
        return
    for depth in range(len(parts), -1, -1):
        yield "/".join([mount.point.rstrip("/"), *parts[:depth]])


def _room(group: CgroupV1Memory | CgroupV2) -> int | None:
    limit = group.limit()
    used = None if limit is None else group.used()
    return None if limit is None or used is None else max(0, limit - used)


# -- members ---------------------------------------------------------------------------------------------------


def subfolders(folder: str) -> list[str]:
    """``folder`` and all folders below it, deepest first."""
    folders: list[str] = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    folders += subfolders(entry.path)
    except OSError:
        pass
    folders.append(folder)
    return folders


def pids_in(folder: str) -> list[int]:
    """The pids in a group and in all groups below it (nested trees)."""
    pids: list[int] = []
    for each in subfolders(folder):
        pids += [int(pid) for pid in files.read(f"{each}/cgroup.procs").split()]
    return pids


def open_entry(folder: str, controller: str) -> int:
    """A descriptor: a forked process that writes "0" to it enters the group. Raises OSError."""
    # v1 moves one thread, which is all that a forked process has, without waiting for all processors.
    entry = "tasks" if controller else "cgroup.procs"
    return os.open(f"{folder}/{entry}", os.O_WRONLY | os.O_CLOEXEC)


def move(pid: int, folder: str) -> None:
    """Moves a process into the group; raises OSError. Waits for all processors, which may take 20 ms."""
    files.write(f"{folder}/cgroup.procs", str(pid))


def try_move(pid: int, folder: str) -> bool:
    return files.try_write(f"{folder}/cgroup.procs", str(pid))


def kill_listed(folder: str, controller: str) -> None:
    """SIGKILL for each pid listed in a v1 group, once it is verified, pidfd in hand, that it is (still) in there."""
    name = os.path.basename(folder)
    for pid in pids_in(folder):
        try:
            fd = os.pidfd_open(pid)
        except OSError:
            continue
        try:
            if name in proc.cgroups(pid).get(controller, "").split("/"):
                signal.pidfd_send_signal(fd, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            continue  # gone, or not ours: then it is named as a survivor
        finally:
            os.close(fd)


def kill_members(folders: Mapping[str, str]) -> None:
    """One round of SIGKILL for a group: as a whole in the v2 tree, else by listing, with forks stopped."""
    if "" in folders:
        CgroupV2(folders[""]).kill()
        return
    if "pids" in folders:
        CgroupPids(folders["pids"]).stop_forks()
    for controller, folder in folders.items():
        kill_listed(folder, controller)


def release(folders: Mapping[str, str], pids: list[int]) -> None:
    """Moves processes from a tree's group to the one that this process is in, or to the one around the tree. A v2
    group whose children have controllers holds no processes itself, so the one around it is the second choice; in a
    scope of ours both may be out of reach, and a group beside the tree, without limits, is the third."""
    if not pids:
        return
    own = own_folders()
    for controller, folder in folders.items():
        inside = set(pids_in(folder))
        for pid in pids:
            if pid in inside:
                around = os.path.dirname(folder)
                moved = any(target and try_move(pid, target) for target in (own.get(controller), around))
                if not moved and around.endswith(".scope"):
                    os.makedirs(f"{around}/{OUTSIDE}", exist_ok=True)
                    try_move(pid, f"{around}/{OUTSIDE}")


def leave_governed_trees() -> list[str]:
    """Moves this process out of the groups of governed trees, else it would end with the tree that started it.
    Returns what could not be done, as lines for a log."""
    failures = []
    points = mount_points()
    for controller, path in proc.cgroups("self").items():
        outside = outermost_parent(path)
        if outside is None or controller not in points:
            continue
        folder = f"{points[controller]}{outside}"
        try:
            if folder.endswith(".scope"):  # ours, and by its controllers barred to processes
                folder = f"{folder}/{OUTSIDE}"
                os.makedirs(folder, exist_ok=True)
            move(os.getpid(), folder)
        except OSError as error:
            failures.append(f"cannot leave the cgroup {path} for {folder}: {error.strerror}")
    return failures


def outermost_parent(path: str) -> str | None:
    """``/a/oomless-1/x/oomless-2`` -> ``/a``; None if no part is a governed tree's. The scope that systemd delegated
    to an installation is none, but what holds its trees."""
    parts = path.split("/")
    for index, part in enumerate(parts):
        if part.startswith("oomless-") and not part.endswith(".scope"):
            return "/".join(parts[:index])
    return None


# -- making and removing ---------------------------------------------------------------------------------------


def make(folder: str) -> None:
    os.makedirs(folder, mode=0o755, exist_ok=True)


def remove(folder: str) -> bool:
    """Removes a group and those below it; True if it is gone. A group whose last member has just died is busy for a
    moment longer: the caller tries again."""
    for each in subfolders(folder):
        try:
            os.rmdir(each)
        except FileNotFoundError:
            continue
        except OSError:
            return False
    return True


def probe(folder: str) -> tuple[bool, bool]:
    """Makes and removes a group: whether it has a memory limit of its own, and whether it can be killed as a whole.
    Raises OSError."""
    os.mkdir(folder)
    try:
        group = CgroupV2(folder)
        return group.has_memory, group.has_kill
    finally:
        remove(folder)
