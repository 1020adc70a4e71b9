"""Which process is which MCP server of a host's configuration. Pure.

A server's entry is a command line, and its process has another one: launchers rename themselves (``npx -y X`` is
``npm exec X`` in the process table), and a wrapper such as ``nohup`` becomes what it starts. So both are normalized
to the same words. That the entry has the server outlive its session, no process shows any more: Node, for one, resets
all signals when it starts.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator

import msgspec

from oomless.processes.command import SHELLS, ParsedCommand, base_name, parse_command

#: Programs that start another one so that it outlives its session (nohup(1), daemon(1), daemonize(1)). What setsid
#: did shows in the process itself.
DETACHING = frozenset({"nohup", "daemon", "daemonize"})
#: Programs that become what they start, with their options that take a value.
_WRAPPING = {
    "env": ("-u", "-C"), "nice": ("-n",), "ionice": ("-c", "-n"), "stdbuf": (), "exec": (), "time": (), "setsid": (),
}  # fmt: skip
_NPX = {"npx": (), "bunx": (), "pnpx": (), "npm": ("exec", "x"), "pnpm": ("dlx", "exec"), "yarn": ("dlx",)}
_BLANKS = re.compile(r"[\s;|&()<>'\"]+")
_YES = frozenset({"-y", "--yes", "-q", "--quiet", "--"})


class ConfiguredServer(msgspec.Struct, frozen=True, kw_only=True):
    """``source``: the settings file, as it is shown. The environment of an entry is never taken."""

    name: str
    command: tuple[str, ...]
    source: str


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """``detaching``: the program in the entry that has the server outlive its session, or "". ``loosely``: the
    process matches a name in it only."""

    name: str
    source: str
    detaching: str = ""
    loosely: bool = False

    @property
    def persist_reason(self) -> str:
        """Why the server may be meant to outlive its session, or ""."""
        return f"its entry {self.name} in {self.source} starts it with {self.detaching}" if self.detaching else ""


class Entries:
    """All configured servers, to be found by a process's command."""

    def __init__(self, servers: Iterable[ConfiguredServer]) -> None:
        self._by_words: dict[tuple[str, ...], Entry] = {}
        self._by_name: dict[str, Entry] = {}
        for server in servers:
            for words, detaching in _normalize(server.command):
                entry = Entry(name=server.name, source=server.source, detaching=detaching)
                known = self._by_words.setdefault(words, entry)
                if detaching and not known.detaching:  # of several that start the same, in doubt it outlives
                    self._by_words[words] = entry
            self._add_names(server)

    def _add_names(self, server: ConfiguredServer) -> None:
        """A shell's line may detach in ways that only a shell can read: in doubt each program in it does."""
        words = [word for part in server.command for word in _BLANKS.split(part)]
        detaching = next((base_name(word) for word in words if base_name(word) in DETACHING), "")
        for word in words if detaching else ():
            if base_name(word) not in DETACHING and base_name(word) not in SHELLS and not word.startswith("-"):
                entry = Entry(name=server.name, source=server.source, detaching=detaching, loosely=True)
                self._by_name[_unversioned(word)] = entry

    def find(self, command: ParsedCommand) -> Entry | None:
        """Finds the entry by its words; for a detaching one the name of its script or package is enough."""
        entry = self._by_words.get(_words(command)) if self._by_words else None
        if entry is not None or not self._by_name:
            return entry
        words = _words(command)
        program = command.script or command.module or command.program
        name = words[1] if words[0] == "npx" and len(words) > 1 else program
        return self._by_name.get(_unversioned(name))


def _unversioned(word: str) -> str:
    return base_name(word).partition("@")[0]


def _normalize(command: tuple[str, ...], detaching: str = "") -> Iterator[tuple[tuple[str, ...], str]]:
    """Yields the words of each command in it without its wrappers, and what detaches it; a shell's line may have
    several."""
    while command:
        program, rest = base_name(command[0]), command[1:]
        if program in DETACHING:
            detaching, command = detaching or program, _skip_options(rest, ())
        elif program in _WRAPPING:
            command = _skip_options(rest, _WRAPPING[program])
        elif program in SHELLS and rest[:1] == ("-c",):
            for part in _split_line("".join(rest[1:2])):
                yield from _normalize(part, detaching)
            return
        else:
            yield _words(parse_command(command)), detaching
            return


def _skip_options(words: tuple[str, ...], with_value: tuple[str, ...]) -> tuple[str, ...]:
    index = 0
    while index < len(words) and (words[index].startswith("-") or "=" in words[index].partition("/")[0]):
        index += 2 if words[index] in with_value else 1
    return words[index:]


def _split_line(line: str) -> Iterator[tuple[str, ...]]:
    """Yields the simple commands of a shell's line, as far as it has only those."""
    words: list[str] = []
    try:
        for word in shlex.shlex(line, posix=True, punctuation_chars=True):
            if set(word) <= set("();<>|&\n"):
                yield tuple(words)
                words = []
            else:
                words.append(word)
    except ValueError:  # an open quote
        return
    yield tuple(words)


def _words(command: ParsedCommand) -> tuple[str, ...]:
    """Returns the same words for an entry and for the process that it becomes."""
    words = (command.script or command.module or command.program, *command.arguments)
    subcommands = _NPX.get(command.program)
    if subcommands is None or command.script:
        return words
    rest = command.arguments
    if rest[:1] and rest[0] in subcommands:
        rest = rest[1:]
    return ("npx", *(word for word in rest if word not in _YES))
