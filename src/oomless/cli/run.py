"""``oomless run``: asks the daemon for a lease, waits until it is granted, and becomes the shim of the command.

Standard library only: every import here is paid by every command that is run.
"""

from __future__ import annotations

import os
import sys
import time

assert sys.platform == "linux"

from oomless.cli.run_options import HELP, Options, check_command, check_report, parse, say
from oomless.contain.launch import ShimSpec, exec_shim
from oomless.errors import DaemonGone, Interrupted, OomlessError
from oomless.lean import name_of, signal
from oomless.paths import Paths
from oomless.protocol import lease, spawn

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oomless.protocol.lease import Message

#: Of the argument list so much is kept in the journal: it names leftovers, it is not run again.
ARGV_KEPT, ARGUMENT_KEPT = 32, 200
#: A request goes to so many daemons, one after the other, if each dies before it answers.
DAEMONS = 5


def run(options: Options) -> None:
    """Becomes the shim; returns only by raising OomlessError or OSError."""
    check_command(options.command[0])
    check_report(options.report)
    paths = Paths()
    name = options.name or os.path.basename(options.command[0])
    client, granted = _obtain_lease(options, name, paths)
    if not granted.get("limit") and options.memory:
        raise OomlessError("the daemon forgot the memory limit", "", "restart it: oomless daemon stop")
    spec = ShimSpec(
        granted,
        name=name,
        state=paths.state,
        lease_fd=client.socket.fileno(),
        reports=[os.path.abspath(options.report)] if options.report else [],
        timeout=options.timeout,
        quiet=options.quiet,
        private_tmp=options.private_tmp,
    )
    sys.stderr.flush()
    exec_shim(spec, options.command)


def _obtain_lease(options: Options, name: str, paths: Paths) -> tuple[lease.LeaseClient, Message]:
    """The granted lease and its connection. If the daemon dies meanwhile, the next one is asked for what is left of
    the wait."""
    began = time.monotonic()
    for tries_left in range(DAEMONS - 1, -1, -1):
        client = lease.LeaseClient(spawn.connect(paths))
        waited = time.monotonic() - began
        try:
            client.send(_build_request(options, name, waited))
            return client, client.wait_granted(lambda message: _tell_waiting(options, name, message))
        except DaemonGone:
            client.close()
            if not tries_left:
                raise
    raise AssertionError("not reached")


def _build_request(options: Options, name: str, waited: float) -> bytes:
    return lease.request(
        name=name,
        klass=options.class_name,
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


def _tell_waiting(options: Options, name: str, message: Message) -> None:
    if not options.quiet:
        say(f"oomless: {name!r} waits for memory: {message.get('reason')}")


def _interrupt(number: int, frame: object) -> None:
    error = Interrupted(f"{name_of(number)} while waiting for memory")
    error.exit_code = 128 + number
    raise error


def main(argv: list[str]) -> int:
    """The exit code where the command was not run; else this process becomes its shim."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _interrupt)
    try:
        options = parse(argv)
        if options.help:
            sys.stdout.write(HELP)
            return 0
        run(options)
    except OomlessError as error:
        say(error.report())
        return error.exit_code
    except OSError as error:
        failure = OomlessError("the shim cannot be started", error.strerror or str(error), "see oomless doctor")
        say(failure.report())
    return OomlessError.exit_code
