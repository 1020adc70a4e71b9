"""The first process of a stage's pid namespace: starts the one command, reaps whoever loses its parents, and ends
with the command, which ends the namespace and all in it. Standard library only.

    python -I -S stage_init.py COMMAND...
"""

from __future__ import annotations

import os
import signal
import sys


def main(command: list[str]) -> int:
    os.setsid()  # as every init: what it starts is in sessions of its own
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):  # ignored ones are inherited
        signal.signal(number, signal.SIG_DFL)
    child = os.fork()
    if child == 0:
        os.setsid()
        os.execv(command[0], command)
    while True:
        pid, status = os.wait()
        if pid == child:
            return os.waitstatus_to_exitcode(status)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]) & 0xFF)
