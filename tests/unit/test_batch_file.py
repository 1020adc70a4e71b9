"""The batch file: every kind of broken line is named by file and line, and good ones come out as jobs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oomless.engines.batch_file import load_batch, parse_batch
from oomless.errors import BatchFileError


def lines(*jobs: object) -> bytes:
    return "\n".join(job if isinstance(job, str) else json.dumps(job) for job in jobs).encode()


def test_a_full_job() -> None:
    jobs, broken = parse_batch(
        lines(
            "# a comment",
            "",
            {
                "name": "one",
                "command": ["true", ""],
                "class": "review",
                "memory": "512MB",
                "expect": 300_000_000,
                "timeout": "10m",
                "processes": 40,
                "retries": 2,
                "env": {"A": "b=c"},
                "cwd": "/",
            },
            {"command": ["true"], "timeout": 1.5, "class": None},
        ),
        "f",
    )
    assert not broken
    one, two = jobs
    assert (one.name, one.command, one.class_name) == ("one", ("true", ""), "review")
    assert (one.memory, one.expect, one.timeout, one.retries) == (512_000_000, 300_000_000, 600.0, 2)
    assert one.processes == 40
    assert (one.env, one.cwd, one.line) == ({"A": "b=c"}, "/", 3)
    assert (two.name, two.timeout, two.memory, two.retries) == ("job-4", 1.5, None, 0)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("{", "not JSON"),
        ('{"command": ["a"], "name": "\\ud800"}', "not JSON"),
        ("[1]", "not a JSON object"),
        ('{"name": "a"}', "no command"),
        ('{"command": null}', "not a list of strings"),
        ('{"command": "ls -l"}', "not a list of strings"),
        ('{"command": []}', "not a list of strings"),
        ('{"command": [""]}', "the program, is empty"),
        ('{"command": ["a", 1]}', "not a string: 1"),
        ('{"command": ["a\\u0000b"]}', "NUL"),
        ('{"command": ["a"], "memry": 1}', "did you mean 'memory'?"),
        ('{"command": ["a"], "name": ""}', "'name' is not a line of text"),
        ('{"command": ["a"], "name": "a\\nb"}', "'name' is not a line of text"),
        ('{"command": ["a"], "memory": "lots"}', "memory 'lots' is not an amount of memory"),
        ('{"command": ["a"], "memory": 0}', "memory is not an amount of memory: 0"),
        ('{"command": ["a"], "memory": true}', "memory is not an amount of memory: true"),
        ('{"command": ["a"], "expect": 1e300}', "expect is not an amount of memory"),
        ('{"command": ["a"], "expect": "9999999999TB"}', "expect is not an amount of memory"),
        ('{"command": ["a"], "timeout": "soon"}', "timeout 'soon' is not a duration"),
        ('{"command": ["a"], "timeout": 0}', "timeout is not a duration above zero: 0"),
        ('{"command": ["a"], "processes": 0}', "processes is not a number of processes: 0"),
        ('{"command": ["a"], "processes": true}', "processes is not a number of processes: true"),
        ('{"command": ["a"], "retries": -1}', "retries is not a number of further attempts: -1"),
        ('{"command": ["a"], "retries": 1.5}', "retries is not a number of further attempts: 1.5"),
        ('{"command": ["a"], "env": ["A"]}', "env is not an object"),
        ('{"command": ["a"], "env": {"A": 1}}', "not a string without NUL: that of 'A'"),
        ('{"command": ["a"], "env": {"A=B": "c"}}', "without a usable name"),
        ('{"command": ["a"], "cwd": 3}', "'cwd' is not a line of text: 3"),
    ],
)
def test_a_broken_line_is_named_by_file_and_line(line: str, expected: str) -> None:
    jobs, broken = parse_batch(lines("# first", line, {"name": "good", "command": ["true"]}), "some/file.jsonl")
    assert [job.name for job in jobs] == ["good"]
    (error,) = broken
    assert error.line().startswith("some/file.jsonl:2: ")
    assert expected in error.line()
    assert error.hint
    assert "\n" not in error.line()
    assert error.exit_code == 2


def test_a_second_job_of_a_name_names_both_lines() -> None:
    _, broken = parse_batch(lines({"name": "a", "command": ["x"]}, {"name": "a", "command": ["y"]}), "f")
    assert [error.what for error in broken] == ["f:2: the name 'a' is already that of line 1"]


def test_bytes_that_are_not_text_break_their_line_only() -> None:
    jobs, broken = parse_batch(b'\xef\xbb\xbf{"command": ["a"]}\n{"command": ["\xff"]}\n', "f")
    assert [job.name for job in jobs] == ["job-1"]
    assert [error.what for error in broken] == ["f:2: the line is not JSON"]


def test_a_file_that_cannot_be_read_is_one_error(tmp_path: Path) -> None:
    with pytest.raises(BatchFileError, match=r"cannot read the batch file .*: No such file") as caught:
        load_batch(str(tmp_path / "none.jsonl"))
    assert caught.value.exit_code == 2
    with pytest.raises(BatchFileError, match="Is a directory"):
        load_batch(str(tmp_path))


def test_the_source_is_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "b.jsonl").write_bytes(lines({"command": ["true"]}))
    monkeypatch.chdir(tmp_path)
    assert load_batch("b.jsonl").source == str(tmp_path / "b.jsonl")


def test_values_of_the_environment_are_not_shown() -> None:
    _, broken = parse_batch(
        lines({"command": ["a"], "env": {"A": "hush\0", "B": 1}}, {"command": ["a"], "env": ["hush"]}), "f"
    )
    assert len(broken) == 2
    assert not any("hush" in error.line() for error in broken)


@given(st.binary(max_size=200) | st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(["name", "command", "memory", "timeout", "env", "retries", "cwd", "x"]), inner
    ),
).map(lambda value: json.dumps(value).encode()))  # fmt: skip
def test_no_input_raises(content: bytes) -> None:
    jobs, broken = parse_batch(content, "f")
    assert len(jobs) + len(broken) <= content.count(b"\n") + 1
