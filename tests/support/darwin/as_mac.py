"""The command line on macOS as far as another system can show it: ``python -m darwin.as_mac ARGUMENTS``.

``sys.platform`` says darwin, so that every module for Linux only refuses to load, what Python has on Linux only is
taken away, and the calls of macOS are answered by this machine's ``/proc`` in a Mac's layouts.
"""

from __future__ import annotations

import asyncio
import os
import select
import signal
import socket
import sqlite3
import subprocess
import sys
import sysconfig
import tempfile
from types import SimpleNamespace

from darwin.answers import Translated
from darwin.exits import Exits

#: Loaded before the name of the system changes: some of them ask for it.
STANDARD = (asyncio, os, select, signal, socket, sqlite3, subprocess, tempfile)
LINUX_ONLY = {
    os: ("pidfd_open", "memfd_create", "eventfd", "sched_getaffinity", "O_TMPFILE", "O_PATH", "getresuid"),
    select: ("epoll",),
    signal: ("pidfd_send_signal", "sigtimedwait", "sigwaitinfo"),
    socket: ("SO_PEERCRED", "SO_PASSCRED"),
}


def become() -> None:
    """From here on this process is on a Mac, as far as it can tell."""
    sysconfig.get_config_vars()  # kept by sysconfig, which looks for a file with the name of the system
    for module, names in LINUX_ONLY.items():
        for name in names:
            if hasattr(module, name):
                delattr(module, name)
    for name in [name for name in sys.modules if name.partition(".")[0] == "oomless"]:
        del sys.modules[name]
    sys.platform = "darwin"
    import oomless.platform.darwin
    import oomless.platform.darwin_calls

    for module in (oomless.platform.darwin, oomless.platform.darwin_calls):
        setattr(module, "System", Translated)  # noqa: B010
    sys.modules["oomless.platform.darwin_kqueue"] = SimpleNamespace(Kqueue=Exits)  # type: ignore[assignment]


def main() -> None:
    become()
    import oomless.cli

    oomless.cli.main()


if __name__ == "__main__":
    main()
