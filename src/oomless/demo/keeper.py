"""Outlives the demo if it is SIGKILLed, and then ends all that it had started.

``python -m oomless.demo.keeper FOLDER`` waits at its stdin. One byte there: the demo has cleaned up, nothing to do.
End of file without it: the demo is gone, so every process whose environment names a state folder in FOLDER (agents,
their children, batch, shims, the throwaway daemon) is ended by identity, the empty control groups of that daemon's
trees are removed, and FOLDER too. Standard library only, to be small. What a demo that lives cleans up itself:
``stage.py`` and ``governed.py``.
"""

from __future__ import annotations

import shutil
import sys
import time

assert sys.platform == "linux"

from oomless.contain.rungs import empty_groups
from oomless.platform import files, proc

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


def remove_groups(folder: str) -> None:
    """The control groups of the trees of the demo's own daemon, by its id: they are made in the group that the demo
    is in, which is ours too, or in one above. A group is busy for a moment after its last process; one that is not
    empty stays."""
    install = files.read(f"{state_folder(folder)}/oomless/id").strip()
    places = empty_groups.around(proc.cgroups("self")) if install else set()
    for _ in range(ROUNDS):
        empty_groups.remove_empty(places, install)
        if not empty_groups.made_in(places, install):
            return
        time.sleep(PAUSE)


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
    remove_groups(folder)
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main(sys.argv[1])
