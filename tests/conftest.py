"""Every test has folders and a daemon of its own, and fails if it leaves a process or a descriptor behind."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from leaks import descendants, groups_left, no_descriptor_left, private_folders, stop_daemon, survivors
from turnstile import Turnstile

# A shell that starts this in its background has it ignore SIGINT, and nohup SIGHUP, and so would all that the tests
# start: they would be left running on purpose.
signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, lambda *_: None)  # which exec sets back

# pytest-xdist tells its workers the size of its own terminal; tests that want a size say it themselves.
for _name in ("COLUMNS", "LINES"):
    os.environ.pop(_name, None)


_turnstile: Turnstile | None = None


def pytest_configure(config: pytest.Config) -> None:
    """The workers of a run share a folder, which the process that starts them makes and removes."""
    global _turnstile
    folder = os.environ.pop("OOMLESS_TEST_TURNSTILE", None)
    if "PYTEST_XDIST_WORKER" in os.environ and folder is not None:
        _turnstile = Turnstile(Path(folder))
    elif config.getoption("numprocesses", None):
        made = tempfile.TemporaryDirectory(prefix="oomless-tests-")
        config.add_cleanup(made.cleanup)
        os.environ["OOMLESS_TEST_TURNSTILE"] = made.name


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("root") and os.geteuid() != 0:
            item.add_marker(pytest.mark.skip(reason="needs root"))
    if _turnstile is not None:  # those that run alone come last, where nobody waits for them
        items.sort(key=lambda item: item.get_closest_marker("machine") is not None)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> Iterator[Any]:
    """With several workers, what is marked ``machine`` runs while no other test does."""
    if _turnstile is None:
        return (yield)
    if item.get_closest_marker("machine"):
        stay = nextitem is not None and nextitem.get_closest_marker("machine") is not None
        with _turnstile.alone(stay):
            return (yield)
    with _turnstile.beside_others():
        return (yield)


@pytest.fixture(autouse=True)
def house(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Own folders, removed afterwards with the daemon that was started in them; no process, group or descriptor is
    left behind."""
    with private_folders(monkeypatch) as folder, no_descriptor_left():
        mark = os.environ["OOMLESS_TEST"]
        offspring = descendants(os.getpid())
        yield folder
        stop_daemon(folder / "state" / "oomless" / "daemon.json")
        left = survivors((f"OOMLESS_TEST={mark}".encode(), os.fsencode(folder) + b"/"), offspring)
        left_groups = groups_left(folder / "state" / "oomless")
        assert not left, f"processes left alive: {left}"
        assert not left_groups, f"groups left: {left_groups}"
