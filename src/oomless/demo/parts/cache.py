"""The cache folder: where each part is, which are ready, one builder at a time, and no half-built part under a name
that counts.

A part is built in a draft folder beside its place and renamed into it with its stamp inside, so what is there under
its name is whole; drafts are leftovers of an interrupted build and thrown away by the next. What is built and how:
``catalog.py`` and ``commands.py``.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from oomless.demo.parts.catalog import RECIPE, Part
from oomless.errors import OomlessError
from oomless.units import format_size

#: In a draft: where the installer has its temporary files.
TEMPORARY = "tmp"
_STAMP = "oomless-part.json"
#: What a build takes for a while beside its result (the unpacked wheel while pip installs it), as measured at most.
SPARE = 1.5
_PLACE = "set OOMLESS_PARTS to a folder of yours with room for it"


class Stamp(msgspec.Struct, frozen=True, kw_only=True):
    version: str
    recipe: int


def cache_folder(environ: dict[str, str] | None = None) -> Path:
    """``$OOMLESS_PARTS``, else ``oomless/parts`` in the user's cache folder."""
    env = os.environ if environ is None else environ
    if env.get("OOMLESS_PARTS"):
        return Path(env["OOMLESS_PARTS"])
    home = env.get("HOME") or os.path.expanduser("~")
    return Path(env.get("XDG_CACHE_HOME") or os.path.join(home, ".cache")) / "oomless" / "parts"


class Cache:
    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()

    def place(self, part: Part) -> Path:
        return self.folder / part.name

    def draft(self, part: Part) -> Path:
        return self.folder / f".draft-{part.name}"

    def log(self, part: Part) -> Path:
        return self.folder / f"{part.name}.log"

    def ready(self, part: Part) -> bool:
        place = self.place(part)
        try:
            stamp = msgspec.json.decode((place / _STAMP).read_bytes(), type=Stamp)
        except (OSError, msgspec.DecodeError):
            return False
        return stamp == Stamp(version=part.version, recipe=RECIPE) and not lacking(part, place)

    def begin(self, part: Part) -> Path:
        draft = self.draft(part)
        self.drop(part)
        draft.mkdir()
        return draft

    def finish(self, part: Part) -> None:
        """The draft becomes the part. An older build of it is moved aside first: a folder cannot be replaced."""
        draft, place, old = self.draft(part), self.place(part), self.folder / f".old-{part.name}"
        stamp = Stamp(version=part.version, recipe=RECIPE)
        (draft / _STAMP).write_bytes(msgspec.json.encode(stamp))
        for leftover in (old, draft / TEMPORARY):
            shutil.rmtree(leftover, ignore_errors=True)
        if place.exists():
            place.rename(old)
        draft.rename(place)
        shutil.rmtree(old, ignore_errors=True)
        self.log(part).unlink(missing_ok=True)

    def drop(self, part: Part) -> None:
        shutil.rmtree(self.draft(part), ignore_errors=True)

    def check_room(self, needed: int) -> None:
        free = shutil.disk_usage(self.folder).free
        if free < needed * SPARE:
            raise OomlessError(
                f"the disk is too full for the real parts ({format_size(needed * SPARE)} while they are built)",
                f"{self.folder} has {format_size(free)} left",
                _PLACE,
            )

    @contextmanager
    def lock(self, on_wait: Callable[[], None]) -> Iterator[int]:
        """One builder at a time; yields the descriptor of the lock, to be inherited by what builds: if we are killed
        and it is not, the next builder waits for its end."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            fd = os.open(self.folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            why = error.strerror or str(error)
            raise OomlessError(f"cannot write the folder of the real parts, {self.folder}", why, _PLACE) from None
        try:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                on_wait()
                fcntl.flock(fd, fcntl.LOCK_EX)
            yield fd
        finally:
            # Explicitly: closing leaves it locked as long as a straggler of a build has the descriptor.
            fcntl.flock(fd, fcntl.LOCK_UN)
            os.close(fd)


def lacking(part: Part, folder: Path) -> str:
    """The first of the files that must be there and is not."""
    for file in (*part.files, part.entry):
        if file and not (folder / file).is_file():
            return file
    return ""


def size(folder: Path) -> int:
    """Bytes on disk, as far as they can be seen: files come and go while a part is built."""
    total = 0
    for where, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(where, name)).st_blocks * 512
            except OSError:
                pass
    return total
