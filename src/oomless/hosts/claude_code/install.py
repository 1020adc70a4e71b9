"""Installing into Claude Code's settings and out of them again: where they are, which are left alone, and what the
change is."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping

from oomless import jsontext, userfile
from oomless.errors import UsageError
from oomless.hosts.claude_code import prefix, settings
from oomless.hosts.claude_code.facts import CONFIG_VARIABLE, FACTS
from oomless.hosts.claude_code.settings import Gate
from oomless.hosts.git_tracked import refuse_tracked
from oomless.hosts.installation import Before, Change, HookTarget, Remembered, apply_change, read_record
from oomless.paths import Paths
from oomless.userfile import UserFile

#: Claude Code reads no more of a settings file.
LIMIT = 2 * 2**20
#: Where an administrator's settings are on Linux; they go before the user's.
MANAGED = "/etc/claude-code/managed-settings.json"


def settings_path(environ: Mapping[str, str]) -> str:
    folder = environ.get(CONFIG_VARIABLE) or os.path.join(environ.get("HOME") or "~", ".claude")
    return os.path.abspath(os.path.join(os.path.expanduser(folder), "settings.json"))


# What there is


def open_settings(environ: Mapping[str, str]) -> UserFile:
    """The settings that can be installed into; raises UsageError, before anything is started for them."""
    file = userfile.read(settings_path(environ), LIMIT)
    if file.raw is not None:
        settings.check_shape(settings.parse_settings(file.text(), file.path), file.path)
    userfile.check_writable(file)
    refuse_tracked(file.real, f"{file.real}.oomless-0.bak", CONFIG_VARIABLE)
    return file


def lenient(path: str) -> object:
    """The settings of a file that is not ours to correct, as far as they can be read."""
    try:
        file = userfile.read(path, LIMIT)
        return None if file.raw is None else jsontext.parse_json(file.text(), path)
    except UsageError:
        return None


def _ours(paths: Paths, known: Remembered | None) -> frozenset[str]:
    return frozenset({prefix.prefix_path(paths), known.prefix if known and known.prefix else ""} - {""})


# What is to be


def plan_install(paths: Paths, file: UserFile, target: HookTarget, *, hooks_only: bool) -> Change:
    """Raises UsageError where the hooks or the prefix could not do what they are for. Both parts of ``target`` are
    needed."""
    assert target.url is not None
    assert target.token is not None
    known = read_record(paths, FACTS.name).files.get(file.real)
    text = "{}\n" if file.raw is None else file.text()
    files = ((file.path, settings.parse_settings(text, file.path)), (MANAGED, lenient(MANAGED)))
    if problem := settings.find_blocker(files, target.url):
        raise problem
    wanted = None if hooks_only else _usable(prefix.prefix_path(paths))
    gate = Gate(url=target.url, token=target.token, command=settings.session_start_command(sys.executable))
    before = known.before if known else Before()
    edited = settings.install_hooks(text, file.path, gate, wanted, _ours(paths, known), before)
    if wanted is not None:
        _only_one_former(paths, file, edited.before.former)
    return Change(file=file, new=edited.text, remember=Remembered(prefix=wanted, before=edited.before))


def plan_uninstall(paths: Paths, environ: Mapping[str, str]) -> Change:
    file = userfile.read(settings_path(environ), LIMIT)
    known = read_record(paths, FACTS.name).files.get(file.real)
    if file.raw is None:
        return Change(file=file, new="", remember=None)
    text = file.text()
    before = known.before if known else Before()
    new = settings.uninstall_hooks(text, file.path, _ours(paths, known), before)
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
    for other, known in read_record(paths, FACTS.name).files.items():
        if other != file.real and known.prefix and known.before.former != former and os.path.exists(other):
            why = f"it has another prefix than {other}, and one can be kept"
            raise UsageError(f"nothing was installed into {file.path}", why, "use --hooks-only")


# Writing it


def apply(paths: Paths, change: Change) -> str | None:
    """Returns the backup's path. The prefix is there before the settings name it, and stays after: sessions that run
    read their settings when they started."""
    if change.remember is not None and change.remember.prefix is not None:
        prefix.write(paths, change.remember.before.former)
    return apply_change(paths, FACTS.name, change)
