"""Files that are complete or not there, never half: written as a draft beside their place, then renamed.

A draft that a killed process leaves ends in ``.new``. Nothing is synced unless asked: a rename survives the death of
its process, and only what must survive a power cut pays for more. Standard library only: the shim and the fast
commands import it.
"""

from __future__ import annotations

import os

DRAFT = ".new"


def write(path: str, data: str | bytes, mode: int = 0o600, *, sync: bool = False) -> None:
    """Puts ``data`` in the place of ``path``, whatever is there; raises OSError and leaves no draft."""
    draft = _write_draft(path, data, mode, sync=sync)
    try:
        os.rename(draft, path)
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


def write_first(path: str, data: str | bytes, mode: int = 0o600) -> bool:
    """Only if there is no such file: of several writers the first wins. Whether it was this one; raises OSError."""
    draft = _write_draft(path, data, mode)
    try:
        os.link(draft, path)
        return True
    except FileExistsError:
        return False
    finally:
        remove(draft)


def _write_draft(path: str, data: str | bytes, mode: int, *, sync: bool = False) -> str:
    draft = f"{path}.{os.getpid()}{DRAFT}"
    remove(draft)  # of a process that had our number
    fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, mode)
    try:
        with open(fd, "wb") as file:
            file.write(data.encode() if isinstance(data, str) else data)
            if sync:
                file.flush()
                os.fsync(fd)
    except BaseException:
        remove(draft)
        raise
    return draft


def remove(path: str) -> None:
    """Removes a file, if it is there; raises OSError for any other failure."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
