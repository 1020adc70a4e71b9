"""The batch file: JSON Lines, one job a line. Each field is checked before anything runs, and a mistake is named by
file and line.

A line is ``{"name", "command": [...], "class"?, "memory"?, "expect"?, "processes"?, "timeout"?, "retries"?, "env"?,
"cwd"?, "private_tmp"?}``. Empty lines and lines that start with ``#`` are skipped.
"""

from __future__ import annotations

import difflib
import os
import sys
from collections.abc import Callable
from typing import Any

import msgspec

from oomless.errors import BatchFileError, UsageError
from oomless.units import parse_duration, parse_size

#: More than any machine has, and it still fits the 64 bits of every reader of our JSON.
_SIZE_MAX = 2**60
_PROCESSES_MAX = 2**22
_SECONDS_MAX = 10 * 365 * 86400.0
_FIX = "correct the line, or use --keep-going to run the others"


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """``memory`` (bytes) reserves and limits, ``expect`` only reserves. ``processes`` limits how many there are at
    once. ``timeout`` is in seconds. ``retries`` are further attempts after the first."""

    line: int
    name: str
    command: tuple[str, ...]
    class_name: str | None = None
    memory: int | None = None
    expect: int | None = None
    processes: int | None = None
    timeout: float | None = None
    retries: int = 0
    env: dict[str, str] = {}
    cwd: str | None = None
    private_tmp: bool = False


class BatchFile(msgspec.Struct, frozen=True, kw_only=True):
    """``source`` is the absolute path, or ``-`` for standard input. ``broken``: the error of each line that is no
    job."""

    source: str
    content: bytes
    jobs: tuple[Job, ...]
    broken: tuple[BatchFileError, ...]


def load_batch(path: str) -> BatchFile:
    """Raises BatchFileError only if the file as a whole cannot be read."""
    try:
        if path == "-":
            content = sys.stdin.buffer.read()
        else:
            with open(path, "rb") as file:
                content = file.read()
    except OSError as error:
        raise BatchFileError(f"cannot read the batch file {path}", error.strerror or str(error)) from None
    jobs, broken = parse_batch(content, "<stdin>" if path == "-" else path)
    source = path if path == "-" else os.path.abspath(path)
    return BatchFile(source=source, content=content, jobs=tuple(jobs), broken=tuple(broken))


def parse_batch(content: bytes, source: str) -> tuple[list[Job], list[BatchFileError]]:
    jobs: list[Job] = []
    broken: list[BatchFileError] = []
    lines: dict[str, int] = {}
    for number, raw in enumerate(content.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
        if not raw.strip() or raw.lstrip().startswith(b"#"):
            continue
        try:
            job = _check_job(number, _decode_object(raw))
            if job.name in lines:
                raise _mistake(f"the name {job.name!r} is already that of line {lines[job.name]}")
        except UsageError as error:
            broken.append(BatchFileError(f"{source}:{number}: {error.what}", error.why, error.hint))
            continue
        lines[job.name] = number
        jobs.append(job)
    return jobs, broken


def _mistake(what: str, why: str = "", hint: str = _FIX) -> UsageError:
    return UsageError(what, why, hint)


def _decode_object(raw: bytes) -> dict[str, Any]:
    try:
        fields = msgspec.json.decode(raw.decode())
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _mistake("the line is not JSON", str(error).removeprefix("JSON is malformed: ")) from None
    if not isinstance(fields, dict):
        raise _mistake("the line is not a JSON object", "", 'write {"name": "...", "command": ["...", "..."]}')
    return fields


def _check_job(number: int, fields: dict[str, Any]) -> Job:
    for key in fields:
        if key not in _FIELDS:
            raise _unknown_key(key)
    if "command" not in fields:
        raise _mistake("no command", "", 'add "command": ["program", "argument"]')
    checked = {
        "class_name" if key == "class" else key: _FIELDS[key](key, value)
        for key, value in fields.items()
        if value is not None or key == "command"
    }
    return Job(line=number, **{"name": f"job-{number}", **checked})


def _unknown_key(key: str) -> UsageError:
    close = difflib.get_close_matches(key, _FIELDS, n=1)
    hint = f"did you mean {close[0]!r}?" if close else _FIX
    return _mistake(f"unknown key {key!r}", f"a job has {', '.join(_FIELDS)}", hint)


def _check_text(key: str, value: object) -> str:
    """A string that can be a name on one line, or a path."""
    if not isinstance(value, str) or not value.strip() or not value.isprintable():
        raise _mistake(f"{key!r} is not a line of text: {_show_value(value)}")
    return value


def _check_argument(key: str, value: object) -> str:
    """What the kernel takes as an argument: any string without NUL."""
    if not isinstance(value, str):
        raise _mistake(
            f"{key!r} holds something that is not a string: {_show_value(value)}", "", "write it in quotes"
        )
    if "\0" in value:
        raise _mistake(f"{key!r} holds a NUL character: {_show_value(value)}")
    return value


def _check_command(key: str, value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not value:
        hint = 'write ["program", "argument"], or ["sh", "-c", "..."] for a shell\'s line'
        raise _mistake(f"the command is not a list of strings: {_show_value(value)}", "", hint)
    command = tuple(_check_argument(key, part) for part in value)
    if not command[0]:
        raise _mistake("the command's first string, the program, is empty")
    return command


def _check_size(key: str, value: object) -> int:
    size = parse_size(value, key) if isinstance(value, str) else value
    if isinstance(size, bool) or not isinstance(size, int | float) or not 0 < size <= _SIZE_MAX:
        hint = 'write it as "512MB", or as a number of bytes'
        raise _mistake(f"{key} is not an amount of memory: {_show_value(value)}", "", hint)
    return int(size)


def _check_timeout(key: str, value: object) -> float:
    seconds = parse_duration(value, key) if isinstance(value, str) else value
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds <= _SECONDS_MAX:
        hint = 'write it as "10m", or as a number of seconds'
        raise _mistake(f"{key} is not a duration above zero: {_show_value(value)}", "", hint)
    return float(seconds)


def _check_retries(key: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= 1000:
        raise _mistake(f"{key} is not a number of further attempts: {_show_value(value)}", "", "write 0 to 1000")
    return value


def _check_flag(key: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise _mistake(f"{key} is neither true nor false: {_show_value(value)}")
    return value


def _check_processes(key: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= _PROCESSES_MAX:
        raise _mistake(f"{key} is not a number of processes: {_show_value(value)}", "", "write a whole number from 1")
    return value


def _check_env(key: str, value: object) -> dict[str, str]:
    """Values are never shown: they may be secrets."""
    if not isinstance(value, dict):
        raise _mistake(f"{key} is not an object", "", 'write "env": {"NAME": "value"}')
    for name, text in value.items():
        if not name or "=" in name or "\0" in name:
            raise _mistake(f"{key} has a variable without a usable name: {name!r}")
        if not isinstance(text, str) or "\0" in text:
            raise _mistake(f"{key} has a value that is not a string without NUL: that of {name!r}")
    return value


def _show_value(value: object) -> str:
    text = msgspec.json.encode(value).decode()
    return text if len(text) <= 60 else text[:57] + "..."


_FIELDS: dict[str, Callable[[str, object], Any]] = {
    "name": _check_text,
    "command": _check_command,
    "class": _check_text,
    "memory": _check_size,
    "expect": _check_size,
    "processes": _check_processes,
    "timeout": _check_timeout,
    "retries": _check_retries,
    "env": _check_env,
    "cwd": _check_text,
    "private_tmp": _check_flag,
}
