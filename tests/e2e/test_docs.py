"""The README and the pages in ``docs/`` are true: every command runs as it stands there and prints what they show,
every option exists, every setting loads, and every link leads somewhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer.main

from documents import PAGES, ROOT, Step, blocks, commands, links, matches, steps
from oomless.cli.app import build
from oomless.config import Settings, load_settings

#: Each command's own exit code stays readable by the ``echo $?`` after it.
MARK = "\x01end of a step\x01"
#: A person answers these; a test has no terminal.
ANSWERED = {"oomless install claude-code": "oomless install claude-code --yes"}


def sessions() -> list[Any]:
    found = []
    for page in PAGES:
        for number, block in enumerate(blocks(page, "console"), 1):
            found.append(pytest.param(block, id=f"{page.name}-{number}"))
    return found


def is_installing(block: str) -> bool:
    return any(step.command.startswith("pipx ") for step in steps(block))


@pytest.mark.parametrize("block", sessions())
def test_a_console_session_prints_what_the_page_shows(block: str, tmp_path: Path) -> None:
    if is_installing(block):
        pytest.skip("test_installing_from_a_checkout runs it")
    folder = tmp_path / "bin"
    folder.mkdir()
    program = folder / "oomless"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m oomless "$@"\n')
    program.chmod(0o755)
    work = tmp_path / "work"
    work.mkdir()
    check(run(steps(block), work, {"PATH": f"{folder}:{os.environ['PATH']}"}))


@pytest.mark.network
def test_installing_from_a_checkout(tmp_path: Path) -> None:
    """Into a home of its own, from a copy of what git has."""
    (block,) = (block for block in blocks(ROOT / "README.md", "console") if is_installing(block))
    checkout = tmp_path / "checkout"
    subprocess.run(["git", "clone", "--quiet", "--no-hardlinks", str(ROOT), str(checkout)], check=True)
    environ = {
        "PATH": f"{tmp_path / 'bin'}:{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PIPX_HOME": str(tmp_path / "pipx"),
        "PIPX_BIN_DIR": str(tmp_path / "bin"),
        "PIPX_DEFAULT_PYTHON": sys.executable,
    }
    check(run(steps(block), checkout, environ, timeout=300))
    assert (tmp_path / "bin" / "oomless").exists()


def run(session: list[Step], work: Path, environ: dict[str, str], timeout: float = 60) -> list[tuple[Step, str, int]]:
    """Each step with what it printed and its exit code. ``cat FILE`` shows a file that the reader is to write."""
    script = []
    for step in session:
        if step.command.startswith("cat ") and step.output:
            (work / step.command.split()[1]).write_text(step.output)
        command = ANSWERED.get(step.command, step.command)
        script.append(f"{command}\ncode=$?; echo; echo '{MARK}' $code; (exit $code)\n")
    done = subprocess.run(
        ["bash", "-c", "".join(script)],
        cwd=work,
        env={**os.environ, **environ},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout,
        check=False,
    )
    parts = re.split(rf"\n{MARK} (\d+)\n", done.stdout)
    assert len(parts) == 2 * len(session) + 1, done.stdout
    return [(step, parts[2 * at], int(parts[2 * at + 1])) for at, step in enumerate(session)]


def check(done: list[tuple[Step, str, int]]) -> None:
    """A step that is followed by ``echo $?`` may fail; every other must end with 0."""
    for at, (step, output, code) in enumerate(done):
        following = done[at + 1][0].command if at + 1 < len(done) else ""
        assert code == 0 or following == "echo $?", f"{step.command}: exit code {code}: {output}"
        if step.output:
            assert matches(step.output, output), f"$ {step.command}\n--- the page\n{step.output}--- printed\n{output}"


def test_output_that_differs_is_found() -> None:
    assert matches("used ... MB\n", "used  17 MB\n")
    assert matches("...\nb\n...\n", "a\nb\nc\n")
    assert not matches("used 17 MB\n", "used 18 MB\n")
    assert not matches("a\n", "a\nb\n")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_and_options_that_a_page_names_exist(page: Path) -> None:
    top = typer.main.get_command(build())
    unknown = []
    for command in commands(page):
        for text in command.split("`, `"):
            unknown += [f"{text}: {word}" for word in unknown_words(top, text)]
    assert unknown == []


def unknown_words(top: Any, text: str) -> list[str]:
    from oomless.cli.run_options import HELP

    words = text.partition(" -- ")[0].split()[1:]
    command = top
    while words and getattr(command, "commands", None):
        name = words.pop(0)
        if name.startswith("-"):
            continue
        if name == "hook":
            return []  # what hosts run, not people
        if name == "run":
            return [option for option in re.findall(r"--[\w-]+", " ".join(words)) if option not in HELP]
        if name not in command.commands:
            return [name]
        command = command.commands[name]
    options = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    return [option for option in re.findall(r"--[\w-]+", " ".join(words)) if option not in {*options, "--help"}]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    assert [link for link in links(page) if not (page.parent / link).exists()] == []


def settings() -> list[Any]:
    found = []
    for page in PAGES:
        texts = [text for text in blocks(page, "toml") if "[[program]]" not in text]
        found += [pytest.param(text, id=f"{page.name}-{number}") for number, text in enumerate(texts, 1)]
    return found


@pytest.mark.parametrize("text", settings())
def test_settings_load(text: str, tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text(text)
    assert load_settings(str(path)) != Settings()  # each example sets something; a mistake in it raises


@pytest.mark.parametrize("text", blocks(ROOT / "README.md", "python"))
def test_python_runs(text: str, tmp_path: Path) -> None:
    """With a stand-in for the agent that it starts."""
    agent = tmp_path / "claude"
    agent.write_text("#!/bin/sh\nexit 0\n")
    agent.chmod(0o755)
    body = "\n".join(f"    {line}" for line in text.splitlines())
    program = (
        "import asyncio\nimport oomless\n\ndone = []\n\ndef build_index():\n    done.append('index')\n\n"
        f"async def main():\n{body}\n    print(result.status, done)\n\nasyncio.run(main())\n"
    )
    printed = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (printed.stdout, printed.stderr) == ("done ['index']\n", "")
