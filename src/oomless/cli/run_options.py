"""The options of ``oomless run`` on every system, its help, and the checks before it waits for memory.

Standard library only, and no argparse: every import here is paid by every command that is run.
"""

from __future__ import annotations

import os
import sys

from oomless.atomicfile import is_special
from oomless.errors import CommandNotFound, NotRunnable, UsageError
from oomless.units import parse_duration, parse_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

USAGE = "usage: oomless run [options] -- COMMAND [ARG...]"
HELP = f"""{USAGE}

Run a command with admission control and a memory limit. It starts when there is memory for it, and when it ends
everything that it started is killed.

options:
  --name N          name of the tree (default: the command's name)
  --class C         class with limits, from the settings ([classes.C])
  --memory SIZE     reserve SIZE and kill the tree if it uses more (512MB, 2GiB)
  --expect SIZE     reserve SIZE, without a limit
  --processes N     limit to N processes; further forks fail (without cgroups: the tree is killed after 1 s over the
                    limit, or at once far above it)
  --wait TIME       wait up to TIME for memory (30s, 10m; default: 9m, or what the settings say)
  --no-wait         exit with 75 if there is not enough memory now
  --timeout TIME    kill the tree after TIME and exit with 124
  --private-tmp     give it a TMPDIR of its own, removed afterwards
  --report FILE     write the exit record to FILE (JSON, schema oomless.run/1)
  --quiet           print nothing of our own on stderr
  --help            show this help

exit code: the command's own, 128+N if signal N killed it, and: 2 usage, 75 not enough memory, 124 timed out,
125 oomless failed, 126 not runnable, 127 not found, 130 interrupted, 137 killed for exceeding a limit.

  oomless run --memory 2GiB --timeout 20m -- claude -p "fix the tests"
"""


class Options:
    """Sizes in bytes, times in seconds; None where an option was not given."""

    def __init__(self) -> None:
        self.command: list[str] = []
        self.name: str | None = None
        self.class_name: str | None = None
        self.memory: int | None = None
        self.expect: int | None = None
        self.processes: int | None = None
        self.wait: float | None = None
        self.timeout: float | None = None
        self.report: str | None = None
        self.quiet = False
        self.private_tmp = False
        self.help = False


def parse(argv: list[str]) -> Options:
    """The options and the command behind them, which begins at ``--`` or at the first word that is no option. Raises
    UsageError."""
    options = Options()
    rest = list(argv)
    while rest and rest[0].startswith("-"):
        word = rest.pop(0)
        if word == "--":
            break
        _set_option(options, word, rest)
    options.command = rest
    if not rest and not options.help:
        raise UsageError("there is no command to run", "", USAGE)
    return options


def _set_option(options: Options, word: str, rest: list[str]) -> None:
    if word in _FLAGS:
        setattr(options, *_FLAGS[word])
        return
    name, equals, value = word.partition("=")
    if name not in _VALUES:
        raise UsageError(f"run has no option {name}", "", f"see oomless run --help; {USAGE}")
    if not equals:
        if not rest:
            raise UsageError(f"{name} needs a value", "", USAGE)
        value = rest.pop(0)
    attribute, convert = _VALUES[name]
    setattr(options, attribute, convert(value, name))


def _parse_text(value: str, name: str) -> str:
    if not value:
        raise UsageError(f"{name} is empty", "", USAGE)
    return value


def _parse_count(value: str, name: str) -> int:
    if not value.isdecimal() or int(value) == 0:
        raise UsageError(f"{name} {value!r} is not a number of processes", "", "write it as --processes 50")
    return int(value)


_FLAGS: dict[str, tuple[str, object]] = {
    "--help": ("help", True),
    "-h": ("help", True),
    "--quiet": ("quiet", True),
    "--no-wait": ("wait", 0.0),
    "--private-tmp": ("private_tmp", True),
}
_VALUES: dict[str, tuple[str, Callable[[str, str], object]]] = {
    "--name": ("name", _parse_text),
    "--class": ("class_name", _parse_text),
    "--memory": ("memory", parse_size),
    "--expect": ("expect", parse_size),
    "--processes": ("processes", _parse_count),
    "--wait": ("wait", parse_duration),
    "--timeout": ("timeout", parse_duration),
    "--report": ("report", _parse_text),
}


def check_command(command: str) -> None:
    """Raises CommandNotFound or NotRunnable."""
    folders = [""] if "/" in command else os.get_exec_path()
    paths = [os.path.join(folder, command) for folder in folders]
    files = [path for path in paths if os.path.isfile(path)]
    if not files:
        raise CommandNotFound(f"cannot run {command!r}", "there is no such command", "check its name and PATH")
    if not any(os.access(path, os.X_OK) for path in files):
        raise NotRunnable(f"cannot run {files[0]!r}", "it is not executable", "chmod +x, or run its interpreter")


def check_report(path: str | None) -> None:
    """Raises UsageError now rather than when the command has done its work."""
    if path and is_special(path):
        if os.path.isdir(path) or not os.access(path, os.W_OK):
            raise UsageError(f"--report {path} cannot be written", "it is no file", "name another")
        return
    folder = os.path.dirname(os.path.realpath(path)) if path else None
    if folder and not os.access(folder, os.W_OK | os.X_OK):
        raise UsageError(f"--report {path} cannot be written", f"{folder} is not a writable folder", "name another")


def say(text: str) -> None:
    """On stderr, at once."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()
