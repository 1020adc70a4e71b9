"""A program for tests: a root that starts children which slip away, each in its own way, and then stays or ends.

    python -I -S trees.py ROSTER EXIT|stay [KIND ...]

Every process writes ``kind pid start`` to the file ROSTER once it is what it says, and ends by itself after 60 s. All
kinds ignore SIGTERM, which is why a plain ``killpg(SIGTERM)`` reaches none of them.
"""

from __future__ import annotations

import os
import signal
import sys
import time

KINDS = ("plain", "setsid", "own-group", "double-fork", "ignores-term", "wiped-environment")
LIFE = 60.0

#: Everybody forks for as long as it may, 8 s at most and no deeper than 2^11.
BOMB = """
import os, time
until, depth = time.monotonic() + 8, 0
while time.monotonic() < until:
    try:
        if depth < 11:
            os.fork()
            depth += 1
    except OSError:
        pass
"""


def report(roster: str, kind: str) -> None:
    with open("/proc/self/stat", encoding="utf-8") as file:
        start = file.read().rsplit(")", 1)[1].split()[19]
    with open(roster, "a", encoding="utf-8") as file:
        file.write(f"{kind} {os.getpid()} {start}\n")


def stay(roster: str, kind: str, ready: int) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    report(roster, kind)
    os.write(ready, b"x")
    os.close(ready)
    time.sleep(LIFE)
    os._exit(0)


def start(roster: str, kind: str) -> None:
    """Returns when the child is there."""
    reader, writer = os.pipe()
    if os.fork() == 0:
        os.close(reader)
        if kind in ("setsid", "double-fork", "wiped-environment"):
            os.setsid()
        if kind == "own-group":
            os.setpgrp()
        if kind in ("double-fork", "wiped-environment") and os.fork():
            os._exit(0)
        if kind == "wiped-environment":
            os.set_inheritable(writer, True)
            python = [sys.executable, "-I", "-S", __file__, roster, f"wiped:{writer}"]
            os.execve(sys.executable, python, {})
        stay(roster, kind, writer)
    os.close(writer)
    os.read(reader, 1)
    os.close(reader)


def main() -> int:
    roster, how, *kinds = sys.argv[1:]
    if how.startswith("wiped:"):
        stay(roster, "wiped-environment", int(how.partition(":")[2]))
    for kind in kinds or KINDS:
        start(roster, kind)
    report(roster, "root")
    if how == "stay":
        time.sleep(LIFE)
        return 0
    return int(how)


if __name__ == "__main__":
    sys.exit(main())
