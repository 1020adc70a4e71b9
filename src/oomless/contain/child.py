"""Starts the command inside its tree: fork, enter the rung, exec. Standard library only.

Everything that fails before exec is told to the shim through a pipe that exec closes: ``stage errno``. The command
inherits the caller's descriptors as they are, working folder, environment and ignored signals included.
"""

from __future__ import annotations

import os
import sys

assert sys.platform == "linux"

from oomless.contain import signals
from oomless.platform import files, proc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oomless.contain.rungs.base import Rung

#: Raised for governed trees so that the kernel's own OOM killer takes them before an editor (VS Code gives
#: itself 200 to 300).
OOM_SCORE_ADJ = 500


class StartFailed(OSError):
    """``stage``: ``enter`` (the rung would not take it) or ``exec``."""

    def __init__(self, stage: str, number: int) -> None:
        super().__init__(number, os.strerror(number))
        self.stage = stage


def start(
    command: list[str],
    rung: Rung,
    environment: dict[str, str],
    same_group: bool,
    before: frozenset[int],
    tied: bool = False,
) -> int:
    """The root's pid, once it has become the command; raises StartFailed. ``environment`` is added to ours.
    ``tied``: it dies when we are killed."""
    reader, writer = os.pipe()  # both close on exec
    own = os.getpid()
    pid = rung.fork()
    if pid == 0:
        _become(command, rung, environment, same_group, before, writer, own if tied else None)
    os.close(writer)
    try:
        told = os.read(reader, 64)
    finally:
        os.close(reader)
    if told:
        os.waitpid(pid, 0)
        stage, number = told.decode().split()
        raise StartFailed(stage, int(number))
    return rung.root(pid)


def _become(
    command: list[str],
    rung: Rung,
    environment: dict[str, str],
    same_group: bool,
    before: frozenset[int],
    writer: int,
    tied_to: int | None,
) -> None:
    stage = "enter"
    try:
        if tied_to is not None:
            proc.die_with_parent(tied_to)
        rung.enter()
        if not same_group:
            os.setsid()
        _raise_oom_score()
        stage = "exec"
        signals.restore_in_child(before)
        proc.forget_coerced_locale()
        os.execvpe(command[0], command, {**os.environ, **environment})
    except OSError as error:
        os.write(writer, f"{stage} {error.errno or 5}".encode())
    finally:
        os._exit(127)


def let_go(*numbers: int) -> None:
    """Gives up those standard descriptors, and all others that a command inherits from us: a pipe ends when the
    command's own ends are closed."""
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    for fd in numbers:
        os.dup2(null, fd)
    os.close(null)
    for fd in inherited():
        os.close(fd)


def inherited() -> list[int]:
    """Open descriptors beyond the standard ones that exec does not close."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        fd = int(name)
        try:
            if fd > 2 and os.get_inheritable(fd):
                found.append(fd)
        except OSError:
            pass  # the listing's own
    return found


def _raise_oom_score() -> None:
    now = files.read_int("/proc/self/oom_score_adj")
    if now is not None and now < OOM_SCORE_ADJ:
        files.try_write("/proc/self/oom_score_adj", str(OOM_SCORE_ADJ))
