"""Runs a program that is measured, and kills all that it started when our input ends: on request or with the process
at the other end (circus leaves its plugins behind). ``_guard.py COMMAND...``"""

from __future__ import annotations

import os
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "src"))

from oomless.contain import ending
from oomless.platform import proc
from oomless.processes import descendants


def main() -> None:
    proc.become_subreaper()
    null = subprocess.DEVNULL
    subprocess.Popen(sys.argv[1:], stdin=null, stdout=null, stderr=null)
    os.read(0, 1)
    hunt = descendants.DescentKiller(os.getpid())
    while not ending.is_empty(os.getpid(), set(), ""):
        hunt.round()
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            pass


if __name__ == "__main__":
    main()
