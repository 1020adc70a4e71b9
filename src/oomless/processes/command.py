"""What an argument list runs: the program, the script of an interpreter, the package of a launcher.

Pure text work. Which known program that is, the catalog says; what may be shown of an argument list, ``redact.py``.
"""

from __future__ import annotations

import re
import shlex
from typing import NamedTuple

from oomless.processes.ours import PREFIX_FILE
from oomless.processes.words import split_title

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


class ParsedCommand(NamedTuple):
    """``path`` is the first argument and ``program`` its base name; ``script`` or ``module`` is what an
    interpreter was given to run; ``arguments`` are those of the script, if there is one, else of the program.
    ``becomes``: the argument list of what it is about to exec, its own if it stays what it is."""

    program: str
    path: str
    script: str
    module: str
    arguments: tuple[str, ...]
    becomes: tuple[str, ...]


def base_name(path: str) -> str:
    return path.rstrip("/").rpartition("/")[2]


def parse_command(argv: tuple[str, ...]) -> ParsedCommand:
    words = split_title(argv)
    path = words[0].removeprefix("-") if words else ""
    program, rest = base_name(path), words[1:]
    if program.startswith("python"):
        script, module, arguments = _find_script(program, rest, _PYTHON_VALUES)
    elif program in ("node", "nodejs"):
        script, module, arguments = _find_script(program, rest, _NODE_VALUES)
    elif program in ("bun", "deno") and rest[:1] != ("x",):
        script, module, arguments = _find_script(program, rest[1:] if rest[:1] == ("run",) else rest, _NODE_VALUES)
    else:
        script, module, arguments = "", "", rest
        if program in _ELECTRON or "Helper" in program:
            found = _find_script(program, rest, _NODE_VALUES)
            if _is_electron_script(program, found[0]):
                script, module, arguments = found
    return ParsedCommand(program, path, script, module, arguments, _becomes(argv))


def _is_electron_script(program: str, script: str) -> bool:
    """Whether an editor runs that file: it may also be a file or folder that it was asked to open, but for its
    helpers. The servers of its extensions often have no suffix (``jsonServerMain``)."""
    if script.endswith((".js", ".mjs", ".cjs")):
        return True
    return script.startswith("/") and ("Helper" in program or "/extensions/" in script)


def _becomes(argv: tuple[str, ...]) -> tuple[str, ...]:
    """What a shell is about to become: of ``sh -c 'exec LINE'``, and of the shell prefix with its LINE, that line."""
    if len(argv) != 3 or base_name(argv[0]) not in SHELLS:
        return argv
    _, option, line = argv
    if not (option == "-c" and line.startswith("exec ")) and not option.endswith(PREFIX_FILE):
        return argv
    try:
        return tuple(shlex.split(line.removeprefix("exec "))) or argv
    except ValueError:
        return argv


def _find_script(program: str, rest: tuple[str, ...], with_value: frozenset[str]) -> tuple[str, str, tuple[str, ...]]:
    """Script, module and their arguments, behind the interpreter's own options."""
    at = 0
    while at < len(rest):
        word = rest[at]
        if word == "-m" and at + 1 < len(rest) and program.startswith("python"):
            return "", rest[at + 1], rest[at + 2 :]
        if word in _INLINE:
            break
        if not word.startswith("-"):
            return word, "", rest[at + 1 :]
        at += 2 if word in with_value else 1
    return "", "", rest


def launched_package(
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


def is_subreaper(argv: tuple[str, ...]) -> bool:
    """Whether orphaned processes are reparented to it, beside the first process: the user's systemd, or a relay."""
    return is_relay(argv) or (base_name("".join(argv[:1])) == "systemd" and "--user" in argv)


def is_relay(argv: tuple[str, ...]) -> bool:
    """Whether it is a relay of WSL: it starts what Windows asks for, and is a subreaper (microsoft/WSL,
    src/linux/init/init.cpp). With a terminal its child is what Windows shows there, else it holds the pipes to it."""
    return argv == ("/init",)


def is_crash_handler(argv: tuple[str, ...]) -> bool:
    """Of Chromium, and of what is built on it (crashpad: handler/crashpad_handler_main.cc)."""
    return base_name("".join(argv[:1])).endswith("crashpad_handler")


def is_driven(argv: tuple[str, ...]) -> bool:
    """Whether it is a browser that another program drives through a pipe (Playwright, Puppeteer). Such a browser is
    of no use without that program; a person's own browser never has this option."""
    return "--remote-debugging-pipe" in " ".join(argv).split()


def runs_projects(command: ParsedCommand) -> bool:
    """Whether it runs any command of a project and waits for it (``uv run``): its one child shows which."""
    return command.program == "uv" and "run" in command.arguments


def mcp_name(command: ParsedCommand) -> str:
    """The name by which it is an MCP server, "" if no name says so: of its package, module, script or program; of its
    folder, where the script only has the name of a part (``index.js``); or its own in a folder of such servers."""
    script = base_name(command.script.partition("?")[0])
    stem = _stem(script)
    names = [package_of(command.script), command.module, stem, "" if command.script else command.program]
    if stem in _PARTS:
        names += [folder for folder in command.script.split("/")[-4:-1] if folder not in _BUILT][-2:]
    if command.script.rpartition("/")[0].endswith(_SERVERS):
        names.append(f"mcp/{stem}")
    return next((name for name in names if says_mcp(name)), "")


def says_mcp(name: str) -> bool:
    return any(word.endswith("mcp") for word in _WORDS.split(name.lower()))


def describe_command(command: ParsedCommand) -> str:
    """A short name of what runs, for a program that is not in the catalog: package, module, script or program."""
    stem = _stem(base_name(command.script))
    return package_of(command.script) or command.module or stem or command.program or "?"


def _stem(script: str) -> str:
    stem, dot, suffix = script.rpartition(".")
    return stem if stem and dot and suffix in _SUFFIXES else script
