"""``oomless run`` on macOS: bounded, and nothing of it left, but not admitted, for there is no daemon there yet.

Covers: which options need the daemon, and the mark. Not here: the options (``run_options.py``), the tree itself
(``contain/darwin/shim.py``), which this very process looks after. Not run on a Mac.
"""

from __future__ import annotations

import os
import sys

assert sys.platform == "darwin"

from oomless.cli.run_options import HELP, Options, check_command, check_report, parse, say
from oomless.contain.darwin.child import DarwinSpec
from oomless.contain.darwin.shim import DarwinShim
from oomless.errors import OomlessError, UsageError

#: What only the daemon can give.
ADMISSION = {"klass": "--class", "expect": "--expect", "wait": "--wait", "private_tmp": "--private-tmp"}


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
    given = {attribute: getattr(options, attribute) for attribute in ADMISSION}
    asked = [ADMISSION[attribute] for attribute, value in given.items() if value is not None and value is not False]
    if asked:
        why = "there is no daemon on macOS yet, which would admit it"
        raise UsageError(f"run has no {asked[0]} here", why, "leave it out; see docs/macos.md")
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
    """Unlike any other's; below the one of the tree that we are in, if we are in one."""
    tree = "t" + os.urandom(4).hex()
    outer = environ.get("OOMLESS_TREE", "")
    return f"{outer}/{tree}" if outer else f"{os.urandom(6).hex()}:{tree}"
