"""Small control files of the kernel: read, write, and remove whole cgroup directories, never raising where the
caller could do nothing. Standard library only."""

from __future__ import annotations

import os

#: Where in a scope of ours those are that are in no tree any more: what a tool shell leaves running on purpose.
OUTSIDE = "outside"


def read(path: str) -> str:
    """The text, or "" if it is gone or not readable."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        return os.read(fd, 1 << 20).decode("utf-8", "replace")
    except OSError:
        return ""
    finally:
        os.close(fd)


def read_int(path: str) -> int | None:
    """The number in it, or None ("max", gone, not readable)."""
    text = read(path).strip()
    return int(text) if text.lstrip("-").isdigit() else None


def read_field(path: str, name: str) -> int | None:
    """The number behind ``name`` in a file of ``name value`` lines."""
    for line in read(path).splitlines():
        key, _, value = line.partition(" ")
        if key == name and value.strip().isdigit():
            return int(value)
    return None


def write(path: str, text: str) -> None:
    """One write, as the kernel wants it; raises OSError."""
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)


def try_write(path: str, text: str) -> bool:
    try:
        write(path, text)
        return True
    except OSError:
        return False


def replace(path: str, text: str) -> OSError | None:
    """Writes a plain file as a whole, by rename: complete or not there; the error if it could not be written."""
    draft = f"{path}.{os.getpid()}.new"
    try:
        with open(draft, "w", encoding="utf-8") as file:
            file.write(text)
        os.rename(draft, path)
        return None
    except OSError as error:
        try:
            os.unlink(draft)
        except OSError:
            pass
        return error


def subdirectories(path: str) -> list[str]:
    """``path`` and all directories below it, deepest first."""
    found: list[str] = []
    try:
        with os.scandir(path) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    found += subdirectories(entry.path)
    except OSError:
        pass
    found.append(path)
    return found


def procs(path: str) -> list[int]:
    """The pids in a cgroup and in all cgroups below it (nested trees)."""
    found: list[int] = []
    for directory in subdirectories(path):
        found += [int(pid) for pid in read(f"{directory}/cgroup.procs").split()]
    return found


def remove_cgroup(path: str) -> bool:
    """Removes the directory and those below it; True if it is gone. A cgroup whose last member has just died is
    busy for a moment longer: the caller tries again."""
    for directory in subdirectories(path):
        try:
            os.rmdir(directory)
        except FileNotFoundError:
            continue
        except OSError:
            return False
    return True


def release(paths: dict[str, str], pids: list[int], own: dict[str, str]) -> None:
    """Moves processes from a tree's groups (by controller) to those of ``own``, or to the ones around the tree. A v2
    group whose children have controllers holds no processes itself, so the one around it is the second choice; in a
    scope of ours both may be out of reach, and a group beside the tree, without limits, is the third."""
    for controller, path in paths.items():
        inside = set(procs(path))
        for pid in pids:
            if pid in inside:
                around = os.path.dirname(path)
                moved = any(t and try_write(f"{t}/cgroup.procs", str(pid)) for t in (own.get(controller), around))
                if not moved and around.endswith(".scope"):
                    os.makedirs(f"{around}/{OUTSIDE}", exist_ok=True)
                    try_write(f"{around}/{OUTSIDE}/cgroup.procs", str(pid))
