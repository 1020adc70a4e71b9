"""Outlives a demo that is SIGKILLed, and cleans up after it.

``python -m oomless.demo.watchdog FOLDER`` waits at its stdin. A byte there: the demo has cleaned up itself. End of
file without one: the demo is gone, so every process whose environment names a state folder in FOLDER (agents, their
children, batch, shims, the throwaway daemon) is killed, the empty control groups of that daemon's trees are removed,
and FOLDER too. Standard library only, to be small.
"""

from __future__ import annotations

import shutil
import sys
import time

assert sys.platform == "linux"

from oomless.contain.rungs import empty_groups
from oomless.platform import cgroup, files, proc
from oomless.processes.ids import ProcessId

#: A process that forks while it is killed leaves a child for the next round.
ROUNDS, PAUSE = 50, 0.1


def state_folder(folder: str) -> str:
    return f"{folder}/s"


def list_processes(folder: str) -> list[ProcessId]:
    entry = b"\0" + f"XDG_STATE_HOME={folder}/".encode()
    stats = [stat for stat in proc.table().values() if stat.alive]
    return [ProcessId(stat.pid, stat.start) for stat in stats if entry in b"\0" + proc.environ(stat.pid)]


def remove_groups(folder: str) -> None:
    """The control groups of the trees of the demo's own daemon, by its id: they are made in the group that the demo
    is in, which is ours too, or in one above. A group is busy for a moment after its last process; one that is not
    empty stays."""
    install = files.read(f"{state_folder(folder)}/oomless/id").strip()
    places = cgroup.folders_around(proc.cgroups("self")) if install else set()
    for _ in range(ROUNDS):
        empty_groups.remove_empty(places, install)
        if not empty_groups.list_groups(places, install):
            return
        time.sleep(PAUSE)


def main(folder: str) -> None:
    if sys.stdin.buffer.read(1):
        return
    for _ in range(ROUNDS):
        processes = list_processes(folder)
        if not processes:
            break
        for process in processes:
            proc.kill(*process)
        time.sleep(PAUSE)
    remove_groups(folder)
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main(sys.argv[1])
