"""Outlives the demo if it is SIGKILLed, and then ends all that it had started.

``python -m oomless.demo.keeper FOLDER`` waits at its stdin. One byte there: the demo has cleaned up, nothing to do.
End of file without it: the demo is gone, so every process whose environment names a state folder in FOLDER (agents,
their children, batch, shims, the throwaway daemon) is ended by identity, and FOLDER removed. Standard library only,
to be small. What a demo that lives cleans up itself: ``stage.py`` and ``governed.py``.
"""

from __future__ import annotations

import shutil
import sys
import time

assert sys.platform == "linux"

from oomless.platform import proc

#: Tries: whoever forks while it is ended has left a child that the next round finds.
ROUNDS, PAUSE = 50, 0.1


def state_folder(folder: str) -> str:
    return f"{folder}/s"


def of_the_demo(folder: str) -> list[tuple[int, int]]:
    entry = b"\0" + f"XDG_STATE_HOME={folder}/".encode()
    return [
        (stat.pid, stat.start)
        for stat in proc.table().values()
        if stat.alive and entry in b"\0" + proc.environ(stat.pid)
    ]


def main(folder: str) -> None:
    if sys.stdin.buffer.read(1):
        return
    for _ in range(ROUNDS):
        found = of_the_demo(folder)
        if not found:
            break
        for pid, start in found:
            proc.kill(pid, start)
        time.sleep(PAUSE)
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main(sys.argv[1])
