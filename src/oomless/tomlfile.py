"""A TOML file in which every mistake is a ``ConfigError`` with file and line, the key, and what is expected."""

from __future__ import annotations

import difflib
import math
import os
import re
import stat
import tomllib
from collections.abc import Callable, Mapping
from typing import Literal, NoReturn, TypeVar

import msgspec

from oomless.errors import ConfigError, UsageError
from oomless.units import LONGEST, parse_duration, parse_size

#: Which containment to use: the best there is, or that one (``contain/rungs/choose.py``).
RUNGS = ("auto", "cgroup2+systemd", "cgroup2", "cgroup2+cgroup1", "cgroup1", "pid-namespace", "subreaper")

MAX_BYTES = 2**20

Key = tuple[str, ...]
T = TypeVar("T")


class _InvalidValue(Exception):
    """``why`` a value cannot be, and what is ``expected``."""

    def __init__(self, why: str, expected: str) -> None:
        super().__init__(why, expected)
        self.why, self.expected = why, expected


class Document:
    """One file, parsed; ``given`` collects the dotted keys of the values that were taken from it."""

    def __init__(self, path: str, text: str) -> None:
        self.path, self.text = path, text
        self.given: set[str] = set()
        try:
            self.top: dict[str, object] = tomllib.loads(text)
        except (ValueError, RecursionError) as error:
            # Not only TOMLDecodeError: int() refuses more than 4300 digits with a plain ValueError.
            what, line = _locate_syntax_error(str(error), text)
            raise ConfigError(f"{path}:{line}: not valid TOML", what) from None

    @classmethod
    def open(cls, path: str) -> Document | None:
        """None if there is no such file."""
        text = _read_text(path)
        return None if text is None else cls(path, text)

    def table(self, parent: Mapping[str, object], key: Key) -> Mapping[str, object]:
        """The table ``key`` (whose last part is its name in ``parent``); empty if it is not there."""
        table = parent.get(key[-1], {})
        if not isinstance(table, dict):
            self.fail(key, _describe(table), f"expected a table, [{format_key(key)}]")
        return table

    def check_names(self, table: Mapping[str, object], key: Key, known: tuple[str, ...]) -> None:
        for name in table:
            if name not in known:
                near = difflib.get_close_matches(name, known, n=1)
                hint = f"did you mean {near[0]}?" if near else f"there are: {', '.join(known)}"
                self.fail((*key, name), "there is no such setting", hint)

    def value(self, table: Mapping[str, object], key: Key, check: Callable[[object], T], default: T) -> T:
        if key[-1] not in table:
            return default
        self.given.add(format_key(key))
        try:
            return check(table[key[-1]])
        except _InvalidValue as error:
            self.fail(key, error.why, error.expected)

    def fail(self, key: Key, why: str, hint: str) -> NoReturn:
        raise ConfigError(f"{self.path}:{key_line(self.text, key)}: {format_key(key)}", why, hint)


def _read_text(path: str) -> str | None:
    try:
        # O_NONBLOCK: opening a named pipe would wait for a writer.
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise ConfigError(f"cannot read {path}", error.strerror or str(error)) from None
    try:
        state = os.fstat(fd)
        if not stat.S_ISREG(state.st_mode):
            raise ConfigError(f"cannot read {path}", "it is not a regular file")
        if state.st_size > MAX_BYTES:
            raise ConfigError(f"cannot read {path}", "it is larger than 1 MiB")
        return _decode(path, os.read(fd, MAX_BYTES))
    except OSError as error:
        raise ConfigError(f"cannot read {path}", error.strerror or str(error)) from None
    finally:
        os.close(fd)


def _decode(path: str, raw: bytes) -> str:
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{path}:{line}: the text is not UTF-8", "", "save the file as UTF-8") from None


# Values: what each kind of setting may be


def check_size(value: object) -> int | None:
    expected = 'expected "auto" or an amount of memory such as "512MB" or "2GiB"'
    if value == "auto":
        return None
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise _InvalidValue(_describe(value), expected)
    try:
        size = parse_size(value) if isinstance(value, str) else value
    except UsageError:
        size = 0
    if size <= 0:
        raise _InvalidValue(f"{_quote(value)} is not an amount of memory above zero", expected)
    if size >= 2**63:
        raise _InvalidValue(f"{_quote(value)} is more than there can be", expected)
    return size


def check_seconds(value: object) -> float:
    expected = 'expected a duration such as "30s" or "9m", or "0" to fail fast'
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise _InvalidValue(_describe(value), expected)
    try:
        duration = parse_duration(value) if isinstance(value, str) else float(value)
    except (UsageError, OverflowError):
        duration = math.nan
    if not 0 <= duration <= LONGEST:
        raise _InvalidValue(f"{_quote(value)} is not a duration", expected)
    return duration


def check_count(value: object) -> int | Literal["auto"]:
    if value == "auto":
        return "auto"
    return _check_whole(value, 1, 10**6, 'expected "auto" or a whole number from 1 to 1000000')


def check_share(value: object) -> float:
    expected = "expected a share of the budget, above 0 and at most 1, such as 0.8"
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _InvalidValue(_describe(value), expected)
    if not 0 < value <= 1:
        raise _InvalidValue(f"{_quote(value)} is not a share", expected)
    return float(value)


def check_port(value: object) -> int:
    return _check_whole(value, 0, 65535, "expected a port, 1 to 65535, or 0 for any that is free")


def check_rung(value: object) -> str:
    if value not in RUNGS:
        raise _InvalidValue(_describe_text(value), f"expected one of {', '.join(RUNGS)}")
    return str(value)


def check_reap(value: object) -> Literal["proven", "ask", "off"]:
    if value == "proven" or value == "ask" or value == "off":
        return value
    raise _InvalidValue(_describe_text(value), "expected one of proven, ask, off")


def _check_whole(value: object, low: int, high: int, expected: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise _InvalidValue(_describe(value), expected)
    if not low <= value <= high:
        raise _InvalidValue(f"{_quote(value)} is too {'small' if value < low else 'large'}", expected)
    return value


_KINDS = {
    bool: "true or false",
    str: "text",
    int: "a whole number",
    float: "a number",
    dict: "a table",
    list: "an array",
}


def _describe(value: object) -> str:
    kind = _KINDS.get(type(value), "a date or time")
    return f"{_quote(value)} is {kind}" if isinstance(value, str | int | float) else f"it is {kind}"


def _describe_text(value: object) -> str:
    """As ``_describe``, where text is the right kind."""
    return _quote(value) if isinstance(value, str) else _describe(value)


def _quote(value: object) -> str:
    # Text as JSON, which escapes control characters; int's repr refuses more than 4300 digits (a long 0x...).
    text = hex(value) if isinstance(value, int) and abs(value) > 10**30 else msgspec.json.encode(value).decode()
    return text if len(text) <= 40 else text[:36] + " ..."


# Lines: tomllib says where a syntax error is, but not where a key is


def _locate_syntax_error(message: str, text: str) -> tuple[str, int]:
    """tomllib's message without its place, and the line; the longest line where it names none."""
    lines = text.split("\n")
    place = re.search(r" \(at (?:line (\d+), column \d+|end of document)\)$", message)
    if place:
        return message[: place.start()], int(place[1] or len(text.rstrip().split("\n")))
    what = "a number is too long" if "digits" in message else "it is nested too deeply"
    return what, max(range(len(lines)), key=lambda i: len(lines[i])) + 1


def format_key(key: Key) -> str:
    """The dotted form, as one writes it in the file."""
    return ".".join(part if re.fullmatch(r"[\w-]+", part) else _quote(part) for part in key)


_PART = re.compile(r"""\s*("(?:[^"\\]|\\.)*"|'[^']*'|[A-Za-z0-9_-]+)\s*([.=\]]?)""")


def key_line(text: str, key: Key) -> int:
    """The line that sets ``key``, else the one that opens its nearest table. A string of several lines may be
    taken for keys: that can only make the number worse, and no setting has such a value."""
    best, best_line, table = 0, 1, Key()
    for number, line in enumerate(text.split("\n"), 1):
        header = line.lstrip().startswith("[")
        parts = _key_of(line.lstrip().lstrip("["), "]" if header else "=")
        if parts is None:
            continue
        full = parts if header else table + parts
        table = full if header else table
        common = min(len(full), len(key))
        if common > best and full[:common] == key[:common]:
            best, best_line = common, number
    return best_line


def _key_of(text: str, end: str) -> Key | None:
    """``a."b c" = ...`` -> ``("a", "b c")``, if a key is what the line starts with."""
    parts: list[str] = []
    at = 0
    while part := _PART.match(text, at):
        parts.append(part[1].strip("\"'"))
        at = part.end()
        if part[2] != ".":
            return tuple(parts) if part[2] == end else None
    return None
