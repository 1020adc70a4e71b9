"""Settings: every mistake is named by file and line, a project's file only tightens, changes are seen."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from config_files import write
from oomless.config import (
    GIB,
    MIB,
    ClassSettings,
    DaemonSettings,
    LiveSettings,
    Settings,
    default_headroom,
    find_project_file,
    list_origins,
    load_project_settings,
    load_settings,
    merge_settings,
    resolve_headroom,
)
from oomless.daemon.trees.limits import resolve_limits
from oomless.errors import ConfigError
from oomless.model import Terms

FULL = """\
# everything that there is
max_parallel_subagents = 3
budget = "2GiB"
headroom = "300MB"
wait = "9m"

[classes.heavy]
memory = "1GiB"
expect = "300MB"

[classes."with space"]
memory = 1000

[daemon]
port = 8123
"""


def test_missing_file_is_defaults(house: Path) -> None:
    assert load_settings(str(house / "none.toml")) == Settings()
    assert load_settings(str(house / "config" / "none" / "none.toml")) == Settings()
    assert Settings().wait == 540
    assert Settings().max_parallel_subagents == "auto"


def test_all_settings(house: Path) -> None:
    path = write(house, FULL)
    found = load_settings(path)
    assert found.max_parallel_subagents == 3
    assert found.budget == 2 * GIB
    assert found.headroom == 300_000_000
    assert found.wait == 540.0
    assert found.classes["heavy"] == ClassSettings(memory=GIB, expect=300_000_000)
    assert found.classes["with space"] == ClassSettings(memory=1000)
    assert found.daemon == DaemonSettings(port=8123)
    assert found.path == path
    assert {"budget", "classes.heavy.expect", "daemon.port"} <= found.given


def test_auto_and_zero(house: Path) -> None:
    found = load_settings(
        write(house, 'max_parallel_subagents = "auto"\nbudget = "auto"\nheadroom = "auto"\nwait = "0"\n')
    )
    assert found.budget is None
    assert found.headroom is None
    assert found.max_parallel_subagents == "auto"
    assert found.wait == 0


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("budget = ", 1, "not valid TOML"),
        ('wait = "9m"\n\nbudget = "2GiB\n', 3, "not valid TOML"),
        ('budget = "1GB"\nbudget = "2GB"\n', 2, "not valid TOML"),
        ("x = " + "[" * 100_000, 1, "nested"),
        ("\nbudget = " + "1" * 5000, 2, "too long"),
        ('# here\nbudgit = "2GiB"\n', 2, "did you mean budget?"),
        ("colour = 1\n", 1, "there is no such setting"),
        ("[deamon]\nport = 1\n", 1, "did you mean daemon?"),
        ("[daemon]\n\npost = 1\n", 3, "daemon.post.*did you mean port?"),
        ("[classes.a]\nmemory = 1\n[classes.b]\nmemroy = 1\n", 4, "classes.b.memroy.*did you mean memory?"),
        ('[classes]\na = { memory = "1GB" }\nb = { memory = "lots" }\n', 3, "classes.b.memory"),
        ('[classes."a.b"]\nmemory = "x"\n', 2, 'classes."a.b".memory'),
        ('classes.a.memory = "x"\n', 1, "classes.a.memory"),
        ('budget = "lots"\n', 1, 'budget.*"lots".*expected "auto" or an amount'),
        ("budget = true\n", 1, "true is true or false"),
        ("budget = 1.5\n", 1, "1.5 is a number"),
        ("budget = -5\n", 1, "-5.*above zero"),
        ('budget = "0"\n', 1, "above zero"),
        ("budget = 0x" + "f" * 6000, 1, "more than there can be"),
        ('budget = "99999999999TiB"\n', 1, "more than there can be"),
        ("budget = 2024-01-01\n", 1, "a date or time"),
        ("budget = ['1GB']\n", 1, "an array"),
        ("\n[budget]\n", 2, "a table"),
        ("max_parallel_subagents = 0\n", 1, "too small"),
        ("max_parallel_subagents = -1\n", 1, "too small"),
        ("max_parallel_subagents = 'many'\n", 1, '"many" is text'),
        ("max_parallel_subagents = true\n", 1, "true or false"),
        ("wait = -1\n", 1, "not a duration"),
        ("wait = nan\n", 1, "not a duration"),
        ("wait = inf\n", 1, "not a duration"),
        ('wait = "soon"\n', 1, "expected a duration"),
        ("wait = '" + "9" * 400 + "'\n", 1, "not a duration"),
        ("classes = 3\n", 1, "expected a table"),
        ("[classes]\n\nheavy = 1\n", 3, "classes.heavy.*expected a table"),
        ("daemon = 'x'\n", 1, "expected a table"),
        ("[daemon]\nport = 70000\n", 2, "too large"),
        ("[daemon]\nport = '80'\n", 2, "is text"),
        ('"a\\u001bb" = 1\n', 1, "u001b"),
    ],
)
def test_mistakes_are_named_by_line(house: Path, text: str, line: int, words: str) -> None:
    path = write(house, text)
    with pytest.raises(ConfigError) as caught:
        load_settings(path)
    said = caught.value.line()
    assert said.startswith(f"{path}:{line}: ")
    assert re.search(words, said)
    assert said.isprintable()
    assert len(said) < 400
    assert caught.value.exit_code == 2


def test_unusable_files(house: Path) -> None:
    with pytest.raises(ConfigError, match="not a regular file"):
        load_settings(str(house))
    os.mkfifo(house / "pipe")
    with pytest.raises(ConfigError, match="not a regular file"):
        load_settings(str(house / "pipe"))
    with pytest.raises(ConfigError, match="larger than 1 MiB"):
        load_settings(write(house, "#" * (2**20 + 1)))
    (house / "latin").write_bytes(b"# a\n# caf\xe9\n")
    with pytest.raises(ConfigError, match="latin:2: the text is not UTF-8"):
        load_settings(str(house / "latin"))
    (house / "loop").symlink_to("loop")
    with pytest.raises(ConfigError, match="cannot read"):
        load_settings(str(house / "loop"))
    with pytest.raises(ConfigError, match="there is no settings file"):
        load_settings(str(house / "none"), must_exist=True)


@pytest.mark.as_user
@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_unreadable_file(house: Path) -> None:
    path = write(house, "")
    os.chmod(path, 0)
    with pytest.raises(ConfigError, match="Permission denied"):
        load_settings(path)


def test_byte_order_mark_is_no_mistake(house: Path) -> None:
    assert load_settings(write(house, '\ufeffbudget = "1GB"\n')).budget == 10**9


def test_headroom_default() -> None:
    assert default_headroom(GIB) == 256 * MIB
    assert default_headroom(20 * GIB) == GIB
    assert default_headroom(512 * GIB) == 2 * GIB
    assert resolve_headroom(Settings(headroom=5), 20 * GIB) == 5
    assert resolve_headroom(Settings(), 20 * GIB) == GIB


# A project's file


def test_project_file_is_searched_upward(house: Path) -> None:
    home, inner = house / "home", house / "home" / "a" / "b"
    inner.mkdir(parents=True)
    assert find_project_file(str(inner), str(home)) is None
    above = write(house, 'budget = "3GB"\n', "oomless.toml")
    assert find_project_file(str(inner), str(home)) is None, "looked above the home folder"
    assert find_project_file(str(inner), "/nonexistent") == above
    in_home = write(home, 'budget = "1GB"\n', "oomless.toml")
    assert find_project_file(str(inner), str(home)) == in_home
    nearest = write(home / "a", 'budget = "2GB"\n', "oomless.toml")
    assert load_project_settings(str(inner), str(home)).path == nearest
    assert load_project_settings(str(inner), str(home)).budget == 2 * 10**9


def test_project_without_file(house: Path) -> None:
    assert load_project_settings(str(house / "home"), str(house / "home")) == Settings()


@pytest.mark.parametrize(
    ("text", "line", "key"),
    [
        ("wait = 1\n[daemon]\nport = 1\n", 2, "daemon"),
        ("[classes.a]\nmemory = '1GB'\nexpect = '1MB'\n", 3, "classes.a.expect"),
    ],
)
def test_project_may_only_tighten(house: Path, text: str, line: int, key: str) -> None:
    path = write(house, text, "oomless.toml")
    load_settings(path)
    with pytest.raises(ConfigError) as caught:
        load_settings(path, project=True)
    assert caught.value.what == f"{path}:{line}: {key}"
    assert "may only tighten" in caught.value.why


def both(house: Path, user: str, project: str) -> Settings:
    mine, its = write(house, user), write(house, project, "oomless.toml")
    return merge_settings(load_settings(mine), load_settings(its, project=True))


@pytest.mark.parametrize(
    ("user", "project", "parallel", "budget", "wait"),
    [
        ("", "", "auto", None, 540),
        ("", 'max_parallel_subagents = 2\nbudget = "1kB"\nwait = 5', 2, 1000, 5),
        ('max_parallel_subagents = 2\nbudget = "1kB"\nwait = 5', "", 2, 1000, 5),
        ('max_parallel_subagents = 2\nbudget = "1kB"\nwait = 5', FULL.split("[")[0], 2, 1000, 5),
        (FULL.split("[")[0], 'max_parallel_subagents = 2\nbudget = "1kB"\nwait = 5', 2, 1000, 5),
        ('wait = "1h"', "", "auto", None, 3600),
        ('wait = "1h"', 'wait = "2h"\nbudget = "auto"', "auto", None, 3600),
    ],
)
def test_the_tighter_has_its_way(
    house: Path, user: str, project: str, parallel: object, budget: int | None, wait: float
) -> None:
    found = both(house, user, project)
    assert (found.max_parallel_subagents, found.budget, found.wait) == (parallel, budget, wait)


def test_classes_are_tightened(house: Path) -> None:
    user = '[classes.a]\nmemory = "1GB"\nexpect = "1MB"\n[classes.b]\nmemory = "1GB"'
    project = '[classes.a]\nmemory = "2GB"\n[classes.b]\nmemory = "500MB"\n[classes.c]\nmemory = "3GB"'
    assert both(house, user, project).classes == {
        "a": ClassSettings(memory=10**9, expect=10**6),
        "b": ClassSettings(memory=5 * 10**8),
        "c": ClassSettings(memory=3 * 10**9),
    }


def test_headroom_only_grows(house: Path) -> None:
    total = 20 * GIB
    assert resolve_headroom(both(house, "", 'headroom = "1MB"'), total) == GIB
    assert resolve_headroom(both(house, "", 'headroom = "5GiB"'), total) == 5 * GIB
    assert resolve_headroom(both(house, 'headroom = "2MB"', 'headroom = "1MB"'), total) == 2_000_000
    assert resolve_headroom(both(house, 'headroom = "2MB"', 'headroom = "3MB"'), total) == 3_000_000


def test_the_daemon_is_the_users(house: Path) -> None:
    assert both(house, "[daemon]\nport = 77", "").daemon.port == 77


def test_origins(house: Path) -> None:
    user = load_settings(write(house, 'budget = "2GB"\nwait = "9m"\n[classes.a]\nmemory = "1GB"\n'))
    project = load_settings(
        write(house, 'budget = "1GB"\nwait = "1h"\nheadroom = "1GB"\n[classes.a]\nmemory = "5GB"\n', "oomless.toml"),
        project=True,
    )
    found = {o.key: (o.value, o.source, o.file) for o in list_origins(user, project)}
    assert found == {
        "max_parallel_subagents": ("auto", "default", None),
        "budget": (10**9, "project", project.path),
        "headroom": ("auto", "default", None),
        "headroom_floor": (10**9, "project", project.path),
        "wait": (540.0, "user", user.path),
        "rung": ("auto", "default", None),
        "reap": ("proven", "default", None),
        "marks.admit": (0.8, "default", None),
        "marks.warn": (0.9, "default", None),
        "marks.end": (1.0, "default", None),
        "classes.a.memory": (10**9, "user", user.path),
        "classes.a.expect": ("auto", "default", None),
        "classes.a.processes": ("auto", "default", None),
        "daemon.port": (0, "default", None),
    }


# LiveSettings


def test_a_change_is_seen(house: Path) -> None:
    path = write(house, 'budget = "1GB"\n')
    watched = LiveSettings(path)
    assert watched.current().budget == 10**9
    write(house, 'budget = "2GB"\n')  # the same size and inode, likely within the same clock tick
    assert watched.current().budget == 2 * 10**9
    os.unlink(path)
    assert watched.current() == Settings()
    write(house, 'budget = "3GB"\n')
    assert watched.current().budget == 3 * 10**9
    assert watched.problem is None


def test_a_replaced_file_is_seen(house: Path) -> None:
    path = write(house, 'budget = "1GB"\n')
    os.utime(path, ns=(10**18, 10**18))
    watched = LiveSettings(path)
    other = write(house, 'budget = "2GB"\n', "new.toml")
    os.utime(other, ns=(10**18, 10**18))
    os.replace(other, path)
    assert watched.current().budget == 2 * 10**9


def test_an_unchanged_file_is_not_read_again(house: Path) -> None:
    path = write(house, 'budget = "1GB"\n')
    os.utime(path, ns=(10**18, 10**18))
    watched = LiveSettings(path)
    assert watched.current() is watched.current()


def test_a_broken_file_leaves_the_last_good_settings(house: Path) -> None:
    path = write(house, 'budget = "1GB"\n')
    watched = LiveSettings(path)
    write(house, "\nbudget = nonsense\n")
    assert watched.current().budget == 10**9
    assert watched.problem is not None
    assert watched.problem.startswith(f"{path}:2: ")
    write(house, "wait = 5\n")
    assert watched.current() == load_settings(path)
    assert watched.problem is None


# The command


def test_marks(house: Path) -> None:
    found = load_settings(write(house, "[marks]\nadmit = 0.5\nend = 0.95\n")).marks
    assert (found.admit, found.warn, found.end) == (0.5, 0.9, 0.95)


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("[marks]\nadmit = 80\n", 2, "80 is not a share; expected a share of the budget"),
        ("[marks]\nadmit = true\n", 2, "is true or false"),
        ("[marks]\nwarn = 0.7\n", 2, "it is below the mark before it"),
        ("[marks]\n\nend = 0.85\n", 3, "it is below the mark before it"),
        ("[marks]\nkill = 1.0\n", 2, "there is no such setting"),
    ],
)
def test_marks_that_cannot_be(house: Path, text: str, line: int, says: str) -> None:
    path = write(house, text)
    with pytest.raises(ConfigError) as raised:
        load_settings(path)
    assert f"{path}:{line}: marks" in raised.value.line()
    assert says in raised.value.line()


def test_a_project_does_not_set_marks(house: Path) -> None:
    with pytest.raises(ConfigError, match="only tighten"):
        load_settings(write(house, "[marks]\nadmit = 0.5\n", "oomless.toml"), project=True)


def test_the_processes_of_a_class_are_tightened(house: Path) -> None:
    user = load_settings(write(house, "[classes.a]\nprocesses = 40\n[classes.b]\nprocesses = 'auto'\n"))
    project = "[classes.a]\nprocesses = 50\n[classes.b]\nprocesses = 30\n"
    found = merge_settings(user, load_settings(write(house, project, "oomless.toml"), project=True)).classes
    assert (found["a"].processes, found["b"].processes) == (40, 30)
    for class_name, processes in (("a", 40), (None, 60)):
        terms = Terms(name="x", class_name=class_name, processes=60)
        assert resolve_limits(terms, None, user, Settings(), "", GIB).terms.processes == processes
