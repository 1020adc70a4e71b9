"""The incident's JSON settings: what is taken over, what has no effect, and a config.toml that stays the user's."""

from __future__ import annotations

import json
import os
import stat
import tomllib
from pathlib import Path
from typing import Any

import pytest

from helpers import is_error_report, run_oomless
from oomless import config, config_import
from oomless.errors import UsageError
from oomless.paths import Paths

INCIDENT = """\
// Recommended .claude/config.json adjustments
{
  "maxParallelSubagents": 2,
  "subagentMemoryLimit": "512MB",
  "preferentialModel": "haiku",
  "mcpServerSharing": true
}
"""
OURS = """\
# Mine.
budget = "8GiB"   # half of it

[classes.browser]
memory = "1GB"    # it grows
"""


@pytest.fixture
def source(house: Path) -> Path:
    path = house / "incident.json"
    path.write_text(INCIDENT)
    return path


@pytest.fixture
def target() -> Path:
    path = Path(Paths().config_file)
    path.parent.mkdir(parents=True)
    return path


def take(source: Path, *more: str) -> dict[str, Any]:
    done = run_oomless("config", "import", str(source), "--yes", "--json", *more)
    assert (done.returncode, done.stderr) == (0, "")
    answer: dict[str, Any] = json.loads(done.stdout)
    assert answer["schema"] == "oomless.config/1"
    return answer


def refused(source: Path) -> str:
    done = run_oomless("config", "import", str(source), "--yes")
    assert (done.returncode, done.stdout) == (2, "")
    assert is_error_report(done.stderr)
    return done.stderr


def test_what_has_an_effect_is_in_effect(source: Path) -> None:
    report = take(source)
    assert (report["imported"], report["changed"]) == (2, True)
    assert config.load_settings(report["settings"]).max_parallel_subagents == 2
    assert stat.S_IMODE(os.stat(report["settings"]).st_mode) == 0o600
    shown = json.loads(run_oomless("config", "show", "--json").stdout)["settings"]
    assert [row["value"] for row in shown if row["key"] == "max_parallel_subagents"] == [2]


def test_what_has_none_is_named_with_the_reason(source: Path) -> None:
    skipped = {entry["key"]: entry["why"] for entry in take(source)["skipped"]}
    assert list(skipped) == ["subagentMemoryLimit", "preferentialModel", "mcpServerSharing"]
    assert all(skipped.values())
    done = run_oomless("config", "import", str(source), "--yes")
    for key in skipped:
        assert f"{key} is not imported: {skipped[key]}" in done.stdout
    assert "Claude Code itself ignores such a file" in done.stdout


def test_comments_and_the_rest_are_kept(source: Path, target: Path) -> None:
    target.write_text(OURS)
    target.chmod(0o640)
    done = run_oomless("config", "import", str(source), "--yes")
    assert "+max_parallel_subagents = 2" in done.stdout.splitlines()
    new = target.read_text().splitlines()
    assert [line for line in new if line != "max_parallel_subagents = 2"] == OURS.splitlines()
    assert config.load_settings(str(target)).budget == 8 * 2**30
    assert stat.S_IMODE(target.stat().st_mode) == 0o640
    assert os.listdir(target.parent) == ["config.toml"]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("max_parallel_subagents = 5  # mine\nwait = '1m'\n", "max_parallel_subagents = 2  # mine\nwait = '1m'\n"),
        ('max_parallel_subagents = "auto"\n', "max_parallel_subagents = 2\n"),
        ("[daemon]\nport = 1\n", None),
        ("daemon.port = 1\n[classes]\na.memory = '1GB'", None),
        ("# x", None),
        ("", "max_parallel_subagents = 2\n"),
    ],
)
def test_the_setting_is_at_the_top(old: str, new: str | None) -> None:
    made = config_import.put_setting(old, "f", 2)
    assert new is None or made == new
    assert tomllib.loads(made) == {**tomllib.loads(old), "max_parallel_subagents": 2}
    assert config_import.put_setting(made, "f", 2) == made


def test_windows_line_ends_are_kept() -> None:
    made = config_import.put_setting("a = 1\r\n\r\n[b]\r\n", "f", 2)
    assert made.count("\n") == made.count("\r\n") == 4


def test_a_second_import_changes_nothing(source: Path, target: Path) -> None:
    take(source)
    before = target.stat().st_mtime_ns, target.stat().st_ino
    done = run_oomless("config", "import", str(source))
    assert (done.returncode, "(unchanged)" in done.stdout) == (0, True)
    assert take(source)["changed"] is False
    assert (target.stat().st_mtime_ns, target.stat().st_ino) == before


def test_nothing_to_import(source: Path) -> None:
    source.write_text('{"mcpServerSharing": false}')
    report = take(source)
    assert (report["imported"], report["changed"]) == (None, False)
    assert not os.path.exists(report["settings"])


def test_it_asks_first(source: Path, target: Path) -> None:
    done = run_oomless("config", "import", str(source))
    assert done.returncode == 2, done
    assert is_error_report(done.stderr)
    assert "--yes" in done.stderr
    assert "+max_parallel_subagents = 2" in done.stdout
    assert not target.exists()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"maxParallelSubagents": 2', ":1:27: not valid JSON"),
        ("// x\n{\n// y\n]", ":4:1: not valid JSON"),
        ("[2]", "not a JSON object"),
        ('{"maxParallelSubagent": 2}', "maxParallelSubagent: there is no such setting"),
        ('{"maxParallelSubagents": "2"}', "expected a whole number"),
        ('{"maxParallelSubagents": true}', "expected a whole number"),
        ('{"maxParallelSubagents": 0}', "expected a whole number"),
        ('{"maxParallelSubagents": 2.5}', "expected a whole number"),
        ('{"maxParallelSubagents": 1e400}', "expected a whole number"),
        ('{"maxParallelSubagents": null}', "expected a whole number"),
        ('{"maxParallelSubagents": 2, "maxParallelSubagents": 3}', "twice"),
        ('{"maxParallelSubagents": 2, "subagentMemoryLimit": 512}', "subagentMemoryLimit"),
        ('{"maxParallelSubagents": 2, "subagentMemoryLimit": "much"}', "subagentMemoryLimit"),
        ('{"maxParallelSubagents": 2, "preferentialModel": 1}', "preferentialModel"),
        ('{"maxParallelSubagents": 2, "mcpServerSharing": "yes"}', "mcpServerSharing"),
    ],
)
def test_a_mistake_writes_nothing(source: Path, text: str, says: str) -> None:
    with pytest.raises(UsageError) as caught:
        config_import.read_incident(text, "incident.json")
    assert says in caught.value.line()


def test_a_mistake_is_one_line(source: Path, target: Path) -> None:
    source.write_text('{"maxParallelSubagents": 2, "other": 1}')
    assert "there are: maxParallelSubagents" in refused(source)
    assert "there is no file" in refused(source.parent / "nope.json")
    assert not target.exists()


def test_a_broken_config_is_not_edited(source: Path, target: Path) -> None:
    target.write_text("budget = \n")
    assert "config.toml:1" in refused(source)
    target.write_text("budgett = 1\n")
    assert "did you mean budget?" in refused(source)
    assert target.read_text() == "budgett = 1\n"


def test_a_slash_within_text_is_no_comment() -> None:
    read = config_import.read_incident('{"preferentialModel":\n"//haiku"}', "f")
    assert [entry.key for entry in read.skipped] == ["preferentialModel"]
