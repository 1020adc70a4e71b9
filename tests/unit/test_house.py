"""House rules that can be counted: docstrings, lengths, and a README that knows every command."""

from __future__ import annotations

import ast
import os
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
MODULES = sorted((ROOT / "src" / "oomless").rglob("*.py"))
MOST_LINES, MOST_LINES_OF_FUNCTION = 600, 60


def name(path: Path) -> str:
    return str(path.relative_to(ROOT / "src" / "oomless"))


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_module(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text, str(path))
    if path.name != "__init__.py" or tree.body:
        assert ast.get_docstring(tree), "no docstring"
    assert len(text.splitlines()) <= MOST_LINES
    long = [
        f"{node.name}: {node.end_lineno - node.lineno + 1} lines"
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.end_lineno is not None
        and node.end_lineno - node.lineno + 1 > MOST_LINES_OF_FUNCTION
    ]
    assert long == []


def commands(command: Any, above: str = "oomless") -> Iterator[str]:
    """``oomless scan``, ``oomless config show``, ...: the leaves of a typer or click command."""
    inner = getattr(command, "commands", None)
    if not inner:
        yield above
        return
    for word, sub in inner.items():
        if not sub.hidden:
            yield from commands(sub, f"{above} {word}")


def test_every_command_is_in_the_readme() -> None:
    import typer.main

    from oomless.cli.app import build

    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    found = {"oomless run", *commands(typer.main.get_command(build()))}
    assert len(found) > 1
    missing = [line for line in sorted(found) if not re.search(rf"\b{line}\b", readme)]
    assert missing == []


def test_every_make_target_has_help() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z]+):", makefile, re.MULTILINE))
    assert targets == {"help", "setup", "demo", "test", "lint", "bench", "soak", "corpus"}
    assert targets == set(re.findall(r"^([a-z]+):.* ## \S", makefile, re.MULTILINE))


def test_constraints_are_plain_pins() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    assert lines
    assert [line for line in lines if not re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.]+", line)] == []


@pytest.mark.parametrize("path", sorted((ROOT / "tests").rglob("test_*.py")), ids=lambda path: path.stem)
def test_marks_stand_on_tests(path: Path) -> None:
    """pytest says nothing of a skip on a helper, as when a line was put between the mark and its test."""
    misplaced = [
        f"{node.name}: {ast.unparse(mark)}"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path)))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not node.name.startswith("test_")
        for mark in node.decorator_list
        if ast.unparse(mark).startswith("pytest.mark.")
    ]
    assert misplaced == []


TESTS = sorted((ROOT / "tests").rglob("test_*.py"))


def test_folders_of_the_tests() -> None:
    """Each tier has one (CONTRIBUTING.md); ``corpus`` and ``data`` hold no tests."""
    tiers = {"unit", "processes", "daemon", "hosts", "e2e", "vm", "soak"}
    folders = {path.name for path in (ROOT / "tests").iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert folders == tiers | {"support", "corpus", "data"}
    assert {path.parent.name for path in TESTS} <= tiers


@pytest.mark.parametrize("path", TESTS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_no_test_module_imports_another(path: Path) -> None:
    """What two of them need is in ``tests/support``."""
    modules = {other.stem for other in TESTS} | {"conftest"}
    imported = {
        word
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path)))
        for name in (
            [node.module or "", *(alias.name for alias in node.names)]
            if isinstance(node, ast.ImportFrom)
            else [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else []
        )
        for word in name.split(".")
    }
    assert imported & modules == set()


@pytest.mark.parametrize("path", TESTS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_what_root_skips_an_ordinary_user_runs(path: Path) -> None:
    """Only ``as_user`` tests are run as one: what is skipped for root must be among them, or it is never run."""
    tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
    whole_module = any(
        isinstance(node, ast.Assign)
        and ast.unparse(node.targets[0]) == "pytestmark"
        and "as_user" in ast.unparse(node)
        for node in tree.body
    )
    unmarked = [
        node.name
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef) and "geteuid() == 0" in " ".join(map(ast.unparse, node.decorator_list))
        if not whole_module and "as_user" not in " ".join(map(ast.unparse, node.decorator_list))
    ]
    assert unmarked == []


@pytest.mark.parametrize(
    "start",
    [
        lambda: subprocess.run(["true"], check=True),
        lambda: os.posix_spawn("/bin/true", ["true"], {}),
        lambda: os.system("true"),
        lambda: os.fork() or os._exit(1),
    ],
    ids=["subprocess", "posix_spawn", "system", "fork"],
)
def test_no_process_is_started_in_this_folder(start: Callable[[], object]) -> None:
    with pytest.raises(RuntimeError, match="a unit test starts a process"):
        start()
