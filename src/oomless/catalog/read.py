"""The catalog's files: those that come with the program, and the user's own, whose entries go first.

Every mistake is a ConfigError that names file, line and entry. What an entry may say: ``program.py``.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Callable, Mapping

import msgspec

from oomless import userfile
from oomless.catalog.match import Catalog
from oomless.catalog.program import Program, mistake
from oomless.errors import ConfigError, UsageError

#: In this order: the first entry that fits is taken, so what is special comes before what is general.
FILES = ("hosts.toml", "servers.toml", "python.toml", "launchers.toml", "editors.toml", "around.toml")
MAX_BYTES = 2**20

_HEADER = re.compile(r"\s*\[\[\s*(program|\"program\"|'program')\s*\]\]")


def load(path: str | None = None) -> Catalog:
    """What comes with the program, and before it what the file at ``path`` says, if there is one."""
    own = _entries_of_user(path) if path is not None else ()
    return Catalog((*own, *_ours()))


def load_or_ours(path: str, tell: Callable[[str], None]) -> Catalog:
    """Like ``load``; of a file that is broken it tells the one line, and does without it."""
    try:
        return load(path)
    except UsageError as error:
        tell(error.line())
        return load()


def read(text: str, name: str) -> Catalog:
    """A catalog from TOML text; raises ConfigError naming file and entry."""
    return Catalog(_entries(text, name))


def _ours() -> tuple[Program, ...]:
    return tuple(program for name in FILES for program in _entries(_text_of_ours(name), name))


def _text_of_ours(name: str) -> str:
    # Not by importlib.resources: that loads zipfile, tempfile and urllib, 8 ms of each scan.
    with open(os.path.join(os.path.dirname(__file__), name), encoding="utf-8") as file:
        return file.read()


def _entries_of_user(path: str) -> tuple[Program, ...]:
    file = userfile.read(path, MAX_BYTES)
    return () if file.raw is None else _entries(file.text(), path)


def _entries(text: str, name: str) -> tuple[Program, ...]:
    try:
        document = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        # Not only TOMLDecodeError: int() refuses more than 4300 digits with a plain ValueError.
        raise ConfigError(f"{name} is not TOML", str(error), "correct it") from None
    entries = document.pop("program", [])
    if document or not isinstance(entries, list):
        raise ConfigError(f"{name} holds something else than [[program]] entries", "", "correct it")
    lines = [number for number, line in enumerate(text.split("\n"), 1) if _HEADER.match(line)]
    return tuple(_entry(entry, number, name, lines) for number, entry in enumerate(entries, 1))


def _entry(entry: object, number: int, name: str, lines: list[int]) -> Program:
    title = entry.get("name", "without a name") if isinstance(entry, Mapping) else "no table"
    place = f"{name}:{lines[number - 1]}" if number <= len(lines) else name
    where = f"{place}, program {number} ({title})"
    try:
        program = msgspec.convert(entry, Program)
    except msgspec.ValidationError as error:
        raise ConfigError(where, str(error), "correct it") from None
    what, todo = mistake(program)
    if what:
        raise ConfigError(where, what, todo)
    return program
