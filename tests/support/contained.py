"""What the containment tests share: scripts of trees, what a rung offers here, and a run under a shim."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import msgspec

import trees
from helpers import SLOWNESS
from oomless.contain.launch import ShimSpec, shim_argv, write_spec
from oomless.contain.rungs.choose import Offer, RungChooser
from oomless.model import ExitRecord
from oomless.platform import proc

TAG = "test" + os.urandom(3).hex()


OFFERS = [offer for offer in RungChooser(TAG).offers(proc.cgroups("self")) if offer.usable]


PYTHON = [sys.executable, "-I", "-S"]


TREE = [*PYTHON, trees.__file__]


THREE_CHILDREN = """
import os, time
for _ in range(3):
    if os.fork() == 0:
        held = bytearray(80_000_000)
        time.sleep(30)
        os._exit(0)
time.sleep(30)
"""


#: Seconds that a tree has to end after SIGTERM in most tests; those of the grace itself give it as an option.
SHORT_GRACE = 0.3


class Run:
    """A shim around ``command``, started by us; ``finish`` returns its record."""

    def __init__(self, folder: Path, offer: Offer, command: list[str], **options: object) -> None:
        self.tree = "x" + os.urandom(4).hex()
        self.folder = folder
        limit, processes = options.pop("limit", None), options.pop("processes", None)
        wrap: list[str] = options.pop("wrap", [])  # type: ignore[assignment]
        self.cgroups = offer.cgroups(f"oomless-{TAG}-{self.tree}")
        granted: dict[str, object] = {
            "tree": self.tree,
            "reserved": 1,
            "limit": limit,
            "processes": processes,
            "rung": offer.name,
            "why_rung": "",
            "cgroups": self.cgroups,
            "marker": f"{TAG}:{self.tree}",
            "exits": str(folder),
        }
        lifeline = options.pop("lifeline_fd", None)
        options.setdefault("grace", SHORT_GRACE * SLOWNESS)
        spec = ShimSpec(granted, name="try", state=str(folder), lifeline_fd=lifeline, **options)  # type: ignore[arg-type]
        fd = write_spec(spec)
        argv = [*wrap, *shim_argv(fd, self.tree, command)]
        passed = [fd, *spec.descriptors()]
        self.process = subprocess.Popen(
            argv, pass_fds=passed, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        os.close(fd)

    def finish(self, timeout: float = 20) -> ExitRecord:
        self.out, self.err = self.process.communicate(timeout=timeout * SLOWNESS)
        record = msgspec.json.decode((self.folder / f"{self.tree}.json").read_bytes(), type=ExitRecord)
        assert record.exit_code == self.process.returncode
        assert not [path for path in self.cgroups.values() if os.path.exists(path)]
        return record


def read_roster(path: Path) -> dict[str, tuple[int, int]]:
    if not path.exists():
        return {}
    rows = [line.split() for line in path.read_text().splitlines()]
    return {kind: outside(int(pid), int(start)) for kind, pid, start in rows}


def outside(pid: int, start: int) -> tuple[int, int]:
    """Who that is here, if it lives: in a PID namespace of its own it knows another number."""
    if proc.start_of(pid) == start:
        return pid, start
    others = (stat.pid for stat in proc.table().values() if stat.start == start and inner_pid(stat.pid) == pid)
    return next(others, pid), start


def inner_pid(pid: int) -> int | None:
    status = proc.read_file(f"/proc/{pid}/status") or b""
    return next((int(line.split()[-1]) for line in status.splitlines() if line.startswith(b"NSpid:")), None)


#: Goes on forking at a moderate pace.
FORKS = """
import os, time
while True:
    try:
        if os.fork() == 0:
            time.sleep(30)
            os._exit(0)
    except OSError:
        pass
    time.sleep(0.02)
"""
