"""What an argument list runs: the program, the script of an interpreter, the package of a launcher.

Pure text work. Which of these names a known program is the catalog's business (``catalog/``); what must not be
shown of an argument list is in ``redact.py``; where one line of text is to be split is in ``words.py``.
"""

from __future__ import annotations

import re
import shlex
from typing import NamedTuple

from oomless.processes.words import of_title as split_title

__all__ = ["SHELLS", "Command", "base", "describe", "launched", "package_of", "parse", "split_title", "to_be"]

SHELLS = frozenset({"sh", "bash", "dash", "zsh", "fish", "ksh", "ash", "busybox"})

_NODE_VALUES = frozenset(
    {"-r", "--require", "--import", "--loader", "--experimental-loader", "-C", "--conditions", "--env-file"}
)
_PYTHON_VALUES = frozenset({"-W", "-X", "--check-hash-based-pycs"})
_INLINE = frozenset({"-e", "--eval", "-p", "--print", "-c"})
#: Editors built on Electron run their helpers' scripts by themselves, as node would.
_ELECTRON = frozenset({"code", "code-insiders", "codium", "cursor", "windsurf", "electron"})
#: What an entry file is called, and where it is built to.
_PARTS = frozenset({"index", "main", "server", "cli", "start", "stdio", "app", "__main__"})
_BUILT = frozenset({"dist", "build", "src", "lib", "out", "bin"})
_SUFFIXES = frozenset({"js", "mjs", "cjs", "ts", "mts", "cts", "tsx", "jsx", "py", "pyz", "rb", "sh"})
_SERVERS = ("/mcp", "/mcp-servers")
_WORDS = re.compile(r"[^a-z0-9]+")


class Command(NamedTuple):
    """``path`` is the first argument and ``program`` its base name; ``script`` or ``module`` is what an
    interpreter was given to run; ``arguments`` are those of the script, if there is one, else of the program."""

    program: str
    path: str
    script: str
    module: str
    arguments: tuple[str, ...]


def base(path: str) -> str:
    return path.rstrip("/").rpartition("/")[2]


def parse(argv: tuple[str, ...]) -> Command:
    argv = split_title(argv)
    path = argv[0].removeprefix("-") if argv else ""
    program, rest = base(path), argv[1:]
    if program.startswith("python"):
        return _interpreted(program, path, rest, _PYTHON_VALUES)
    if program in ("node", "nodejs"):
        return _interpreted(program, path, rest, _NODE_VALUES)
    if program in ("bun", "deno") and rest[:1] != ("x",):
        return _interpreted(program, path, rest[1:] if rest[:1] == ("run",) else rest, _NODE_VALUES)
    if program in _ELECTRON or "Helper" in program:
        found = _interpreted(program, path, rest, _NODE_VALUES)
        if _is_script(found):
            return found
    return Command(program, path, "", "", rest)


def _is_script(command: Command) -> bool:
    """Whether an editor runs that file: it may also be a file or folder that it was asked to open, but for its
    helpers. The servers of its extensions often have no suffix (``jsonServerMain``)."""
    script = command.script
    if script.endswith((".js", ".mjs", ".cjs")):
        return True
    return script.startswith("/") and ("Helper" in command.program or "/extensions/" in script)


def to_be(argv: tuple[str, ...]) -> tuple[str, ...]:
    """What a shell is about to become: of ``sh -c 'exec LINE'``, and of the shell prefix with its LINE, that line."""
    words = argv[1:] if base("".join(argv[:1])) in SHELLS else ()
    line = words[1] if len(words) == 2 and (words[0] == "-c" or words[0].endswith("/oomless/prefix")) else ""
    if not line.startswith("exec ") and words[:1] == ("-c",):
        return argv
    try:
        return tuple(shlex.split(line.removeprefix("exec "))) or argv
    except ValueError:
        return argv


def _interpreted(program: str, path: str, rest: tuple[str, ...], with_value: frozenset[str]) -> Command:
    """Finds the script behind the interpreter's own options."""
    at = 0
    while at < len(rest):
        word = rest[at]
        if word == "-m" and at + 1 < len(rest) and program.startswith("python"):
            return Command(program, path, "", rest[at + 1], rest[at + 2 :])
        if word in _INLINE:
            break
        if not word.startswith("-"):
            return Command(program, path, word, "", rest[at + 1 :])
        at += 2 if word in with_value else 1
    return Command(program, path, "", "", rest)


def launched(
    arguments: tuple[str, ...],
    subcommands: int = 0,
    names: tuple[str, ...] = ("-p", "--package", "--from"),
    takes: tuple[str, ...] = ("--with", "--python", "-w", "--workspace"),
) -> str:
    """The package or image that a launcher was asked for, without its version; empty if it names none. The first
    ``subcommands`` words (``exec``) are passed over. ``names``: options whose value is the package; ``takes``:
    other options with a value."""
    rest, at = arguments[subcommands:], 0
    while at < len(rest):
        word = rest[at]
        option, equals, value = word.partition("=")
        if option in names:
            return unversioned(value if equals else "".join(rest[at + 1 : at + 2]))
        if not word.startswith("-"):
            return unversioned(word)
        at += 2 if word in takes or _names_index(word) else 1
    return ""


def _names_index(option: str) -> bool:
    """uvx and pip have several options for a package index, each with the word in its name (``--default-index``)."""
    return option.startswith("--") and "index" in option.split("-")


def unversioned(package: str) -> str:
    """``@scope/name@1.2`` -> ``@scope/name``, ``name[extra]==1.2`` -> ``name``, ``host:5000/image:tag`` ->
    ``host:5000/image``."""
    name = package[:1] + package[1:].partition("@")[0]
    if "://" in name:
        return name
    folder, slash, last = name.rpartition("/")
    for mark in ("[", "=", "<", ">", "~", "!", ":"):
        last = last.partition(mark)[0]
    return f"{folder}{slash}{last}".strip()


def package_of(path: str) -> str:
    """The npm package that a script path lies in: the last ``node_modules/NAME`` (or ``@scope/NAME``) of it."""
    _, found, tail = path.rpartition("node_modules/")
    parts = tail.split("/") if found else []
    if len(parts) < 2 or parts[0] == ".bin":
        return ""
    return "/".join(parts[:2]) if parts[0].startswith("@") else parts[0]


def adopts(argv: tuple[str, ...]) -> bool:
    """Whether it takes in what has lost its parents, beside the first process: the user's own systemd, or a relay."""
    return is_relay(argv) or (base("".join(argv[:1])) == "systemd" and "--user" in argv)


def is_relay(argv: tuple[str, ...]) -> bool:
    """Of WSL: it starts what Windows asks for, and is a subreaper (microsoft/WSL, src/linux/init/init.cpp). With a
    terminal its child is what Windows shows there, else it holds the pipes to it."""
    return argv == ("/init",)


def is_crash_handler(argv: tuple[str, ...]) -> bool:
    """Of Chromium, and of what is built on it (crashpad: handler/crashpad_handler_main.cc)."""
    return base("".join(argv[:1])).endswith("crashpad_handler")


def is_driven(argv: tuple[str, ...]) -> bool:
    """Whether it is a browser that the program which started it holds by a pipe (Playwright, Puppeteer): it is of no
    use without that one, and nobody's own browser has this."""
    return "--remote-debugging-pipe" in " ".join(argv).split()


def runs_projects(command: Command) -> bool:
    """Whether it runs any command of a project, and waits for it: what that is, its one child shows (``uv run``)."""
    return command.program == "uv" and "run" in command.arguments


def mcp_name(command: Command) -> str:
    """What it calls itself, if that says that it is an MCP server, else "": the name of its package, module, script
    or program; or of the folder, where the script is only called after its part in it; or its own name in a folder of
    such servers."""
    script = base(command.script.partition("?")[0])
    stem = _stem(script)
    names = [package_of(command.script), command.module, stem, "" if command.script else command.program]
    if stem in _PARTS:
        names += [folder for folder in command.script.split("/")[-4:-1] if folder not in _BUILT][-2:]
    if command.script.rpartition("/")[0].endswith(_SERVERS):
        names.append(f"mcp/{stem}")
    return next((name for name in names if says_mcp(name)), "")


def says_mcp(name: str) -> bool:
    return any(word.endswith("mcp") for word in _WORDS.split(name.lower()))


def describe(command: Command) -> str:
    """A short name for what runs, where no catalog knows it: package, module, script, or program."""
    stem = _stem(base(command.script))
    return package_of(command.script) or command.module or stem or command.program or "?"


def _stem(script: str) -> str:
    stem, dot, suffix = script.rpartition(".")
    return stem if stem and dot and suffix in _SUFFIXES else script
