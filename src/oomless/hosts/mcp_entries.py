"""What hosts' settings say of their MCP servers, and which process is which of them. Pure; the settings are read in
``settings.py``.

An entry is a command line, and a process has another one: launchers name themselves anew (``npx -y X`` is
``npm exec X`` in the table), and a wrapper such as ``nohup`` becomes what it starts. So both are brought to the same
words. What the entry says beyond that, that the server is to go on by itself, no process shows any more: Node, for
one, sets all signals back when it starts.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator

import msgspec

from oomless.processes.command import SHELLS, ParsedCommand, base_name, parse_command

#: Programs that start another one so that it outlives its session (nohup(1), daemon(1), daemonize(1)). That setsid
#: did is seen of the process itself, and there it counts.
DETACHING = frozenset({"nohup", "daemon", "daemonize"})
#: Programs that become what they start, and whose options that have a value of their own.
_WRAPPING = {
    "env": ("-u", "-C"), "nice": ("-n",), "ionice": ("-c", "-n"), "stdbuf": (), "exec": (), "time": (), "setsid": (),
}  # fmt: skip
_NPX = {"npx": (), "bunx": (), "pnpx": (), "npm": ("exec", "x"), "pnpm": ("dlx", "exec"), "yarn": ("dlx",)}
_BLANKS = re.compile(r"[\s;|&()<>'\"]+")
_YES = frozenset({"-y", "--yes", "-q", "--quiet", "--"})


class Configured(msgspec.Struct, frozen=True, kw_only=True):
    """``source``: the file of settings, as it is shown. Its environment is never taken."""

    name: str
    command: tuple[str, ...]
    source: str


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """``detaching``: the program in the entry that has the server go on by itself, or "". ``loosely``: only a name in
    it is the process's."""

    name: str
    source: str
    detaching: str = ""
    loosely: bool = False

    @property
    def persist_reason(self) -> str:
        """Why the server may be meant to outlive its session, or ""."""
        return f"its entry {self.name} in {self.source} starts it with {self.detaching}" if self.detaching else ""


class Entries:
    """All that is configured, looked up by what a process runs."""

    def __init__(self, configured: Iterable[Configured]) -> None:
        self._by_words: dict[tuple[str, ...], Entry] = {}
        self._by_name: dict[str, Entry] = {}
        for one in configured:
            for words, detaching in _lines(one.command):
                entry = Entry(name=one.name, source=one.source, detaching=detaching)
                before = self._by_words.setdefault(words, entry)
                if detaching and not before.detaching:  # if several entries start the same, in doubt it is to go on
                    self._by_words[words] = entry
            self._name(one)

    def _name(self, one: Configured) -> None:
        """A shell's line may say it in ways that only a shell reads: in doubt whoever is named in it is to go on."""
        words = [word for part in one.command for word in _BLANKS.split(part)]
        how = next((base_name(word) for word in words if base_name(word) in DETACHING), "")
        for word in words if how else ():
            if base_name(word) not in DETACHING and base_name(word) not in SHELLS and not word.startswith("-"):
                entry = Entry(name=one.name, source=one.source, detaching=how, loosely=True)
                self._by_name[_unversioned(word)] = entry

    def find(self, command: ParsedCommand) -> Entry | None:
        """By its words; of one that is to go on, the name of its script or package is enough."""
        found = self._by_words.get(_words(command)) if self._by_words else None
        if found is not None or not self._by_name:
            return found
        words = _words(command)
        program = command.script or command.module or command.program
        named = words[1] if words[0] == "npx" and len(words) > 1 else program
        return self._by_name.get(_unversioned(named))


def _unversioned(word: str) -> str:
    return base_name(word).partition("@")[0]


def _lines(command: tuple[str, ...], detaching: str = "") -> Iterator[tuple[tuple[str, ...], str]]:
    """The commands that it comes to, without what wraps them; a shell's line may have several."""
    while command:
        program, rest = base_name(command[0]), command[1:]
        if program in DETACHING:
            detaching, command = detaching or program, _behind_options(rest, ())
        elif program in _WRAPPING:
            command = _behind_options(rest, _WRAPPING[program])
        elif program in SHELLS and rest[:1] == ("-c",):
            for part in _parts("".join(rest[1:2])):
                yield from _lines(part, detaching)
            return
        else:
            yield _words(parse_command(command)), detaching
            return


def _behind_options(words: tuple[str, ...], with_value: tuple[str, ...]) -> tuple[str, ...]:
    at = 0
    while at < len(words) and (words[at].startswith("-") or "=" in words[at].partition("/")[0]):
        at += 2 if words[at] in with_value else 1
    return words[at:]


def _parts(line: str) -> Iterator[tuple[str, ...]]:
    """The simple commands of a shell's line, as far as it is that simple."""
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
    """The same words for an entry and for the process that it becomes."""
    words = (command.script or command.module or command.program, *command.arguments)
    subcommands = _NPX.get(command.program)
    if subcommands is None or command.script:
        return words
    rest = command.arguments
    if rest[:1] and rest[0] in subcommands:
        rest = rest[1:]
    return ("npx", *(word for word in rest if word not in _YES))
