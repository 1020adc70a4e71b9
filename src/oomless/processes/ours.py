"""oomless' own processes by their argument lists: shims of trees, the shell prefix, hooks, the daemon, commands.

Pure; standard library only. An argument list is that of the process table, or of a saved listing, where it may be cut
short. Shims and prefixes of earlier versions have the same shapes.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Literal

    Role = Literal["shim", "prefix", "hook", "daemon", "command", ""]

SHIM_SCRIPT = "/oomless/contain/boot.py"
PREFIX_SCRIPT = "/oomless/cli/boot_prefix.py"
HOOK_SCRIPT = "/oomless/cli/boot_hook.py"
#: What a host runs in the place of a tool shell, before it becomes ``PREFIX_SCRIPT``: ``/bin/sh .../oomless/prefix``.
PREFIX_FILE = "/oomless/prefix"
DAEMON_MODULE = "oomless.daemon"
#: The interpreter's options come before the script, each a word of its own: it is among the first words.
_WORDS, _OPTIONS = 6, 4


def role(argv: Sequence[str]) -> Role:
    """What a process is to us; "" if it is none of ours. ``shim``: ``boot.py SPEC TREE -- COMMAND...``. ``prefix``:
    all processes that the prefix starts for one tool shell or server, its shim among them. ``command``:
    ``python -m oomless``; one that was started by its script is not known."""
    for at, word in enumerate(argv[:_WORDS]):
        if word.endswith(SHIM_SCRIPT):
            return "shim"
        if word.endswith(PREFIX_SCRIPT) or (at == 1 and word.endswith(PREFIX_FILE) and argv[0] == "/bin/sh"):
            return "prefix"
        if word.endswith(HOOK_SCRIPT):
            return "hook"
        if word == "-m" and at > 0 and argv[at + 1 : at + 2]:
            if argv[at + 1] == DAEMON_MODULE:
                return "daemon"
            if argv[at + 1] == "oomless" and at < _OPTIONS:
                return "command"
    return ""


def is_ours(argv: Sequence[str]) -> bool:
    return bool(role(argv))


def is_daemon(argv: Sequence[str]) -> bool:
    return role(argv) == "daemon"


def is_shim_of(argv: Sequence[str], tree: str) -> bool:
    """Whether it is the shim of that tree, by the tree's id in its arguments. The shim of a tool shell or server has
    those of the prefix and names no tree."""
    at = _position(argv, SHIM_SCRIPT)
    return at is not None and list(argv[at + 2 : at + 4]) == [tree, "--"]


def prefixed(argv: Sequence[str]) -> Literal["shell", "server", ""]:
    """What ``boot_prefix.py shell|server LINE`` was started for."""
    at = _position(argv, PREFIX_SCRIPT)
    word = "".join(argv[at + 1 : at + 2]) if at is not None else ""
    if word == "shell":
        return "shell"
    return "server" if word == "server" else ""


def keeps_tree(argv: Sequence[str]) -> bool:
    """Whether it is a shim of any kind, or belongs to one of the prefix's."""
    return bool(prefixed(argv)) or _position(argv, SHIM_SCRIPT) is not None


def _position(argv: Sequence[str], script: str) -> int | None:
    return next((at for at, word in enumerate(argv[:_WORDS]) if word.endswith(script)), None)
