"""Every test has folders and a daemon of its own, and fails if it leaves a process or a descriptor behind."""

from __future__ import annotations

import gc
import json
import os
import shutil
import signal
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers import alive, wait_gone
from oomless.contain import files, groups
from oomless.platform import proc

#: How long what is ending may take to end, before it counts as left behind.
PATIENCE = 2.0

Processes = dict[int, int]

# A shell that starts this in its background has it ignore SIGINT, and so would all that the tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if os.geteuid() == 0:
        return
    for item in items:
        if item.get_closest_marker("root"):
            item.add_marker(pytest.mark.skip(reason="needs root"))


@pytest.fixture(autouse=True)
def house(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Own home, config, state and runtime folders (short: a socket's path holds 100 characters), removed afterwards
    with the daemon that was started in them."""
    mark = f"OOMLESS_TEST={uuid.uuid4().hex}"
    folder = Path(tempfile.mkdtemp(prefix="oo", dir="/tmp"))
    monkeypatch.setenv(*mark.split("="))
    for variable, name in (
        ("HOME", "home"),
        ("XDG_CONFIG_HOME", "config"),
        ("XDG_STATE_HOME", "state"),
        ("XDG_RUNTIME_DIR", "run"),
    ):
        (folder / name).mkdir(mode=0o700)
        monkeypatch.setenv(variable, str(folder / name))
    descriptors, offspring = open_descriptors(), descendants(os.getpid())
    yield folder
    stop_daemon(folder / "state" / "oomless" / "daemon.json")
    left = survivors((mark.encode(), os.fsencode(folder) + b"/"), offspring)
    left_groups = groups_left(folder / "state" / "oomless" / "id")
    shutil.rmtree(folder, ignore_errors=True)
    assert not left, f"processes left alive: {left}"
    assert not left_groups, f"groups left: {left_groups}"
    gc.collect()
    leaked = {fd: name for fd, name in open_descriptors().items() if descriptors.get(fd) != name}
    assert not leaked, f"descriptors left open: {leaked}"


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


def groups_left(install: Path) -> list[str]:
    """Groups of the installation that had its id in this file; each is removed."""
    if not install.exists():
        return []
    left = groups.made_in(groups.around(proc.cgroups("self")), install.read_text().strip())
    for path in left:
        files.remove_cgroup(path)
    return left


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


def open_descriptors() -> dict[int, str]:
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
        except FileNotFoundError:
            pass  # the one that listdir itself had open
    return found
