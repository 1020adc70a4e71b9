"""``Governor`` with real daemons and shims: results, cancellation, slots, and that nothing outlives its process."""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import signal
import subprocess
import sys
from collections.abc import Coroutine
from pathlib import Path

import pytest

import oomless
from contained import FORKS
from helpers import alive, wait_for, wait_gone
from oomless import Governor
from oomless.errors import Refused, UsageError
from oomless.governor import Stdio
from oomless.paths import Paths
from oomless.platform import proc
from oomless.protocol.client import Client

TIMEOUT = 60
STUBBORN = "trap '' TERM; (trap '' TERM; sleep 1000) & echo $! > new; mv new pid; while :; do sleep 0.05; done"


def loop(work: Coroutine[object, object, None]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(TIMEOUT):
            await work

    asyncio.run(bounded())


async def child_of(folder: Path) -> tuple[int, int]:
    """The stubborn child that a job has noted, by pid and start."""
    while not (folder / "pid").exists():
        await asyncio.sleep(0.01)
    pid = int((folder / "pid").read_text())
    return pid, proc.start_of(pid) or 0


def test_a_result(tmp_path: Path) -> None:
    async def work() -> None:
        async with oomless.Governor() as governor:
            script = "cat; echo $A; pwd; echo err >&2; exit 3"
            result = await governor.run(
                ["sh", "-c", script], name="x", memory="100MB", input="in\n", env={"A": "b"}, cwd=tmp_path
            )
        assert (result.name, result.status, result.exit_code) == ("x", "failed", 3)
        assert (result.stdout, result.stderr) == (f"in\nb\n{tmp_path}\n".encode(), b"err\n")
        assert (result.survivors, result.reason, result.signal) == (0, "", None)
        assert result.peak_bytes > 0
        assert result.seconds > 0
        assert result.record.limit_bytes == 100_000_000

    loop(work())
    assert os.listdir(Path(Paths().state) / "governor") == []
    assert wait_for(lambda: Client(Paths(), start=False).daemon().open_trees == 0, TIMEOUT)


def test_much_output_on_both_streams() -> None:
    async def work() -> None:
        async with Governor() as governor:
            script = "import os; [os.write(fd, b'x' * 100_000) for _ in range(50) for fd in (1, 2)]"
            result = await governor.run([sys.executable, "-c", script], input=b"y" * 3_000_000)
        assert (len(result.stdout), len(result.stderr)) == (5_000_000, 5_000_000)

    loop(work())


def test_without_capture_the_output_is_ours(capfd: pytest.CaptureFixture[str]) -> None:
    async def work() -> None:
        async with Governor() as governor:
            assert (await governor.run(["echo", "hi"], capture=False)).stdout == b""

    loop(work())
    assert capfd.readouterr().out == "hi\n"


def test_output_that_somebody_keeps_open_does_not_keep_us() -> None:
    async def work() -> None:
        with Stdio(None, capture=True) as stdio:
            writer = stdio.descriptors[1]
            assert writer is not None
            escaped = os.dup(writer)
            stdio.start_reading()
            os.write(escaped, b"said")
        assert stdio.stdout == b"said"
        os.close(escaped)

    loop(work())


def test_ends_of_all_kinds() -> None:
    async def work() -> None:
        async with Governor(max_parallel=2) as governor:
            hog = [sys.executable, "-c", "x = b'x' * 300_000_000; input()"]
            killed, timeout, missing, nowhere, signalled = await asyncio.gather(
                governor.run(hog, memory="60MB"),
                governor.run(["sleep", "1000"], timeout="0.2s"),
                governor.run(["no-such-command-here"], env={"PATH": "/usr/bin:/bin"}),
                governor.run(["true"], cwd="/no/such/folder"),
                governor.run(["sh", "-c", "kill -9 $$"]),
            )
        assert (killed.status, killed.exit_code) == ("killed", 137)
        assert "60 MB memory limit" in killed.reason
        assert (timeout.status, timeout.exit_code) == ("timeout", 124)
        assert (missing.status, missing.exit_code) == ("failed", 127)
        assert (nowhere.status, nowhere.exit_code) == ("failed", 127)
        assert (signalled.status, signalled.exit_code, signalled.signal) == ("failed", 137, 9)

    loop(work())


def test_max_parallel(tmp_path: Path) -> None:
    async def work() -> None:
        async with Governor(max_parallel=1) as governor:
            job = ["sh", "-c", "echo start >> log; sleep 0.05; echo end >> log"]
            await asyncio.gather(*(governor.run(job, cwd=tmp_path) for _ in range(4)))

    loop(work())
    assert (tmp_path / "log").read_text().split() == ["start", "end"] * 4


def test_cancellation_ends_the_tree_before_it_is_passed_on(tmp_path: Path) -> None:
    async def work() -> None:
        async with Governor() as governor:
            task = asyncio.create_task(governor.run(["sh", "-c", STUBBORN], cwd=tmp_path))
            pid, start = await child_of(tmp_path)
            assert alive(pid, start)
            task.cancel()
            await asyncio.sleep(0)
            task.cancel()  # a second time, while it waits for the end
            with pytest.raises(asyncio.CancelledError):
                await task
            assert not alive(pid, start)
            assert (await governor.run(["true"])).status == "done"

    loop(work())


def test_cancellation_while_it_waits_withdraws(tmp_path: Path) -> None:
    async def work() -> None:
        async with Governor(max_parallel=1) as governor, governor.slot("held"):
            task = asyncio.create_task(governor.run(["touch", "ran"], cwd=tmp_path, name="waits"))
            client = Client(Paths(), start=False)
            while (view := await asyncio.to_thread(client.tree, "waits")) is None or view.state != "waiting":
                await asyncio.sleep(0.01)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            while (view := await asyncio.to_thread(client.tree, "waits")) and view.state == "waiting":
                await asyncio.sleep(0.01)
        assert not (tmp_path / "ran").exists()

    loop(work())


def test_leaving_ends_what_still_runs(tmp_path: Path) -> None:
    async def work() -> None:
        async with Governor() as governor:
            task = asyncio.create_task(governor.run(["sh", "-c", STUBBORN], cwd=tmp_path))
            pid, start = await child_of(tmp_path)
        assert not alive(pid, start)
        with contextlib.suppress(asyncio.CancelledError):
            await task
        assert task.cancelled()
        with pytest.raises(UsageError, match="not open"):
            await governor.run(["true"])

    loop(work())


def test_a_slot_takes_its_share() -> None:
    async def work() -> None:
        async with Governor(budget="400MB") as governor:
            async with governor.slot("index", memory="300MB") as slot:
                assert (slot.name, slot.reserved_bytes) == ("index", 300_000_000)
                with pytest.raises(Refused, match="index"):
                    await governor.run(["true"], memory="200MB", wait=0)
                assert (await governor.run(["true"], memory="100MB", wait=0)).status == "done"
            assert (await governor.run(["true"], memory="200MB", wait=0)).status == "done"

    loop(work())


def test_what_can_never_fit_is_refused() -> None:
    async def work() -> None:
        async with Governor(budget=10**8) as governor:
            with pytest.raises(Refused):
                await governor.run(["true"], memory="1GB")
            with pytest.raises(Refused):
                async with governor.slot("big", memory="1GB"):
                    pass

    loop(work())


def test_bad_values() -> None:
    with pytest.raises(UsageError, match="the budget 'lots'"):
        Governor(budget="lots")
    with pytest.raises(UsageError, match="max_parallel is 0"):
        Governor(max_parallel=0)

    async def work() -> None:
        async with Governor() as governor:
            with pytest.raises(UsageError, match="not a list of strings"):
                await governor.run("ls -l")
            with pytest.raises(UsageError, match="memory -1 is not more"):
                await governor.run(["true"], memory=-1)

    loop(work())


OWNER = """
import asyncio, os, sys
import oomless

async def main():
    async with oomless.Governor() as governor, governor.slot("held", memory="50MB"):
        run = asyncio.create_task(governor.run(["sh", "-c", sys.argv[1]]))
        while not os.path.exists("pid"):
            await asyncio.sleep(0.01)
        child = os.fork() if sys.argv[2] == "forked" else 0
        if child == 0 and sys.argv[2] == "forked":
            os.close(1)
            os.read(0, 1)
            os._exit(0)
        print(open("pid").read().strip(), child, flush=True)
        await run

asyncio.run(main())
"""


@pytest.mark.parametrize("kind", ["alone", "forked"])
def test_sigkill_of_the_python_process_ends_its_trees_and_slots(tmp_path: Path, kind: str) -> None:
    """Also with a forked child (as of multiprocessing) that lives on and inherited every descriptor."""
    argv = [sys.executable, "-c", OWNER, STUBBORN, kind]
    pipe = subprocess.PIPE
    owner = subprocess.Popen(argv, cwd=tmp_path, stdin=pipe, stdout=pipe, text=True)
    try:
        assert owner.stdout is not None
        assert select.select([owner.stdout], [], [], TIMEOUT)[0]
        pid, child = map(int, owner.stdout.readline().split())
        start, child_start = proc.start_of(pid) or 0, proc.start_of(child) if child else 0
        owner.send_signal(signal.SIGKILL)
        owner.wait()
        assert wait_gone(pid, start, TIMEOUT)
        assert not child or alive(child, child_start or 0)
        assert wait_for(lambda: Client(Paths(), start=False).daemon().open_trees == 0, TIMEOUT)
    finally:
        owner.kill()
        owner.communicate()  # the end of its stdin ends the forked child
    assert not child or wait_gone(child, child_start or 0, TIMEOUT)
    folders = Path(Paths().state) / "governor"
    assert len(os.listdir(folders)) == 1

    async def work() -> None:
        async with Governor():
            assert [name.split("-")[0] for name in os.listdir(folders)] == [str(os.getpid())]

    loop(work())


def test_a_limit_on_processes() -> None:
    async def work() -> None:
        async with Governor() as governor:
            ended = await governor.run([sys.executable, "-c", FORKS], processes=10)
            with pytest.raises(UsageError, match="processes is 0"):
                await governor.run(["true"], processes=0)
        assert (ended.status, ended.exit_code, ended.survivors) == ("killed", 137, 0)
        assert "limit of 10" in ended.reason

    loop(work())
