"""``oomless uninstall claude-code``: what is ours out of Claude Code's settings. Needs no daemon and starts none.

Not here: putting it in (``install.py``) and how ours is told from others' (``hosts/claude_code/settings.py``).
"""

from __future__ import annotations

import os
import sys

import msgspec
import typer

assert sys.platform == "linux"

from oomless.cli.consent import agreed
from oomless.cli.install import NOT_WRITTEN, Host, Json, Yes, known_host
from oomless.cli.output import console, guard, print_json, printable
from oomless.hosts.claude_code import install
from oomless.paths import Paths


class Uninstalled(msgspec.Struct, frozen=True, kw_only=True):
    """``changed`` is false if nothing of ours was there."""

    schema: str = "oomless.uninstall/1"
    host: str
    settings: str
    changed: bool
    backup: str | None


@guard()
def command(host: Host, yes: Yes = False, json: Json = False) -> None:
    """Take oomless out of an application again. What was there before comes back."""
    known_host(host)
    paths = Paths()
    change = install.plan_uninstall(paths, os.environ)
    if change.changes and not agreed(change.diff(), yes=yes, json=json):
        raise typer.Exit(NOT_WRITTEN)
    backup = install.apply(paths, change)
    path = change.file.path
    if json:
        print_json(Uninstalled(host=host, settings=path, changed=change.changes, backup=backup))
    elif not change.changes:
        console().print(f"nothing of oomless is in {printable(path)}", soft_wrap=True)
    else:
        console().print(f"taken out of {printable(path)}; backup: {printable(backup or '-')}", soft_wrap=True)
