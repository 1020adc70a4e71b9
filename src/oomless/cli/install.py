"""``oomless install HOST``: hooks, and where the host has one the shell prefix, into its settings, after showing and
asking."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

assert sys.platform == "linux"

from oomless import hosts
from oomless.cli.consent import agreed
from oomless.cli.output import console, guard, print_json, printable
from oomless.errors import DaemonError, UsageError
from oomless.hosts.installation import HookTarget
from oomless.paths import Paths
from oomless.protocol import spawn
from oomless.protocol.client import Client

if TYPE_CHECKING:
    from oomless.hosts.base import Host

HostName = Annotated[str, typer.Argument(metavar="HOST", help="The application, for example claude-code.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Write without asking.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
NOT_WRITTEN = 1


class Installed(msgspec.Struct, frozen=True, kw_only=True):
    """``changed`` is false if all was there already; ``url`` is where HTTP hooks go; ``former`` is the prefix that
    ours runs inside."""

    schema: str = "oomless.install/1"
    host: str
    settings: str
    changed: bool
    url: str | None
    prefix: str | None
    former: str | None
    backup: str | None


@guard()
def command(
    name: HostName,
    hooks_only: Annotated[bool, typer.Option("--hooks-only", help="Leave the shell prefix out.")] = False,
    yes: Yes = False,
    json: Json = False,
) -> None:
    """Install oomless into an application that runs agents.

    Its subagents then wait for memory, and its servers and tool shells end with the session.
    """
    host = find_host(name)
    paths = Paths()
    file = host.open_settings(os.environ)
    target = start_target(paths) if host.facts.http_hooks else HookTarget()
    change = host.plan_install(paths, file, target, hooks_only=hooks_only)
    if change.changes and not agreed(change.diff(), yes=yes, json=json):
        raise typer.Exit(NOT_WRITTEN)
    backup = host.apply(paths, change)
    assert change.remember is not None
    prefix = change.remember.prefix
    report = Installed(
        host=name,
        settings=file.path,
        changed=change.changes,
        url=target.url,
        prefix=prefix,
        former=change.remember.before.former if prefix else None,
        backup=backup,
    )
    print_json(report) if json else show(report)


def show(report: Installed) -> None:
    out = console()
    if not report.changed:
        out.print(f"already installed in {printable(report.settings)}: nothing to change", soft_wrap=True)
        return
    out.print(f"installed in {printable(report.settings)}, for sessions that start from now on", soft_wrap=True)
    for name, value in (("backup", report.backup), ("prefix", report.prefix), ("wraps", report.former)):
        if value:
            out.print(f"  {name:<8}{printable(value)}", soft_wrap=True)


def find_host(name: str) -> Host:
    """Raises UsageError if oomless cannot be installed into it."""
    host = hosts.find(name)
    if host is None:
        names = ", ".join(facts.name for facts in hosts.known_facts())
        raise UsageError(f"there is no host {name!r}", "", f"there is: {names}")
    return host


def start_target(paths: Paths) -> HookTarget:
    """Returns where HTTP hooks go. Starts the daemon, which keeps both url and token."""
    daemon = Client(paths, start=True).daemon()
    token = read_token(paths)
    if daemon.url is None or token is None:
        raise DaemonError("the daemon has no address", f"{paths.token('hooks')} cannot be read", "restart it")
    return HookTarget(url=daemon.url, token=token)


def current_target(paths: Paths) -> HookTarget:
    """Like ``start_target``, but starts nothing."""
    running = spawn.running(paths)
    return HookTarget(url=running.url if running else None, token=read_token(paths))


def read_token(paths: Paths) -> str | None:
    try:
        with open(paths.token("hooks"), encoding="ascii") as file:
            return file.read().strip() or None
    except (OSError, UnicodeDecodeError):
        return None
