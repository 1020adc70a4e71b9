"""A file of the user's that is rewritten with care: read whole, kept as a backup, replaced at once, or left alone.

It is read bounded, as UTF-8 and through symbolic links. The replacement keeps mode and owner and is refused if
somebody else wrote meanwhile. Every refusal is a UsageError and leaves the file as it was.
"""

from __future__ import annotations

import os
import stat
import time

import msgspec

from oomless import atomicfile
from oomless.errors import UsageError

BOM = b"\xef\xbb\xbf"
NEW_FILE, NEW_FOLDER = 0o600, 0o700


class UserFile(msgspec.Struct, frozen=True, kw_only=True):
    """A file as it was read. ``real`` is ``path`` behind all links; ``raw`` is None if there is no such file."""

    path: str
    real: str
    raw: bytes | None = None
    mode: int = NEW_FILE
    owner: tuple[int, int] | None = None

    def text(self) -> str:
        """Without a byte order mark; empty if there is no file."""
        raw = self.raw or b""
        try:
            return raw.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            line = raw.count(b"\n", 0, error.start) + 1
            raise UsageError(f"{self.path}:{line}: the text is not UTF-8", "", "save the file as UTF-8") from None

    def encode(self, text: str) -> bytes:
        try:
            return (BOM if (self.raw or b"").startswith(BOM) else b"") + text.encode()
        except UnicodeEncodeError:
            why = "a path in it is not UTF-8"
            raise UsageError(f"cannot write {self.path}", why, "install oomless elsewhere") from None


def read(path: str, limit: int) -> UserFile:
    real = os.path.realpath(path)
    try:
        # O_NONBLOCK: opening a named pipe would wait for a writer.
        fd = os.open(real, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        return UserFile(path=path, real=real)
    except OSError as error:
        raise UsageError(f"cannot read {path}", error.strerror or str(error)) from None
    try:
        state = os.fstat(fd)
        if not stat.S_ISREG(state.st_mode):
            raise UsageError(f"cannot read {path}", "it is not a regular file")
        raw = b""
        while len(raw) <= limit and (piece := os.read(fd, limit + 1 - len(raw))):
            raw += piece
    finally:
        os.close(fd)
    if len(raw) > limit:
        raise UsageError(f"cannot read {path}", f"it is larger than {limit // 2**20} MiB")
    mode, owner = stat.S_IMODE(state.st_mode), (state.st_uid, state.st_gid)
    return UserFile(path=path, real=real, raw=raw, mode=mode, owner=owner)


def check_writable(file: UserFile) -> None:
    """Raises UsageError if it cannot be replaced; the replacement itself may still fail."""
    folder = os.path.dirname(file.real)
    while not os.path.isdir(folder) and not os.path.lexists(folder):
        folder = os.path.dirname(folder)
    if not os.path.isdir(folder):
        raise UsageError(f"cannot write {file.path}", f"{folder} is not a folder")
    for name, ways in ((folder, os.W_OK | os.X_OK), (file.real, os.W_OK)):
        if os.path.lexists(name) and not os.access(name, ways):
            raise UsageError(f"cannot write {file.path}", f"{name} is not writable", "make it writable")


def replace(file: UserFile, new: bytes, *, backup: bool) -> str | None:
    """The new content in the place of what was read; returns the backup's path. The user's other programs see the
    old file or the new one, never a part."""
    os.makedirs(os.path.dirname(file.real), mode=NEW_FOLDER, exist_ok=True)
    draft = f"{file.real}.oomless-{os.getpid()}.new"
    kept = None
    try:
        # Root may edit somebody's file: it stays theirs.
        atomicfile.write_new(draft, new, file.mode, owner=file.owner, careful=True)
        if backup and file.raw is not None:
            kept = _back_up(file)
        _put(file, draft)
    except BaseException:
        if kept is not None:
            atomicfile.remove(kept)
        raise
    finally:
        atomicfile.remove(draft)
    atomicfile.sync_folder(os.path.dirname(file.real))
    return kept


def _put(file: UserFile, draft: str) -> None:
    """Compared just before the rename. Where there was no file, link(2) fails if there is one by now."""
    if os.path.realpath(file.path) != file.real or _read_again(file) != file.raw:
        raise _changed(file)
    if file.raw is not None:
        atomicfile.rename(draft, file.real)
    elif not atomicfile.link_first(draft, file.real):
        raise _changed(file)


def _read_again(file: UserFile) -> bytes | None:
    try:
        with open(file.real, "rb") as again:
            return again.read(len(file.raw or b"") + 1)
    except FileNotFoundError:
        return None


def _changed(file: UserFile) -> UsageError:
    return UsageError(f"{file.path} was not written", "somebody else changed it meanwhile", "try again")


def _back_up(file: UserFile) -> str:
    stem = f"{file.real}.oomless-{time.strftime('%Y%m%d-%H%M%S')}"
    for number in range(1, 1000):
        path = f"{stem}.bak" if number == 1 else f"{stem}-{number}.bak"
        try:
            atomicfile.write_new(path, file.raw or b"", NEW_FILE, owner=file.owner, careful=True)
            return path
        except FileExistsError:
            continue
    raise UsageError(f"cannot keep a backup of {file.path}", f"there are too many {stem}*.bak", "delete some")
