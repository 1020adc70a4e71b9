"""Which MCP servers the user's hosts are told to start: name and command of each entry, from where each host keeps
them. Nothing else of an entry is taken, its environment least of all: it holds keys.

Read so that what no process shows of itself any more is known all the same (``configured.py``). A file that is
missing, broken or too large says nothing; nothing is raised, and nothing written.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, TypeVar

import msgspec

from oomless.census.configured import Configured

#: Bytes. Claude Code keeps its history of prompts in the same file.
LARGEST = 32 * 2**20
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


class Reader:
    """Reads a file again only when it has changed."""

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        self._home = Path(environ.get("HOME") or os.path.expanduser("~"))
        self._claude = Path(environ.get("CLAUDE_CONFIG_DIR") or self._home) / ".claude.json"
        self._codex = Path(environ.get("CODEX_HOME") or self._home / ".codex") / "config.toml"
        self._kept: dict[Path, tuple[tuple[int, int], tuple[Configured, ...]]] = {}

    def read(self) -> tuple[Configured, ...]:
        found = [*self._of(self._claude), *self._of(self._codex)]
        for name in _FILES:
            found += self._of(self._home / name)
        return tuple(found)

    def _of(self, file: Path) -> tuple[Configured, ...]:
        try:
            stat = os.stat(file)
            stamp = stat.st_mtime_ns, stat.st_size
            if stat.st_size > LARGEST:
                return ()
            if file not in self._kept or self._kept[file][0] != stamp:
                content = file.read_bytes()
                self._kept[file] = stamp, tuple(self._entries(file, content))
        except (OSError, ValueError, RecursionError):
            return ()
        return self._kept[file][1]

    def _entries(self, file: Path, content: bytes) -> Iterator[Configured]:
        if file.suffix == ".toml":
            entries = tomllib.loads(content.decode()).get("mcp_servers")
            yield from self._named(file, entries if isinstance(entries, dict) else {})
            return
        document = msgspec.json.decode(content, type=_Document)
        yield from self._named(file, document.servers | document.mcp_servers)
        for folder, raw in document.projects.items():
            project = _read(raw, _Document)
            yield from self._named(file, project.mcp_servers if project is not None else {})
            yield from self._of(Path(folder) / ".mcp.json")

    def _named(self, file: Path, entries: Mapping[str, object]) -> Iterator[Configured]:
        shown = f"~/{file.relative_to(self._home)}" if file.is_relative_to(self._home) else str(file)
        for name, value in entries.items():
            entry = _read(value, _Entry)
            if entry is not None:
                yield Configured(name=name, command=(entry.command, *entry.args), source=shown)


def _read(value: object, kind: type[_Of]) -> _Of | None:
    """None if it is of another form: another kind of server, say, or one that is still being written."""
    try:
        return (
            msgspec.json.decode(value, type=kind) if isinstance(value, msgspec.Raw) else msgspec.convert(value, kind)
        )
    except ValueError:
        return None
