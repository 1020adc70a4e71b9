"""Idle servers: a real process is observed, and the daemon watches those of real sessions."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

import fake_claude
from descents import HOOK, FakeClaude
from helpers import alive, wait_for
from hosting import Host
from oomless.daemon.sessions.idle import IdleTracker
from oomless.daemon.sessions.sampling import ProcessSample
from oomless.platform.proc import Stat
from oomless.processes.descent import Descendants
from oomless.processes.ids import ProcessId
from oomless.reports.look import daemon_facts

assert sys.platform == "linux"


@pytest.fixture
def sessions(house: Path) -> Iterator[Callable[..., FakeClaude]]:
    made: list[FakeClaude] = []
    script = house / "claude"
    script.symlink_to(fake_claude.__file__)

    def make(name: str, *kinds: str, hook: str) -> FakeClaude:
        made.append(FakeClaude(house, name, kinds, str(script), hook))
        return made[-1]

    yield make
    for one in made:
        one.clean()


@pytest.mark.parametrize("hook", [HOOK, "true"], ids=["registered", "unregistered"])
def test_the_daemon_watches_the_servers_of_real_sessions(sessions: Callable[..., FakeClaude], hook: str) -> None:
    host = Host()
    one = sessions("one", "server", "launcher", "background", hook=hook)
    who = one.who

    def seconds() -> dict[ProcessId, float]:
        return {ProcessId.of(idle): idle.seconds for idle in host.status().idle}

    servers = {who[kind] for kind in ("server", "launcher", "launched")}
    assert wait_for(lambda: servers <= seconds().keys(), 5.0)
    before = seconds()
    assert wait_for(lambda: all(seconds()[server] > before[server] for server in servers), 5.0)
    assert who["background"] not in seconds()
    told = daemon_facts(host.status()).idle
    assert {(idle.pid, idle.start) for idle in told} >= servers
    one.end(signal.SIGKILL)
    assert wait_for(lambda: not servers & seconds().keys(), 5.0)


def test_a_reader_of_proc_sees_the_work_of_a_real_process() -> None:
    """CPU time of a real process reaches the rule."""
    from oomless.platform import proc

    busy = subprocess.Popen([sys.executable, "-I", "-S", "-c", "while True: pass"])
    try:
        now = 0.0
        descendants = Descendants(ProcessId(busy.pid, 1))
        watch = IdleTracker(lambda: [descendants], lambda: now)
        own = proc.read_stat(busy.pid)
        assert own is not None
        descendants = Descendants(ProcessId(own.ppid, proc.start_of(own.ppid) or 0))

        def idle(stats: Iterable[Stat]) -> float:
            table = {one.pid: one for one in stats}
            descendants.observe(table)
            watch.observe(ProcessSample(table))
            return {one.pid: one.seconds for one in watch.views()}[busy.pid]

        def looked() -> float:
            pair = (proc.read_stat(own.ppid), proc.read_stat(busy.pid))
            return idle(one for one in pair if one is not None)

        looked()
        now = 10.0
        assert wait_for(lambda: looked() == 0.0, 10.0)
        assert alive(busy.pid, own.start)
    finally:
        busy.kill()
        busy.wait()
