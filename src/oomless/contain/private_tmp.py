"""A tree's own folder for temporary files (``run --private-tmp``): made before its command, removed after its end.

Removed by directory descriptor, one folder at a time and from the inside out: a symbolic link is unlinked and never
followed, a folder that is another mount is not entered (bind mounts of the same file system too, by the mount's id),
and on the way back up each folder is known by device and inode, so that no process can lead the removal elsewhere by
moving one. What cannot be removed stays and is named. The caller has seen to it that no process of the tree lives.
Standard library only.
"""

from __future__ import annotations

import os
import sys

assert sys.platform == "linux"

from oomless.contain.cause import StartFailed
from oomless.platform import proc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from typing import Any

    Place = tuple[int, int, int | None]

#: ``steps`` comes up for air after so many entries: some 5 ms.
BATCH = 200
_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_LOOK = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def folder(state: str, tree: str) -> str:
    return f"{state}/tmp/{tree}"


class TmpFolder:
    """The shim's side: makes and removes the folder, if the specification asks for one."""

    def __init__(self, spec: dict[str, Any]) -> None:
        self._path = folder(spec["state"], spec["granted"]["tree"]) if spec["private_tmp"] else ""
        self._made = False

    def make(self) -> None:
        """Raises StartFailed; also if there is something of that name."""
        if not self._path:
            return
        try:
            os.makedirs(os.path.dirname(self._path), mode=0o700, exist_ok=True)
            os.mkdir(self._path, 0o700)
        except OSError as error:
            raise StartFailed("tmp", error.errno or 5, error.strerror or "") from None
        self._made = True

    def environment(self) -> dict[str, str]:
        return dict.fromkeys(("TMPDIR", "TMP", "TEMP"), self._path) if self._path else {}

    def finish(self, busy: bool) -> dict[str, object] | None:
        """Removes it, unless a process of the tree lives on. Returns the fields of the exit record, or None."""
        if not self._made:
            return None
        removal = Removal(self._path)
        if busy:
            removal.keep("", "something is left running")
        else:
            for _ in removal.steps():
                pass
        return removal.facts()


class Removal:
    """``bytes`` counts what the file system has back: a file with another name elsewhere keeps its own. ``why``: the
    first thing that had to stay, and ``kept`` how many there are."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.bytes = 0
        self.entries = 0
        self.kept = 0
        self.why = ""
        #: The folder that is being emptied, the names of those around it (the outermost first) and where those are,
        #: and in each what has to stay.
        self._fd = -1
        self._trail: list[tuple[str, Place]] = []
        self._stuck: list[set[str]] = []

    def facts(self) -> dict[str, object]:
        """The fields of ``model.PrivateTmp``."""
        return {
            "path": self.path,
            "removed": not os.path.lexists(self.path),
            "bytes_removed": self.bytes,
            "entries_removed": self.entries,
            "kept": self.why + (f"; {self.kept - 1} more" if self.kept > 1 else ""),
        }

    def keep(self, name: str, why: str) -> None:
        self.kept += 1
        if not self.why:
            inside = "/".join(part for part in (*(name for name, _ in self._trail[1:]), name) if part and self._trail)
            self.why = f"{inside[:200]}: {why}" if inside else why

    def steps(self) -> Iterator[None]:
        """Removes it. A second removal goes on where one was cut short."""
        above, name = os.path.split(self.path)
        try:
            self._fd = os.open(above, _OPEN)
        except FileNotFoundError:
            return
        try:
            place = _place(self._fd)
            if _exists(self._fd, name) and self._enter(name, place):
                while self._trail:
                    inner = yield from self._unlink_files()
                    if inner is None:
                        self._leave()
                    elif not self._enter(inner, place):
                        self._stuck[-1].add(inner)
        except _Moved:
            self.keep("", "it was moved while it was emptied")
        finally:
            os.close(self._fd)

    def _unlink_files(self) -> Generator[None, None, str | None]:
        """All in this folder that is no folder; returns one that is, or None once nothing but what is stuck is
        there. A listing may leave out what is beside something that is just removed: so it is read again."""
        again = True
        while again:
            again = False
            with os.scandir(self._fd) as entries:
                for entry in entries:
                    if entry.name in self._stuck[-1]:
                        continue
                    try:
                        if entry.is_dir(follow_symlinks=False):
                            return entry.name
                        self._unlink(entry)
                    except OSError as error:
                        self.keep(entry.name, error.strerror or str(error))
                        self._stuck[-1].add(entry.name)
                        continue
                    again = True
                    if self.entries % BATCH == 0:
                        yield
        return None

    def _unlink(self, entry: os.DirEntry[str]) -> None:
        stat = entry.stat(follow_symlinks=False)
        os.unlink(entry.name, dir_fd=self._fd)
        self.entries += 1
        self.bytes += stat.st_blocks * 512 if stat.st_nlink == 1 else 0

    def _enter(self, name: str, around: Place) -> bool:
        """Goes down into a folder, and makes it ours to empty; False if it has to stay."""
        folder_fd = -1
        try:
            folder_fd = os.open(name, _LOOK, dir_fd=self._fd)
            inside = _place(folder_fd)
            if (inside[0], inside[2]) != (around[0], around[2]):
                self.keep(name, "another file system is mounted there")
                return False
            if os.fstat(folder_fd).st_mode & 0o700 != 0o700:
                proc.change_mode(folder_fd, 0o700)
            deeper = os.open(".", _OPEN, dir_fd=folder_fd)
        except OSError as error:
            self.keep(name, error.strerror or str(error))
            return False
        finally:
            if folder_fd >= 0:
                os.close(folder_fd)
        self._trail.append((name, _place(self._fd)))
        self._stuck.append(set())
        os.close(self._fd)
        self._fd = deeper
        return True

    def _leave(self) -> None:
        """Goes up again, and removes the folder if it is empty."""
        up = os.open("..", _OPEN, dir_fd=self._fd)
        os.close(self._fd)
        self._fd = up
        name, place = self._trail[-1]
        if _place(up) != place:
            raise _Moved
        stays = bool(self._stuck.pop())
        self._trail.pop()
        if not stays:
            try:
                os.rmdir(name, dir_fd=up)
                self.entries += 1
            except OSError as error:
                self.keep(name, error.strerror or str(error))
                stays = True
        if stays and self._stuck:
            self._stuck[-1].add(name)


class _Moved(Exception):
    pass


def _exists(folder_fd: int, name: str) -> bool:
    try:
        os.stat(name, dir_fd=folder_fd, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _place(fd: int) -> Place:
    """Device, inode and mount of an open folder."""
    stat = os.fstat(fd)
    return stat.st_dev, stat.st_ino, proc.mount_id(fd)
