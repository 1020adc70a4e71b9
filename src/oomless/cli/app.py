"""The typer application: which commands there are and in which order ``--help`` shows them.

Each command is a file of its own beside this one. ``run`` is listed here for help and completion only; it is
dispatched before this module is loaded (``__init__.py``).
"""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from oomless import __version__
from oomless.cli import batch, config, daemon, demo, doctor, run, scan, status

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


for _name, _command in (
    ("batch", batch.command),
    ("scan", scan.command),
    ("status", status.command),
    ("doctor", doctor.command),
    ("demo", demo.demo),
):
    app.command(_name)(_command)
app.add_typer(daemon.app, name="daemon")
app.add_typer(config.app, name="config")
