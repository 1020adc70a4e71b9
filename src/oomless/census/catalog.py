"""Known programs as data: ``catalog.toml`` read, checked and asked.

Covers recognising one argument list by itself. Who owns the process comes from lineage and marks
(``attribute.py``); a name in an argument list is the weakest evidence of all.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from importlib import resources
from typing import Any, Literal

import msgspec

from oomless.census.command import Command, base, launched, package_of, parse
from oomless.errors import ConfigError

Kind = Literal[
    "session",
    "subagent",
    "server",
    "launcher",
    "tool-shell",
    "plugin-worker",
    "editor",
    "extension-host",
    "language-server",
    "dev-server",
    "browser",
    "terminal",
    "system",
    "other",
]
#: Never touched, and the end of every chain upwards.
PROTECTED: frozenset[Kind] = frozenset({"editor", "extension-host", "terminal"})
#: Known, but of interest only below something else.
ONLY_BELOW: frozenset[Kind] = frozenset({"browser", "launcher", "tool-shell"})


class Program(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One entry; the fields are explained at the top of ``catalog.toml``."""

    name: str
    title: str
    kind: Kind
    source: str
    host: bool = False
    relaunches: bool = False
    executables: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()
    modules: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()
    containing: tuple[str, ...] = ()
    first: tuple[str, ...] = ()
    launcher: int | None = None


class Known(msgspec.Struct, frozen=True, kw_only=True):
    """``by`` says in words which part of the signature fitted. ``launches``: the package that a launcher was
    asked for; ``serves``: the server that it is known to be."""

    program: Program
    by: str
    launches: str = ""
    serves: str = ""


class Catalog:
    def __init__(self, programs: tuple[Program, ...]) -> None:
        self.programs = programs
        self._servers = {
            package: program.name for program in programs if program.kind == "server"
            for package in (*program.packages, *program.executables)
        }  # fmt: skip

    def recognise(self, argv: tuple[str, ...]) -> Known | None:
        """The first program whose signature fits, or None."""
        command = parse(argv)
        for program in self.programs:
            by = _fits(program, command)
            if by:
                return self._known(program, by, command)
        return None

    def _known(self, program: Program, by: str, command: Command) -> Known:
        if program.launcher is None:
            return Known(program=program, by=by)
        package = launched(command.arguments, program.launcher)
        return Known(program=program, by=by, launches=package, serves=self._servers.get(package, ""))


class Remembering(Catalog):
    """For who asks again and again: knows the answers for the last argument lists."""

    def __init__(self, programs: tuple[Program, ...]) -> None:
        super().__init__(programs)
        self._remembered = functools.lru_cache(maxsize=4096)(super().recognise)

    def recognise(self, argv: tuple[str, ...]) -> Known | None:
        return self._remembered(argv)


def _fits(program: Program, command: Command) -> str:
    if program.first and command.arguments[:1] not in [(word,) for word in program.first]:
        return ""
    if not all(word in command.arguments for word in program.arguments):
        return ""
    if not all(any(part in word for word in command.arguments) for part in program.containing):
        return ""
    return _identified(program, command)


def _identified(program: Program, command: Command) -> str:
    script, path = command.script, command.path
    if command.program in program.executables and not script:
        return f"program {command.program}"
    if base(script) in program.executables:
        return f"script {base(script)}"
    for part in program.paths:
        if part in path or part in script:
            return f"path {part}"
    for package in (package_of(script), package_of(path)):
        if package and package in program.packages:
            return f"package {package}"
    return f"module {command.module}" if command.module in program.modules else ""


def load() -> Catalog:
    """The catalog that comes with the program."""
    file = resources.files("oomless.census").joinpath("catalog.toml")
    return read(file.read_text(encoding="utf-8"), "catalog.toml")


def read(text: str, name: str) -> Catalog:
    """A catalog from TOML text; raises ConfigError naming file and entry."""
    import tomllib

    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{name} is not TOML", str(error), "correct it") from None
    entries = document.pop("program", [])
    if document or not isinstance(entries, list):
        raise ConfigError(f"{name} holds something else than [[program]] entries", "", "correct it")
    return Catalog(tuple(_entry(entry, number, name) for number, entry in enumerate(entries, 1)))


def _entry(entry: Mapping[str, Any], number: int, name: str) -> Program:
    where = f"{name}, program {number} ({entry.get('name', 'without a name')})"
    try:
        program = msgspec.convert(entry, Program)
    except msgspec.ValidationError as error:
        raise ConfigError(where, str(error), "correct it") from None
    if not (program.executables or program.paths or program.packages or program.modules):
        raise ConfigError(where, "no executables, paths, packages or modules to know it by", "add one")
    if (program.launcher is not None) != (program.kind == "launcher"):
        raise ConfigError(where, "launcher is for kind launcher, and needed there", "correct it")
    return program
