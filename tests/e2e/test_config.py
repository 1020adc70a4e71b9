"""``oomless config check`` and ``config show`` as commands."""

from __future__ import annotations

import json
import re
from pathlib import Path

from config_files import write
from helpers import is_error_report, run_oomless
from oomless.config import (
    GIB,
)


def test_show_says_where_each_is_from(house: Path) -> None:
    user = write(house / "config" / "oomless", 'budget = "2GiB"\n')
    project = write(house / "home" / "work", "max_parallel_subagents = 2\n", "oomless.toml")
    done = run_oomless("config", "show", "--json", cwd=house / "home" / "work")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert next(iter(found)) == "schema"
    assert found["schema"] == "oomless.config/1"
    rows = {row["key"]: row for row in found["settings"]}
    assert rows["budget"] == {"key": "budget", "value": 2 * GIB, "unit": "bytes", "source": "user", "file": user}
    assert rows["max_parallel_subagents"]["file"] == project
    assert rows["wait"] == {"key": "wait", "value": 540.0, "unit": "seconds", "source": "default", "file": None}
    text = run_oomless("config", "show", cwd=house / "home" / "work")
    assert text.returncode == 0
    assert re.search(rf"^budget +2.15 GB +{re.escape(user)}$", text.stdout, re.MULTILINE)
    assert re.search(rf"^max_parallel_subagents +2 +{re.escape(project)}$", text.stdout, re.MULTILINE)
    assert re.search(r"^wait +9 min 0 s +default$", text.stdout, re.MULTILINE)
    assert "\x1b" not in text.stdout


def test_show_prints_shares_and_numbers_as_they_are_written(house: Path) -> None:
    """Only sizes are sizes: a mark of 0.8 is no byte, and 40 processes are not 40 B."""
    write(house / "config" / "oomless", "[marks]\nadmit = 0.75\n[classes.tests]\nprocesses = 40\nmemory = 40\n")
    lines = run_oomless("config", "show", cwd=house).stdout.splitlines()
    values = {line.split()[0]: line.split("  ", 1)[1].strip().split("  ")[0] for line in lines}
    assert (values["marks.admit"], values["marks.warn"], values["marks.end"]) == ("0.75", "0.9", "1")
    assert (values["classes.tests.processes"], values["classes.tests.memory"]) == ("40", "40 B")


def test_show_of_a_broken_file_is_one_line(house: Path) -> None:
    path = write(house / "config" / "oomless", "budget = -1\n")
    done = run_oomless("config", "show", cwd=house)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith(f"oomless: error: {path}:1: budget: ")
    assert is_error_report(done.stderr)


def test_check(house: Path) -> None:
    nothing = run_oomless("config", "check", cwd=house / "home")
    assert (nothing.returncode, nothing.stderr) == (0, "")
    assert nothing.stdout.count("\n") == 1
    user = write(house / "config" / "oomless", "wait = 5\n")
    good = run_oomless("config", "check", cwd=house / "home")
    assert good.returncode == 0
    assert user in good.stdout
    write(house / "home", "[daemon]\nport = 1\n", "oomless.toml")
    bad = run_oomless("config", "check", cwd=house / "home")
    assert bad.returncode == 2
    assert "oomless.toml:1: daemon: a project's file may only tighten" in bad.stderr
    assert bad.stdout == ""


def test_check_of_a_named_file(house: Path) -> None:
    path = write(house, "wait = 5\n", "other.toml")
    good = run_oomless("config", "check", path, "--json")
    assert good.returncode == 0
    assert json.loads(good.stdout) == {"schema": "oomless.config/1", "ok": True, "files": [path], "problem": None}
    write(house, "wiat = 5\n", "other.toml")
    bad = run_oomless("config", "check", path, "--json")
    assert bad.returncode == 2
    found = json.loads(bad.stdout)
    assert found["ok"] is False
    assert found["problem"].startswith(f"{path}:1: wiat: ")
    assert bad.stderr == f"oomless: error: {found['problem'].replace('; ', chr(10) + 'hint: ')}\n"
    missing = run_oomless("config", "check", str(house / "none.toml"))
    assert missing.returncode == 2
    assert "there is no settings file" in missing.stderr
