"""The typer application: which commands there are and in which order ``--help`` shows them.

Each command is a file of its own beside this one, loaded only if it is the one that is wanted: all of them together
take a quarter of a second. ``run`` is listed here for help and completion only; it is dispatched before this module
is loaded (``__init__.py``). What only Linux has is not listed elsewhere, and says so when it is asked for.
"""

from __future__ import annotations

import importlib
import sys
from typing import Annotated

import typer

from oomless import __version__
from oomless.errors import UnsupportedPlatform

#: Name, and whether its module has a group of commands (``app``) or one (``command``).
COMMANDS = {
    "batch": False,
    "scan": False,
    "diagnose": False,
    "reap": False,
    "status": False,
    "doctor": False,
    "demo": False,
    "install": False,
    "uninstall": False,
    "daemon": True,
    "config": True,
}
#: These start, contain or install something, which is written for Linux only; the others look, and read.
LINUX_ONLY = frozenset({"hook", "batch", "doctor", "demo", "install", "uninstall", "daemon"})


def here(name: str) -> bool:
    """Whether this system has that command."""
    return sys.platform == "linux" or name not in LINUX_ONLY


def unsupported(name: str) -> UnsupportedPlatform:
    why = "it needs the daemon, which is written for Linux only so far"
    return UnsupportedPlatform(f"oomless {name} does not run on {sys.platform}", why, "run it on Linux")


def build(wanted: str | None = None) -> typer.Typer:
    """The application with that command only, or, for help and completion, with all."""
    app = typer.Typer(
        help="Runs AI coding agents without running out of memory.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_root)
    untouched = {"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []}
    app.command("run", add_help_option=False, context_settings=untouched)(_run)
    for name in [wanted] if wanted in COMMANDS else filter(here, COMMANDS):
        module = importlib.import_module(f"oomless.cli.{name}")
        if COMMANDS[name]:
            app.add_typer(module.app, name=name)
        else:
            app.command(name)(module.command)
    return app


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"oomless {__version__}")
        raise typer.Exit


def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Runs AI coding agents without running out of memory."""


def _run(context: typer.Context) -> None:
    """Run a command governed: admitted, bounded, and nothing of it left."""
    from oomless.cli import _dispatch

    sys.exit(_dispatch(["run", *context.args]))
