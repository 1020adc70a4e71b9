"""The command line as a whole: dispatch, help, errors of typer's own in our one line."""

from __future__ import annotations

import json

import pytest

from helpers import run_oomless


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
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert done.stderr.startswith("oomless: ")
    assert says in done.stderr


@pytest.mark.parametrize("args", [["--help"], ["-h"], [], ["batch", "--help"], ["run", "--help"]])
def test_help_is_on_stdout(args: list[str]) -> None:
    done = run_oomless(*args)
    assert (done.returncode, done.stderr) == (0, "")
    assert "oomless" in done.stdout


def test_help_lists_every_command() -> None:
    out = run_oomless("--help").stdout
    for name in ("run", "batch", "scan", "status", "doctor", "demo", "daemon", "config"):
        assert f" {name} " in out


def test_completion_knows_the_commands() -> None:
    env = {"_OOMLESS_COMPLETE": "complete_bash", "COMP_WORDS": "oomless sta", "COMP_CWORD": "1"}
    assert run_oomless(env=env).stdout.split() == ["status"]


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
