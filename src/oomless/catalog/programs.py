"""Known programs: what an entry may say, recognising a command, and the files with the entries.

Entries come with the package (``*.toml``) and from the user's own file, which goes first. A name in an argument list
is the weakest evidence of a process's owner.
"""

from __future__ import annotations

import functools
import os
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from typing import Literal

import msgspec

from oomless import userfile
from oomless.errors import ConfigError, UsageError
from oomless.processes.command import (
    ParsedCommand,
    base_name,
    launched_package,
    package_of,
    parse_command,
    unversioned,
)

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
#: The files of the package, in this order: the first entry that matches is taken, so special entries come before
#: general ones.
FILES = ("hosts.toml", "servers.toml", "python.toml", "launchers.toml", "editors.toml", "around.toml")
MAX_BYTES = 2**20

#: A shorter part of a path matches nearly everything.
_SHORTEST_PART = 4
_HEADER = re.compile(r"\s*\[\[\s*(program|\"program\"|'program')\s*\]\]")


class Program(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One entry; the fields are explained in ``docs/catalog.md``."""

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
    images: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()
    containing: tuple[str, ...] = ()
    first: tuple[str, ...] = ()
    launcher: int | None = None
    names: tuple[str, ...] = ()
    takes: tuple[str, ...] = ()


class ProgramMatch(msgspec.Struct, frozen=True, kw_only=True):
    """A command that was recognised. ``by`` says which part of the entry matched. ``launches``: the package that a
    launcher was asked for; ``serves``: the name of the known server that this package is."""

    program: Program
    by: str
    launches: str = ""
    serves: str = ""


# -- recognising a command -------------------------------------------------------------------------------------------


class Catalog:
    """Asked for every process of the machine, so it must be cheap: entries are found by the names in the command, and
    only paths, which match in the middle, are tried one after another."""

    def __init__(self, programs: tuple[Program, ...]) -> None:
        self.programs = programs
        self._names = _index((name, at) for at, program in enumerate(programs) for name in program.executables)
        self._packages = _index((name, at) for at, program in enumerate(programs) for name in program.packages)
        self._modules = _index((name, at) for at, program in enumerate(programs) for name in program.modules)
        self._paths = tuple((at, part.split("*")) for at, program in enumerate(programs) for part in program.paths)
        self._servers: dict[str, Program] = {}
        for program in programs:
            if program.kind == "server":
                for package in (*program.packages, *program.executables, *program.images):
                    self._servers.setdefault(package, program)

    def recognise(self, argv: tuple[str, ...]) -> ProgramMatch | None:
        """The first program whose entry matches, or None."""
        return self.match(parse_command(argv))

    def match(self, command: ParsedCommand) -> ProgramMatch | None:
        """The first program whose entry matches, or None."""
        for at, by in self._candidates(command):
            program = self.programs[at]
            if _allows(program, command):
                return self._as_match(program, by, command)
        return None

    def _candidates(self, command: ParsedCommand) -> list[tuple[int, str]]:
        """Entries with a name of the command, by their place in the catalog, and which name that is."""
        script, path = command.script, command.path
        name, how = (base_name(script), "script") if script else (command.program, "program")
        candidates = [(at, f"{how} {name}") for at in self._names.get(name, ())]
        for at, parts in self._paths:
            if parts[0] not in path and parts[0] not in script:
                continue  # nearly always: some 40 parts are tried for each process
            if _has_parts(path, parts) or (script and _has_parts(script, parts)):
                candidates.append((at, f"path {'*'.join(parts)}"))
        for package in {package_of(script), package_of(path)} - {""}:
            candidates += [(at, f"package {package}") for at in self._packages.get(package, ())]
        if command.module:
            candidates += [(at, f"module {command.module}") for at in self._modules.get(command.module, ())]
        return sorted(candidates) if len(candidates) > 1 else candidates

    def _as_match(self, program: Program, by: str, command: ParsedCommand) -> ProgramMatch:
        if program.launcher is None:
            return ProgramMatch(program=program, by=by)
        package = launched_package(command.arguments, program.launcher, program.names, program.takes)
        server = self._servers.get(package)
        if server is None or not _allows(server, command._replace(arguments=_passed_on(command, program, package))):
            return ProgramMatch(program=program, by=by, launches=package)
        return ProgramMatch(program=program, by=by, launches=package, serves=server.name)


class CachedCatalog(Catalog):
    """Remembers the matches of the last commands, for repeated looks at the same processes."""

    def __init__(self, programs: tuple[Program, ...]) -> None:
        super().__init__(programs)
        self._cached = functools.lru_cache(maxsize=4096)(super().match)

    def match(self, command: ParsedCommand) -> ProgramMatch | None:
        return self._cached(command)


def _index(pairs: Iterable[tuple[str, int]]) -> dict[str, tuple[int, ...]]:
    places: dict[str, tuple[int, ...]] = {}
    for name, at in pairs:
        places[name] = (*places.get(name, ()), at)
    return places


def _passed_on(command: ParsedCommand, launcher: Program, package: str) -> tuple[str, ...]:
    """The arguments that a launcher passes on: all behind the package, or behind the program's name if an option has
    the package. ``npx CLAUDE mcp serve`` is a server, ``npx CLAUDE -p`` a session."""
    words = command.arguments
    named = (word.partition("=")[2] if word.startswith("-") else word for word in words)
    at = next((at for at, word in enumerate(named) if unversioned(word) == package), len(words))
    if at < len(words) and (words[at].startswith("-") or (words[at - 1 : at] and words[at - 1] in launcher.names)):
        at = next((later for later in range(at + 1, len(words)) if not words[later].startswith("-")), len(words))
    return words[at + 1 :]


def _allows(program: Program, command: ParsedCommand) -> bool:
    """Whether the arguments are those that the entry asks for."""
    if program.first and (not command.arguments or command.arguments[0] not in program.first):
        return False
    if not all(word in command.arguments for word in program.arguments):
        return False
    return all(any(part in word for word in command.arguments) for part in program.containing)


def _has_parts(path: str, parts: list[str]) -> bool:
    """Whether the parts are in the path, one behind the other."""
    at = 0
    for part in parts:
        at = path.find(part, at)
        if at < 0:
            return False
        at += len(part)
    return True


# -- the files -------------------------------------------------------------------------------------------------------


def load(path: str | None = None) -> Catalog:
    """The entries of the package, and before them those of the file at ``path``, if it exists. Raises ConfigError,
    naming file, line and entry."""
    own = _read_users(path) if path is not None else ()
    return Catalog((*own, *_read_package()))


def load_or_default(path: str, warn: Callable[[str], None]) -> Catalog:
    """As ``load``, but without the file at ``path`` if that is broken; then ``warn`` gets the line of its error."""
    try:
        return load(path)
    except UsageError as error:
        warn(error.line())
        return load()


def _read_package() -> tuple[Program, ...]:
    return tuple(program for name in FILES for program in _read_entries(_read_file(name), name))


def _read_file(name: str) -> str:
    # Not by importlib.resources: that loads zipfile, tempfile and urllib, 8 ms of each scan.
    with open(os.path.join(os.path.dirname(__file__), name), encoding="utf-8") as file:
        return file.read()


def _read_users(path: str) -> tuple[Program, ...]:
    file = userfile.read(path, MAX_BYTES)
    return () if file.raw is None else _read_entries(file.text(), path)


def _read_entries(text: str, name: str) -> tuple[Program, ...]:
    try:
        document = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        # Not only TOMLDecodeError: int() refuses more than 4300 digits with a plain ValueError.
        raise ConfigError(f"{name} is not TOML", str(error), "correct it") from None
    entries = document.pop("program", [])
    if document or not isinstance(entries, list):
        raise ConfigError(f"{name} holds something else than [[program]] entries", "", "correct it")
    lines = [number for number, line in enumerate(text.split("\n"), 1) if _HEADER.match(line)]
    return tuple(_as_program(entry, number, name, lines) for number, entry in enumerate(entries, 1))


def _as_program(entry: object, number: int, name: str, lines: list[int]) -> Program:
    title = entry.get("name", "without a name") if isinstance(entry, Mapping) else "no table"
    place = f"{name}:{lines[number - 1]}" if number <= len(lines) else name
    where = f"{place}, program {number} ({title})"
    try:
        program = msgspec.convert(entry, Program)
    except msgspec.ValidationError as error:
        raise ConfigError(where, str(error), "correct it") from None
    mistake, hint = _find_mistake(program)
    if mistake:
        raise ConfigError(where, mistake, hint)
    return program


def _find_mistake(program: Program) -> tuple[str, str]:
    """What is wrong with an entry, and the hint for it; both empty if nothing is."""
    signs = (*program.executables, *program.paths, *program.packages, *program.modules)
    if not signs:
        return "no executables, paths, packages or modules to know it by", "add one"
    if not all((program.name, program.title, program.source, *signs, *program.containing, *program.images)):
        return "a text is empty", "fill it or leave it out"
    if (program.launcher is not None) != (program.kind == "launcher"):
        return "launcher is for kind launcher, and needed there", "correct it"
    if program.launcher is None and (program.names or program.takes):
        return "names and takes are for kind launcher", "leave them out"
    if any(len(part) < _SHORTEST_PART for part in program.paths):
        return f"a path of fewer than {_SHORTEST_PART} characters fits nearly everything", "say more of it"
    return "", ""
