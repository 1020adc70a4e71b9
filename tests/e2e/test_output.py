"""Errors are one line and an exit code, ``--json`` is one object, and a pipe gets no colours."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from oomless.cli import output
from oomless.errors import CommandNotFound, Interrupted, OomlessError, Refused, UsageError


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    schema: str = "oomless.test/1"
    n: int


class Unnamed(msgspec.Struct, frozen=True, kw_only=True):
    n: int


def python(code: str, **options: object) -> subprocess.Popen[bytes]:
    """A process that runs ``code`` with what a command has at hand."""
    lines = "from oomless.cli.output import *\nfrom oomless.errors import *\n" + code
    # The environment by hand: readline, which pytest loads, puts COLUMNS=80 into the one that children get else.
    environ = dict(os.environ)
    return subprocess.Popen([sys.executable, "-c", lines], env=environ, stderr=subprocess.PIPE, **options)  # type: ignore[call-overload, no-any-return]


@pytest.mark.parametrize(
    ("error", "code"),
    [(OomlessError("w"), 125), (UsageError("w"), 2), (Refused("w"), 75), (CommandNotFound("w"), 127)],
)
def test_an_error_is_one_line_and_its_code(
    error: OomlessError, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught, output.guard():
        raise error
    assert caught.value.code == code
    assert capsys.readouterr() == ("", "oomless: error: w\n")


def test_a_line_cannot_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        output.fail(OomlessError("no \x1b[31m\udcff", "\nwhy"))
    assert capsys.readouterr().err == "oomless: error: no \\x1b[31m\\udcff: why\n"


@pytest.mark.parametrize("error", [KeyboardInterrupt, Interrupted])
def test_interrupted_is_130(error: type[BaseException], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught, output.guard():
        raise error("stopped")
    assert caught.value.code == 130


def test_guard_leaves_other_exceptions_and_results_alone() -> None:
    @output.guard()
    def fine(n: int) -> int:
        return n + 1

    assert fine(1) == 2
    with pytest.raises(ZeroDivisionError), output.guard():
        raise ZeroDivisionError


def test_json_is_one_line_with_the_schema_first(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_json(Answer(n=1))
    assert capsys.readouterr().out == '{"schema":"oomless.test/1","n":1}\n'
    with pytest.raises(TypeError, match="schema"):
        output.print_json(Unnamed(n=1))


@pytest.mark.parametrize("printed", ["print('x' * 9, flush=True)", "print('x')", "console().print('x')"])
def test_a_reader_that_went_away_is_a_quiet_end(printed: str) -> None:
    read, write = os.pipe()
    os.close(read)
    with python(f"with guard(): {printed}", stdout=write) as process:
        os.close(write)
        _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (141, b"")


@pytest.mark.parametrize("printed", ["print('x')", "console().print('x')"])
def test_a_full_disk_is_one_line(printed: str) -> None:
    with open("/dev/full", "wb") as full, python(f"with guard(): {printed}", stdout=full) as process:
        _, err = process.communicate(timeout=30)
    assert process.returncode == 125
    assert err == b"oomless: error: cannot write the output: No space left on device\n"


def test_an_error_of_the_system_is_one_line_and_loses_no_output() -> None:
    with python("with guard(): print('x'); open('/nonexistent/file')", stdout=subprocess.PIPE) as process:
        out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (125, b"x\n")
    assert err == b"oomless: error: cannot use /nonexistent/file: No such file or directory\n"


def test_a_pipe_gets_neither_colour_nor_cut_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    code = "from rich.table import Table\nt = Table(box=None)\nt.add_row('x' * 300)\nconsole().print(t, style='red')"
    with python(code, stdout=subprocess.PIPE) as process:
        out, err = process.communicate(timeout=30)
    assert err == b""
    assert b"x" * 300 in out
    assert b"\x1b" not in out


def test_fast_commands_can_fail_without_rich(tmp_path: Path) -> None:
    code = "import sys, oomless.cli.output; print(sorted({'rich', 'msgspec', 'typer'} & set(sys.modules)))"
    with python(code, stdout=subprocess.PIPE) as process:
        assert process.communicate(timeout=30)[0] == b"[]\n"
