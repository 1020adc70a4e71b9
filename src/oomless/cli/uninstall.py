"""``oomless uninstall HOST``: takes oomless out of a host's settings. Needs no daemon and starts none."""

from __future__ import annotations

import os
import sys

import msgspec
import typer

assert sys.platform == "linux"

from oomless.cli.consent import agreed
from oomless.cli.install import NOT_WRITTEN, HostName, Json, Yes, find_host
from oomless.cli.output import console, guard, print_json, printable
from oomless.paths import Paths


class Uninstalled(msgspec.Struct, frozen=True, kw_only=True):
    """``changed`` is false if nothing of ours was there."""

    schema: str = "oomless.uninstall/1"
    host: str
    settings: str
    changed: bool
    backup: str | None


@guard()
def command(name: HostName, yes: Yes = False, json: Json = False) -> None:
    """Take oomless out of an application again. What was there before comes back."""
    host = find_host(name)
    paths = Paths()
    change = host.plan_uninstall(paths, os.environ)
    if change.changes and not agreed(change.diff(), yes=yes, json=json):
        raise typer.Exit(NOT_WRITTEN)
    backup = host.apply(paths, change)
    path = change.file.path
    if json:
        print_json(Uninstalled(host=name, settings=path, changed=change.changes, backup=backup))
    elif not change.changes:
        console().print(f"nothing of oomless is in {printable(path)}", soft_wrap=True)
    else:
        console().print(f"taken out of {printable(path)}; backup: {printable(backup or '-')}", soft_wrap=True)
