"""``oomless install claude-code``: hooks and shell prefix into Claude Code's settings, after showing and asking.

Not here: what is written and what is refused (``hosts/``), taking it out again (``uninstall.py``).
"""

from __future__ import annotations

import os
import sys
from typing import Annotated

import msgspec
import typer

assert sys.platform == "linux"

from oomless.cli.consent import agreed
from oomless.cli.output import console, guard, print_json, printable
from oomless.errors import DaemonError, UsageError
from oomless.hosts.claude_code import install
from oomless.hosts.claude_code.check import NAME
from oomless.paths import Paths
from oomless.protocol.client import Client

Host = Annotated[str, typer.Argument(metavar="HOST", help=f"The application: {NAME}.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Write without asking.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
NOT_WRITTEN = 1


class Installed(msgspec.Struct, frozen=True, kw_only=True):
    """``changed`` is false if all was there already; ``former`` is the prefix that ours runs inside."""

    schema: str = "oomless.install/1"
    host: str
    settings: str
    changed: bool
    url: str
    prefix: str | None
    former: str | None
    backup: str | None


@guard()
def command(
    host: Host,
    hooks_only: Annotated[bool, typer.Option("--hooks-only", help="Leave the shell prefix out.")] = False,
    yes: Yes = False,
    json: Json = False,
) -> None:
    """Install oomless into an application that runs agents.

    Its subagents then wait for memory, and its servers and tool shells end with the session.
    """
    known_host(host)
    paths = Paths()
    file = install.open_settings(os.environ)
    url, token = address(paths)
    change = install.plan_install(paths, file, url, token, hooks_only=hooks_only)
    if change.changes and not agreed(change.diff(), yes=yes, json=json):
        raise typer.Exit(NOT_WRITTEN)
    backup = install.apply(paths, change)
    assert change.remember is not None
    prefix = change.remember.prefix
    report = Installed(
        host=host,
        settings=file.path,
        changed=change.changes,
        url=url,
        prefix=prefix,
        former=change.remember.before.former if prefix else None,
        backup=backup,
    )
    print_json(report) if json else say(report)


def say(report: Installed) -> None:
    out = console()
    if not report.changed:
        out.print(f"already installed in {printable(report.settings)}: nothing to change", soft_wrap=True)
        return
    out.print(f"installed in {printable(report.settings)}, for sessions that start from now on", soft_wrap=True)
    for name, value in (("backup", report.backup), ("prefix", report.prefix), ("wraps", report.former)):
        if value:
            out.print(f"  {name:<8}{printable(value)}", soft_wrap=True)


def known_host(name: str) -> None:
    if name != NAME:
        raise UsageError(f"there is no host {name!r}", "", f"there is: {NAME}")


def address(paths: Paths) -> tuple[str, str]:
    """Where the hooks go: the daemon's url and its token for them. Starts the daemon, which keeps both."""
    daemon = Client(paths, start=True).daemon()
    token = read_token(paths)
    if daemon.url is None or token is None:
        raise DaemonError("the daemon has no address", f"{paths.token('hooks')} cannot be read", "restart it")
    return daemon.url, token


def read_token(paths: Paths) -> str | None:
    try:
        with open(paths.token("hooks"), encoding="ascii") as file:
            return file.read().strip() or None
    except (OSError, UnicodeDecodeError):
        return None
