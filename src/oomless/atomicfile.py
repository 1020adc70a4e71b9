"""Files that are complete or not there, never half: written as a draft beside their place, then renamed.

A draft that a killed process leaves ends in ``.new``. Nothing is synced unless asked: a rename survives the death of
its process, and only what must survive a power cut pays for more. Standard library only: the shim and the fast
commands import it.
"""

from __future__ import annotations

import os

DRAFT = ".new"


def write(path: str, data: str | bytes, mode: int = 0o600) -> None:
    """Puts ``data`` in the place of ``path``, whatever is there; raises OSError and leaves no draft."""
    draft = _write_draft(path, data, mode)
    try:
        rename(draft, path)
    except BaseException:
        remove(draft)
        raise


def try_write(path: str, data: str | bytes, mode: int = 0o600) -> OSError | None:
    """As ``write``; returns the error."""
    try:
        write(path, data, mode)
    except OSError as error:
        return error
    return None


def is_special(path: str) -> bool:
    """Whether there is something other than a file: a device, a pipe, a folder. Links are followed."""
    try:
        return os.stat(path).st_mode & 0o170000 != 0o100000
    except OSError:
        return False


def try_write_named(path: str, data: str, mode: int) -> OSError | None:
    """Writes where a person said; returns the error. A device or pipe is written to and never replaced, and a link
    stays: the file that it names is replaced."""
    if not is_special(path):
        return try_write(os.path.realpath(path), data, mode)
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK)  # a pipe may have no reader
        try:
            os.write(fd, data.encode())
        finally:
            os.close(fd)
    except OSError as error:
        return error
    return None


def write_first(path: str, data: str | bytes, mode: int = 0o600) -> bool:
    """Only if there is no such file: of several writers the first wins. Whether it was this one; raises OSError."""
    draft = _write_draft(path, data, mode)
    try:
        return link_first(draft, path)
    finally:
        remove(draft)


def _write_draft(path: str, data: str | bytes, mode: int) -> str:
    draft = f"{path}.{os.getpid()}{DRAFT}"
    remove(draft)  # of a process that had our number
    write_new(draft, data.encode() if isinstance(data, str) else data, mode)
    return draft


def write_new(
    path: str, data: bytes, mode: int = 0o600, *, owner: tuple[int, int] | None = None, careful: bool = False
) -> None:
    """A file that was not there: raises FileExistsError, or another OSError, and then leaves none. ``careful``:
    synced, and with exactly that mode, which the umask takes from otherwise. ``owner``: user and group, as far as we
    may."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, mode)
    try:
        with open(fd, "wb") as file:
            # Before fchmod, for a change of owner clears bits.
            if owner is not None and owner != (os.geteuid(), os.getegid()):
                _change_owner(fd, owner)
            if careful:
                os.fchmod(fd, mode)
            file.write(data)
            if careful:
                file.flush()
                os.fsync(fd)
    except BaseException:
        remove(path)
        raise


def _change_owner(fd: int, owner: tuple[int, int]) -> None:
    try:
        os.fchown(fd, *owner)
    except PermissionError:
        pass  # A file of another group, or of another user in a folder of ours: the content is what matters.


def rename(draft: str, path: str) -> None:
    """Raises OSError."""
    os.rename(draft, path)


def link_first(draft: str, path: str) -> bool:
    """Gives the draft its name as well, unless there is a file of that name; whether it did. Raises OSError."""
    try:
        os.link(draft, path)
        return True
    except FileExistsError:
        return False


def remove(path: str) -> None:
    """Removes a file, if it is there; raises OSError for any other failure."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass


def sync_folder(path: str) -> None:
    """After this a rename in the folder survives a power cut; raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
