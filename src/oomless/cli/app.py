"""The typer application: each command is a file of its own beside this one, loaded only if it is asked for.

The table of commands is in ``commands.py``. What is not asked for is known to typer by name and summary alone, for
completion and for "did you mean". ``run``, ``status`` and ``oomless --help`` are answered without this module
(``__init__.py``).
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from typing import Annotated

import typer

from oomless import __version__
from oomless.cli.commands import DESCRIPTION, GROUPS, HELP_OPTIONS, SUMMARIES, is_supported

_HELP = {"help_option_names": list(HELP_OPTIONS)}
_UNTOUCHED = {"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []}


def build(wanted: str | None = None) -> typer.Typer:
    """The application with the module of that command loaded, or with all of them."""
    app = typer.Typer(
        help=DESCRIPTION,
        no_args_is_help=True,
        # Plain text: the boxes of rich take 60 ms more, half of it to load a Markdown parser.
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings=_HELP,
    )
    app.callback()(_root)
    for name in filter(is_supported, SUMMARIES):
        if name in _BUILT_IN:
            app.command(name)(_BUILT_IN[name])
        elif name == "run" or wanted not in (None, name):
            app.command(name, help=SUMMARIES[name], add_help_option=False, context_settings=_UNTOUCHED)(_dispatch)
        elif name in GROUPS:
            app.add_typer(importlib.import_module(f"oomless.cli.{name}").app, name=name)
        else:
            app.command(name)(importlib.import_module(f"oomless.cli.{name}").command)
    return app


def _dispatch(context: typer.Context) -> None:
    """``context.obj`` is ``oomless.cli.dispatch``, handed in by whoever runs the application."""
    sys.exit(context.obj([str(context.info_name), *context.args]))


def _print_version() -> None:
    """Print the version."""
    typer.echo(f"oomless {__version__}")


def _show_help(
    context: typer.Context,
    name: Annotated[str | None, typer.Argument(metavar="COMMAND", help="One command only.")] = None,
) -> None:
    """Show the help of a command."""
    sys.exit(context.obj([name, "--help"] if name else ["--help"]))


def _version(asked: bool) -> None:
    if asked:
        _print_version()
        raise typer.Exit


def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Its help is the table's."""


_BUILT_IN: dict[str, Callable[..., None]] = {"help": _show_help, "version": _print_version}
