"""``oomless status`` as typer knows it: its options and their help. What it prints is in ``status_view.py``."""

from __future__ import annotations

from typing import Annotated

import typer

from oomless.cli.status_view import print_status


def command(
    name: Annotated[str | None, typer.Argument(help="One tree only, by id or name; also one that has ended.")] = None,
    why: Annotated[bool, typer.Option("--why", help="The reason of each, and the last decisions.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Show what runs and what waits."""
    print_status(name, why, json)
