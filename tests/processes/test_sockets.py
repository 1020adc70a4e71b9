"""Who holds the other end of a process's standard input, and who listens: on real processes, and on messages of the
kernel made by hand.
"""

from __future__ import annotations

import os
import pty
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from helpers import wait_for
from oomless.platform import proc, sockets
from oomless.platform.linux import Linux

pytestmark = pytest.mark.as_user


@contextmanager
def waiting(stdin: int, code: str = "", keep: tuple[int, ...] = (), *, alone: bool = False) -> Iterator[int]:
    """The pid of a process with that standard input, which has got so far as to run; ends with the context. ``keep``:
    what it inherits. ``alone``: it waits for a signal and not at a pipe."""
    lifeline, held = os.pipe()
    ready, tell = os.pipe()
    wait = f"os.close({lifeline}); os.close({tell}); signal.pause()" if alone else f"os.read({lifeline}, 1)"
    script = f"import os, signal, socket\n{code}\nos.write({tell}, b'.')\n{wait}"
    command = [sys.executable, "-I", "-S", "-c", script]
    process = subprocess.Popen(command, stdin=stdin, stderr=subprocess.DEVNULL, pass_fds=(lifeline, tell, *keep))
    os.close(tell)
    try:
        assert os.read(ready, 1) == b"."
        assert not alone or os.read(ready, 1) == b""
        yield process.pid
    finally:
        os.close(held)
        if alone:
            process.kill()
        process.wait(20)
        os.close(lifeline)
        os.close(ready)


class TestOtherEnds:
    def test_a_pipe_is_held_until_its_last_writer_is_gone(self) -> None:
        end, writer = os.pipe()
        with waiting(end) as pid:
            os.close(end)
            second = os.dup(writer)
            os.close(writer)
            assert sockets.other_ends([pid]) == {pid: "held"}
            os.close(second)
            assert sockets.other_ends([pid]) == {pid: "gone"}

    def test_what_is_still_in_a_pipe_is_left_there(self) -> None:
        end, writer = os.pipe()
        os.write(writer, b"request")
        with waiting(end) as pid:
            os.close(writer)
            assert sockets.other_ends([pid]) == {pid: "gone"}
            assert os.read(end, 100) == b"request"
            os.close(end)

    def test_a_pair_of_sockets_is_held_until_the_other_is_closed(self) -> None:
        other, end = socket.socketpair()
        with waiting(end.fileno()) as pid:
            end.close()
            assert sockets.other_ends([pid]) == {pid: "held"}
            other.shutdown(socket.SHUT_RDWR)
            assert sockets.other_ends([pid]) == {pid: "held"}, "it has said goodbye and lives"
            other.close()
            assert sockets.other_ends([pid]) == {pid: "gone"}

    MOVED = "moved = os.dup(0); null = os.open('/dev/null', os.O_RDONLY); os.dup2(null, 0)"

    def test_a_pipe_that_was_moved_out_of_the_way(self) -> None:
        """As the Python SDK of MCP does; the process has a pipe of its own, and one that somebody else reads."""
        end, writer = os.pipe()
        log, written = os.pipe()
        own = f"{self.MOVED}; pair = os.pipe(); out = os.dup({written})"
        with waiting(end, own, keep=(written,), alone=True) as pid:
            os.close(end)
            assert sockets.other_ends([pid]) == {pid: "held"}
            os.close(writer)
            assert sockets.other_ends([pid]) == {pid: "gone"}
        os.close(log)
        os.close(written)

    BUSY = "import subprocess; child = subprocess.Popen(['cat'], stdin=subprocess.PIPE, stdout=subprocess.PIPE)"

    def test_what_a_child_writes_to_is_not_it(self) -> None:
        """A server that is busy with a command of its own reads a pipe from it; its stdout it has moved as well."""
        end, writer = os.pipe()
        answers, out = os.pipe()
        with waiting(end, f"{self.MOVED}\n{self.BUSY}", keep=(out,), alone=True) as pid:
            os.close(end)
            os.close(out)
            assert sockets.other_ends([pid]) == {pid: "held"}
            os.close(writer)
            assert sockets.other_ends([pid]) == {pid: "held"}, "somebody still reads its answers"
            os.close(answers)
            assert sockets.other_ends([pid]) == {pid: "gone"}

    def test_who_never_had_a_client_is_not_told_to_have_lost_it(self) -> None:
        """A daemon with one child that has ended, and another that works."""
        ended = "done = subprocess.Popen(['true'], stdout=subprocess.PIPE); done.wait()"
        with waiting(subprocess.DEVNULL, f"{self.BUSY}; {ended}", alone=True) as pid:
            assert sockets.other_ends([pid]) == {pid: "held"}

    @pytest.mark.parametrize("beside", ["loop = socket.socketpair()", BUSY])
    def test_a_socket_that_was_moved_out_of_the_way(self, beside: str) -> None:
        """An event loop has a pair of which it holds both ends, a busy server a pipe from its child."""
        other, end = socket.socketpair()
        with waiting(end.fileno(), f"{self.MOVED}\n{beside}", alone=True) as pid:
            end.close()
            assert sockets.other_ends([pid]) == {pid: "held"}
            other.close()
            assert sockets.other_ends([pid]) == {pid: "gone"}

    def test_of_two_that_may_be_it_one_is_held(self) -> None:
        end, writer = os.pipe()
        second, held = os.pipe()
        with waiting(end, self.MOVED, keep=(second,), alone=True) as pid:
            os.close(end)
            os.close(writer)
            assert sockets.other_ends([pid]) == {pid: "held"}
            os.close(held)
            assert sockets.other_ends([pid]) == {pid: "gone"}
        os.close(second)

    def test_one_pass_over_many(self) -> None:
        end, writer = os.pipe()
        other, pair = socket.socketpair()
        with waiting(end) as piped, waiting(pair.fileno()) as paired:
            os.close(end)
            pair.close()
            other.close()
            assert sockets.other_ends([piped, paired, 2**22 + 1]) == {
                piped: "held", paired: "gone", 2**22 + 1: "unknown",
            }  # fmt: skip
            os.close(writer)

    def test_null_terminals_files_and_datagrams_say_nothing(self) -> None:
        null = os.open(os.devnull, os.O_RDONLY)
        file = os.open(__file__, os.O_RDONLY)
        master, terminal = pty.openpty()
        other, datagrams = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        inputs = (null, file, terminal, datagrams.fileno())
        for fd in inputs:
            with waiting(fd, alone=True) as pid:
                if fd == datagrams.fileno():
                    datagrams.close()
                    other.close()
                assert sockets.other_ends([pid]) == {pid: "unknown"}
        for fd in (null, file, master, terminal):
            os.close(fd)

    def test_a_named_pipe_is_not_opened(self, tmp_path: os.PathLike[str]) -> None:
        path = os.path.join(tmp_path, "fifo")
        os.mkfifo(path)
        end = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        with waiting(end) as pid:
            os.close(end)
            assert sockets.other_ends([pid]) == {pid: "unknown"}

    def test_who_holds_both_ends_itself_is_not_let_go(self) -> None:
        end, writer = os.pipe()
        os.set_inheritable(writer, True)
        code = f"import os; os.write(1, b'.'); os.read(0, 1)  # {writer}"
        process = subprocess.Popen(
            [sys.executable, "-I", "-c", code], stdin=end, stdout=subprocess.PIPE, pass_fds=(writer,)
        )
        try:
            assert process.stdout is not None
            assert process.stdout.read(1) == b"."
            os.close(end)
            os.close(writer)
            assert sockets.other_ends([process.pid]) == {process.pid: "held"}
        finally:
            process.kill()
            process.wait(20)
            if process.stdout is not None:
                process.stdout.close()

    @pytest.mark.skipif(os.geteuid() != 0, reason="root alone can start another user's process")
    def test_what_is_not_ours_to_read_is_unknown(self) -> None:
        asks = (
            "import os, sys; from oomless.platform import sockets\n"
            "os.setuid(65534)\n"
            "print(sockets.other_ends([int(sys.argv[1])]), sorted(sockets.listeners([int(sys.argv[1])])))"
        )
        end, writer = os.pipe()
        with waiting(end) as pid:
            os.close(end)
            os.close(writer)
            answer = subprocess.run(
                [sys.executable, "-c", asks, str(pid)], capture_output=True, text=True, check=True
            ).stdout
            assert answer == f"{{{pid}: 'unknown'}} [{pid}]\n"

    def test_a_kernel_without_sock_diag_is_no_error(self, monkeypatch: pytest.MonkeyPatch) -> None:
        other, end = socket.socketpair()
        with waiting(end.fileno()) as pid:
            end.close()
            other.close()
            monkeypatch.setattr(sockets, "_SOCK_DIAG", 30)  # no such protocol
            assert sockets.other_ends([pid]) == {pid: "unknown"}


class TestListeners:
    def test_a_listening_socket_and_none(self) -> None:
        listen = "s = socket.socket(); s.bind(('127.0.0.1', 0)); s.listen()"
        with waiting(subprocess.DEVNULL, listen) as one, waiting(subprocess.DEVNULL, "s = socket.socket()") as other:
            assert sockets.listeners([one, other, 2**22 + 1]) == {one}


def test_the_platform_tells_all_three(tmp_path: os.PathLike[str]) -> None:
    end, writer = os.pipe()
    ignoring, plain = "signal.signal(signal.SIGHUP, signal.SIG_IGN)", "signal.signal(signal.SIGHUP, 0)"
    with waiting(end, ignoring) as one, waiting(subprocess.DEVNULL, plain, alone=True) as other:
        os.close(end)
        os.close(writer)
        found = Linux().standing([one, other])
        assert (found[one].stdin, found[one].ignores_hangup, found[one].listens) == ("gone", True, False)
        assert (found[other].stdin, found[other].ignores_hangup, found[other].listens) == ("unknown", False, False)
        assert proc.start_of(one) is not None


def test_who_listens_at_a_unix_socket(tmp_path: os.PathLike[str]) -> None:
    path = os.path.join(tmp_path, "socket")
    code = f"server = socket.socket(socket.AF_UNIX); server.bind({path!r}); server.listen()"
    with (
        waiting(subprocess.DEVNULL, code) as listens,
        waiting(subprocess.DEVNULL, "pair = socket.socketpair()") as no,
    ):
        assert sockets.servers([listens, no, 2**22 + 1]) == {listens}
        assert sockets.listeners([listens, no]) == frozenset()
        assert Linux().standing([listens])[listens].serves


#: Each leaves a process, whose number it prints, and ends.
BACKGROUND = {
    "job": (["sh", "-c", "sleep 60 & echo $!"], True),
    "child": (["sh", "-c", "exec sleep 60"], False),
    "daemon": ([sys.executable, "-I", "-S", "-c", """
import os, signal, time
signal.signal(signal.SIGINT, signal.SIG_IGN); signal.signal(signal.SIGQUIT, signal.SIG_IGN)
if os.fork(): os._exit(0)
os.setsid()
pid = os.fork()
if pid: print(pid, flush=True); os._exit(0)
time.sleep(60)
"""], False),
}  # fmt: skip


@pytest.mark.parametrize("how", BACKGROUND)
def test_what_a_shell_has_put_in_its_background(how: str) -> None:
    command, expected = BACKGROUND[how]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        pid = process.pid if how == "child" else int(process.stdout.readline())
        start = proc.start_of(pid)
        assert start is not None
        try:
            assert wait_for(lambda: Linux().standing([pid])[pid].backgrounded is expected, 10)
        finally:
            proc.kill(pid, start)
