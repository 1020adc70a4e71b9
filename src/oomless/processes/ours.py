"""oomless' own processes by their argument lists: shims of trees, and what the shell prefix puts before a host's
tool shells and servers.

Pure. Which tree a shim owns is told by lineage and markers (``governed.py``).
"""

from __future__ import annotations

from typing import Literal

from oomless.model import ProcessInfo

#: Options of the interpreter come before the script: it is among the first words.
_WORDS = 8


def owns_tree(process: ProcessInfo, tree: str) -> bool:
    """``boot.py SPEC TREE -- ...``."""
    at = _script(process, "/contain/boot.py")
    return at is not None and process.command[at + 2 : at + 4] == (tree, "--")


def prefixed(process: ProcessInfo) -> Literal["shell", "server", ""]:
    """What ``boot_prefix.py shell|server LINE`` was started for: the shim of a server, or front, witness or keeper of
    a tool shell."""
    at = _script(process, "/cli/boot_prefix.py")
    word = "".join(process.command[at + 1 : at + 2]) if at is not None else ""
    if word == "shell":
        return "shell"
    return "server" if word == "server" else ""


def is_ours(process: ProcessInfo) -> bool:
    return bool(prefixed(process)) or _script(process, "/contain/boot.py") is not None


def _script(process: ProcessInfo, ending: str) -> int | None:
    return next((at for at, word in enumerate(process.command[:_WORDS]) if word.endswith(ending)), None)
