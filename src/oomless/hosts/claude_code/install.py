"""Installing into Claude Code and out of it again: the settings file, what is remembered beside it, the prefix.

Covers: where the settings are, which of them are left alone, the record of what was there before
(``<state>/claude-code.json``), and in which order things are written. Not here: what is written
(``claude_settings.py``), the prefix program (``prefix.py``), asking and printing (``cli/install.py``).
"""

from __future__ import annotations

import difflib
import os
import sys
from collections.abc import Mapping

import msgspec

from oomless import jsontext, userfile
from oomless.errors import StateUnwritable, UsageError
from oomless.hosts.claude_code import prefix, settings
from oomless.hosts.claude_code.settings import Before, Gate
from oomless.hosts.git_tracked import refuse_tracked
from oomless.paths import Paths
from oomless.userfile import UserFile

#: Claude Code reads no more of a settings file.
LIMIT = 2 * 2**20
#: Where an administrator's settings are on Linux; they go before the user's.
MANAGED = "/etc/claude-code/managed-settings.json"


class Remembered(msgspec.Struct, frozen=True, kw_only=True):
    """For one settings file: the prefix that we put there (None: none), and what was there before."""

    prefix: str | None
    before: Before


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """``files`` by the settings' real path. Holds the user's former prefix, hence 0600."""

    schema: str = "oomless.claude-code/1"
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
        """Unified, and without secrets: empty if only a secret is another."""
        old, new = (jsontext.masked(text).splitlines() for text in (self.file.text(), self.new))
        return list(difflib.unified_diff(old, new, self.file.path, self.file.path, lineterm=""))


def settings_path(environ: Mapping[str, str]) -> str:
    folder = environ.get("CLAUDE_CONFIG_DIR") or os.path.join(environ.get("HOME") or "~", ".claude")
    return os.path.abspath(os.path.join(os.path.expanduser(folder), "settings.json"))


def record_path(paths: Paths) -> str:
    return os.path.join(paths.state, "claude-code.json")


# What there is


def open_settings(environ: Mapping[str, str]) -> UserFile:
    """The settings that can be installed into; raises UsageError, before anything is started for them."""
    file = userfile.read(settings_path(environ), LIMIT)
    if file.raw is not None:
        settings.check_shape(settings.parse(file.text(), file.path), file.path)
    userfile.check_writable(file)
    refuse_tracked(file.real, f"{file.real}.oomless-0.bak")
    return file


def lenient(path: str) -> object:
    """The settings of a file that is not ours to correct, as far as they can be read."""
    try:
        file = userfile.read(path, LIMIT)
        return None if file.raw is None else jsontext.parse(file.text(), path)
    except UsageError:
        return None


def read_record(paths: Paths) -> Record:
    """Empty if there is none, or if it cannot be understood: then there is nothing to put back."""
    try:
        with open(record_path(paths), "rb") as file:
            return msgspec.json.decode(file.read(), type=Record)
    except (OSError, msgspec.DecodeError):
        return Record()


def _ours(paths: Paths, known: Remembered | None) -> frozenset[str]:
    return frozenset({prefix.prefix_path(paths), known.prefix if known and known.prefix else ""} - {""})


# What is to be


def plan_install(paths: Paths, file: UserFile, url: str, token: str, *, hooks_only: bool) -> Change:
    """Raises UsageError where the hooks or the prefix could not do what they are for."""
    known = read_record(paths).files.get(file.real)
    text = "{}\n" if file.raw is None else file.text()
    files = ((file.path, settings.parse(text, file.path)), (MANAGED, lenient(MANAGED)))
    if problem := settings.blocked(files, url):
        raise problem
    wanted = None if hooks_only else _usable(prefix.prefix_path(paths))
    gate = Gate(url=url, token=token, command=settings.session_start(sys.executable))
    before = known.before if known else Before()
    edited = settings.install(text, file.path, gate, wanted, _ours(paths, known), before)
    if wanted is not None:
        _only_one_former(paths, file, edited.before.former)
    return Change(file=file, new=edited.text, remember=Remembered(prefix=wanted, before=edited.before))


def plan_uninstall(paths: Paths, environ: Mapping[str, str]) -> Change:
    file = userfile.read(settings_path(environ), LIMIT)
    known = read_record(paths).files.get(file.real)
    if file.raw is None:
        return Change(file=file, new="", remember=None)
    text = file.text()
    before = known.before if known else Before()
    new = settings.uninstall(text, file.path, _ours(paths, known), before)
    change = Change(file=file, new=new, remember=None)
    if change.changes:
        userfile.check_writable(file)
    return change


def _usable(path: str) -> str:
    """Claude Code 2.1.330 takes what is behind the last `` -`` of a prefix for its arguments."""
    if " -" in path:
        raise UsageError(f"{path} cannot be a prefix", 'it has " -" in it', "set XDG_STATE_HOME to another folder")
    return path


def _only_one_former(paths: Paths, file: UserFile, former: str | None) -> None:
    """There is one prefix program, and it runs one former prefix inside."""
    for other, known in read_record(paths).files.items():
        if other != file.real and known.prefix and known.before.former != former and os.path.exists(other):
            why = f"it has another prefix than {other}, and one can be kept"
            raise UsageError(f"nothing was installed into {file.path}", why, "use --hooks-only")


# Writing it


def apply(paths: Paths, change: Change) -> str | None:
    """Returns the backup's path. What the settings will name is there before they name it, and stays after: sessions
    that run read their settings when they started."""
    record = read_record(paths)
    files = {name: known for name, known in record.files.items() if name != change.file.real}
    if change.remember is None:
        kept = _replace(change)
        if files != record.files:
            _write_record(paths, Record(files=files))
        return kept
    if change.remember.prefix is not None:
        prefix.write(paths, change.remember.before.former)
    _write_record(paths, Record(files={**files, change.file.real: change.remember}))
    return _replace(change)


def _replace(change: Change) -> str | None:
    return userfile.replace(change.file, change.file.encode(change.new), backup=True) if change.changes else None


def _write_record(paths: Paths, record: Record) -> None:
    paths.make()
    path = record_path(paths)
    draft = f"{path}.{os.getpid()}"
    try:
        with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "wb") as file:
            file.write(msgspec.json.format(msgspec.json.encode(record)) + b"\n")
        os.replace(draft, path)
    except OSError as error:
        raise StateUnwritable(f"cannot write {path}", error.strerror or str(error), "free disk space") from None
