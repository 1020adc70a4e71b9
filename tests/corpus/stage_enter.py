"""Starts a command in a cgroup, with all signals as they are by default and without the parents that it had, and says
its pid. Standard library only.

    python -I -S stage_enter.py FOLDER COMMAND...
"""

from __future__ import annotations

import os
import signal
import sys


def main(folder: str, command: list[str]) -> int:
    with open(f"{folder}/cgroup.procs", "w", encoding="ascii") as file:
        file.write(str(os.getpid()))
    os.setsid()
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):  # ignored ones are inherited
        signal.signal(number, signal.SIG_DFL)
    child = os.fork()
    if child == 0:
        os.setsid()
        os.dup2(2, 1)  # the answer ends with its writer
        os.execv(command[0], command)
    os.write(1, b"%d" % child)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
