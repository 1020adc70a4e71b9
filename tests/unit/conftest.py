"""Tests here start no process: each fails if it does, and none pays for the search for what it left behind."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from leaks import no_descriptor_left, private_folders

#: Audit events (PEP 578) of everything that starts a process in CPython.
STARTS = ("subprocess.Popen", "os.fork", "os.forkpty", "os.posix_spawn", "os.exec", "os.spawn", "os.system")

_forbidden = False


def _forbid(event: str, arguments: tuple[object, ...]) -> None:
    if _forbidden and event in STARTS:
        raise RuntimeError(f"a unit test starts a process ({event}); it belongs to another folder")


sys.addaudithook(_forbid)


@pytest.fixture(autouse=True)
def house(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Own folders, as everywhere; no process is started, and no descriptor left behind."""
    global _forbidden
    with private_folders(monkeypatch) as folder, no_descriptor_left():
        _forbidden = True
        yield folder
        _forbidden = False
