"""``oomless batch`` with real daemons, shims and jobs: results, bounds, retries, and every way to be interrupted."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from contained import FORKS
from helpers import alive, is_error_report, wait_for, wait_gone
from oomless.cli.progress import BatchLines
from oomless.engines.base import JobEvent
from oomless.engines.batch_file import Job
from oomless.engines.batch_folder import KEPT, BatchFolder
from oomless.paths import Paths
from oomless.platform import proc
from oomless.protocol import spawn
from oomless.protocol.client import Client

PYTHON = sys.executable
TIMEOUT = 60
ARGV = [PYTHON, "-m", "oomless", "batch"]


class Fifo:
    """Jobs say something to the test through one, or wait in ``read x < fifo`` for a line of it."""

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self.path = path
        self._fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
        self._lines: list[str] = []

    def line(self) -> str:
        while not self._lines:
            assert select.select([self._fd], [], [], TIMEOUT)[0], f"nobody wrote to {self.path}"
            self._lines += os.read(self._fd, 4096).decode().splitlines()
        return self._lines.pop(0)

    def release(self, count: int = 1) -> None:
        os.write(self._fd, b"go\n" * count)

    def close(self) -> None:
        os.close(self._fd)


class Scene:
    """A folder with a batch file, and jobs that note each run of theirs in ``runs``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file = folder / "batch.jsonl"
        self.runs = folder / "runs"
        self._processes: list[subprocess.Popen[str]] = []
        self.started, self.go = Fifo(folder / "started"), Fifo(folder / "go")

    def shell(self, name: str, script: str, **more: object) -> dict[str, object]:
        return {"name": name, "command": ["sh", "-c", f"echo {name} >> runs; {script}"], **more}

    def gated(self, name: str, after: str = "true", **more: object) -> dict[str, object]:
        """Says its name and its root's pid, and goes on when it is let."""
        return self.shell(name, f"echo {name} $$ > started; read x < go; {after}", **more)

    def write(self, *jobs: object) -> None:
        lines = [job if isinstance(job, str) else json.dumps(job) for job in jobs]
        self.file.write_text("\n".join(lines) + "\n")

    def start(self, *options: str, file: str = "batch.jsonl") -> subprocess.Popen[str]:
        argv = [*ARGV, file, *options]
        pipe = subprocess.PIPE
        process = subprocess.Popen(argv, cwd=self.folder, stdin=pipe, stdout=pipe, stderr=pipe, text=True)
        self._processes.append(process)
        return process

    def close(self) -> None:
        """Nobody goes on, whatever failed; the jobs that wait see the end of their FIFO."""
        for process in self._processes:
            process.kill()
            process.communicate()
        self.started.close()
        self.go.close()

    def run(self, *options: str) -> subprocess.CompletedProcess[str]:
        return finish(self.start(*options))

    def json(self, *options: str, code: int = 0) -> dict[str, Any]:
        return answer(self.run("--json", *options), code)

    def ran(self) -> list[str]:
        return self.runs.read_text().split() if self.runs.exists() else []


def finish(process: subprocess.Popen[str]) -> subprocess.CompletedProcess[str]:
    out, err = process.communicate("", timeout=TIMEOUT)
    assert "Traceback" not in err
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def answer(done: subprocess.CompletedProcess[str], code: int = 0) -> dict[str, Any]:
    assert done.returncode == code, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    assert found["schema"] == "oomless.batch/1"
    assert all(job["survivors"] == 0 for job in found["jobs"])
    return found


def by_name(found: dict[str, Any]) -> dict[str, Any]:
    return {job["name"]: job for job in found["jobs"]}


def intent(found: str, seq: int) -> dict[str, Any]:
    path = Path(Paths().batches) / found / f"{seq + 1:03}.intent.json"
    decoded: dict[str, Any] = json.loads(path.read_bytes())
    return decoded


def only_batch() -> str:
    (found,) = os.listdir(Paths().batches)
    return found


def await_identity(seq: int) -> dict[str, Any]:
    """The intent, once it names the shim."""
    assert wait_for(lambda: intent(only_batch(), seq)["pid"], TIMEOUT)
    return intent(only_batch(), seq)


def tree_pid(tree: str) -> int | None:
    view = Client(Paths(), start=False).tree(tree)
    return view.pid if view else None


def read_until(fd: int, wanted: list[bytes]) -> None:
    """Reads until all of it has been shown."""
    shown, until = b"", time.monotonic() + TIMEOUT
    while not all(text in shown for text in wanted):
        assert select.select([fd], [], [], max(0.0, until - time.monotonic()))[0], shown[-2000:]
        shown += os.read(fd, 65536)


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    made = Scene(tmp_path)
    yield made
    made.close()


# -- results -------------------------------------------------------------------------------------------------


def test_results_in_order_with_their_output(scene: Scene) -> None:
    (scene.folder / "sub").mkdir()
    scene.write(
        {
            "name": "one",
            "command": ["sh", "-c", "sleep 0.2; echo out; echo err >&2; cat; echo $A; pwd"],
            "env": {"A": "b"},
        },
        {"name": "two", "command": ["pwd"], "cwd": "sub", "memory": "100MB"},
    )
    found = scene.json()
    assert [job["name"] for job in found["jobs"]] == ["one", "two"]
    one, two = found["jobs"]
    assert (one["status"], one["exit_code"], one["attempts"]) == ("done", 0, 1)
    assert Path(one["stdout"]).read_text() == f"out\nb\n{scene.folder}\n"
    assert Path(one["stderr"]).read_text() == "err\n"
    assert Path(two["stdout"]).read_text() == f"{scene.folder}/sub\n"
    assert one["seconds"] >= 0.2
    assert one["peak_bytes"] > 0
    assert one["peak_source"] in ("cgroup", "pss", "rss")


def test_lines_on_stderr_and_a_table_on_stdout(scene: Scene) -> None:
    scene.write(scene.shell("good", "true"), scene.shell("bad", "exit 3"))
    done = scene.run()
    assert done.returncode == 1
    assert any(line.startswith("done     good  exit 0  peak ") for line in done.stderr.splitlines())
    assert any(line.startswith("failed   bad  exit 3  peak ") for line in done.stderr.splitlines())
    table = done.stdout.splitlines()
    assert table[0].split() == ["NAME", "STATUS", "EXIT", "ATTEMPTS", "PEAK", "TIME", "SURVIVORS", "REASON"]
    assert table[2].split()[:4] == ["bad", "failed", "3", "1"]
    assert table[3] == "1 done, 1 failed"


def test_waiting_is_told_only_while_nothing_runs(capsys: pytest.CaptureFixture[str]) -> None:
    jobs = tuple(Job(line=n, name=f"job-{n}", command=("true",)) for n in (1, 2))
    view = BatchLines(jobs)
    view.event(JobEvent(seq=0, kind="waiting", text="somebody else's"))
    view.event(JobEvent(seq=0, kind="waiting", text="somebody else's"))
    view.event(JobEvent(seq=0, kind="running"))
    view.event(JobEvent(seq=1, kind="waiting", text="job-1's"))
    assert capsys.readouterr().err == "waiting  job-1  somebody else's\n"


def test_nobody_reads_the_lines(scene: Scene) -> None:
    scene.write(scene.shell("a", "true"), scene.shell("b", "true"))
    reader, writer = os.pipe()
    os.close(reader)
    argv = [*ARGV, "batch.jsonl", "--json", "--max-parallel", "1"]
    done = subprocess.run(argv, cwd=scene.folder, stdout=subprocess.PIPE, stderr=writer, timeout=TIMEOUT, check=False)
    os.close(writer)
    assert done.returncode == 0
    assert [job["status"] for job in json.loads(done.stdout)["jobs"]] == ["done", "done"]


def test_bars_on_a_terminal(scene: Scene) -> None:
    scene.write(scene.gated("alpha", memory="100MB"), scene.shell("beta", "true", memory="100MB"))
    ours, theirs = pty.openpty()
    argv = [*ARGV, "batch.jsonl", "--max-parallel", "1", "--json"]
    environ = {**os.environ, "TERM": "xterm", "COLUMNS": "120"}
    process = subprocess.Popen(argv, cwd=scene.folder, stderr=theirs, stdout=subprocess.PIPE, env=environ)
    os.close(theirs)
    try:
        read_until(ours, [b"B of 100 MB", b"waiting  beta  1 of 1 places", b"0 of 2"])
        scene.go.release()
        read_until(ours, [b"done     alpha  exit 0", b"2 of 2"])
        out, _ = process.communicate(timeout=TIMEOUT)
    finally:
        os.close(ours)
        if process.poll() is None:
            process.kill()
            process.communicate()
    assert [job["status"] for job in json.loads(out)["jobs"]] == ["done", "done"]


def test_standard_input_is_a_batch_that_cannot_be_resumed(scene: Scene) -> None:
    process = scene.start("--json", file="-")
    out, err = process.communicate(json.dumps({"name": "a", "command": ["echo", "hi"]}), timeout=TIMEOUT)
    assert process.returncode == 0, err
    assert Path(json.loads(out)["jobs"][0]["stdout"]).read_text() == "hi\n"
    refused = finish(scene.start("--resume", file="-"))
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "cannot be resumed" in refused.stderr


def test_an_empty_batch_is_done(scene: Scene) -> None:
    scene.write("# nothing yet")
    assert scene.json()["jobs"] == []


# -- bounds --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [("--budget", "200MB"), ("--max-parallel", "2")])
def test_two_at_a_time(scene: Scene, options: tuple[str, str]) -> None:
    jobs = [scene.gated(name, "echo end >> runs", memory="100MB") for name in "abcde"]
    scene.write(*jobs)
    process = scene.start("--json", *options)
    scene.started.line(), scene.started.line()  # two run at once
    scene.go.release(5)
    found = answer(finish(process))
    running = most = 0
    for line in scene.ran():
        running += -1 if line == "end" else 1
        most = max(most, running)
    assert most == 2
    assert [job["status"] for job in found["jobs"]] == ["done"] * 5


def test_in_the_order_of_the_file(scene: Scene) -> None:
    names = [f"job{number:02}" for number in range(20)]
    scene.write(*(scene.shell(name, "true") for name in names))
    scene.json("--max-parallel", "1")
    assert scene.ran() == names


def test_a_job_that_can_never_fit_is_refused(scene: Scene) -> None:
    scene.write(scene.shell("big", "true", memory="300MB", retries=3), scene.shell("small", "true", memory="50MB"))
    found = by_name(scene.json("--budget", "100MB", code=1))
    assert (found["big"]["status"], found["big"]["exit_code"], found["big"]["attempts"]) == ("refused", 75, 1)
    assert "300 MB" in found["big"]["reason"]
    assert found["small"]["status"] == "done"
    assert scene.ran() == ["small"]


def test_over_its_memory_limit_a_job_is_killed(scene: Scene) -> None:
    hog = {"name": "hog", "command": [PYTHON, "-c", "x = b'x' * 300_000_000; input()"], "memory": "60MB"}
    scene.write(hog, scene.shell("sibling", "true"))
    found = by_name(scene.json(code=1))
    assert (found["hog"]["status"], found["hog"]["exit_code"]) == ("killed", 137)
    assert "60 MB memory limit" in found["hog"]["reason"]
    assert found["sibling"]["status"] == "done"


def test_over_its_limit_on_processes_a_job_is_killed(scene: Scene) -> None:
    many = {"name": "many", "command": [PYTHON, "-c", FORKS], "processes": 8}
    scene.write(many, {**scene.shell("few", "sleep 0.1"), "processes": 8})
    found = by_name(scene.json(code=1))
    assert (found["many"]["status"], found["many"]["exit_code"], found["many"]["survivors"]) == ("killed", 137, 0)
    assert "limit of 8" in found["many"]["reason"]
    assert found["few"]["status"] == "done"


def test_out_of_time(scene: Scene) -> None:
    scene.write(scene.shell("slow", "sleep 1000", timeout="0.2s"))
    (slow,) = scene.json(code=1)["jobs"]
    assert (slow["status"], slow["exit_code"]) == ("timeout", 124)


# -- attempts ------------------------------------------------------------------------------------------------


def test_retries(scene: Scene) -> None:
    scene.write(
        scene.shell("second", "test $(grep -c second runs) = 2", retries=5),
        scene.shell("never", "exit 9", retries=2),
    )
    found = by_name(scene.json(code=1))
    assert (found["second"]["status"], found["second"]["attempts"]) == ("done", 2)
    assert (found["never"]["status"], found["never"]["exit_code"], found["never"]["attempts"]) == ("failed", 9, 3)
    assert sorted(scene.ran()) == ["never"] * 3 + ["second"] * 2


@pytest.mark.parametrize(
    ("job", "code", "reason"),
    [
        ({"command": ["no-such-command-here"], "env": {"PATH": "/usr/bin:/bin"}}, 127, "no such command"),
        ({"command": ["./batch.jsonl"]}, 126, "Permission denied"),
        ({"command": ["true"], "cwd": "missing"}, 127, "does not exist"),
        ({"command": ["true"], "cwd": "batch.jsonl"}, 126, "cannot be entered"),
    ],
)
def test_what_cannot_be_run_is_not_tried_again(scene: Scene, job: dict[str, Any], code: int, reason: str) -> None:
    scene.write({**job, "name": "x", "retries": 4})
    (found,) = scene.json(code=1)["jobs"]
    assert (found["status"], found["exit_code"], found["attempts"]) == ("failed", code, 1)
    assert reason in found["reason"]


def test_a_killed_shim_is_a_failed_attempt_and_its_tree_is_swept(scene: Scene) -> None:
    scene.write(scene.gated("a", retries=1))
    process = scene.start("--json")
    first = int(scene.started.line().split()[1])
    first_start = proc.start_of(first)
    assert first_start is not None
    shim = await_identity(0)
    assert proc.kill(shim["pid"], shim["start"]) == proc.SENT
    again = scene.started.line()  # the second attempt starts only once the first is gone
    assert not alive(first, first_start)
    assert again.split()[0] == "a"
    scene.go.release()
    (job,) = answer(finish(process))["jobs"]
    assert (job["status"], job["attempts"]) == ("done", 2)


def test_a_killed_shim_without_retries_says_so(scene: Scene) -> None:
    scene.write(scene.gated("a"))
    process = scene.start("--json")
    scene.started.line()
    shim = await_identity(0)
    assert proc.kill(shim["pid"], shim["start"]) == proc.SENT
    (job,) = answer(finish(process), code=1)["jobs"]
    assert (job["status"], job["exit_code"], job["reason"]) == ("failed", 137, "its shim was killed")


# -- what is wrong beforehand --------------------------------------------------------------------------------


def test_broken_lines_are_all_named_and_nothing_runs(scene: Scene) -> None:
    scene.write(scene.shell("a", "true"), "{", {"command": ["true"], "memry": 1})
    done = scene.run("--json")
    assert (done.returncode, done.stdout) == (2, "")
    first, _, second, hint = done.stderr.splitlines()
    assert first.startswith("oomless: error: batch.jsonl:2: the line is not JSON: ")
    assert second.startswith("oomless: error: batch.jsonl:3: unknown key 'memry': ")
    assert hint == "hint: did you mean 'memory'?"
    assert scene.ran() == []


def test_keep_going_runs_the_others(scene: Scene) -> None:
    scene.write(scene.shell("a", "true"), "{", scene.shell("b", "true"))
    found = scene.json("--keep-going", code=1)
    assert [job["status"] for job in found["jobs"]] == ["done", "done"]
    assert len(found["broken"]) == 1
    assert sorted(scene.ran()) == ["a", "b"]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--budget", "lots"), "--budget 'lots' is not an amount of memory"),
        (("--max-parallel", "0"), "--max-parallel '0' is not a number of jobs"),
        (("--engine", "cloud"), "there is no engine 'cloud'"),
        (("--joblog", "/"), "cannot write the job log /: Is a directory"),
    ],
)
def test_bad_options(scene: Scene, options: tuple[str, ...], expected: str) -> None:
    scene.write(scene.shell("a", "true"))
    done = scene.run(*options)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"oomless: error: {expected}")
    assert is_error_report(done.stderr)
    assert scene.ran() == []


def test_a_state_folder_that_cannot_be_made(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(scene.file))
    scene.write(scene.shell("a", "true"))
    done = scene.run()
    assert done.returncode == 125
    assert done.stderr.startswith("oomless: error: cannot write the state folder")
    assert is_error_report(done.stderr)


# -- the job log ---------------------------------------------------------------------------------------------


def test_joblog(scene: Scene) -> None:
    scene.write(scene.shell("a b", "true"), {"name": "s", "command": ["sh", "-c", "kill -9 $$\t#\n"]})
    scene.run("--joblog", "log.tsv")
    header, *lines = (scene.folder / "log.tsv").read_text().splitlines()
    assert header == "Seq\tName\tStarttime\tSeconds\tExitval\tSignal\tStatus\tPeak\tAttempts\tCommand"
    rows = {line.split("\t")[0]: line.split("\t") for line in lines}
    assert [rows["1"][i] for i in (1, 4, 5, 6, 8)] == ["a b", "0", "0", "done", "1"]
    assert float(rows["1"][2]) > 1e9
    assert rows["2"][4:7] == ["137", "9", "failed"]
    assert rows["2"][9] == "sh -c 'kill -9 $$\\t#\\n'"


# -- ends in the middle --------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", ["lives", "lives, unknown to its intent", "has ended"])
def test_resume_after_sigkill_of_the_command(scene: Scene, case: str) -> None:
    scene.write(scene.shell("a", "true"), scene.gated("b", "echo finished"), scene.shell("c", "true"))
    process = scene.start("--max-parallel", "1")
    pid = int(scene.started.line().split()[1])
    start = proc.start_of(pid) or 0
    shim = await_identity(1)
    process.kill()
    process.communicate()
    assert alive(pid, start)
    if case == "has ended":
        scene.go.release()
        assert wait_gone(shim["pid"], shim["start"], TIMEOUT)
    elif case != "lives":
        path = Path(Paths().batches) / only_batch() / "002.intent.json"
        path.write_text(json.dumps({"tree": shim["tree"], "attempt": 1}))
    if case != "has ended":
        again = scene.run("--json")
        assert (again.returncode, again.stdout) == (2, "")
        assert "1 of its jobs still run" in again.stderr
    resumed = scene.start("--resume", "--json", "--max-parallel", "1", "--joblog", "log")
    if case != "has ended":
        log = scene.folder / "log"
        assert wait_for(lambda: log.exists() and "\n1\t" in log.read_text(), TIMEOUT)
        scene.go.release()
    found = answer(finish(resumed))
    assert [(job["status"], job["attempts"]) for job in found["jobs"]] == [("done", 1)] * 3
    assert Path(found["jobs"][1]["stdout"]).read_text() == "finished\n"
    assert sorted(scene.ran()) == ["a", "b", "c"]
    assert len((scene.folder / "log").read_text().splitlines()) == 4


def test_resume_runs_again_what_failed_and_nothing_else(scene: Scene) -> None:
    scene.write(scene.shell("a", "true"), scene.shell("b", "test -e ok"))
    scene.json(code=1)
    (scene.folder / "ok").touch()
    found = by_name(scene.json("--resume"))
    assert scene.ran() == ["a", "b", "b"] or scene.ran() == ["b", "a", "b"]
    assert (found["b"]["status"], found["b"]["attempts"]) == ("done", 2)


def test_without_resume_all_is_done_again(scene: Scene) -> None:
    scene.write(scene.shell("a", "true"))
    assert scene.json()["batch"] == scene.json()["batch"]
    assert scene.ran() == ["a", "a"]


def finished_before(count: int) -> list[Path]:
    """Folders as ``count`` batches leave them, newest first."""
    folders = [Path(Paths().batches) / f"{number:016x}" for number in range(count)]
    for age, folder in enumerate(folders):
        folder.mkdir(parents=True)
        for name in ("lock", "001.intent.json", "001.out", "finished"):
            (folder / name).touch()
        os.utime(folder / "finished", (10**9 - age, 10**9 - age))
    return folders


def test_the_newest_finished_batches_are_kept_and_all_that_are_still_needed(scene: Scene) -> None:
    folders = finished_before(KEPT + 4)
    newest, (gone, lives, runs, unfinished) = folders[:KEPT], folders[KEPT:]
    (unfinished / "finished").unlink()
    with subprocess.Popen(["sleep", "60"]) as job, (runs / "lock").open("r+") as lock:
        identity = {"pid": job.pid, "start": proc.start_of(job.pid), "boot_id": proc.boot_id()}
        (lives / "001.intent.json").write_text(json.dumps({"tree": "t1", "attempt": 1, **identity}))
        fcntl.flock(lock, fcntl.LOCK_EX)
        scene.write(scene.shell("a", "true"))
        first = Path(Paths().batches) / scene.json()["batch"]
        assert set(Path(Paths().batches).iterdir()) == {*newest, lives, runs, unfinished, first}
        assert not gone.exists()
        job.kill()
    scene.write(scene.shell("b", "true"))
    second = Path(Paths().batches) / scene.json()["batch"]
    assert set(Path(Paths().batches).iterdir()) == {*newest[:-1], unfinished, first, second}


def test_only_what_cannot_be_resumed_counts_as_finished(scene: Scene) -> None:
    mark = Path(Paths().batches)
    scene.write(scene.gated("a"))
    process = scene.start()
    scene.started.line()
    assert not (mark / only_batch() / "finished").exists()
    process.send_signal(signal.SIGINT)
    assert finish(process).returncode == 130
    assert not (mark / only_batch() / "finished").exists()
    scene.go.release()
    scene.json("--resume")
    scene.started.line()
    assert (mark / only_batch() / "finished").exists()
    again = scene.start("--max-parallel", "1")
    scene.started.line()
    assert not (mark / only_batch() / "finished").exists()
    scene.go.release()
    assert finish(again).returncode == 0


def test_a_batch_from_standard_input_can_never_be_resumed(scene: Scene) -> None:
    scene.write(scene.gated("a"))
    process = scene.start(file="-")
    assert process.stdin is not None
    process.stdin.write(scene.file.read_text())
    process.stdin.close()
    process.stdin = None  # communicate would flush it
    pid = int(scene.started.line().split()[1])
    process.kill()
    process.communicate()
    assert (Path(Paths().batches) / only_batch() / "finished").exists()
    scene.go.release()
    assert wait_gone(pid, proc.start_of(pid) or 0, TIMEOUT)


def test_a_folder_that_is_removed_while_it_is_opened_is_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the pruning of another command, between our opening of the lock and taking it."""
    folder = Path(Paths().batches) / "b"
    folder.mkdir(parents=True)
    really = fcntl.flock
    taken: list[int] = []

    def flock(fd: int, how: int) -> None:
        if not taken:
            folder.rename(folder.with_name("away"))
        taken.append(fd)
        really(fd, how)

    monkeypatch.setattr(fcntl, "flock", flock)
    store = BatchFolder.open(Paths(), "b")
    store.close()
    assert (len(taken), sorted(os.listdir(folder))) == (2, ["lock"])


def test_another_content_is_another_batch(scene: Scene) -> None:
    scene.write(scene.shell("a", "true"))
    first = scene.json()["batch"]
    scene.write(scene.shell("a", "true"), scene.shell("b", "true"))
    assert scene.json("--resume")["batch"] != first
    assert sorted(scene.ran()) == ["a", "a", "b"]


def test_the_same_batch_twice_at_once(scene: Scene) -> None:
    scene.write(scene.gated("a"))
    process = scene.start("--json")
    scene.started.line()
    second = scene.run("--resume")
    assert second.returncode == 2
    assert second.stderr.startswith(f"oomless: error: this batch is already running as pid {process.pid}")
    scene.go.release()
    answer(finish(process))


def test_sigkill_of_the_daemon_in_mid_batch(scene: Scene) -> None:
    """One job runs and another waits at the daemon when it is killed."""
    scene.write(*(scene.gated(name) for name in "abcd"))
    process = scene.start("--json", "--max-parallel", "1")
    scene.started.line()
    tree = await_identity(0)["tree"]
    assert wait_for(lambda: tree_pid(tree), TIMEOUT)  # else the next daemon waits 10 s for the shim to start
    first = spawn.running(Paths())
    assert first is not None
    assert proc.kill(first.pid, first.start) == proc.SENT
    assert wait_gone(first.pid, first.start, TIMEOUT)
    scene.go.release(4)
    found = answer(finish(process))
    assert [(job["status"], job["attempts"]) for job in found["jobs"]] == [("done", 1)] * 4
    assert sorted(scene.ran()) == ["a", "b", "c", "d"]
    view = Client(Paths(), start=True).daemon()
    assert view.pid != first.pid
    assert wait_for(lambda: Client(Paths(), start=True).daemon().open_trees == 0, TIMEOUT)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_ends_its_jobs_and_leaves_the_rest_to_resume(scene: Scene, number: signal.Signals) -> None:
    stubborn = "trap '' TERM INT; (trap '' TERM; sleep 1000) & echo b $! > started; while :; do sleep 0.05; done"
    scene.write(scene.shell("a", "true"), scene.shell("b", f"test -e ok || {{ {stubborn}; }}"), scene.gated("c"))
    process = scene.start("--json", "--max-parallel", "1")
    child = int(scene.started.line().split()[1])
    start = proc.start_of(child) or 0
    process.send_signal(number)
    process.send_signal(number)
    found = answer(finish(process), code=130)
    assert not alive(child, start)
    assert {name: job["status"] for name, job in by_name(found).items()} == {"a": "done", "b": "killed"}
    assert by_name(found)["b"]["reason"] == "interrupted"
    assert found["unfinished"] == ["c"]
    (scene.folder / "ok").touch()
    scene.go.release()
    assert [job["status"] for job in scene.json("--resume")["jobs"]] == ["done"] * 3
    assert sorted(scene.ran()) == ["a", "b", "b", "c"]


def test_a_job_that_ends_with_0_when_interrupted_runs_again(scene: Scene) -> None:
    scene.write(scene.shell("a", "test -e ok && exit 0; trap 'exit 0' TERM; echo a > started; read x < go"))
    process = scene.start("--json")
    scene.started.line()
    process.send_signal(signal.SIGINT)
    (job,) = answer(finish(process), code=130)["jobs"]
    assert job["status"] == "killed"
    (scene.folder / "ok").touch()
    (job,) = scene.json("--resume")["jobs"]
    assert job["status"] == "done"
    assert scene.ran() == ["a", "a"]
