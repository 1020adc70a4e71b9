"""The command inside its tree: fork, enter the rung, exec; and the shim's own signals. Standard library only.

A failure before exec reaches the shim through a pipe that exec closes: ``stage errno``. The command inherits the
caller's descriptors as they are, working folder, environment and ignored signals included.

The shim takes its signals from a descriptor (signalfd(2)), so that it sees who sent them and never runs a handler.
The sender matters on a terminal: Ctrl-C there reaches the command by itself (the kernel signals the foreground group,
and ``code`` is SI_KERNEL), while a ``kill`` of the shim has to be forwarded.
"""

from __future__ import annotations

import os
import sys

assert sys.platform == "linux"

from oomless.contain.cause import StartFailed
from oomless.lean import call_c, signal
from oomless.platform import proc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oomless.contain.rungs.base import Rung

#: Raised for governed trees so that the kernel's own OOM killer takes them before an editor (VS Code gives
#: itself 200 to 300).
OOM_SCORE_ADJ = 500
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
SI_USER = 0
_SFD_CLOEXEC = 0o2000000
_SFD_NONBLOCK = 0o4000
_RECORD = 128


class SignalFd:
    """Blocks SIGCHLD and those of ``ending`` that the caller did not ignore (``nohup``)."""

    def __init__(self, blocked_before: list[int] | None = None, ending: tuple[int, ...] = ENDING) -> None:
        """``blocked_before``: what was blocked, if whoever exec'd us had blocked these already."""
        wanted = [s for s in ending if signal.getsignal(s) is not signal.SIG_IGN] + [signal.SIGCHLD]
        before = signal.pthread_sigmask(signal.SIG_BLOCK, wanted)
        self.before = frozenset(before if blocked_before is None else blocked_before)
        mask = bytearray(_RECORD)
        for number in wanted:
            mask[(number - 1) // 8] |= 1 << ((number - 1) % 8)
        self.fd = call_c("signalfd", -1, bytes(mask), _SFD_CLOEXEC | _SFD_NONBLOCK)
        if self.fd < 0:
            raise OSError("signalfd is not available")

    def read(self) -> list[tuple[int, int]]:
        """Number and ``si_code`` of each that came since."""
        signals: list[tuple[int, int]] = []
        try:
            while data := os.read(self.fd, _RECORD * 16):
                for at in range(0, len(data), _RECORD):
                    number = int.from_bytes(data[at : at + 4], sys.byteorder)
                    code = int.from_bytes(data[at + 8 : at + 12], sys.byteorder, signed=True)
                    signals.append((number, code))
        except BlockingIOError:
            pass
        return signals


def start_command(
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
        failure = os.read(reader, 64)
    finally:
        os.close(reader)
    if failure:
        os.waitpid(pid, 0)
        stage, number = failure.decode().split()
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
        restore_signals(before)
        proc.forget_coerced_locale()
        os.execvpe(command[0], command, {**os.environ, **environment})
    except OSError as error:
        os.write(writer, f"{stage} {error.errno or 5}".encode())
    finally:
        os._exit(127)


def restore_signals(before: frozenset[int]) -> None:
    """In the child: what the command would have found without us: Python ignores two signals for itself, and we
    blocked four."""
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, before)


def close_inherited(*numbers: int) -> None:
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
    return [fd for fd in proc.own_descriptors() if fd > 2 and os.get_inheritable(fd)]


def _raise_oom_score() -> None:
    score = proc.oom_score_adj()
    if score is not None and score < OOM_SCORE_ADJ:
        try:
            proc.set_oom_score_adj(OOM_SCORE_ADJ)
        except OSError:
            pass  # some containers forbid it
