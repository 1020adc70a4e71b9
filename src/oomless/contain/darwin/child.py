"""What the shim of macOS is asked for, and the start of its command. Standard library only; not run on a Mac."""

from __future__ import annotations

import os

from oomless.lean import signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class DarwinSpec:
    """``mark``: the value of OOMLESS_TREE. ``lifeline``: the read end of a pipe whose write end only the tree's owner
    holds. Sizes in bytes, times in seconds, None: no such bound."""

    def __init__(
        self,
        command: list[str],
        name: str,
        mark: str,
        *,
        memory: int | None = None,
        processes: int | None = None,
        timeout: float | None = None,
        lifeline: int | None = None,
        report: str | None = None,
        quiet: bool = False,
    ) -> None:
        self.command, self.name, self.mark = command, name, mark
        self.memory, self.processes, self.timeout = memory, processes, timeout
        self.lifeline, self.report, self.quiet = lifeline, report, quiet


def become_command(spec: DarwinSpec, same_group: bool, writer: int) -> NoReturn:
    """In the forked child. ``writer`` tells the number of the error if there is one, and closes on exec."""
    try:
        if not same_group:
            os.setsid()
        signal.set_wakeup_fd(-1)
        for number in (*ENDING, signal.SIGCHLD):
            if signal.getsignal(number) is note_signal:
                signal.signal(number, signal.SIG_DFL)
        for number in (signal.SIGPIPE, signal.SIGXFSZ):  # which Python ignores for itself
            signal.signal(number, signal.SIG_DFL)
        os.execvpe(spec.command[0], spec.command, {**os.environ, "OOMLESS_TREE": spec.mark})
    except OSError as error:
        os.write(writer, str(error.errno or 5).encode())
    finally:
        os._exit(127)


def note_signal(number: int, frame: object) -> None:
    """What matters is the byte in the pipe."""


def close_standard(*numbers: int) -> None:
    """Gives up those standard descriptors: a pipe ends when the command's own ends are closed."""
    null = os.open("/dev/null", os.O_RDWR)
    for fd in numbers:
        os.dup2(null, fd)
    os.close(null)
