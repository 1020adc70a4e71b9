"""``oomless run``: asks the daemon for a lease and then becomes the shim. Standard library only, and no argparse:
every import here is paid by every command that is run.

Covers: the options, finding the command, waiting for admission. Does not cover: the tree itself
(``contain/shim.py``).
"""

from __future__ import annotations

import os
import sys
import time

assert sys.platform == "linux"

from oomless.contain.launch import ShimSpec, exec_shim
from oomless.daemon import lease, spawn
from oomless.errors import CommandNotFound, DaemonGone, Interrupted, NotRunnable, OomlessError, UsageError
from oomless.lean import name_of, signal
from oomless.paths import Paths
from oomless.units import parse_duration, parse_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from oomless.daemon.lease import Message

USAGE = "usage: oomless run [options] -- COMMAND [ARG...]"
HELP = f"""{USAGE}

Run a command governed: it starts when there is memory for it, it is bounded, and when it ends nothing of it is left.

options:
  --name N          what to call it (default: the command's name)
  --class C         its class in the settings ([classes.C])
  --memory SIZE     reserve so much and end it if it takes more (512MB, 2GiB)
  --expect SIZE     only reserve so much
  --processes N     end it if it holds N processes at once for a second; forks fail at N where the kernel can
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
#: An argument list is kept in the journal to name leftovers by, not to be run again.
ARGV_KEPT, ARGUMENT_KEPT = 32, 200
#: How many daemons one request may lose.
DAEMONS = 5


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


def run(options: Options) -> None:
    """Becomes the shim; returns only by raising."""
    check_command(options.command[0])
    check_report(options.report)
    paths = Paths()
    name = options.name or os.path.basename(options.command[0])
    conversation, granted = _lease(options, name, paths)
    if not granted.get("limit") and options.memory:
        raise OomlessError("the daemon forgot the memory limit", "", "restart it: oomless daemon stop")
    spec = ShimSpec(
        granted,
        name=name,
        state=paths.state,
        lease_fd=conversation.socket.fileno(),
        reports=[os.path.abspath(options.report)] if options.report else [],
        timeout=options.timeout,
        quiet=options.quiet,
        private_tmp=options.private_tmp,
    )
    sys.stderr.flush()
    exec_shim(spec, options.command)


def _lease(options: Options, name: str, paths: Paths) -> tuple[lease.Conversation, Message]:
    """A daemon that dies while we wait is followed by another, which is asked anew, for what is left of the wait."""
    began = time.monotonic()
    for left in range(DAEMONS - 1, -1, -1):
        conversation = lease.Conversation(spawn.ensure(paths))
        waited = time.monotonic() - began
        try:
            opening = _request(options, name, waited)
            return conversation, conversation.ask(opening, lambda message: _waiting(options, name, message))
        except DaemonGone:
            conversation.close()
            if not left:
                raise
    raise AssertionError("not reached")


def _request(options: Options, name: str, waited: float) -> bytes:
    return lease.request(
        name=name,
        klass=options.klass,
        argv=[argument[:ARGUMENT_KEPT] for argument in options.command[:ARGV_KEPT]],
        cwd=_cwd(),
        need=options.expect,
        limit=options.memory,
        processes=options.processes,
        wait=None if options.wait is None else max(0.0, options.wait - waited),
    )


def _cwd() -> str:
    try:
        return os.getcwd()
    except OSError:
        return "/"  # deleted under us: no project's settings then


def _waiting(options: Options, name: str, message: Message) -> None:
    if not options.quiet:
        say(f"oomless: {name} waits; {message.get('reason')}")


def _interrupt(number: int, frame: object) -> None:
    error = Interrupted(f"ended by {name_of(number)} while waiting")
    error.exit_code = 128 + number
    raise error


def main(argv: list[str]) -> int:
    """The exit code, if it never came to run the command."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _interrupt)
    try:
        options = parse(argv)
        if options.help:
            sys.stdout.write(HELP)
            return 0
        run(options)
    except Interrupted as error:
        say(error.line())
        return error.exit_code
    except OomlessError as error:
        say(error.line())
        return error.exit_code
    except OSError as error:
        say(OomlessError("the shim cannot be started", error.strerror or str(error), "see oomless doctor").line())
    return 125
