"""``oomless config``: the settings in effect and where each is from, a check of the files (the user's catalog too),
and the import of the settings that the incident's report recommends."""

from __future__ import annotations

import difflib
import os
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from oomless import catalog, config, config_import, userfile
from oomless.cli.consent import agreed
from oomless.cli.output import console, fail, guard, print_json, printable
from oomless.errors import UsageError
from oomless.paths import Paths
from oomless.tomlfile import MAX_BYTES
from oomless.units import format_duration, format_size

SCHEMA = "oomless.config/1"

app = typer.Typer(help="Show, check and import the settings.", no_args_is_help=True)
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


class ConfigView(msgspec.Struct, frozen=True, kw_only=True):
    schema: str = SCHEMA
    settings: tuple[config.SettingOrigin, ...]


class ConfigCheck(msgspec.Struct, frozen=True, kw_only=True):
    """``files`` are those that were read; ``problem`` is the error's line."""

    schema: str = SCHEMA
    ok: bool
    files: tuple[str, ...]
    problem: str | None = None


class ConfigImport(msgspec.Struct, frozen=True, kw_only=True):
    """``imported``: the value of ``max_parallel_subagents`` that ``settings`` has now, if the file has one."""

    schema: str = SCHEMA
    file: str
    settings: str
    imported: int | None
    changed: bool
    skipped: tuple[config_import.SkippedKey, ...]
    note: str = config_import.IGNORED_BY_CLAUDE


@app.command()
@guard()
def show(json: Json = False) -> None:
    """Show the settings in effect here, and where each comes from."""
    user, project = config.load_settings(Paths().config_file), config.load_project_settings(os.getcwd(), _home())
    rows = config.list_origins(user, project)
    if json:
        print_json(ConfigView(settings=rows))
        return
    values = [_format_value(row) for row in rows]
    key_width, value_width = max(len(row.key) for row in rows), max(map(len, values))
    out = console()
    for row, value in zip(rows, values, strict=True):
        origin = printable(row.file or row.source)
        out.print(f"{row.key:{key_width}}  {value:{value_width}}  {origin}", soft_wrap=True)


@app.command()
@guard()
def check(
    file: Annotated[Path | None, typer.Argument(help="Default: the user's files and the project's.")] = None,
    json: Json = False,
) -> None:
    """Check the settings files; exit code 2 and the line of the first mistake if there is one."""
    files = _list_files() if file is None else [str(file)]
    try:
        for path in files:
            _check_file(path)
    except UsageError as error:
        if json:
            print_json(ConfigCheck(ok=False, files=tuple(files), problem=error.line()))
        fail(error)
    if json:
        print_json(ConfigCheck(ok=True, files=tuple(files)))
    elif files:
        console().print(f"No mistakes in {printable(' and '.join(files))}.", soft_wrap=True)
    else:
        console().print(
            f"There is no settings file: defaults apply ({printable(Paths().config_file)}).", soft_wrap=True
        )


@app.command("import")
@guard()
def import_(
    file: Annotated[Path, typer.Argument(help="A JSON file with maxParallelSubagents and the like.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Write without asking.")] = False,
    json: Json = False,
) -> None:
    """Import the settings of the incident's report that have an effect here."""
    source = userfile.read(str(file), MAX_BYTES)
    if source.raw is None:
        raise UsageError(f"there is no file {file}")
    incident = config_import.read_incident(source.text(), str(file))
    target = userfile.read(Paths().config_file, MAX_BYTES)
    config.load_settings(target.path)  # a broken file is not edited
    old = new = target.text()
    if incident.max_parallel_subagents is not None:
        new = config_import.put_setting(old, target.path, incident.max_parallel_subagents)
    report = ConfigImport(
        file=str(file),
        settings=target.path,
        imported=incident.max_parallel_subagents,
        changed=new != old,
        skipped=incident.skipped,
    )
    if not json:
        _print_import(report)
    if report.changed:
        userfile.check_writable(target)
        diff = list(difflib.unified_diff(old.splitlines(), new.splitlines(), target.path, target.path, lineterm=""))
        if not agreed(diff, yes=yes, json=json):
            raise typer.Exit(1)
        userfile.replace(target, target.encode(new), backup=False)
    if json:
        print_json(report)
    elif report.changed:
        console().print(f"Written to {printable(target.path)}.", soft_wrap=True)


def _print_import(report: ConfigImport) -> None:
    out = console()
    out.print(f"{printable(report.file)}: {report.note}", soft_wrap=True)
    for skipped in report.skipped:
        out.print(f"  {skipped.key} is not imported: {skipped.why}", soft_wrap=True)
    if report.imported is not None:
        unchanged = "" if report.changed else " (unchanged)"
        out.print(f"  maxParallelSubagents: {config_import.SETTING} = {report.imported}{unchanged}", soft_wrap=True)
    else:
        out.print("  nothing to import", soft_wrap=True)


def _list_files() -> list[str]:
    paths = [Paths().config_file, Paths().catalog_file, config.find_project_file(os.getcwd(), _home())]
    return [path for path in paths if path is not None and os.path.lexists(path)]


def _check_file(path: str) -> None:
    """Raises ConfigError or another UsageError. The kind of file goes by its name."""
    name = os.path.basename(path)
    if name == os.path.basename(Paths().catalog_file) and os.path.lexists(path):
        catalog.load(path)
    else:
        config.load_settings(path, project=name == config.PROJECT_FILE, must_exist=True)


def _home() -> str:
    return os.path.expanduser("~")


def _format_value(row: config.SettingOrigin) -> str:
    """Shares and numbers as they are written in the file; sizes and durations with their unit."""
    if isinstance(row.value, str):
        return row.value
    if row.unit == "bytes":
        return format_size(row.value)
    if row.unit == "seconds":
        return format_duration(row.value) if row.value else "0 (fail fast)"
    return f"{row.value:g}"
