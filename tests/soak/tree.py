"""Programs for the soak that ``trees.py`` does not have: one that forks on and on, one that grows, one that watches.

    python -I -S tree.py ROSTER forks|grows
    python -I -S tree.py FOLDER bystander FIFO

The first two write ``kind pid start`` to ROSTER as those of ``trees.py`` do, ignore SIGTERM and end by themselves.
The bystander is of nobody's tree: it writes its identity to ``FOLDER/PID`` and the number of every signal that
reaches it to ``FOLDER/PID.signals``, and ends when nobody holds the FIFO open for writing any more.
"""

from __future__ import annotations

import os
import signal
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "support"))

from trees import LIFE, report

FORKS, FORK_EVERY = 30, 0.03
#: 8 MB every 30 ms, up to what a small machine bears if nobody stops it.
STEP, STEPS = 8_000_000, 40


def forks(roster: str) -> None:
    """Children in sessions of their own and in ours; each third one leaves a grandchild and is gone."""
    for number in range(FORKS):
        if os.fork() == 0:
            if number % 2:
                os.setsid()
            if number % 3 == 0 and os.fork():
                os._exit(0)
            report(roster, "forked")
            time.sleep(LIFE)
            os._exit(0)
        time.sleep(FORK_EVERY)
    time.sleep(LIFE)


def grows(roster: str) -> None:
    """The child holds as much as its parent has by then, and then both grow."""
    held = [bytearray(STEP)]
    os.fork()
    report(roster, "grows")
    for _ in range(STEPS):
        held.append(bytearray(STEP))
        time.sleep(FORK_EVERY)
    time.sleep(LIFE)


def bystander(folder: str, fifo: str) -> None:
    own = f"{folder}/{os.getpid()}"
    hit = os.open(f"{own}.signals", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NONBLOCK)
    signal.set_wakeup_fd(hit)
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD}:
        signal.signal(number, lambda number, frame: None)
    lifeline = os.open(fifo, os.O_RDONLY)
    report(own, "bystander")
    os.read(lifeline, 1)


def main() -> int:
    where, what, *rest = sys.argv[1:]
    if what == "bystander":
        bystander(where, rest[0])
        return 0
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    report(where, "root")
    {"forks": forks, "grows": grows}[what](where)
    return 0


if __name__ == "__main__":
    sys.exit(main())
