"""Which MCP servers the user's hosts are told to start: name and command of each entry, from where each host keeps
them. Nothing else of an entry is taken, its environment least of all: it holds keys.

Read so that what no process shows of itself any more is known all the same (``configured.py``). What is missing,
broken, too large or no file says nothing (a project may come from anybody); nothing is raised, and nothing written.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, TypeVar

import msgspec

from oomless import redact
from oomless.hosts.mcp_entries import Configured

#: Bytes. Claude Code keeps its history of prompts in the same file.
LARGEST, LARGEST_OF_PROJECT = 32 * 2**20, 2**20
#: Below the home folder: files that say ``{"mcpServers": {NAME: {"command": ..., "args": [...]}}}``, by the documents
#: of Cursor, Gemini CLI, Windsurf and Claude Desktop; VS Code says ``servers``.
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


class _Entry(msgspec.Struct):
    command: Annotated[str, msgspec.Meta(min_length=1)]
    args: tuple[str, ...] = ()


class _Document(msgspec.Struct):
    """What is not named here is passed over as it is read, and entries are looked at one by one."""

    servers: dict[str, msgspec.Raw] = {}
    mcp_servers: dict[str, msgspec.Raw] = msgspec.field(name="mcpServers", default_factory=dict)
    projects: dict[str, msgspec.Raw] = {}


class _File(msgspec.Struct, frozen=True):
    """``folders``: of projects, that may have a file of their own."""

    servers: tuple[Configured, ...] = ()
    folders: tuple[str, ...] = ()


class Reader:
    """Reads a file again only when it has changed."""

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        self._home = Path(environ.get("HOME") or os.path.expanduser("~"))
        self._claude = Path(environ.get("CLAUDE_CONFIG_DIR") or self._home) / ".claude.json"
        self._codex = Path(environ.get("CODEX_HOME") or self._home / ".codex") / "config.toml"
        self._kept: dict[Path, tuple[tuple[int, ...], _File]] = {}

    def read(self) -> tuple[Configured, ...]:
        claude = self._of(self._claude)
        found = [*claude.servers, *self._of(self._codex).servers]
        for folder in claude.folders:
            found += self._of(Path(folder) / ".mcp.json", project=True).servers
        for name in _FILES:
            found += self._of(self._home / name).servers
        return tuple(found)

    def _of(self, file: Path, *, project: bool = False) -> _File:
        try:
            fd = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
        except (OSError, ValueError):
            return _File()
        try:
            found = os.fstat(fd)
            stamp = found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size
            if found.st_size > (LARGEST_OF_PROJECT if project else LARGEST):  # what is no file has no size
                return _File()
            if file not in self._kept or self._kept[file][0] != stamp:
                content = os.read(fd, found.st_size)
                self._kept[file] = stamp, self._parsed(file, content)
        except (OSError, ValueError, RecursionError):
            return _File()
        finally:
            os.close(fd)
        return self._kept[file][1]

    def _parsed(self, file: Path, content: bytes) -> _File:
        if file.suffix == ".toml":
            entries = tomllib.loads(content.decode()).get("mcp_servers")
            return _File(tuple(self._named(file, entries if isinstance(entries, dict) else {})))
        document = msgspec.json.decode(content, type=_Document)
        servers = [*self._named(file, document.servers | document.mcp_servers)]
        for raw in document.projects.values():
            project = _read(raw, _Document)
            servers += self._named(file, project.mcp_servers if project is not None else {})
        return _File(tuple(servers), tuple(document.projects))

    def _named(self, file: Path, entries: Mapping[str, object]) -> Iterator[Configured]:
        shown = f"~/{file.relative_to(self._home)}" if file.is_relative_to(self._home) else str(file)
        for name, value in entries.items():
            entry = _read(value, _Entry)
            if entry is not None:
                yield Configured(
                    name=redact.name(name), command=(entry.command, *entry.args), source=redact.name(shown)
                )


def _read(value: object, kind: type[_Of]) -> _Of | None:
    """None if it is of another form: another kind of server, say, or one that is still being written."""
    try:
        return (
            msgspec.json.decode(value, type=kind) if isinstance(value, msgspec.Raw) else msgspec.convert(value, kind)
        )
    except ValueError:
        return None
