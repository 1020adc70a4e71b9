"""What the machine does to us, and not who is killed: it stands still, its clock is set, forks fail, disks fill up,
files are torn, and processes are gone while they are read."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import trees
from contained import OFFERS, PYTHON, TREE, read_roster
from helpers import alive, run_oomless, wait_for, wait_gone
from oomless.contain import ending
from oomless.contain.launch import ShimSpec, shim_argv, write_spec
from oomless.contain.sweep import Sweep
from oomless.daemon.trees import registry
from oomless.paths import Paths
from oomless.platform import cgroup, files, proc
from oomless.processes import descendants
from oomless.processes.ids import ProcessId
from oomless.processes.kill_times import KillTimes
from oomless.protocol import spawn
from oomless.protocol.client import Client
from oomless.protocol.lease import LeaseClient, request
from running import RUN, finish, gone, kill, kill_daemon, open_rows, open_trees, running, start, use_rung

pytestmark = pytest.mark.as_user
TIMES = KillTimes()


@pytest.fixture
def roster(tmp_path: Path) -> Path:
    return tmp_path / "roster"


def stand_still(pid: int, seconds: float) -> None:
    """The time itself is what is tested here."""
    os.kill(pid, signal.SIGSTOP)
    time.sleep(seconds)
    os.kill(pid, signal.SIGCONT)


def daemon() -> spawn.DaemonFile:
    found = spawn.running(Paths())
    assert found
    return found


# -- it stands still -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rung", ["auto", "subreaper"])
def test_a_shim_that_stood_still_in_the_middle_of_an_end_brings_it_to_its_end(
    tmp_path: Path, roster: Path, rung: str
) -> None:
    """Longer than it has patience with those that do not end: what it did not see it may not give up."""
    use_rung(rung)
    report = tmp_path / "report"
    process = start("--report", str(report), "--name", "tree", "--", *TREE, str(roster), "5")
    assert wait_for(lambda: "root" in read_roster(roster), 30)
    root, _ = read_roster(roster)["root"]
    assert wait_for(lambda: not os.path.exists(f"/proc/{root}"), 10)  # the shim has seen its end, and waits a grace
    stand_still(process.pid, 1.0 + TIMES.give_up_after + 0.5)
    assert finish(process)[0] == 5
    assert gone(roster, 0) == []
    assert json.loads(report.read_text())["survivors"] == 0


def test_a_shim_that_stood_still_after_a_long_run_still_keeps_its_grace(tmp_path: Path, roster: Path) -> None:
    """Nor is the time before the end taken for a pause in it."""
    process = start("--name", "tree", "--", *TREE, str(roster), "stay", "plain")
    assert wait_for(lambda: "root" in read_roster(roster) and running("tree"), 30)
    stand_still(process.pid, 2 * ending.STOPPED_FOR)
    process.terminate()
    began = time.monotonic()
    assert finish(process)[0] == 143
    assert time.monotonic() - began < 2 * ending.STOPPED_FOR


def test_a_daemon_that_stood_still_goes_on_with_its_trees(roster: Path) -> None:
    use_rung("subreaper")
    process = start("--name", "tree", "--", *TREE, str(roster), "stay")
    assert wait_for(lambda: "root" in read_roster(roster) and running("tree"), 30)
    stand_still(daemon().pid, 3)
    assert wait_for(lambda: Client(Paths(), start=False).end("tree", "enough"), 10)
    code, _, err = finish(process)
    assert (code, "enough" in err) == (137, True)
    assert gone(roster, 0) == []


def test_a_daemon_that_stood_still_does_not_bury_what_has_just_started(tmp_path: Path, roster: Path) -> None:
    """The tree was granted by the daemon before; its shim's word lies in the socket of this one, which was stopped
    for longer than it waits for such a word."""
    client = LeaseClient(spawn.connect(Paths()))
    client.send(request(name="young", argv=["x"], cwd="/", need=10**6))
    granted = client.wait_granted(lambda message: None, 10)
    kill_daemon()
    client.close()
    run_oomless("daemon", "start")
    now = daemon()
    os.kill(now.pid, signal.SIGSTOP)
    try:
        fd = write_spec(ShimSpec(granted, name="young", state=Paths().state))
        argv = shim_argv(fd, str(granted["tree"]), [*TREE, str(roster), "stay", "plain"])
        process = subprocess.Popen(argv, pass_fds=[fd], stdin=subprocess.DEVNULL)
        os.close(fd)
        assert wait_for(lambda: "root" in read_roster(roster), 20)
        time.sleep(registry.START_WITHIN + 0.5)
    finally:
        os.kill(now.pid, signal.SIGCONT)
    assert wait_for(lambda: running("young"), 10)
    assert all(alive(*who) for who in read_roster(roster).values())
    process.terminate()
    process.wait(20)
    assert gone(roster, 0) == []
    assert wait_for(lambda: not open_trees(), 5)


def test_a_shim_that_is_slow_to_start_is_waited_for(tmp_path: Path, roster: Path) -> None:
    """It is there, and has not come to say so within the time that a start may take: the machine is under load."""
    client = LeaseClient(spawn.connect(Paths()))
    client.send(request(name="slow", argv=["x"], cwd="/", need=10**6))
    granted = client.wait_granted(lambda message: None, 10)
    kill_daemon()
    client.close()
    fd = write_spec(ShimSpec(granted, name="slow", state=Paths().state))
    argv = shim_argv(fd, str(granted["tree"]), [*TREE, str(roster), "stay", "plain"])
    process = subprocess.Popen(argv, pass_fds=[fd], stdin=subprocess.DEVNULL)
    os.close(fd)
    os.kill(process.pid, signal.SIGSTOP)
    try:
        assert not roster.exists()
        run_oomless("daemon", "start")
        time.sleep(registry.START_WITHIN + 1)
        assert [tree.name for tree in open_trees()] == ["slow"]
    finally:
        os.kill(process.pid, signal.SIGCONT)
    assert wait_for(lambda: running("slow"), 10)
    assert wait_for(lambda: "root" in read_roster(roster), 10)
    process.kill()
    process.wait(20)
    assert gone(roster, 5) == []
    assert wait_for(lambda: not open_trees(), 5)


@pytest.mark.parametrize("rung", ["auto", "subreaper"])
def test_a_member_that_was_stopped_is_ended_too(roster: Path, rung: str) -> None:
    use_rung(rung)
    process = start("--name", "tree", "--", *TREE, str(roster), "stay")
    assert wait_for(lambda: "root" in read_roster(roster) and running("tree"), 30)
    for who in read_roster(roster).values():
        assert proc.send(*who, signal.SIGSTOP) == proc.SENT
    process.terminate()
    assert finish(process)[0] == 143
    assert gone(roster, 0) == []


@pytest.fixture
def frozen(roster: Path) -> Iterator[proc.Stat]:
    """A process that has been killed in a frozen group of v1: it cannot die before that is thawed."""
    base = f"/sys/fs/cgroup/freezer/test-{os.urandom(4).hex()}"
    try:
        os.mkdir(base)
    except OSError:
        pytest.skip("no v1 freezer, or not ours")
    with subprocess.Popen(["sleep", "60"]) as process:
        files.write(f"{base}/cgroup.procs", str(process.pid))
        files.write(f"{base}/freezer.state", "FROZEN")
        assert wait_for(lambda: files.read(f"{base}/freezer.state") == "FROZEN\n", 10)
        process.kill()
        found = proc.read_stat(process.pid)
        assert found
        yield found
        files.write(f"{base}/freezer.state", "THAWED")
    assert wait_for(lambda: cgroup.remove(base), 5)


def test_one_that_is_held_by_the_kernel_is_not_taken_for_dying(frozen: proc.Stat) -> None:
    assert frozen.state == "D"
    assert not proc.dying(frozen)
    assert not ending.only_dying([ProcessId.of(frozen)])


def test_one_that_is_long_in_dying_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """It lives here and has not been killed; what makes a process one that is dying is read from the kernel above."""
    with subprocess.Popen(["sleep", "60"]) as process:
        stat = proc.read_stat(process.pid)
        assert stat
        assert not proc.dying(stat)
        everybody = lambda: [ProcessId.of(stat)]  # noqa: E731
        late = TIMES.give_up_after + 0.1
        held = ending.KillPatience(TIMES)
        assert [held.is_over(everybody, 0.0, late + 1.1 * number) for number in range(3)] == [False, True, True]
        monkeypatch.setattr(proc, "signals", lambda pid, *fields: 1 << (signal.SIGKILL - 1))
        assert proc.dying(stat)
        dying = ending.KillPatience(TIMES)
        assert not any(
            dying.is_over(everybody, 0.0, late + seconds) for seconds in range(int(TIMES.dying_for - late))
        )
        assert dying.is_over(everybody, 0.0, TIMES.dying_for + 0.1)
        process.kill()


# -- its clock is set ------------------------------------------------------------------------------------------

#: Adds to the clock that people see, and only to that, what the file says at the moment.
CLOCK = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>
static long step(void) {
    char text[32] = {0};
    int fd = open(getenv("CLOCK_STEP"), O_RDONLY | O_CLOEXEC);
    if (fd < 0) return 0;
    if (read(fd, text, sizeof text - 1) < 0) text[0] = 0;
    close(fd);
    return atol(text);
}
int clock_gettime(clockid_t clock, struct timespec *now) {
    int (*real)(clockid_t, struct timespec *) = dlsym(RTLD_NEXT, "clock_gettime");
    int answer = real(clock, now);
    if (clock == CLOCK_REALTIME) now->tv_sec += step();
    return answer;
}
time_t time(time_t *out) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (out) *out = now.tv_sec;
    return now.tv_sec;
}
int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    struct timespec exact;
    clock_gettime(CLOCK_REALTIME, &exact);
    now->tv_sec = exact.tv_sec;
    now->tv_usec = exact.tv_nsec / 1000;
    return 0;
}
"""
YEARS = 10 * 365 * 86400


@pytest.fixture
def clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file: the seconds by which the clock of all that we start is wrong. A daemon that has it runs."""
    if shutil.which("cc") is None:
        pytest.skip("needs a C compiler")
    (tmp_path / "clock.c").write_text(CLOCK)
    library = tmp_path / "clock.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, tmp_path / "clock.c", "-ldl"], check=True)
    step = tmp_path / "step"
    step.write_text("0")
    monkeypatch.setenv("CLOCK_STEP", str(step))
    monkeypatch.setenv("LD_PRELOAD", str(library))
    python = [sys.executable, "-I", "-m", "oomless.daemon"]
    subprocess.run(python, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, timeout=20, check=True)
    assert wait_for(lambda: spawn.running(Paths()), 20)
    return step


@pytest.mark.parametrize("rung", ["auto", "subreaper"])
@pytest.mark.parametrize("years", [YEARS, -YEARS])
def test_a_clock_that_is_set_changes_nothing(
    clock: Path, tmp_path: Path, roster: Path, rung: str, years: int
) -> None:
    use_rung(rung)
    process = start("--name", "tree", "--", *TREE, str(roster), "stay")
    assert wait_for(lambda: "root" in read_roster(roster) and running("tree"), 30)
    everyone = len(trees.KINDS) + 1
    assert wait_for(lambda: (found := running("tree")) and found.processes == everyone, 10)
    clock.write_text(str(years))
    report = tmp_path / "report"
    began = time.monotonic()
    timed = run_oomless("run", "--report", str(report), "--timeout", "1s", "--", "sleep", "60")
    took = time.monotonic() - began
    assert timed.returncode == 124
    assert 1 <= took < 10
    record = json.loads(report.read_text())
    assert abs(record["started_at"] - time.time() - years) < 86400  # it was set, for the shim at least
    assert record["seconds"] < 10
    assert all(alive(*who) for who in read_roster(roster).values())
    found = running("tree")
    assert found
    assert 0 <= found.seconds < 120
    kill(process)
    assert gone(roster, 5) == []
    assert wait_for(lambda: not open_trees(), 5)


# -- forks fail ------------------------------------------------------------------------------------------------

#: Becomes ``oomless run`` where no more processes can be made: by an ordinary user's limit, or by that of a group.
CRAMPED = """
import os, resource, sys
if os.geteuid():
    resource.setrlimit(resource.RLIMIT_NPROC, (1, 1))
else:
    with open(sys.argv[1], "w") as file:
        file.write(str(os.getpid()))
os.execv(sys.argv[2], sys.argv[2:])
"""


@pytest.fixture
def cramped() -> Iterator[list[str]]:
    """The command that becomes its further arguments there."""
    group = ""
    if os.geteuid() == 0:
        base = next((offer.bases["pids"] for offer in OFFERS if "pids" in offer.bases), None)
        if base is None:
            pytest.skip("no v1 pids controller")
        group = f"{base}/test-{os.urandom(4).hex()}"
        os.mkdir(group)
        files.write(f"{group}/pids.max", "1")
    yield [*PYTHON, "-c", CRAMPED, f"{group}/cgroup.procs"]
    if group:
        assert wait_for(lambda: cgroup.remove(group), 5)


@pytest.mark.parametrize("daemon_runs", [True, False])
def test_a_fork_that_fails_is_one_line_and_leaves_nothing(
    cramped: list[str], tmp_path: Path, daemon_runs: bool
) -> None:
    if daemon_runs:
        run_oomless("daemon", "start")
    ran = tmp_path / "ran"
    command = [*cramped, *RUN, "--private-tmp", "--", "touch", str(ran)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, stdin=subprocess.DEVNULL)
    assert done.returncode == 125
    (line,) = [line for line in done.stderr.splitlines() if not line.startswith("hint: ")]
    assert line.startswith("oomless: ")
    assert "temporarily unavailable" in line
    assert not ran.exists()
    if daemon_runs:
        assert wait_for(lambda: not open_trees(), 5)
        assert open_rows() == []
        assert os.listdir(Paths().tmp) == []


# -- disks fill up, files are torn -----------------------------------------------------------------------------


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    if os.geteuid() != 0:
        pytest.skip("needs root: a tmpfs is mounted")
    place = tmp_path / "disk"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m,mode=700", "none", str(place)], check=True)
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def fill(place: Path) -> Path:
    filler = place / "filler"
    with open(filler, "wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
    return filler


@pytest.mark.parametrize("killed", [False, True])
def test_a_tree_that_ends_on_a_full_disk_is_closed_once_there_is_room(
    disk: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, killed: bool
) -> None:
    """Its record cannot be written, nor (``killed``) is a daemon there to be told."""
    monkeypatch.setenv("XDG_STATE_HOME", str(disk))
    roster = tmp_path / "roster"
    process = start("--name", "tree", "--", *TREE, str(roster), "stay")
    assert wait_for(lambda: "root" in read_roster(roster) and running("tree"), 30)
    filler = fill(disk)
    if killed:
        kill_daemon()
    process.terminate()
    assert finish(process)[0] == 143
    assert gone(roster, 0) == []
    if not killed:
        assert wait_for(lambda: not open_trees(), 5)  # what it held is free, whatever can be written
    filler.unlink()
    if not killed:
        kill_daemon()
    run_oomless("daemon", "start")
    assert wait_for(lambda: not open_trees(), 10)
    assert run_oomless("daemon", "stop").returncode == 0
    assert open_rows() == []


@pytest.mark.parametrize("how", ["cut", "garbage"])
@pytest.mark.parametrize("shim_too", [False, True])
def test_a_log_of_the_journal_that_was_torn(roster: Path, how: str, shim_too: bool) -> None:
    """The last writes are lost: that it was admitted is not, that it has started may be. Its tree is adopted, or
    swept by what the rest tells."""
    process = start("--name", "tree", "--", *TREE, str(roster), "stay", "plain", "setsid")
    assert wait_for(lambda: "root" in read_roster(roster) and running("tree"), 30)
    kill_daemon()
    if shim_too:
        kill(process)
    log = Path(Paths().journal + "-wal")
    size = log.stat().st_size
    with open(log, "r+b") as file:
        if how == "cut":
            file.truncate(size - 100)
        else:
            file.seek(size - 100)
            file.write(os.urandom(5000))
    run_oomless("daemon", "start")
    if not shim_too:
        assert wait_for(lambda: (found := running("tree")) and found.processes, 10)
        assert all(alive(*who) for who in read_roster(roster).values())
        process.terminate()
        assert finish(process)[0] == 143
    assert gone(roster, 15) == []
    assert wait_for(lambda: not open_trees(), 15)


def drafts() -> list[str]:
    return sorted(name.name for name in Path(Paths().exits).iterdir())


def test_half_an_exit_record_goes_with_its_tree(roster: Path) -> None:
    """What a shim is writing is its own; what one was writing when it was killed is nobody's."""
    process = start("--name", "tree", "--", *TREE, str(roster), "stay", "plain")
    assert wait_for(lambda: "root" in read_roster(roster) and running("tree"), 30)
    (one,) = Client(Paths(), start=False).status().trees
    tree = one.tree
    (Path(Paths().exits) / f"{tree}.json.{process.pid}.new").write_text('{"schema": "oomless.r')
    kill_daemon()
    (Path(Paths().exits) / "t0.json.99.new").touch()
    run_oomless("daemon", "start")
    assert drafts() == [f"{tree}.json.{process.pid}.new"]
    kill(process)
    assert wait_for(lambda: drafts() == [], 10)
    assert gone(roster, 5) == []


@pytest.mark.skipif(not OFFERS[0].bases, reason="no control groups can be made here")
def test_who_is_in_a_group_of_ours_that_no_journal_knows_is_said_and_left_alone(roster: Path) -> None:
    process = start("--name", "tree", "--", *TREE, str(roster), "stay", "plain")
    assert wait_for(lambda: "root" in read_roster(roster) and running("tree"), 30)
    kill_daemon()
    kill(process)
    for path in Path(Paths().state).glob("journal.db*"):
        path.unlink()
    run_oomless("daemon", "start")
    assert "the journal has no tree of that id" in run_oomless("daemon", "logs").stdout
    members = read_roster(roster)
    assert all(alive(*who) for who in members.values())
    for who in members.values():
        proc.kill(*who)
        assert wait_gone(*who, 5)
    run_oomless("daemon", "stop")
    run_oomless("daemon", "start")  # now they are empty


# -- gone while it is read -------------------------------------------------------------------------------------

CHURN = """
import os, sys
sys.stdout.write("x")
sys.stdout.flush()
while True:
    pid = os.fork()
    if pid == 0:
        os.setsid() if os.getpid() % 2 else None
        os._exit(0)
    os.waitpid(pid, 0)
"""


@pytest.fixture
def churn() -> Iterator[list[subprocess.Popen[bytes]]]:
    found = [subprocess.Popen([*PYTHON, "-c", CHURN], stdout=subprocess.PIPE) for _ in range(3)]
    for process in found:
        assert process.stdout
        process.stdout.read(1)
    yield found
    for process in found:
        process.kill()
        process.communicate()


@pytest.mark.machine
def test_processes_that_are_gone_while_they_are_read(churn: list[subprocess.Popen[bytes]]) -> None:
    """Forks at full speed beside everything that reads the table: nobody raises, and who stays is always found."""
    own = os.getpid()
    sweep = Sweep("ffffffff:t1", {}, set(), 0)
    watched = {process.pid for process in churn}
    until = time.monotonic() + 2
    rounds = 0
    while rounds <= 3 or time.monotonic() < until:
        rounds += 1
        table = proc.table()
        assert watched <= table.keys()
        assert watched <= {stat.pid for stat in descendants.walk(own)}
        assert watched <= {stat.pid for stat in descendants.descendants(table, own)}
        assert not sweep.has_members()
        for pid in table:
            proc.cgroups(pid)
            proc.cmdline(pid)
            proc.environ(pid)


# -- a sweep is idempotent -------------------------------------------------------------------------------------


def test_a_sweep_may_be_repeated(roster: Path) -> None:
    """By two of them, one after the other and at once, and by a daemon that is killed in the middle of its own."""
    process = start("--name", "tree", "--", *TREE, str(roster), "stay", "plain", "setsid", "double-fork")
    assert wait_for(lambda: "root" in read_roster(roster) and running("tree"), 30)
    (tree,) = open_trees()
    cgroups = OFFERS[0].cgroups(f"oomless-{Paths().install_id()}-{tree.tree}") if OFFERS[0].bases else {}
    kill_daemon()
    kill(process)
    marker, known = (
        f"{Paths().install_id()}:{tree.tree}",
        {ProcessId(*process) for process in read_roster(roster).values()},
    )
    one, other = (Sweep(marker, cgroups, set(known), 0) for _ in range(2))
    assert wait_for(lambda: (one.step(), other.step()) == (True, True), 10)
    assert gone(roster, 0) == []
    again = Sweep(marker, cgroups, set(known), 0)
    assert wait_for(again.step, 5)
    assert (again.ended, again.left()) == (0, ())
    for _ in range(2):
        run_oomless("daemon", "start")
        kill_daemon()
    run_oomless("daemon", "start")
    assert wait_for(lambda: not open_trees(), 10)
    run_oomless("daemon", "stop")
    assert open_rows() == []
