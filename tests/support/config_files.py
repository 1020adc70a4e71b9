"""Settings and catalogs for a test."""

from __future__ import annotations

from pathlib import Path

from oomless.paths import Paths

CATALOG = """
[[program]]
name = "our-mcp"
title = "Our MCP server"
kind = "server"
executables = ["our-mcp"]
source = "the company's own"

[[program]]
name = "our-claude"
title = "Our Claude"
kind = "session"
host = true
executables = ["claude"]
source = "patched"
"""
THIRD = 'name = "third"\ntitle = "T"\nkind = "servant"\nexecutables = ["t"]\nsource = "s"\n'
BROKEN_CATALOG = f"{CATALOG}\n[[program]]\n{THIRD}"


def write(folder: Path, text: str, name: str = "config.toml") -> str:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return str(path)


def write_catalog(text: str) -> str:
    """The user's own catalog file; its path."""
    return write(Path(Paths().catalog_file).parent, text, Path(Paths().catalog_file).name)
