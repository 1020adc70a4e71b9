"""Every test has folders and a daemon of its own, and fails if it leaves a process or a descriptor behind."""

from __future__ import annotations

import gc
import os
import shutil
import signal
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from leaks import (
    descendants,
    groups_left,
    open_descriptors,
    opened_since,
    stop_daemon,
    survivors,
)

# A shell that starts this in its background has it ignore SIGINT, and nohup SIGHUP, and so would all that the tests
# start: they would be left running on purpose.
signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, lambda *_: None)  # which exec sets back


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
    left_groups = groups_left(folder / "state" / "oomless")
    shutil.rmtree(folder, ignore_errors=True)
    assert not left, f"processes left alive: {left}"
    assert not left_groups, f"groups left: {left_groups}"
    if opened_since(descriptors):
        gc.collect()  # 60 ms with all that the tests load: only where a cycle may hold one
    leaked = opened_since(descriptors)
    assert not leaked, f"descriptors left open: {leaked}"
