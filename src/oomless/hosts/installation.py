"""Installing into a host: the change to its settings file, and the record of what was there before.

What is written is the host's business (``hosts/<host>/``); here is what all hosts have in common: a change that can
be shown without secrets, the record ``<state>/<host>.json`` for the way back, and the order of writing.
"""

from __future__ import annotations

import difflib
import os
from typing import Literal

import msgspec

from oomless import atomicfile, jsontext, userfile
from oomless.errors import StateUnwritable
from oomless.paths import Paths
from oomless.userfile import UserFile


class HookTarget(msgspec.Struct, frozen=True, kw_only=True):
    """Where HTTP hooks go, and the token that they show; None: no daemon runs, or has ever."""

    url: str | None = None
    token: str | None = None


class Before(msgspec.Struct, frozen=True, kw_only=True):
    """What has to come back at uninstall: the prefix that was there, and the objects and lists that were there and
    empty (dotted)."""

    former: str | None = None
    empty: tuple[str, ...] = ()


class Remembered(msgspec.Struct, frozen=True, kw_only=True):
    """For one settings file: the prefix that was put there (None: none), and what was there before."""

    prefix: str | None
    before: Before


class InstallRecord(msgspec.Struct, frozen=True, kw_only=True):
    """``files`` by the settings' real path. Holds the user's former prefix, hence 0600."""

    schema: str = ""
    files: dict[str, Remembered] = {}


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """A settings file as it is and as it is to be; ``remember`` is None to forget it."""

    file: UserFile
    new: str
    remember: Remembered | None

    @property
    def changes(self) -> bool:
        return self.new != self.file.text()

    def diff(self) -> list[str]:
        """Returns a unified diff without secrets; it is empty if only a secret differs."""
        old, new = (jsontext.mask_secrets(text).splitlines() for text in (self.file.text(), self.new))
        return list(difflib.unified_diff(old, new, self.file.path, self.file.path, lineterm=""))


class HostView(msgspec.Struct, frozen=True, kw_only=True):
    """What ``doctor`` says of a host. ``program`` is the one on PATH. ``problems`` keep an installation from doing
    what it is for; ``notes`` are good to know."""

    host: str
    program: str | None
    version: str | None
    settings: str
    hooks: Literal["installed", "partly", "none"]
    prefix: Literal["installed", "none"]
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def record_path(paths: Paths, host: str) -> str:
    return os.path.join(paths.state, f"{host}.json")


def read_record(paths: Paths, host: str) -> InstallRecord:
    """Returns an empty record if there is none, or none that can be understood: then there is nothing to put back."""
    try:
        with open(record_path(paths, host), "rb") as file:
            return msgspec.json.decode(file.read(), type=InstallRecord)
    except (OSError, msgspec.DecodeError):
        return InstallRecord()


def apply_change(paths: Paths, host: str, change: Change) -> str | None:
    """Writes record and settings; returns the backup's path, None if the settings stay as they are.

    The record is there before the settings name what it is about, and stays until they do not name it any more.
    """
    record = read_record(paths, host)
    others = {name: known for name, known in record.files.items() if name != change.file.real}
    if change.remember is None:
        backup = _replace(change)
        if others != record.files:
            _write_record(paths, host, others)
        return backup
    _write_record(paths, host, {**others, change.file.real: change.remember})
    return _replace(change)


def _replace(change: Change) -> str | None:
    return userfile.replace(change.file, change.file.encode(change.new), backup=True) if change.changes else None


def _write_record(paths: Paths, host: str, files: dict[str, Remembered]) -> None:
    paths.make()
    path = record_path(paths, host)
    record = InstallRecord(schema=f"oomless.{host}/1", files=files)
    try:
        atomicfile.write(path, msgspec.json.format(msgspec.json.encode(record)) + b"\n")
    except OSError as error:
        raise StateUnwritable(f"cannot write {path}", error.strerror or str(error), "free disk space") from None
