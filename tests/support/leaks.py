"""What a test leaves behind: processes, groups and descriptors."""

from __future__ import annotations

import gc
import json
import os
import shutil
import signal
import sqlite3
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from helpers import alive, wait_gone
from oomless.contain.rungs import empty_groups
from oomless.platform import cgroup, proc

#: How long what is ending may take to end, before it counts as left behind.
PATIENCE = 2.0


Processes = dict[int, int]


def stop_daemon(record: Path) -> None:
    """Ends the daemon that the record names, if it is that one: TERM, then KILL."""
    try:
        found = json.loads(record.read_bytes())
        pid, start = int(found["pid"]), int(found["start"])
        if found["boot_id"] != proc.boot_id():
            return
    except (OSError, ValueError, KeyError, TypeError):
        return
    for number in (signal.SIGTERM, signal.SIGKILL):
        if proc.send(pid, start, number) != proc.SENT or wait_gone(pid, start, 10):
            return


def groups_left(state: Path) -> list[str]:
    """Groups of the installation with that state folder that nobody would see to: no tree of theirs is open in its
    journal, for the next daemon to sweep. All are removed."""
    if not (state / "id").exists():
        return []
    install = (state / "id").read_text().strip()
    found = empty_groups.list_groups(cgroup.folders_around(proc.cgroups("self")), install)
    for path in found:
        cgroup.remove(path)
    still_open = {f"oomless-{install}-{tree}" for tree in open_in(state / "journal.db")} if found else set()
    return [path for path in found if os.path.basename(path) not in still_open]


def open_in(journal: Path) -> list[str]:
    if not journal.exists():
        return []
    with closing(sqlite3.connect(journal)) as db:
        return [tree for (tree,) in db.execute("SELECT tree FROM trees WHERE ended_at IS NULL")]


def survivors(marks: tuple[bytes, ...], before: Processes) -> list[str]:
    """Whoever carries one of the marks in its environment, or descends from us and did not before, and lives on;
    each is ended."""
    found = {**marked(marks), **descendants(os.getpid())}
    deadline = time.monotonic() + PATIENCE
    left = []
    for pid, start in found.items():
        if before.get(pid) == start or wait_gone(pid, start, deadline - time.monotonic()):
            continue
        if alive(pid, start):
            left.append(f"{pid} {' '.join(proc.cmdline(pid))[:200]}")
            proc.kill(pid, start)
            wait_gone(pid, start, PATIENCE)
    return left


def marked(marks: tuple[bytes, ...]) -> Processes:
    found: Processes = {}
    for pid, stat in proc.table().items():
        if pid != os.getpid() and stat.alive:
            environ = proc.environ(pid)
            if any(mark in environ for mark in marks):
                found[pid] = stat.start
    return found


def descendants(root: int) -> Processes:
    """All live ones below ``root``, by pid, with their start times."""
    table = proc.table()
    found: Processes = {}
    parents = {root}
    while parents:
        children = {pid: stat for pid, stat in table.items() if stat.ppid in parents and pid not in found}
        found |= {pid: stat.start for pid, stat in children.items()}
        parents = set(children)
    return {pid: start for pid, start in found.items() if table[pid].alive}


def opened_since(before: dict[int, str]) -> dict[int, str]:
    return {fd: name for fd, name in open_descriptors().items() if before.get(fd) != name}


def open_descriptors() -> dict[int, str]:
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
        except FileNotFoundError:
            pass  # the one that listdir itself had open
    return found


@contextmanager
def private_folders(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Own home, config, state and runtime folders in a new one (short: a socket's path holds 100 characters), and a
    mark in the environment; removed afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="oo", dir="/tmp"))
    monkeypatch.setenv("OOMLESS_TEST", uuid.uuid4().hex)
    for variable, name in (
        ("HOME", "home"),
        ("XDG_CONFIG_HOME", "config"),
        ("XDG_STATE_HOME", "state"),
        ("XDG_RUNTIME_DIR", "run"),
    ):
        (folder / name).mkdir(mode=0o700)
        monkeypatch.setenv(variable, str(folder / name))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def no_descriptor_left() -> Iterator[None]:
    """Fails if a descriptor that is open at the end was not open before."""
    before = open_descriptors()
    yield
    if opened_since(before):
        gc.collect()  # 60 ms with all that the tests load: only where a cycle may hold one
    leaked = opened_since(before)
    assert not leaked, f"descriptors left open: {leaked}"
