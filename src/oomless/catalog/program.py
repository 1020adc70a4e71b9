"""One entry of the catalog, and what is wrong with it. Reading the files is ``read.py``'s business."""

from __future__ import annotations

from typing import Literal

import msgspec

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

#: A shorter part of a path fits nearly everything.
SHORTEST_PART = 4


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


class Known(msgspec.Struct, frozen=True, kw_only=True):
    """``by`` says in words which part of the signature fitted. ``launches``: the package that a launcher was
    asked for; ``serves``: the server that it is known to be."""

    program: Program
    by: str
    launches: str = ""
    serves: str = ""


def mistake(program: Program) -> tuple[str, str]:
    """What is wrong with an entry and what to do about it; both empty if nothing is."""
    signs = (*program.executables, *program.paths, *program.packages, *program.modules)
    if not signs:
        return "no executables, paths, packages or modules to know it by", "add one"
    if not all((program.name, program.title, program.source, *signs, *program.containing, *program.images)):
        return "a text is empty", "fill it or leave it out"
    if (program.launcher is not None) != (program.kind == "launcher"):
        return "launcher is for kind launcher, and needed there", "correct it"
    if program.launcher is None and (program.names or program.takes):
        return "names and takes are for kind launcher", "leave them out"
    if any(len(part) < SHORTEST_PART for part in program.paths):
        return f"a path of fewer than {SHORTEST_PART} characters fits nearly everything", "say more of it"
    return "", ""
