"""``oomless config``: the settings in effect and where each is from, and whether the files are in order."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from oomless import config
from oomless.cli.output import console, fail, guard, print_json, printable
from oomless.errors import ConfigError
from oomless.paths import Paths
from oomless.units import format_duration, format_size

SCHEMA = "oomless.config/1"

app = typer.Typer(help="Show and check the settings.", no_args_is_help=True)
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    schema: str = SCHEMA
    settings: tuple[config.Origin, ...]


class Checked(msgspec.Struct, frozen=True, kw_only=True):
    """``files`` are those that were read; ``problem`` is the error's line."""

    schema: str = SCHEMA
    ok: bool
    files: tuple[str, ...]
    problem: str | None = None


@app.command()
@guard()
def show(json: Json = False) -> None:
    """Show the settings in effect here, and where each comes from."""
    user, project = config.load(Paths().config_file), config.load_project(os.getcwd(), _home())
    rows = config.origins(user, project)
    if json:
        print_json(Shown(settings=rows))
        return
    values = [_in_words(row) for row in rows]
    wide, wider = max(len(row.key) for row in rows), max(map(len, values))
    out = console()
    for row, value in zip(rows, values, strict=True):
        origin = printable(row.file or row.source)
        out.print(f"{row.key:{wide}}  {value:{wider}}  {origin}", soft_wrap=True)


@app.command()
@guard()
def check(
    file: Annotated[Path | None, typer.Argument(help="Default: the user's and the project's file.")] = None,
    json: Json = False,
) -> None:
    """Check the settings files: exit code 0, or 2 and the mistake with its line."""
    files = _files() if file is None else [str(file)]
    try:
        for path in files:
            config.load(path, project=os.path.basename(path) == config.PROJECT_FILE, must_exist=True)
    except ConfigError as error:
        if json:
            print_json(Checked(ok=False, files=tuple(files), problem=error.line().removeprefix("oomless: ")))
        fail(error)
    if json:
        print_json(Checked(ok=True, files=tuple(files)))
    elif files:
        console().print(f"no mistakes in {printable(' and '.join(files))}", soft_wrap=True)
    else:
        console().print(f"no settings file: defaults apply ({printable(Paths().config_file)})", soft_wrap=True)


def _files() -> list[str]:
    found = [Paths().config_file, config.find_project(os.getcwd(), _home())]
    return [path for path in found if path is not None and os.path.lexists(path)]


def _home() -> str:
    return os.path.expanduser("~")


def _in_words(row: config.Origin) -> str:
    if isinstance(row.value, str):
        return row.value
    if row.key == "wait":
        return format_duration(row.value) if row.value else "0 (fail fast)"
    if row.key in ("max_parallel_subagents", "daemon.port"):
        return str(row.value)
    return format_size(row.value)
