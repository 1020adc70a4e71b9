"""What every ``Platform`` must answer, checked against psutil where it knows the same, on real processes.

Each platform runs the whole class: this machine's, and macOS with this machine's processes told in a Mac's layouts.
What is Linux's own (control groups, PSS) is in ``test_platform.py``, what is macOS' own in ``test_darwin.py``.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import psutil
import pytest

from darwin.answers import Translated
from oomless.platform import current
from oomless.platform.base import Platform
from oomless.platform.darwin import Darwin

pytestmark = pytest.mark.as_user

HOLD = "import sys; data = bytearray(30_000_000); print('ready', flush=True); sys.stdin.read()"


def translated() -> Platform:
    return Darwin(Translated())


@pytest.fixture(params=[pytest.param(current, id=current().name), pytest.param(translated, id="darwin-translated")])
def platform(request: pytest.FixtureRequest) -> Platform:
    made: Platform = request.param()
    return made


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    """Holds 30 MB and ends when its stdin is closed; it says when it is there."""
    environ = {"PATH": os.defpath, "OOMLESS_TEST_MARK": "a=b", "SECRET": "hush"}
    command = [sys.executable, "-I", "-c", HOLD]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd="/", env=environ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        yield process
        assert process.stdin is not None
        process.stdin.close()


def gone() -> int:
    """The pid of a process that has ended and been waited for."""
    process = subprocess.Popen([sys.executable, "-I", "-c", ""])
    process.wait()
    return process.pid


class TestContract:
    def test_an_identity_names_one_process(self, platform: Platform, child: subprocess.Popen[bytes]) -> None:
        identity = platform.identity(child.pid)
        assert identity is not None
        assert identity == platform.identity(child.pid)
        assert identity.boot_id == platform.boot_id() != ""
        assert identity.start != getattr(platform.identity(1), "start", None)

    def test_machine_memory_is_the_systems(self, platform: Platform) -> None:
        memory, reference = platform.memory(), psutil.virtual_memory()
        assert memory.total_bytes == reference.total
        assert memory.available_bytes == pytest.approx(reference.available, rel=0.25)

    def test_headroom_is_no_more_than_the_machine_or_unlimited(self, platform: Platform) -> None:
        left = platform.headroom(os.getpid())
        assert left is None or left >= 0

    def test_a_child_is_in_the_table_as_psutil_sees_it(
        self, platform: Platform, child: subprocess.Popen[bytes]
    ) -> None:
        found = {info.pid: info for info in platform.processes()}[child.pid]
        reference = psutil.Process(child.pid)
        assert found.ppid == reference.ppid() == os.getpid()
        assert list(found.command) == reference.cmdline()
        assert found.uid == reference.uids().effective
        assert found.name == reference.name()
        assert found.pgid == os.getpgid(child.pid)
        assert found.sid == os.getsid(child.pid)
        assert found.rss_bytes == pytest.approx(reference.memory_info().rss, rel=0.05)
        assert found.rss_bytes > 30_000_000
        identity = platform.identity(child.pid)
        assert identity is not None
        assert found.start == identity.start

    def test_a_zombie_is_not_in_the_table(self, platform: Platform) -> None:
        process = subprocess.Popen([sys.executable, "-I", "-c", ""])
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # it has ended, and is not reaped
        assert process.pid not in {info.pid for info in platform.processes()}
        assert platform.footprint(process.pid) is None
        process.wait()

    def test_only_the_named_variables_are_read(self, platform: Platform, child: subprocess.Popen[bytes]) -> None:
        wanted = frozenset({"OOMLESS_TEST_MARK", "NOT_SET"})
        assert platform.environ(child.pid, wanted) == {"OOMLESS_TEST_MARK": "a=b"}

    def test_the_working_folder(self, platform: Platform, child: subprocess.Popen[bytes]) -> None:
        assert platform.cwd(child.pid) == psutil.Process(child.pid).cwd() == "/"

    def test_a_footprint_holds_what_the_process_holds(
        self, platform: Platform, child: subprocess.Popen[bytes]
    ) -> None:
        found = platform.footprint(child.pid)
        assert found is not None
        assert 30_000_000 < found.bytes < 80_000_000
        if found.private_bytes is not None:
            assert found.private_bytes == pytest.approx(psutil.Process(child.pid).memory_full_info().uss, rel=0.05)

    def test_own_memory(self, platform: Platform) -> None:
        own = platform.own_memory()
        assert set(own) == {"private_dirty_bytes", "uss_bytes", "pss_bytes"}
        assert own["uss_bytes"] == pytest.approx(psutil.Process().memory_full_info().uss, rel=0.1)
        assert 0 < own["private_dirty_bytes"] <= own["uss_bytes"] <= own["pss_bytes"]

    def test_a_process_that_is_gone_is_no_error(self, platform: Platform) -> None:
        pid = gone()
        assert platform.identity(pid) is None
        assert platform.footprint(pid) is None
        assert platform.environ(pid, frozenset({"PATH"})) == {}
        assert platform.cwd(pid) is None
        assert platform.headroom(pid) is None

    def test_a_table_read_bears_processes_that_come_and_go(self, platform: Platform) -> None:
        churn = f"for i in $(seq 200); do {sys.executable} -I -S -c '' & /bin/true; done; wait"
        with subprocess.Popen(["/bin/sh", "-c", churn], stdout=subprocess.DEVNULL) as shell:
            reads = 0
            while shell.poll() is None or reads < 3:
                for info in platform.processes():
                    platform.footprint(info.pid)
                    platform.environ(info.pid, frozenset({"PATH"}))
                reads += 1
        assert os.getpid() in {info.pid for info in platform.processes()}
