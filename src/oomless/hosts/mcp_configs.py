"""Which MCP servers the user's hosts are told to start: name and command of each entry, from where each host keeps
them. Nothing else of an entry is taken, its environment least of all: it holds keys.

They say what no process shows of itself any more (``mcp_entries.py``). A file that is missing, broken or too large
says nothing (a project may come from anybody); nothing is raised, and nothing written.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterator, Mapping
from typing import Annotated, TypeVar

import msgspec

from oomless import hosts, redact
from oomless.hosts.mcp_entries import ConfiguredServer

#: Claude Code keeps its history of prompts in the same file.
MAX_BYTES, MAX_PROJECT_BYTES = 32 * 2**20, 2**20
#: Below the home folder, of hosts that oomless is not installed into: files that say ``{"mcpServers": {NAME:
#: {"command": ..., "args": [...]}}}``, by the documents of Cursor, Gemini CLI, Windsurf and Claude Desktop; VS Code
#: says ``servers``.
_FILES = (
    ".cursor/mcp.json",
    ".gemini/settings.json",
    ".codeium/windsurf/mcp_config.json",
    ".config/Claude/claude_desktop_config.json",
    "Library/Application Support/Claude/claude_desktop_config.json",
    ".config/Code/User/mcp.json",
    "Library/Application Support/Code/User/mcp.json",
)

_Of = TypeVar("_Of")


class _ConfigEntry(msgspec.Struct):
    command: Annotated[str, msgspec.Meta(min_length=1)]
    args: tuple[str, ...] = ()


class _Document(msgspec.Struct):
    """Other fields are skipped. Entries are decoded one by one, so that a broken one does not hide the others."""

    servers: dict[str, msgspec.Raw] = {}
    mcp_servers: dict[str, msgspec.Raw] = msgspec.field(name="mcpServers", default_factory=dict)
    projects: dict[str, msgspec.Raw] = {}


class _Content(msgspec.Struct, frozen=True):
    """``folders`` are those of projects, which may have a file of their own."""

    servers: tuple[ConfiguredServer, ...] = ()
    folders: tuple[str, ...] = ()


class McpConfigReader:
    """Reads a file again only when it has changed."""

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        # Strings: pathlib loads urllib and ipaddress, 4 ms of each scan.
        self._home = os.path.normpath(environ.get("HOME") or os.path.expanduser("~"))
        files = (facts.mcp_config(self._home, environ) for facts in hosts.known_facts())
        self._of_hosts = tuple(file for file in files if file)
        codex = environ.get("CODEX_HOME") or os.path.join(self._home, ".codex")
        self._codex = os.path.join(codex, "config.toml")
        self._kept: dict[str, tuple[tuple[int, ...], _Content]] = {}

    def read(self) -> tuple[ConfiguredServer, ...]:
        """Returns the entries of all hosts."""
        of_hosts = [self._read(file) for file in self._of_hosts]
        servers = [server for content in of_hosts for server in content.servers]
        servers += self._read(self._codex).servers
        for folder in (folder for content in of_hosts for folder in content.folders):
            servers += self._read(os.path.join(folder, ".mcp.json"), project=True).servers
        for name in _FILES:
            servers += self._read(os.path.join(self._home, name)).servers
        return tuple(servers)

    def _read(self, file: str, *, project: bool = False) -> _Content:
        try:
            fd = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
        except (OSError, ValueError):
            return _Content()
        try:
            stat = os.fstat(fd)
            stamp = stat.st_dev, stat.st_ino, stat.st_mtime_ns, stat.st_size
            if stat.st_size > (MAX_PROJECT_BYTES if project else MAX_BYTES):  # what is no file has no size
                return _Content()
            if file not in self._kept or self._kept[file][0] != stamp:
                content = os.read(fd, stat.st_size)
                self._kept[file] = stamp, self._parse(file, content)
        except (OSError, ValueError, RecursionError):
            return _Content()
        finally:
            os.close(fd)
        return self._kept[file][1]

    def _parse(self, file: str, content: bytes) -> _Content:
        if file.endswith(".toml"):
            entries = tomllib.loads(content.decode()).get("mcp_servers")
            return _Content(tuple(self._entries_of(file, entries if isinstance(entries, dict) else {})))
        document = msgspec.json.decode(content, type=_Document)
        servers = [*self._entries_of(file, document.servers | document.mcp_servers)]
        for raw in document.projects.values():
            project = _convert(raw, _Document)
            servers += self._entries_of(file, project.mcp_servers if project is not None else {})
        return _Content(tuple(servers), tuple(document.projects))

    def _entries_of(self, file: str, entries: Mapping[str, object]) -> Iterator[ConfiguredServer]:
        home = os.path.join(self._home, "")
        shown = f"~/{file.removeprefix(home)}" if file.startswith(home) else file
        for name, value in entries.items():
            entry = _convert(value, _ConfigEntry)
            if entry is not None:
                yield ConfiguredServer(
                    name=redact.printable_name(name),
                    command=(entry.command, *entry.args),
                    source=redact.printable_name(shown),
                )


def _convert(value: object, kind: type[_Of]) -> _Of | None:
    """Returns None for another form: another kind of server, say, or one that is still being written."""
    try:
        return (
            msgspec.json.decode(value, type=kind) if isinstance(value, msgspec.Raw) else msgspec.convert(value, kind)
        )
    except ValueError:
        return None
