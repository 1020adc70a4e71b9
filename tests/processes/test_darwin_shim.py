"""The shim of macOS, around real trees of this machine: its own code and the kernel's groups, zombies, pipes and
signals. The process table and footprints are told in a Mac's layouts, ends of processes by pidfd instead of kqueue.

Nothing of it was run on a Mac.
"""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest

import trees
from contained import PYTHON, THREE_CHILDREN, TREE, read_roster
from darwin.answers import Translated
from darwin.exits import Exits
from helpers import alive, is_error_report, wait_for, wait_gone
from oomless.contain.darwin.tree import DarwinTree, ProcessList
from oomless.model import ExitRecord
from oomless.platform import proc
from oomless.processes.ids import ProcessId

MAC = [sys.executable, "-m", "darwin.as_mac"]
#: A shim whose owner holds the other end of the pipe that its first argument names.
OWNED = """
import sys
from darwin import as_mac
as_mac.become()
from oomless.contain.darwin.child import DarwinSpec
from oomless.contain.darwin.shim import DarwinShim
from oomless.platform.darwin_calls import System
from oomless.platform.darwin_kqueue import Kqueue
spec = DarwinSpec(sys.argv[3:], "owned", "test:owned", lifeline=int(sys.argv[1]), report=sys.argv[2])
sys.exit(DarwinShim(spec, System(), Kqueue()).run())
"""
#: A tree that forks a thousand times a second, as kqueue would tell: each time there is something to take.
BUSY = """
import os, subprocess, sys, time
from darwin import as_mac, exits
class Forks(exits.Exits):
    def __init__(self):
        super().__init__()
        self.fd, writer = os.pipe()
        code = f"import os, time; [(time.sleep(0.001), os.write({writer}, b'f')) for _ in range(60000)]"
        subprocess.Popen([sys.executable, "-c", code], pass_fds=[writer], stderr=subprocess.DEVNULL)
        os.close(writer)
    def take(self):
        if not os.read(self.fd, 65536):
            sys.exit("nobody forks")
as_mac.become()
from oomless.contain.darwin.child import DarwinSpec
from oomless.contain.darwin import tree as darwin
from oomless.contain.darwin.shim import DarwinShim
from oomless.platform.darwin_calls import System
spent, look = [], darwin.DarwinTree.look
def timed(tree):
    began = time.monotonic()
    found = look(tree)
    spent.append((began, time.monotonic() - began))
    return found
darwin.DarwinTree.look = timed
forks, began = Forks(), time.monotonic()
DarwinShim(DarwinSpec(["sleep", "2"], "busy", "test:busy"), System(), forks).run()
while_it_runs = [(at, took) for at, took in spent if at < began + 2]
pauses = [(after - at) / took for (at, took), (after, _) in zip(while_it_runs, while_it_runs[1:])]
sys.stderr.write(str(min(pauses, default=99)))
os.close(forks.fd)
"""
#: A process without a mark, in a session of its own, whose parent ends when it is told to.
LEFT = """
import os, signal, sys, time
reader, writer = os.pipe()
if os.fork() == 0:
    os.setsid()
    code = "import signal, time; signal.signal(15, signal.SIG_IGN); print(flush=True); time.sleep(60)"
    child = os.fork()
    if child == 0:
        os.execve(sys.executable, [sys.executable, "-I", "-S", "-c", code, "unmarked"], {})
    os.read(0, 1)
    os._exit(0)
os.wait()
print("parent gone", flush=True)
os.read(0, 1)
"""


@pytest.fixture(autouse=True)
def on_the_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parents[1] / "support"), *sys.path]))


@pytest.fixture
def roster(tmp_path: Path) -> Path:
    return tmp_path / "roster"


@pytest.fixture
def report(tmp_path: Path) -> Path:
    return tmp_path / "report.json"


def start(*words: object, **options: object) -> subprocess.Popen[str]:
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    return subprocess.Popen([*MAC, "run", *map(str, words)], text=True, **pipes)  # type: ignore[call-overload, no-any-return]


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=30)
    return process.returncode, out, err


def record_in(path: Path) -> ExitRecord:
    import msgspec

    return msgspec.json.decode(path.read_bytes(), type=ExitRecord)


class TestTheCommand:
    def test_output_and_exit_code_are_its_own(self) -> None:
        assert finish(start("--", "sh", "-c", "echo out; echo err >&2; exit 7")) == (7, "out\n", "err\n")
        assert finish(start("--", "sh", "-c", "kill -USR1 $$"))[0] == 128 + signal.SIGUSR1

    def test_signals_and_descriptors_are_as_without_us(self) -> None:
        code = "grep -E '^Sig(Blk|Ign)' /proc/self/status; ls /proc/self/fd; echo $OOMLESS_TREE"
        *shown, mark = finish(start("--", "sh", "-c", code))[1].splitlines()
        plain = subprocess.run(["sh", "-c", code], capture_output=True, text=True, stdin=subprocess.DEVNULL)
        assert shown == plain.stdout.splitlines()[: len(shown)]
        assert mark.count(":t") == 1

    def test_its_output_ends_when_it_closes_it(self) -> None:
        process = start("--", "sh", "-c", "exec >&-; read line; exit 4", stdin=subprocess.PIPE)
        assert process.stdout
        assert wait_for(lambda: ended(process.stdout), 20)  # and the command goes on
        assert finish(process)[0] == 4

    def test_the_lifeline_is_not_handed_on(self, report: Path) -> None:
        reader, writer = os.pipe()
        command = [sys.executable, "-c", OWNED, str(reader), str(report), "ls", "/proc/self/fd"]
        done = subprocess.run(command, pass_fds=[reader], capture_output=True, text=True, check=True)
        os.close(reader)
        os.close(writer)
        assert done.stdout.split() == ["0", "1", "2", "3"]  # 3: the listing's own

    @pytest.mark.parametrize(("command", "code"), [("/no/such/thing", 127), ("/etc/passwd", 126)])
    def test_what_cannot_run_says_so(self, command: str, code: int) -> None:
        found, _, err = finish(start("--", command))
        assert found == code
        assert is_error_report(err)

    def test_what_is_only_found_out_by_running_says_so_too(self, tmp_path: Path, report: Path) -> None:
        script = tmp_path / "script"
        script.write_bytes(b"\0")
        script.chmod(0o700)
        assert finish(start("--report", report, "--", script))[0] == 126
        assert record_in(report).status == "failed"

    @pytest.mark.parametrize("option", [["--expect", "1MB"], ["--no-wait"], ["--class", "c"], ["--private-tmp"]])
    def test_what_needs_the_daemon_is_refused(self, option: list[str]) -> None:
        code, out, err = finish(start(*option, "--", "echo", "ran"))
        assert (code, out) == (2, "")
        assert is_error_report(err)
        assert "it needs the daemon" in err


class TestTheEnd:
    def test_nothing_is_left_when_the_root_ends(self, roster: Path, report: Path) -> None:
        """Who wiped its environment and lost its parent between two looks is the gap that is named."""
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}  # whoever is left holds them
        assert start("--report", report, "--", *TREE, roster, "5", **quiet).wait(20) == 5
        members = read_roster(roster)
        assert set(members) == {*trees.KINDS, "root"}
        left = [kind for kind, who in members.items() if alive(*who)]
        assert left in ([], ["wiped-environment"])
        for kind in left:
            proc.kill(*members[kind])
            assert wait_gone(*members[kind], 5)
        record = record_in(report)
        assert (record.rung, record.survivors, record.ended) == ("darwin", 0, len(trees.KINDS) - len(left))
        assert "found by its mark only" in record.why_rung

    def test_who_was_seen_below_the_root_is_remembered(self, report: Path) -> None:
        """Without a mark, in a session of its own, and its parent is gone: only remembered lineage leads to it."""
        process = start("--report", report, "--", *PYTHON, "-c", LEFT, stdin=subprocess.PIPE)
        assert process.stdin
        assert process.stdout
        assert process.stdout.readline() == "\n"
        below = [pid for pid, stat in proc.table().items() if "unmarked" in proc.cmdline(pid) and stat.alive]
        shim = process.pid
        (orphan,) = (pid for pid in below if shim in ancestors(pid))
        watched = f"/proc/{shim}/fdinfo"
        assert wait_for(lambda: any(f"Pid:\t{orphan}\n" in read(watched, fd) for fd in os.listdir(watched)), 10)
        process.stdin.write("x")
        process.stdin.flush()
        assert process.stdout.readline() == "parent gone\n"
        start_of = proc.start_of(orphan)
        assert start_of is not None
        assert finish(process)[0] == 0
        assert not alive(orphan, start_of)
        assert record_in(report).ended == 1

    def test_who_stays_in_the_group_is_found_without_a_parent_or_a_mark(self, report: Path) -> None:
        """The end of its output is the end of all."""
        words = ("sh", "-c", "(env -i sh -c 'trap \"\" TERM; echo; sleep 60; sleep 1' & read line) & read line")
        process = start("--report", report, "--", *words, stdin=subprocess.PIPE)
        assert process.stdout
        process.stdout.readline()
        assert finish(process)[0] == 1  # the end of its input ends the root
        assert record_in(report).survivors == 0

    def test_the_root_stays_a_zombie_until_its_group_is_gone(self) -> None:
        """So that the number of the group is nobody else's while it is signalled."""
        code = "trap '' TERM; (trap '' TERM; echo $$; sleep 30) & sleep 0.1; exit 0"
        process = start("--", "sh", "-c", code)
        assert process.stdout
        root = int(process.stdout.readline())
        assert wait_for(lambda: (stat := proc.read_stat(root)) and stat.state == "Z", 10)
        below = [stat for stat in proc.table().values() if stat.pgid == root and stat.alive]
        assert below
        stat = proc.read_stat(root)
        assert stat is not None
        assert (stat.state, stat.ppid) == ("Z", process.pid)
        assert finish(process)[0] == 0
        assert not any(alive(one.pid, one.start) for one in below)

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
    def test_a_signal_to_the_shim_ends_the_tree(self, roster: Path, report: Path, number: int) -> None:
        process = start("--report", report, "--", *TREE, roster, "stay", *trees.KINDS[:-1])
        assert wait_for(lambda: "root" in read_roster(roster), 20)
        process.send_signal(number)
        assert finish(process)[0] == 128 + number
        assert not any(alive(*who) for who in read_roster(roster).values())
        assert record_in(report).survivors == 0

    def test_a_command_that_ends_on_sigterm_keeps_its_exit_code(self) -> None:
        process = start("--", "sh", "-c", "trap 'exit 5' TERM; echo; while :; do sleep 0.05; done")
        assert process.stdout
        process.stdout.readline()
        process.terminate()
        assert finish(process)[0] == 5

    def test_the_end_of_the_lifeline_is_the_end_of_the_tree(self, roster: Path, report: Path) -> None:
        reader, writer = os.pipe()
        command = [sys.executable, "-c", OWNED, str(reader), str(report), *TREE, str(roster), "stay"]
        process = subprocess.Popen([*command, *trees.KINDS[:-1]], pass_fds=[reader], stdin=subprocess.DEVNULL)
        os.close(reader)
        assert wait_for(lambda: "root" in read_roster(roster), 20)
        os.close(writer)
        assert process.wait(20) == 137
        assert not any(alive(*who) for who in read_roster(roster).values())
        record = record_in(report)
        assert (record.status, record.reason) == ("killed", "its owner is gone")

    def test_nobody_else_is_touched(self, roster: Path) -> None:
        """A job of the same shell from before, and one with the mark of another tree."""
        env = {**os.environ, "OOMLESS_TREE": "other:t1"}
        with subprocess.Popen(["sleep", "60"], env=env) as other:
            script = 'sleep 60 >&- 2>&- & echo $!; exec "$@"'
            words = [*MAC, "run", "--", "sh", "-c", "setsid sleep 60 >&- 2>&- & exit 3"]
            done = subprocess.run(["sh", "-c", script, "sh", *words], capture_output=True, text=True, timeout=30)
            before = int(done.stdout)
            since = proc.start_of(before)
            assert since is not None
            assert (alive(before, since), other.poll(), done.returncode) == (True, None, 3)
            proc.kill(before, since)
            assert wait_gone(before, since, 5)
            other.kill()


class TestBounds:
    def test_memory_of_one(self, report: Path) -> None:
        words = ("--memory", "150MB", "--report", report, "--", *PYTHON, "-c", "x = bytearray(10**9); input()")
        code, _, err = finish(start(*words))
        record = record_in(report)
        assert (code, record.status, record.survivors, err.count("\n")) == (137, "killed", 0, 1)
        assert "memory limit (phys_footprint, found by polling)" in err
        assert record.peak_bytes > 150_000_000

    def test_memory_of_the_whole_tree(self) -> None:
        assert finish(start("--memory", "150MB", "--", *PYTHON, "-c", THREE_CHILDREN))[0] == 137

    def test_who_stays_below_is_left_alone(self, report: Path) -> None:
        words = ("--memory", "300MB", "--report", report, "--", *PYTHON, "-c", "import time; x = bytearray(10**8)")
        assert finish(start(*words[:-1], f"{words[-1]}; time.sleep(1)"))[0] == 0
        assert record_in(report).peak_bytes > 100_000_000

    def test_time(self, roster: Path) -> None:
        code, _, err = finish(start("--timeout", "1", "--", *TREE, roster, "stay", *trees.KINDS[:-1]))
        assert (code, "ran out of time (1 s)" in err) == (124, True)
        assert not any(alive(*who) for who in read_roster(roster).values())

    def test_the_number_of_processes(self) -> None:
        code = "for _ in 1 2 3 4 5 6 7 8 9; do sleep 30 & done; wait"
        found, _, err = finish(start("--processes", "5", "--", "sh", "-c", code))
        assert (found, "10 processes, over its limit of 5" in err) == (137, True)

    def test_a_tree_that_forks_without_end_does_not_keep_us_busy(self) -> None:
        done = subprocess.run([sys.executable, "-c", BUSY], capture_output=True, text=True, check=True)
        assert float(done.stderr) > 4  # from one look to the next, in lengths of a look


class TestOnATerminal:
    def test_ctrl_c_is_the_commands_own(self) -> None:
        code = "trap 'echo caught; exit 7' INT; echo ready; while :; do sleep 0.1; done"
        assert on_a_terminal(b"\x03", code)[0] == 7

    def test_it_reads_from_the_terminal(self) -> None:
        assert b"got typed" in on_a_terminal(b"typed\n", "echo ready; read line; echo got $line")[1]

    def test_a_suspended_command_is_a_suspended_job(self) -> None:
        pid, fd = pty.fork()
        if pid == 0:
            os.execv(MAC[0], [*MAC, "run", "--", "sh", "-c", "kill -STOP $$; echo goes on"])
        try:
            assert os.WIFSTOPPED(os.waitpid(pid, os.WUNTRACED)[1])
            os.kill(pid, signal.SIGCONT)  # our child, not reaped
            out = b""
            while b"goes on" not in out:
                out += os.read(fd, 4096)
        finally:
            os.close(fd)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "60"], start_new_session=True) as process:
        yield process
        process.kill()


@pytest.fixture
def exits() -> Iterator[Exits]:
    found = Exits()
    yield found
    found.close()


class TestTree:
    def test_only_that_very_process_is_signalled(self, sleeper: subprocess.Popen[bytes], exits: Exits) -> None:
        tree = DarwinTree(Translated(), exits, sleeper.pid, "OOMLESS_TREE=x", apart=True)
        assert not tree.send(ProcessId(sleeper.pid, tree.root_start + 1), signal.SIGKILL)
        assert sleeper.poll() is None
        assert tree.root_state() == "runs"
        assert tree.send(ProcessId(sleeper.pid, tree.root_start), signal.SIGSTOP)
        assert wait_for(lambda: tree.root_state() == "stopped", 5)
        assert tree.send(ProcessId(sleeper.pid, tree.root_start), signal.SIGKILL)
        assert wait_for(lambda: tree.root_state() == "ended", 5)  # not reaped: a zombie of ours
        assert not tree.send(ProcessId(sleeper.pid, tree.root_start), signal.SIGKILL)
        assert tree.look() == []
        sleeper.wait(5)
        assert not tree.send(ProcessId(sleeper.pid, tree.root_start), signal.SIGKILL)
        exits.take()

    def test_a_table_that_cannot_be_read_ends_nobody(
        self, sleeper: subprocess.Popen[bytes], exits: Exits, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        calls = Translated()
        tree = DarwinTree(calls, exits, sleeper.pid, "OOMLESS_TREE=x", apart=True)
        monkeypatch.setattr(calls, "sysctl", lambda name: b"")
        assert [one.pid for one in tree.look()] == [sleeper.pid]
        assert (tree.root_state(), tree.is_over(), tree.is_over(), tree.is_over()) == ("runs", False, False, False)
        with pytest.raises(OSError, match="does not tell"):
            DarwinTree(calls, exits, sleeper.pid, "OOMLESS_TREE=x", apart=True)

    def test_the_groups_list_has_its_zombies(self, sleeper: subprocess.Popen[bytes]) -> None:
        processes = ProcessList(Translated())
        assert [one.zombie for one in processes.group(sleeper.pid)] == [False]
        sleeper.kill()
        assert wait_for(lambda: [one.zombie for one in processes.group(sleeper.pid)] == [True], 5)

    def test_marks_of_nested_trees_count(self, exits: Exits) -> None:
        env = {"OOMLESS_TREE": "a:t1/t2"}
        with subprocess.Popen(["/bin/sleep", "60"], env=env) as process:
            processes = ProcessList(Translated())
            assert wait_for(lambda: proc.environ(process.pid), 5)  # exec is over before it is there
            found = [processes.carries(process.pid, mark) for mark in (b"OOMLESS_TREE=a:t1", b"OOMLESS_TREE=a:t")]
            assert found == [True, False]
            process.kill()

    def test_kqueue_is_asked_for_ends_and_forks(self) -> None:
        """By a recorder in its place: what is put in, and that a process that is gone is told."""
        code = (
            "import select, sys; sys.platform = 'darwin'\n"
            "class Queue:\n"
            "    def fileno(self): return 9\n"
            "    def control(self, changes, most, timeout):\n"
            "        print(changes, most, timeout)\n"
            "        if changes and changes[0][0] == 2: raise ProcessLookupError\n"
            "        return []\n"
            "    def close(self): pass\n"
            "select.kqueue, select.kevent = Queue, lambda *fields: fields\n"
            "for name in ('KQ_NOTE_EXIT', 'KQ_NOTE_FORK', 'KQ_FILTER_PROC', 'KQ_EV_ADD', 'KQ_EV_CLEAR'):\n"
            "    setattr(select, name, {'KQ_NOTE_EXIT': 1 << 31, 'KQ_NOTE_FORK': 1 << 30}.get(name, 32))\n"
            "from oomless.platform.darwin_kqueue import Kqueue\n"
            "queue = Kqueue(); print(queue.watch(1), queue.watch(2)); queue.take()\n"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout.splitlines() == [
            f"[(1, 32, 32, {3 << 30})] 0 0",
            f"[(2, 32, 32, {3 << 30})] 0 0",
            "True False",
            "None 256 0",
        ]


def on_a_terminal(keys: bytes, script: str) -> tuple[int, bytes]:
    pid, fd = pty.fork()
    if pid == 0:
        os.execv(MAC[0], [*MAC, "run", "--", "sh", "-c", script])
    out = b""
    try:
        while b"ready" not in out:
            out += os.read(fd, 4096)
        os.write(fd, keys)
        while True:
            try:
                part = os.read(fd, 4096)
            except OSError:  # EIO: the other side is closed
                break
            out += part
    finally:
        os.close(fd)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), out


def ended(pipe: IO[str] | None) -> bool:
    """Nobody holds the other end."""
    assert pipe
    poll = select.poll()
    poll.register(pipe, 0)
    return bool(poll.poll(0))


def ancestors(pid: int) -> list[int]:
    found = []
    stat = proc.read_stat(pid)
    while stat is not None and stat.ppid > 1:
        found.append(stat.ppid)
        stat = proc.read_stat(stat.ppid)
    return found


def read(folder: str, name: str) -> str:
    return (proc.read_file(f"{folder}/{name}") or b"").decode()
