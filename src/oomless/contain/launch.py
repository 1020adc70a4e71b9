"""How a shim is started: its argument list and the specification it reads from an inherited descriptor.

The specification goes through a descriptor and not through arguments, for it names descriptors and files that
``ps`` should not show; the command's environment is simply the shim's own. Standard library only.
"""

from __future__ import annotations

import os
import sys

assert sys.platform == "linux"

from oomless.lean import dumps, signal
from oomless.platform import proc

BOOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "boot.py")


class ShimSpec:
    """What a shim must know. ``granted`` is the daemon's message as it came. ``reports`` are
    further files for the exit record. ``lifeline_fd``: the read end of a pipe whose write end only the tree's
    owner holds; at its end of file the shim ends the tree; ``owner`` (pid, start) does the same for a process that
    cannot hold a pipe. ``same_group``: the command stays in our process group, terminal or not. ``tied``: it
    is killed with us. ``timeout`` in seconds. ``extra``: fields that the record carries along (``stdout``,
    ``stderr``, ``attempts``). ``private_tmp``: it gets a TMPDIR of its own, in ``state``. ``grace`` and
    ``give_up_after`` in seconds; None: as always. ``mask``: the signals that were blocked before ``exec_shim``
    blocked some more, so that the command gets the mask it would have had."""

    __slots__ = (
        "extra",
        "give_up_after",
        "grace",
        "granted",
        "lease_fd",
        "lifeline_fd",
        "mask",
        "name",
        "owner",
        "private_tmp",
        "quiet",
        "reports",
        "same_group",
        "state",
        "tied",
        "timeout",
    )

    def __init__(
        self,
        granted: dict[str, object],
        *,
        name: str,
        state: str,
        lease_fd: int | None = None,
        lifeline_fd: int | None = None,
        owner: tuple[int, int] | None = None,
        same_group: bool = False,
        tied: bool = False,
        reports: list[str] | None = None,
        timeout: float | None = None,
        extra: dict[str, object] | None = None,
        quiet: bool = False,
        private_tmp: bool = False,
        grace: float | None = None,
        give_up_after: float | None = None,
    ) -> None:
        self.granted = granted
        self.name = name
        self.state = state
        self.lease_fd = lease_fd
        self.lifeline_fd = lifeline_fd
        self.owner = owner
        self.same_group = same_group
        self.tied = tied
        self.reports = reports or []
        self.timeout = timeout
        self.extra = extra or {}
        self.mask: list[int] | None = None
        self.quiet = quiet
        self.private_tmp = private_tmp
        self.grace = grace
        self.give_up_after = give_up_after

    def fields(self) -> dict[str, object]:
        """As the shim reads it."""
        return {name: getattr(self, name) for name in self.__slots__}

    def descriptors(self) -> list[int]:
        """Those that the shim must inherit, besides the specification's own."""
        return [fd for fd in (self.lease_fd, self.lifeline_fd) if fd is not None]


def write_spec(spec: ShimSpec) -> int:
    """An anonymous file with the specification, at its start; the caller closes it. Inheritable."""
    data = dumps(spec.fields()).encode()
    fd = os.memfd_create("oomless-spec", 0)
    os.write(fd, data)
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


def shim_argv(spec_fd: int, tree: str, command: list[str]) -> list[str]:
    return [sys.executable, "-I", "-S", "-E", BOOT, str(spec_fd), tree, "--", *command]


def exec_shim(spec: ShimSpec, command: list[str]) -> None:
    """Becomes the shim; returns only by raising OSError. From here on a Ctrl-C waits until the shim can take it:
    Python would die of it in the middle of its imports."""
    ending = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    spec.mask = [int(number) for number in signal.pthread_sigmask(signal.SIG_BLOCK, ending)]
    fd = write_spec(spec)
    for inherited in spec.descriptors():
        os.set_inheritable(inherited, True)
    argv = shim_argv(fd, str(spec.granted["tree"]), command)
    proc.forget_coerced_locale()
    os.execv(argv[0], argv)
