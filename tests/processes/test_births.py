"""The kernel tells of children."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from helpers import wait_for
from oomless.platform.fork_events import Event, ProcEvents

assert sys.platform == "linux"

pytestmark = pytest.mark.as_user


def test_the_kernel_tells_of_a_child(monkeypatch: pytest.MonkeyPatch) -> None:
    events = ProcEvents.open()
    if events is None:
        pytest.skip("this user gets no process events here")
    try:
        with subprocess.Popen(["true"]) as child:
            child.wait(10)
        told: list[Event] = []

        def all_told() -> bool:
            told.extend(events.read()[0])
            own = {event.kind: event.parent for event in told if event.pid == child.pid}
            return own == {"fork": os.getpid(), "exec": 0, "exit": 0}

        assert wait_for(all_told, 5)
    finally:
        events.close()
