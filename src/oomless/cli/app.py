"""The typer application: which commands there are and in which order ``--help`` shows them.

Each command is a file of its own beside this one. ``run`` is listed here for help and completion only; it is
dispatched before this module is loaded (``__init__.py``).
"""

from __future__ import annotations

import importlib
import sys
from typing import Annotated

import typer

from oomless import __version__
from oomless.cli import config, daemon, output, run

app = typer.Typer(
    help="Runs AI coding agents without running out of memory.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"oomless {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Runs AI coding agents without running out of memory."""


@app.command(
    "run",
    add_help_option=False,
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []},
)
def run_command(context: typer.Context) -> None:
    """Run a command governed: admitted, bounded, and nothing of it left."""
    sys.exit(run.main(context.args))


def _add(name: str, module: str) -> None:
    """The module's ``command``, with everything of ours that it raises as one line."""
    found = importlib.import_module(f"oomless.cli.{module}")
    app.command(name)(output.guard()(found.command))


for _name in ("batch", "scan", "status", "doctor", "demo"):
    _add(_name, _name)
app.add_typer(daemon.app, name="daemon")
app.add_typer(config.app, name="config")
