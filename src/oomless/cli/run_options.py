"""What ``oomless run`` may be asked for, on every system: options, help, and what is checked before anything waits.

Standard library only, and no argparse: every import here is paid by every command that is run.
"""

from __future__ import annotations

import os
import sys

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
  --name N          what to call it (default: the command's name)
  --class C         its class in the settings ([classes.C])
  --memory SIZE     reserve so much and end it if it takes more (512MB, 2GiB)
  --expect SIZE     only reserve so much
  --processes N     so many at once; a fork beyond that fails, and it is ended if that goes on for a second. Without a
                    control group none fails: it is ended when it has more for a second, or far more at once
  --wait TIME       wait so long for memory (30s, 10m); the settings say 9m unless changed
  --no-wait         do not wait: exit 75 if there is no memory now
  --timeout TIME    end it after so long: exit 124
  --private-tmp     give it a TMPDIR of its own, which goes with it
  --report FILE     write the record of its end to FILE (JSON, schema oomless.run/1)
  --quiet           no line of ours on stderr
  --help            this text

exit code: the command's own, 128+N if signal N ended it, and: 2 usage, 75 no memory, 124 timed out, 125 oomless
failed, 126 not runnable, 127 not found, 130 interrupted, 137 ended for exceeding its memory or process limit.

  oomless run --memory 2GiB --timeout 20m -- claude -p "fix the tests"
"""


class Options:
    """What was asked for; sizes in bytes, times in seconds, None: not given."""

    def __init__(self) -> None:
        self.command: list[str] = []
        self.name: str | None = None
        self.klass: str | None = None
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
    """Raises UsageError. Options end at ``--`` or at the first word that is none."""
    options = Options()
    rest = list(argv)
    while rest and rest[0].startswith("-"):
        word = rest.pop(0)
        if word == "--":
            break
        _option(options, word, rest)
    options.command = rest
    if not rest and not options.help:
        raise UsageError("run what?", "there is no command", USAGE)
    return options


def _option(options: Options, word: str, rest: list[str]) -> None:
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


def _text(value: str, name: str) -> str:
    if not value:
        raise UsageError(f"{name} is empty", "", USAGE)
    return value


def _count(value: str, name: str) -> int:
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
    "--name": ("name", _text),
    "--class": ("klass", _text),
    "--memory": ("memory", parse_size),
    "--expect": ("expect", parse_size),
    "--processes": ("processes", _count),
    "--wait": ("wait", parse_duration),
    "--timeout": ("timeout", parse_duration),
    "--report": ("report", _text),
}


def check_command(command: str) -> None:
    """Before anything waits: raises CommandNotFound or NotRunnable."""
    folders = [""] if "/" in command else os.get_exec_path()
    places = [os.path.join(folder, command) for folder in folders]
    found = [place for place in places if os.path.isfile(place)]
    if not found:
        raise CommandNotFound(f"cannot run {command!r}", "there is no such command", "check its name and PATH")
    if not any(os.access(place, os.X_OK) for place in found):
        raise NotRunnable(f"cannot run {found[0]!r}", "it is not executable", "chmod +x, or run its interpreter")


def check_report(path: str | None) -> None:
    """Raises UsageError: better now than when the work is done."""
    folder = os.path.dirname(os.path.abspath(path)) if path else None
    if folder and not os.access(folder, os.W_OK | os.X_OK):
        raise UsageError(f"--report {path} cannot be written", f"{folder} is not a writable folder", "name another")


def say(line: str) -> None:
    sys.stderr.write(line + "\n")
    sys.stderr.flush()
