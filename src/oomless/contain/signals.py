"""Signals as a descriptor to poll (signalfd(2)), so that the shim sees who sent them and never runs a handler.

The sender matters on a terminal: Ctrl-C there reaches the command by itself (the kernel signals the foreground
group, and ``code`` is SI_KERNEL), while a ``kill`` of the shim has to be forwarded. ``_ctypes`` is used bare
because the ``ctypes`` package costs 0.3 MB more. Standard library only.
"""

from __future__ import annotations

import os
import sys

assert sys.platform == "linux"

from oomless.lean import signal

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
SI_USER = 0
_SFD_CLOEXEC = 0o2000000
_SFD_NONBLOCK = 0o4000
_RECORD = 128


class SignalFd:
    """Blocks SIGCHLD and those of ``ending`` that the caller did not ignore (``nohup``)."""

    def __init__(self, blocked_before: list[int] | None = None, ending: tuple[int, ...] = ENDING) -> None:
        """``blocked_before``: what was blocked, if whoever exec'd us had blocked these already."""
        import _ctypes

        wanted = [s for s in ending if signal.getsignal(s) is not signal.SIG_IGN] + [signal.SIGCHLD]
        before = signal.pthread_sigmask(signal.SIG_BLOCK, wanted)
        self.before = frozenset(before if blocked_before is None else blocked_before)
        mask = bytearray(_RECORD)
        for number in wanted:
            mask[(number - 1) // 8] |= 1 << ((number - 1) % 8)
        call = _ctypes.dlsym(_ctypes.dlopen(None, 0), "signalfd")  # type: ignore[arg-type]
        self.fd: int = _ctypes.call_function(call, (-1, bytes(mask), _SFD_CLOEXEC | _SFD_NONBLOCK))
        if self.fd < 0:
            raise OSError("signalfd is not available")

    def read(self) -> list[tuple[int, int]]:
        """Number and ``si_code`` of each that came since."""
        found: list[tuple[int, int]] = []
        try:
            while data := os.read(self.fd, _RECORD * 16):
                for at in range(0, len(data), _RECORD):
                    number = int.from_bytes(data[at : at + 4], sys.byteorder)
                    code = int.from_bytes(data[at + 8 : at + 12], sys.byteorder, signed=True)
                    found.append((number, code))
        except BlockingIOError:
            pass
        return found


def restore_in_child(before: frozenset[int]) -> None:
    """What the command would have found without us: Python ignores two signals for itself, and we blocked four."""
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, before)
