"""``oomless run`` on macOS: with limits and a complete end of the tree, without admission, which needs the daemon.

This process is the shim itself. Tested against a simulated system only, not on hardware.
"""

from __future__ import annotations

import os
import sys

assert sys.platform == "darwin"

from oomless.cli.run_options import HELP, Options, check_command, check_report, parse, say
from oomless.contain.darwin.child import DarwinSpec
from oomless.contain.darwin.shim import DarwinShim
from oomless.errors import OomlessError, UsageError

#: Options that need the daemon, by attribute.
ADMISSION = {"class_name": "--class", "expect": "--expect", "wait": "--wait", "private_tmp": "--private-tmp"}


def main(argv: list[str]) -> int:
    """The exit code; the command's own, if it came to run."""
    try:
        options = parse(argv)
        if options.help:
            sys.stdout.write(HELP)
            return 0
        check(options)
        return contain(options)
    except OomlessError as error:
        say(error.report())
        return error.exit_code


def check(options: Options) -> None:
    """Raises OomlessError for what cannot be run, or not on macOS."""
    given = {option: getattr(options, attribute) for attribute, option in ADMISSION.items()}
    refused = [option for option, value in given.items() if value is not None and value is not False]
    if refused:
        why = "it needs the daemon, which does not run on macOS yet"
        raise UsageError(f"run has no {refused[0]} on macOS", why, "leave it out; see docs/macos.md")
    check_command(options.command[0])
    check_report(options.report)


def contain(options: Options) -> int:
    from oomless.platform.darwin_calls import System
    from oomless.platform.darwin_kqueue import Kqueue

    spec = DarwinSpec(
        options.command,
        options.name or os.path.basename(options.command[0]),
        mark(os.environ),
        memory=options.memory,
        processes=options.processes,
        timeout=options.timeout,
        report=os.path.abspath(options.report) if options.report else None,
        quiet=options.quiet,
    )
    sys.stderr.flush()
    return DarwinShim(spec, System(), Kqueue()).run()


def mark(environ: os._Environ[str]) -> str:
    """A new mark for ``OOMLESS_TREE``, nested below that of the tree that this process is in, if it is in one."""
    tree = "t" + os.urandom(4).hex()
    outer = environ.get("OOMLESS_TREE", "")
    return f"{outer}/{tree}" if outer else f"{os.urandom(6).hex()}:{tree}"
