"""The trees that ``contain.py`` kills: many processes that escape, and one that eats memory at a given rate.

    python -I -S _tree.py FOLDER members COUNT alive|left|rabbit|hare
    python -I -S _tree.py FOLDER eater MB_PER_SECOND START_MB TOP_MB
    python -I -S _tree.py FOLDER foreign COUNT

FOLDER holds two fifos. Each member writes ``pid start kind`` into ``roster`` when it starts and keeps it open, so
that its end of file is the death of the last. Each ends by itself when no process holds ``life`` for writing any
more, so that no tree outlives its benchmark. TERM is ignored. Of fifty, 35 are plain (in three generations), 4 have a
process session of their own, 3 a process group, 6 are double forks and one has an empty environment. ``left``: the
root ends when a byte comes through ``life``. A ``rabbit`` is one more member, that forks and exits every 2 ms; a
``hare`` calls setsid each time, too. A root that a supervisor starts a second time ends at once.
"""

from __future__ import annotations

import mmap
import os
import select
import signal
import sys
import time

#: Of each fifty, besides the root; the rest is plain.
AWAY = [("setsid",)] * 4 + [("setpgrp",)] * 3 + [("fork",)] * 3 + [("fork", "setsid")] * 3 + [("wiped",)]
PLAIN_EACH = 6
HOP_MS = 2
MB = 10**6


class Folder:
    def __init__(self, path: str) -> None:
        """Raises OSError if the benchmark has ended: then ``life`` is gone, or the roster has no reader."""
        self.path = path
        self.life = os.open(f"{path}/life", os.O_RDONLY | os.O_NONBLOCK)
        self.roster = os.open(f"{path}/roster", os.O_WRONLY | os.O_NONBLOCK)
        os.set_inheritable(self.roster, True)

    def report(self, kind: str = "member") -> None:
        with open("/proc/self/stat", encoding="utf-8") as file:
            start = file.read().rsplit(")", 1)[1].split()[19]
        os.write(self.roster, f"{os.getpid()} {start} {kind}\n".encode())

    def read_life(self, milliseconds: int | None = None) -> bytes | None:
        """A byte from ``life``; b"" once it has no writer, None if neither within that time."""
        poll = select.poll()
        poll.register(self.life, select.POLLIN)
        return os.read(self.life, 1) if poll.poll(milliseconds) else None

    def wait_life(self) -> None:
        """Waits for the end of ``life`` and exits; only the root reads its bytes."""
        poll = select.poll()
        poll.register(self.life, 0)  # POLLHUP comes unasked
        poll.poll()
        os._exit(0)


def start_member(folder: Folder, kind: tuple[str, ...]) -> None:
    if os.fork():
        return
    if "setsid" in kind or "wiped" in kind:
        os.setsid()
    if "setpgrp" in kind:
        os.setpgrp()
    if "fork" in kind and os.fork():
        os._exit(0)
    if "wiped" in kind:
        os.execve(sys.executable, [sys.executable, "-I", "-S", __file__, folder.path, "stay"], {})
    folder.report()
    folder.wait_life()


def start_plain(folder: Folder, count: int) -> None:
    """``count`` members, up to PLAIN_EACH of them below another."""
    while count > 0:
        below = min(count - 1, PLAIN_EACH)
        if os.fork() == 0:
            for _ in range(below):
                start_member(folder, ())
            folder.report()
            folder.wait_life()
        count -= below + 1


def run_hopper(folder: Folder, with_session: bool) -> None:
    """A daemon that is another process every 2 ms."""
    if os.fork():
        return
    os.setsid()
    while folder.read_life(HOP_MS) is None:
        try:
            if os.fork():
                os._exit(0)
        except BlockingIOError:  # at its process limit
            continue
        if with_session:
            os.setsid()
    os._exit(0)


def run_members(folder: Folder, count: int, how: str) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    away = AWAY * (count // 50)
    start_plain(folder, count - 1 - len(away))
    for kind in away:
        start_member(folder, kind)
    if how in ("rabbit", "hare"):
        run_hopper(folder, how == "hare")
    folder.report("root")
    if how == "left":
        folder.read_life()
    else:
        folder.wait_life()


def run_eater(folder: Folder, rate: float, begin: int, top: int) -> None:
    """Touches ``begin`` MB at once, waits for a byte from ``life``, then grows at ``rate`` MB/s up to ``top``. The
    file ``gauge`` has three numbers of 8 bytes: the bytes held, when that was last below the limit, and the limit."""
    with open(f"{folder.path}/gauge", "r+b") as file:
        gauge = memoryview(mmap.mmap(file.fileno(), 24)).cast("Q")
    area = mmap.mmap(-1, top * MB, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with open("/proc/self/statm", encoding="ascii") as statm:
        own = int(statm.read().split()[1]) * mmap.PAGESIZE
    step, done = b"x" * MB, 0
    while done < begin * MB:
        area.write(step)
        done += MB
    folder.report("root")
    folder.read_life()
    began, first = time.monotonic(), done
    while done < top * MB:
        due = began + (done - first) / MB / rate
        pause = due - time.monotonic()
        if pause > 0.001:
            time.sleep(pause)
        gauge[0] = own + done
        if own + done <= gauge[2]:
            gauge[1] = time.monotonic_ns()
        area.write(step)
        done += MB
    folder.wait_life()


def run_foreign(folder: Folder, count: int) -> None:
    """``count`` processes that sleep and belong to no tree."""
    for _ in range(count):
        if os.fork() == 0:
            folder.report()
            folder.wait_life()
    folder.report("root")
    folder.wait_life()


def main() -> None:
    if sys.argv[2:] != ["stay"]:
        try:
            os.mkdir(f"{sys.argv[1]}/started")
        except FileExistsError:
            return
    try:
        folder = Folder(sys.argv[1])
    except OSError:
        return
    match sys.argv[2:]:
        case ["stay"]:
            folder.report()
            folder.wait_life()
        case ["members", count, how]:
            run_members(folder, int(count), how)
        case ["foreign", count]:
            run_foreign(folder, int(count))
        case ["eater", rate, begin, top]:
            run_eater(folder, float(rate), int(begin), int(top))


if __name__ == "__main__":
    main()
