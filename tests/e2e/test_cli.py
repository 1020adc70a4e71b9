"""The command line as a whole: dispatch, help, errors of typer's own in our one line."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from helpers import is_error_report, run_oomless
from oomless import __version__
from oomless.cli.app import build
from oomless.cli.commands import SUMMARIES


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["statu"], "Did you mean 'status'?"),
        (["scan", "--nope"], "see oomless scan --help"),
        (["scan", "--fail-on", "x"], "'x'"),
        (["daemon", "foo"], "'foo'"),
        (["batch"], "FILE.jsonl"),
        (["status", "nobody-of-that-name"], "nobody-of-that-name"),
    ],
)
def test_bad_usage_is_one_line_and_exit_2(args: list[str], says: str) -> None:
    done = run_oomless(*args)
    assert (done.returncode, done.stdout) == (2, "")
    assert is_error_report(done.stderr)
    assert done.stderr.startswith("oomless: error: ")
    assert says in done.stderr


@pytest.mark.parametrize("args", [["--help"], ["-h"], [], ["batch", "--help"], ["run", "--help"]])
def test_help_is_on_stdout(args: list[str]) -> None:
    done = run_oomless(*args)
    assert (done.returncode, done.stderr) == (0, "")
    assert "oomless" in done.stdout


def test_help_is_what_typer_would_show() -> None:
    """The table has the same commands in the same order, and of each the first line of its own help, uncut."""
    import typer.main

    group = typer.main.get_command(build())
    shown = CliRunner().invoke(build(), ["--help"], prog_name="oomless", terminal_width=80).output
    assert run_oomless("--help").stdout == shown
    assert list(SUMMARIES) == list(group.commands)  # type: ignore[attr-defined]
    for name, summary in SUMMARIES.items():
        own = run_oomless(name, "--help").stdout.splitlines()
        assert own[2].strip().startswith(summary), name
    assert run_oomless("help").stdout == shown
    assert run_oomless("help", "batch").stdout == run_oomless("batch", "--help").stdout


def loaded(*arguments: str) -> set[str]:
    """The modules that a command loads, the standard library's included."""
    command = [sys.executable, "-X", "importtime", "-c", "from oomless.cli import main; main()", *arguments]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True)
    return {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}


HEAVY = {"typer", "rich", "asyncio", "ssl", "tomlkit", "tomllib", "markdown_it"}


@pytest.mark.parametrize(
    ("arguments", "without"),
    [
        (["--help"], HEAVY | {"msgspec", "oomless.cli.batch", "oomless.cli.app"}),
        (["version"], HEAVY | {"msgspec", "oomless.cli.app"}),
        (["status"], HEAVY | {"oomless.cli.app"}),
        (["scan", "--json"], HEAVY - {"tomllib"} | {"oomless.cli.app", "oomless.listing", "importlib.resources"}),
        # A command line of anybody's that is not ASCII is laid out by rich.
        (["scan"], HEAVY - {"tomllib", "rich"} | {"oomless.cli.app"}),
        (["run", "--quiet", "--", "true"], HEAVY | {"msgspec", "oomless.cli.app", "typing", "argparse"}),
        (["batch", "--help"], HEAVY - {"typer"}),
        (["scan", "--help"], HEAVY - {"typer", "tomllib"}),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_command_loads_only_what_it_needs(arguments: list[str], without: set[str]) -> None:
    assert loaded(*arguments) & without == set()


def test_version() -> None:
    for arguments in (["--version"], ["version"]):
        assert run_oomless(*arguments).stdout == f"oomless {__version__}\n"


def test_completion_knows_the_commands() -> None:
    env = {"_OOMLESS_COMPLETE": "complete_bash", "COMP_WORDS": "oomless sta", "COMP_CWORD": "1"}
    assert run_oomless(env=env).stdout.split() == ["status"]


@pytest.mark.as_user
def test_doctor_tries_a_kill_on_every_rung() -> None:
    done = run_oomless("doctor", "--json")
    assert done.returncode == 0
    report = json.loads(done.stdout)
    assert report["schema"] == "oomless.doctor/1"
    usable = [rung for rung in report["rungs"] if rung["usable"]]
    assert [(rung["ended"], rung["survivors"]) for rung in usable] == [(5, 0)] * len(usable)
    assert sum(rung["chosen"] for rung in report["rungs"]) == 1
    assert report["gaps"]
    assert "subreaper" in run_oomless("doctor").stdout
