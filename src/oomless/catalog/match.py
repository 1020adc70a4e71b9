"""Which known program an argument list is. Asked for every process of the machine, so it must be cheap: entries are
found by the names in the command, and only paths, which fit in the middle, are tried one after another.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable

from oomless.catalog.program import Known, Program
from oomless.processes.command import Command, base, launched, package_of, parse, unversioned


class Catalog:
    def __init__(self, programs: tuple[Program, ...]) -> None:
        self.programs = programs
        self._names = _index((name, at) for at, one in enumerate(programs) for name in one.executables)
        self._packages = _index((name, at) for at, one in enumerate(programs) for name in one.packages)
        self._modules = _index((name, at) for at, one in enumerate(programs) for name in one.modules)
        self._paths = tuple((at, part.split("*")) for at, one in enumerate(programs) for part in one.paths)
        self._servers: dict[str, Program] = {}
        for one in programs:
            if one.kind == "server":
                for package in (*one.packages, *one.executables, *one.images):
                    self._servers.setdefault(package, one)

    def recognise(self, argv: tuple[str, ...]) -> Known | None:
        """The first program whose signature fits, or None."""
        command = parse(argv)
        for at, by in self._candidates(command):
            program = self.programs[at]
            if _allowed(program, command):
                return self._known(program, by, command)
        return None

    def _candidates(self, command: Command) -> list[tuple[int, str]]:
        """Whose names fit, by their place in the catalog, and by what."""
        script, path = command.script, command.path
        name, how = (base(script), "script") if script else (command.program, "program")
        found = [(at, f"{how} {name}") for at in self._names.get(name, ())]
        for at, parts in self._paths:
            if _passes(path, parts) or (script and _passes(script, parts)):
                found.append((at, f"path {'*'.join(parts)}"))
        for package in {package_of(script), package_of(path)} - {""}:
            found += [(at, f"package {package}") for at in self._packages.get(package, ())]
        if command.module:
            found += [(at, f"module {command.module}") for at in self._modules.get(command.module, ())]
        return sorted(found) if len(found) > 1 else found

    def _known(self, program: Program, by: str, command: Command) -> Known:
        if program.launcher is None:
            return Known(program=program, by=by)
        package = launched(command.arguments, program.launcher, program.names, program.takes)
        server = self._servers.get(package)
        serves = server is not None and _allowed(
            server, command._replace(arguments=_given(command, program, package))
        )
        return Known(program=program, by=by, launches=package, serves=server.name if server and serves else "")


class Remembering(Catalog):
    """For who asks again and again: knows the answers for the last argument lists."""

    def __init__(self, programs: tuple[Program, ...]) -> None:
        super().__init__(programs)
        self._remembered = functools.lru_cache(maxsize=4096)(super().recognise)

    def recognise(self, argv: tuple[str, ...]) -> Known | None:
        return self._remembered(argv)


def _index(pairs: Iterable[tuple[str, int]]) -> dict[str, tuple[int, ...]]:
    found: dict[str, tuple[int, ...]] = {}
    for name, at in pairs:
        found[name] = (*found.get(name, ()), at)
    return found


def _given(command: Command, launcher: Program, package: str) -> tuple[str, ...]:
    """What a launcher hands on: all behind the package, or behind the program's name if an option has the package.
    ``npx CLAUDE mcp serve`` is a server, ``npx CLAUDE -p`` a session."""
    words = command.arguments
    named = (word.partition("=")[2] if word.startswith("-") else word for word in words)
    at = next((at for at, word in enumerate(named) if unversioned(word) == package), len(words))
    if at < len(words) and (words[at].startswith("-") or (words[at - 1 : at] and words[at - 1] in launcher.names)):
        at = next((later for later in range(at + 1, len(words)) if not words[later].startswith("-")), len(words))
    return words[at + 1 :]


def _allowed(program: Program, command: Command) -> bool:
    """Whether the arguments are as the entry wants them."""
    if program.first and (not command.arguments or command.arguments[0] not in program.first):
        return False
    if not all(word in command.arguments for word in program.arguments):
        return False
    return all(any(part in word for word in command.arguments) for part in program.containing)


def _passes(path: str, parts: list[str]) -> bool:
    """Whether the parts are in the path, one behind the other."""
    at = 0
    for part in parts:
        at = path.find(part, at)
        if at < 0:
            return False
        at += len(part)
    return True
