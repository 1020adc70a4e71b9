"""The daemon's birth and end: exactly one, from anywhere, with nothing inherited and nothing left behind."""

from __future__ import annotations

import json
import os
import signal
import socket
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from helpers import alive, is_error_report, run_oomless, wait_for, wait_gone
from oomless import __version__
from oomless.daemon import logs
from oomless.errors import DaemonError, OomlessError, StateUnwritable, UsageError
from oomless.paths import Paths
from oomless.platform import cgroup, proc
from oomless.protocol import client as client_module
from oomless.protocol import log_file, spawn
from oomless.protocol.client import Client
from oomless.protocol.spawn import DaemonFile

assert sys.platform == "linux"

IDLE_PRIVATE_DIRTY = 18_000_000


@pytest.fixture
def paths(house: Path) -> Paths:
    return Paths()


def born(paths: Paths) -> DaemonFile:
    spawn.ensure(paths)
    found = spawn.running(paths)
    assert found is not None
    return found


def settings(paths: Paths, text: str) -> None:
    os.makedirs(paths.config, exist_ok=True)
    Path(paths.config_file).write_text(text)


def in_child(work: Callable[[], object]) -> Callable[[], str]:
    """Forks, does ``work`` and returns what fetches its result as text (or the error's line)."""
    out, into = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            text = str(work())
        except OomlessError as error:
            text = error.line()
        except BaseException as error:  # noqa: BLE001  a child must not go on as a second pytest
            text = repr(error)
        os.write(into, text.encode())
        os._exit(0)
    os.close(into)

    def result() -> str:
        with open(out, "rb") as file:
            text = file.read().decode()
        os.waitpid(pid, 0)
        return text

    return result


# Birth


def test_ten_at_once_start_exactly_one(paths: Paths) -> None:
    def start() -> str:
        path = spawn.ensure(Paths())
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(path)
            peer = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        return f"{path} {int.from_bytes(peer[:4], 'little')}"

    answers = {result() for result in [in_child(start) for _ in range(10)]}
    found = spawn.running(paths)
    assert found is not None
    assert answers == {f"{found.socket} {found.pid}"}
    ready = [line.fields["pid"] for line in log_file.lines(paths.log, 100) if line.text == "ready"]
    assert ready == [found.pid]


def test_ten_daemons_at_once_agree_on_one(paths: Paths) -> None:
    """Without the start lock, as several service managers might: the daemon's own lock decides."""
    paths.make()
    answers = {result() for result in [in_child(lambda: spawn._start(Paths())) for _ in range(10)]}
    found = spawn.running(paths)
    assert found is not None
    assert answers == {found.socket}
    assert [line.text for line in log_file.lines(paths.log, 100)] == ["ready"]


def test_it_says_who_it_is(paths: Paths) -> None:
    found = born(paths)
    assert found.version == __version__
    assert found.start == proc.start_of(found.pid)
    assert found.boot_id == proc.boot_id()
    assert stat.S_IMODE(os.stat(paths.daemon_file).st_mode) == 0o600
    assert spawn.ensure(paths) == found.socket
    view = Client(paths, start=False).daemon()
    assert (view.pid, view.socket, view.url, view.open_trees) == (found.pid, found.socket, found.url, 0)
    assert view.token_files is not None
    assert view.token_files.hooks == paths.token("hooks")


def test_nothing_is_inherited(paths: Paths, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "secret")
    monkeypatch.setenv("OOMLESS_TREE", "x:y")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("LANG", "C.UTF-8")
    monkeypatch.chdir(tmp_path)
    out, into = os.pipe()
    os.set_inheritable(into, True)
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    try:
        found = born(paths)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        os.close(into)
    with open(out, "rb") as file:
        assert file.read() == b""  # End of file: nobody holds the other end.
    environ = dict(entry.split(b"=", 1) for entry in proc.environ(found.pid).split(b"\0") if entry)
    assert {b"HOME", b"PATH", b"LANG", b"XDG_STATE_HOME"} <= environ.keys()
    assert {name for name in environ if not name.startswith(b"XDG_")} <= {n.encode() for n in spawn._KEPT}
    me = proc.read_stat(found.pid)
    assert me is not None
    assert me.sid not in (found.pid, os.getsid(0))
    assert os.readlink(f"/proc/{found.pid}/cwd") == "/"
    status = Path(f"/proc/{found.pid}/status").read_text()
    assert "SigBlk:\t0000000000000000" in status
    assert "Umask:\t0077" in status
    names = [os.readlink(f"/proc/{found.pid}/fd/{fd}") for fd in range(3)]
    assert names == ["/dev/null", paths.log, paths.log]


def test_it_works_from_where_standard_descriptors_are_closed(paths: Paths) -> None:
    def start() -> str:
        os.closerange(0, 3)
        return spawn.ensure(Paths())

    # The child's result pipe is above 2: those are pytest's.
    assert in_child(start)() == born(paths).socket


def test_relative_folders_mean_those_of_the_caller(
    house: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(house)
    monkeypatch.setenv("XDG_STATE_HOME", "state")
    path = spawn.ensure(Paths())
    assert os.path.isabs(path)
    assert os.path.exists(house / "state" / "oomless" / "daemon.json")


@contextmanager
def group(name: str) -> Iterator[Path]:
    """A cgroup below our own, in a hierarchy that we may write, or the test is skipped."""
    for controller, path in proc.cgroups("self").items():
        mount = cgroup.mount_points().get(controller)
        folder = Path(f"{mount}{path.rstrip('/')}/{name}") if mount else None
        if folder and controller not in ("memory", "cpuset") and os.access(folder.parent, os.W_OK):
            folder.mkdir()
            try:
                yield folder
            finally:
                folder.rmdir()
            return
    pytest.skip("no cgroup hierarchy here is ours to write")


@pytest.mark.as_user
def test_born_in_a_governed_tree_it_leaves_the_cgroup(paths: Paths) -> None:
    with group(f"oomless-test-{os.getpid()}") as folder:

        def start() -> str:
            (folder / "cgroup.procs").write_text(str(os.getpid()))
            return spawn.ensure(Paths())

        in_child(start)()
        found = spawn.running(paths)
        assert found is not None
        assert folder.name not in Path(f"/proc/{found.pid}/cgroup").read_text()
        assert (folder / "cgroup.procs").read_text() == ""


def test_where_a_governed_tree_begins() -> None:
    assert cgroup.outermost_parent("/a/oomless-1/x/oomless-2") == "/a"
    assert cgroup.outermost_parent("/oomless-1") == ""
    assert cgroup.outermost_parent("/a/oomless-1.scope/oomless-1-x/oomless-1-y") == "/a/oomless-1.scope"
    assert cgroup.outermost_parent("/a/oomless-1.scope") is None
    assert cgroup.outermost_parent("/user.slice/oomless.slice") is None


# What is stale is no obstacle


def test_remains_of_a_killed_daemon_are_no_obstacle(paths: Paths) -> None:
    first = born(paths)
    assert proc.kill(first.pid, first.start) == proc.SENT
    assert wait_gone(first.pid, first.start, 10)
    assert os.path.exists(paths.daemon_file)
    assert os.path.exists(first.socket)
    assert spawn.running(paths) is None
    second = born(paths)
    assert second.pid != first.pid
    assert Client(paths, start=False).daemon().pid == second.pid


@pytest.mark.parametrize(
    "text", [b"", b"{", b"[]", b"null", b'{"pid": 1}', b"\xff\xfe", b'{"pid":"x","start":0,"boot_id":1,"socket":2}']
)
def test_a_daemon_file_that_says_nothing_is_no_obstacle(paths: Paths, text: bytes) -> None:
    paths.make()
    Path(paths.daemon_file).write_bytes(text)
    assert spawn.running(paths) is None
    assert born(paths).pid


@pytest.mark.parametrize("wrong", ["start", "boot_id"])
def test_a_recycled_pid_is_not_the_daemon(paths: Paths, wrong: str) -> None:
    paths.make()
    start = proc.start_of(os.getpid())
    assert start is not None
    with socket.socket(socket.AF_UNIX) as impostor:
        impostor.bind(os.path.join(paths.state, "x"))
        impostor.listen()
        fields = {"pid": os.getpid(), "start": start, "boot_id": proc.boot_id()}
        fields |= {"socket": os.path.join(paths.state, "x"), "url": "", "version": ""}
        try:
            Path(paths.daemon_file).write_text(json.dumps(fields))
            assert spawn.running(paths) is not None
            Path(paths.daemon_file).write_text(json.dumps(fields | {wrong: 1}))
            assert spawn.running(paths) is None
            assert Client(paths, start=False).stop() is None
        finally:
            os.unlink(paths.daemon_file)  # It names us: nobody shall believe it after this test.


def test_a_deleted_socket_is_made_anew_by_the_same_daemon(paths: Paths) -> None:
    first = born(paths)
    os.unlink(first.socket)
    assert spawn.running(paths) is None
    assert born(paths).pid == first.pid


def test_a_start_while_the_old_one_is_stopping_gets_the_new_one(paths: Paths) -> None:
    """The lock is held to the very end: whoever comes meanwhile waits for it."""
    paths.make()
    lock = os.open(paths.daemon_lock, os.O_RDWR | os.O_CREAT, 0o600)
    assert spawn.take_lock(lock, 0)

    def start() -> str:
        os.close(lock)  # A copy of ours, which would hold it as well.
        return spawn.ensure(Paths())

    result = in_child(start)
    os.close(lock)
    assert result() == born(paths).socket


def test_a_lock_whose_holder_is_silent_is_one_line(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spawn, "command", lambda fd: starved(fd, "main.WINNER_SECONDS = 0.1"))
    paths.make()
    lock = os.open(paths.daemon_lock, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        assert spawn.take_lock(lock, 0)
        with pytest.raises(DaemonError, match="a daemon runs and does not answer"):
            spawn.ensure(paths)
    finally:
        os.close(lock)


def starved(fd: int, change: str) -> list[str]:
    """The daemon's command with one thing changed in it."""
    code = f"import os, sys\nfrom oomless.daemon import main\n{change}\nsys.exit(main.main(sys.argv[1:]))"
    return [sys.executable, "-I", "-c", code, "--ready-fd", str(fd)]


# What cannot be


def one_line(error: OomlessError) -> None:
    assert error.line()
    assert "\n" not in error.line()
    assert "Traceback" not in error.line()


def test_a_broken_config_is_named_by_file_and_line(paths: Paths) -> None:
    settings(paths, "\nbudget = 'lots'\n")
    with pytest.raises(UsageError) as caught:
        spawn.ensure(paths)
    one_line(caught.value)
    assert f"{paths.config_file}:2" in caught.value.line()
    assert spawn.running(paths) is None


def test_a_port_in_use_is_one_line(paths: Paths) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        settings(paths, f"[daemon]\nport = {port}\n")
        with pytest.raises(DaemonError, match="Address already in use") as caught:
            spawn.ensure(paths)
    one_line(caught.value)
    assert str(port) in caught.value.line()
    assert not os.path.exists(paths.daemon_file)
    assert born(paths).url == f"http://127.0.0.1:{port}"


@pytest.mark.as_user
@pytest.mark.parametrize("part", ["", "tokens", "daemon.lock", "daemon.log", "journal.db", "start.lock"])
def test_what_cannot_be_written_is_one_line(paths: Paths, part: str) -> None:
    """A file where a folder must be, or a folder where a file must be: that stops root as well."""
    place = Path(paths.state) / part
    place.parent.mkdir(parents=True, exist_ok=True)
    if part in ("", "tokens"):
        place.write_text("in the way")
    else:
        place.mkdir()
    with pytest.raises((StateUnwritable, DaemonError)) as caught:
        spawn.ensure(paths)
    one_line(caught.value)
    assert str(place) in caught.value.line()
    assert caught.value.exit_code == 125


def fill(path: str) -> None:
    with open(path, "wb", buffering=0) as file:
        while True:
            file.write(b"x" * 4096)


@pytest.mark.root
def test_a_full_disk_is_one_line_and_nothing_is_left(paths: Paths) -> None:
    os.makedirs(paths.state)
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k,mode=700", "none", paths.state]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("cannot mount here")
    try:
        paths.make()
        with pytest.raises(OSError, match="No space left on device"):
            fill(os.path.join(paths.state, "filler"))
        with pytest.raises((StateUnwritable, DaemonError)) as caught:
            spawn.ensure(paths)
        one_line(caught.value)
        assert "No space left on device" in caught.value.line() or "full" in caught.value.line()
        assert not os.path.exists(paths.daemon_file)
        os.unlink(os.path.join(paths.state, "filler"))
        assert born(paths).pid == Client(paths, start=False).stop()
    finally:
        subprocess.run(["umount", paths.state], check=True)


def test_a_newer_journal_is_one_line(paths: Paths) -> None:
    first = born(paths)
    assert Client(paths, start=False).stop() == first.pid
    with sqlite3.connect(paths.journal) as journal:
        journal.execute("PRAGMA user_version = 9999")
    journal.close()
    with pytest.raises(DaemonError) as caught:
        spawn.ensure(paths)
    one_line(caught.value)
    assert paths.journal in caught.value.line()


def test_a_daemon_that_dies_without_a_word_names_its_log(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spawn, "command", lambda fd: starved(fd, "raise RuntimeError('on purpose')"))
    with pytest.raises(DaemonError, match=f"the daemon died while it started; see {paths.log}"):
        spawn.ensure(paths)
    assert log_file.lines(paths.log, 1).__next__().text == "RuntimeError: on purpose"


def test_a_daemon_that_says_nothing_is_given_up(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spawn, "START_SECONDS", 0.2)
    monkeypatch.setattr(spawn, "command", lambda fd: starved(fd, "import signal; signal.pause()"))
    with pytest.raises(DaemonError, match="the daemon did not answer"):
        spawn.ensure(paths)


def test_an_interpreter_that_is_not_there_is_one_line(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    for executable in ("/nowhere/python", ""):
        monkeypatch.setattr(sys, "executable", executable)
        with pytest.raises(DaemonError, match="cannot start the daemon"):
            spawn.ensure(paths)


def test_a_log_that_is_too_large_is_set_aside(paths: Paths) -> None:
    paths.make()
    Path(paths.log).write_bytes(b"x" * (logs.ROTATE_BYTES + 1))
    born(paths)
    assert os.stat(paths.log + ".1").st_size == logs.ROTATE_BYTES + 1
    assert [line.text for line in log_file.lines(paths.log, 9)] == ["ready"]


# Life and end


@pytest.mark.as_user
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_and_nothing_is_left(paths: Paths, number: signal.Signals) -> None:
    found = born(paths)
    proc.send(found.pid, found.start, number)
    assert wait_gone(found.pid, found.start, 10)
    assert not os.path.exists(found.socket)
    assert not os.path.exists(paths.daemon_file)
    assert [line.text for line in log_file.lines(paths.log, 1)] == ["stopped"]


def test_hangup_reads_the_settings_and_names_what_is_wrong(paths: Paths) -> None:
    found = born(paths)
    settings(paths, "nonsense = 1\n")
    proc.send(found.pid, found.start, signal.SIGHUP)
    assert wait_for(lambda: any("nonsense" in line.text for line in log_file.lines(paths.log, 9)), 10)
    assert alive(found.pid, found.start)
    assert "nonsense" in (Client(paths, start=False).status().problem or "")


def links(pid: int) -> Iterator[str]:
    """What its descriptors are, but for those that it closes meanwhile."""
    for fd in os.listdir(f"/proc/{pid}/fd"):
        with suppress(FileNotFoundError):
            yield os.readlink(f"/proc/{pid}/fd/{fd}")


def test_idle_it_sleeps_and_is_small(paths: Paths) -> None:
    found = born(paths)
    view = Client(paths, start=False).daemon()
    assert view.private_dirty_bytes is not None
    assert view.private_dirty_bytes <= IDLE_PRIVATE_DIRTY

    def switches() -> int:
        lines = Path(f"/proc/{found.pid}/status").read_text().splitlines()
        return sum(int(line.split()[1]) for line in lines if line.startswith("voluntary_ctxt_switches"))

    def sockets() -> int:
        return sum(name.startswith("socket:") for name in links(found.pid))

    # Two listeners and asyncio's own pair: our connections are gone. From here on only its looks
    # at the process table wake it: once in five seconds, or each second if the machine has a host.
    assert wait_for(lambda: sockets() == 4, 10)
    before = switches()
    assert not wait_gone(found.pid, found.start, 1.5)
    assert switches() - before <= 3


def test_stop_waits_until_it_is_gone(paths: Paths) -> None:
    assert Client(paths, start=False).stop() is None
    found = born(paths)
    assert Client(paths, start=False).stop() == found.pid
    assert not alive(found.pid, found.start)
    assert spawn.running(paths) is None


# The client


def test_none_running_is_an_answer(paths: Paths) -> None:
    client = Client(paths, start=False)
    assert client.status().pid is None
    assert client.status().memory.total_bytes > 0
    assert client.daemon().pid is None
    assert client.tree("x") is None
    assert client.end("x", "y") is False
    assert not os.path.exists(paths.state)


def test_the_client_starts_one_if_wanted(paths: Paths) -> None:
    client = Client(paths, start=True)
    found = client.status()
    assert found.pid == client.daemon().pid is not None
    assert client.tree("nobody") is None
    assert client.end("nobody", "x") is False


@contextmanager
def pretender(paths: Paths, answer: bytes | None) -> Iterator[None]:
    """We pose as the daemon and say ``answer`` to everything; None: nothing at all."""
    paths.make()
    path = os.path.join(paths.state, "x")
    start = proc.start_of(os.getpid())
    assert start is not None
    me = DaemonFile(os.getpid(), start, proc.boot_id(), path, "", "")
    Path(paths.daemon_file).write_bytes(me.encode())
    done = threading.Event()

    def serve() -> None:
        while not done.is_set():
            connection, _ = listener.accept()
            with connection:
                connection.settimeout(10)
                asked = connection.recv(65536)
                if asked and answer is None:
                    done.wait(10)
                elif asked and answer:
                    connection.sendall(answer)

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield
        finally:
            done.set()
            with socket.socket(socket.AF_UNIX) as last:
                last.connect(path)
            thread.join()
            os.unlink(paths.daemon_file)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"\x00rubbish",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n{",
        b"HTTP/1.1 500 X\r\nContent-Length: 2\r\n\r\n{}",
        b'HTTP/1.1 403 X\r\nContent-Length: 14\r\n\r\n{"error":"no"}',
        None,
    ],
)
def test_an_answer_that_is_none_is_one_line(
    paths: Paths, answer: bytes | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "ANSWER_SECONDS", 0.3)
    with pretender(paths, answer), pytest.raises(DaemonError) as caught:
        Client(paths, start=False).status()
    one_line(caught.value)


# The commands


@pytest.mark.as_user
def test_start_status_stop(paths: Paths) -> None:
    none = run_oomless("daemon", "status", "--json")
    assert (none.returncode, json.loads(none.stdout)["pid"], none.stderr) == (0, None, "")
    assert run_oomless("daemon", "stop").stdout == "The daemon is not running.\n"
    assert json.loads(run_oomless("status", "--json").stdout)["pid"] is None
    assert "no daemon runs" in run_oomless("status").stdout
    started = json.loads(run_oomless("daemon", "start", "--json").stdout)
    again = json.loads(run_oomless("daemon", "start", "--json").stdout)
    shown = json.loads(run_oomless("daemon", "status", "--json").stdout)
    assert started["pid"] == again["pid"] == shown["pid"] is not None
    assert set(shown) == {
        *("schema", "pid", "socket", "url", "token_files", "open_trees"),
        *("private_dirty_bytes", "uss_bytes", "pss_bytes", "version"),
    }
    assert (shown["schema"], set(shown["token_files"])) == ("oomless.daemon/1", {"hooks", "mcp", "read"})
    assert f"pid {shown['pid']}" in run_oomless("daemon", "status").stdout
    view = json.loads(run_oomless("status", "--json").stdout)
    assert (view["schema"], view["pid"], view["trees"]) == ("oomless.status/1", shown["pid"], [])
    stopped = json.loads(run_oomless("daemon", "stop", "--json").stdout)
    assert stopped == {"schema": "oomless.daemon/1", "pid": shown["pid"]}
    assert spawn.running(paths) is None


def test_a_tree_that_is_not_there_is_exit_2(paths: Paths) -> None:
    for _ in range(2):
        done = run_oomless("status", "nobody")
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith("oomless: error: there is no tree 'nobody'")
        assert is_error_report(done.stderr)
        born(paths)


def test_logs(paths: Paths) -> None:
    assert run_oomless("daemon", "logs").stdout == ""
    paths.make()
    Path(paths.log).write_bytes(b'{"at":1.5,"level":"info","text":"one","pid":7}\nplain \x1b[31m text\n')
    lines = [json.loads(line) for line in run_oomless("daemon", "logs", "--json").stdout.splitlines()]
    assert lines == [
        {"at": 1.5, "level": "info", "text": "one", "pid": 7},
        {"at": None, "level": "error", "text": "plain \x1b[31m text"},
    ]
    shown = run_oomless("daemon", "logs").stdout
    assert "info    one  pid=7\n" in shown
    assert "\x1b" not in shown
    assert run_oomless("daemon", "logs", "-n", "1").stdout.count("\n") == 1


def test_following_a_log_goes_on_after_a_rotation(tmp_path: Path) -> None:
    path = tmp_path / "log"
    stream = log_file._follow(str(path), None, interval=0.001)
    path.write_bytes(b"one\ntw")
    assert next(stream).text == "one"
    with path.open("ab") as file:
        file.write(b"o\n")
    assert next(stream).text == "two"
    path.rename(tmp_path / "log.1")
    path.write_bytes(b"three\n")
    assert next(stream).text == "three"
    stream.close()  # type: ignore[attr-defined]


def test_only_the_tail_of_a_long_log_is_read(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"".join(b'{"at":1,"level":"info","text":"%d"}\n' % number for number in range(20_000)))
    assert [line.text for line in log_file.lines(str(path), 2)] == ["19998", "19999"]
    assert list(log_file.lines(str(path), 0)) == []
    assert all(line.at == 1 for line in log_file.lines(str(path), 100_000))
