"""Finding the daemon, and starting exactly one if none runs.

``daemon.json`` names the running daemon, verified by its identity. A client starts one under the start lock, with a
clean environment, and reads one line from a pipe: ``ok <socket>`` or ``error <exit code> <what>\\t<why>\\t<hint>``.
End of file without a line means that the daemon died; its log says why. Standard library only: ``run`` and the shell
prefix import this.
"""

from __future__ import annotations

import os
import sys
import time

from oomless.errors import DaemonError, OomlessError, StateUnwritable, UsageError
from oomless.lean import dumps, loads, socket
from oomless.platform import proc
from oomless.processes import ours

assert sys.platform == "linux"

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oomless.paths import Paths

#: Seconds until a start has failed; the daemon itself gives up earlier (``main.WINNER_SECONDS``).
START_SECONDS = 15.0
#: A daemon that hangs keeps a connect waiting once too many are queued before it.
CONNECT_SECONDS = 5.0
#: The least that an operation of the socket gets, when the time is almost up.
SHORTEST = 0.05
#: The last two say where hosts have their settings (``hosts/mcp_configs.py``).
_KEPT = frozenset(
    {"HOME", "PATH", "LANG", "LC_ALL", "TMPDIR", "USER", "LOGNAME", "TZ", "CLAUDE_CONFIG_DIR", "CODEX_HOME"}
)
_UNBLOCKABLE = (9, 19)
_TIMEOUT = "timeout"


class DaemonFile:
    """The running daemon as ``daemon.json`` names it; ``pid``, ``start`` and ``boot_id`` are its identity."""

    __slots__ = ("boot_id", "pid", "socket", "start", "url", "version")

    def __init__(self, pid: int, start: int, boot_id: str, socket: str, url: str, version: str) -> None:
        self.pid, self.start, self.boot_id = pid, start, boot_id
        self.socket, self.url, self.version = socket, url, version

    @classmethod
    def read(cls, path: str) -> DaemonFile | None:
        """None if there is no such file, or none that can be understood."""
        try:
            fields = loads(proc.read_file(path) or b"")
            texts = [str(fields[name]) for name in ("boot_id", "socket", "url", "version")]
            return cls(int(fields["pid"]), int(fields["start"]), *texts)
        except (ValueError, KeyError, TypeError):
            return None

    def encode(self) -> bytes:
        return dumps({name: getattr(self, name) for name in self.__slots__}).encode() + b"\n"

    def alive(self) -> bool:
        stat = proc.read_stat(self.pid)
        return stat is not None and stat.start == self.start and stat.alive and proc.boot_id() == self.boot_id

    def accepts(self, seconds: float = CONNECT_SECONDS) -> bool:
        try:
            connect_to(self.socket, min(CONNECT_SECONDS, seconds)).close()
            return True
        except DaemonError:
            return False


def connect(paths: Paths, seconds: float = START_SECONDS) -> socket.socket:
    """A connection to the running daemon, which is started if there is none, within ``seconds``. Raises what
    ``ensure`` raises. To ask first whether a daemon answers would take as long again."""
    deadline = time.monotonic() + seconds
    known = DaemonFile.read(paths.daemon_file)
    if known is not None and known.alive():
        try:
            return connect_to(known.socket, min(CONNECT_SECONDS, seconds))
        except DaemonError:
            pass  # it is ending, or has no place for one more
    path = ensure(paths, max(0.0, deadline - time.monotonic()))
    return connect_to(path, max(SHORTEST, deadline - time.monotonic()))


def connect_to(path: str, seconds: float) -> socket.socket:
    """Raises DaemonError."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.settimeout(seconds)
        connection.connect(path)
    except OSError as error:
        connection.close()
        why = f"{path}: {error.strerror or error}"
        raise DaemonError("cannot reach the daemon", why, "try: oomless daemon start") from None
    return connection


def running(paths: Paths, seconds: float = 5.0) -> DaemonFile | None:
    """The daemon that runs and accepts connections, or None; never starts one."""
    known = DaemonFile.read(paths.daemon_file)
    return known if known and known.alive() and known.accepts(seconds) else None


def ensure(paths: Paths, seconds: float = START_SECONDS) -> str:
    """The socket of the running daemon, started if none answers; within ``seconds``. Raises StateUnwritable,
    DaemonError, or UsageError for settings that the daemon cannot use."""
    deadline = time.monotonic() + seconds
    daemon = running(paths, seconds)
    if daemon:
        return daemon.socket
    if isolated():
        why, hint = "it is not seen from inside a PID namespace", 'run it outside, or with rung = "auto"'
        raise DaemonError("the daemon cannot be asked from this tree", why, hint)
    paths.make()
    lock = _open(paths.start_lock, os.O_RDWR)
    try:
        if not take_lock(lock, deadline - time.monotonic()):
            raise DaemonError("another command has been starting the daemon too long", paths.start_lock, "try again")
        # The process that held the lock before may have started one.
        rest = max(0.0, deadline - time.monotonic())
        daemon = running(paths, rest)
        return daemon.socket if daemon else _start(paths, rest)
    finally:
        os.close(lock)


def isolated() -> bool:
    """Whether this process is in a tree's own PID namespace, whose first process a shim has forked. A daemon born
    there would end with the tree, and pids from inside mean nothing to the daemon outside."""
    return ours.keeps_tree(proc.cmdline(1))


def take_lock(fd: int, seconds: float) -> bool:
    """Whether flock(2) succeeded within ``seconds``. Its own wait could only be ended by a signal, which a library
    must not use."""
    import fcntl  # here and below: to load it takes 0.15 ms, for the rare start alone

    deadline = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.01)


def _open(path: str, flags: int) -> int:
    try:
        return os.open(path, flags | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        why, hint = error.strerror or str(error), "make the state folder writable, or free disk space"
        raise StateUnwritable(f"cannot write {path}", why, hint) from None


def command(ready_fd: int) -> list[str]:
    return [sys.executable, "-I", "-m", "oomless.daemon", "--ready-fd", str(ready_fd)]


def environment(paths: Paths, environ: dict[str, str]) -> dict[str, str]:
    """What the daemon inherits: no secrets, no session's marks. Folders are made absolute, for it leaves
    the working directory."""
    kept = {name: value for name, value in environ.items() if name in _KEPT or name.startswith("XDG_")}
    kept["XDG_CONFIG_HOME"] = os.path.dirname(os.path.abspath(paths.config))
    kept["XDG_STATE_HOME"] = os.path.dirname(os.path.abspath(paths.state))
    if paths.runtime:
        kept["XDG_RUNTIME_DIR"] = os.path.abspath(paths.runtime)
    return kept


def _start(paths: Paths, seconds: float = START_SECONDS) -> str:
    answer, ready = os.pipe()
    try:
        try:
            child = _spawn(paths, ready)
        finally:
            os.close(ready)
        text = _read_answer(answer, seconds)
    finally:
        os.close(answer)
    _reap(child, text == _TIMEOUT)
    return parse_answer(text, paths.log)


def _reap(child: int, hangs: bool) -> None:
    """Waits for the child, which has forked the daemon and exits, or kills one that hangs."""
    try:
        if hangs:
            os.kill(child, 9)  # Not waited for yet, so the number can only be our child's.
        os.waitpid(child, 0)
    except (ChildProcessError, ProcessLookupError):
        pass  # The caller ignores SIGCHLD, or something else in its process waits for all children.


def _spawn(paths: Paths, ready: int) -> int:
    """posix_spawn and not fork: a ``Governor``'s process may have threads. A process group of its own keeps a
    Ctrl-C that is meant for the caller away from the half-born daemon."""
    import fcntl

    log = _open(paths.log, os.O_WRONLY | os.O_APPEND)
    # Above the numbers that the new process gets, so that no action overwrites the source of a later one.
    high = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 10) for fd in (ready, log)]
    argv = command(3)
    try:
        if not argv[0]:
            raise FileNotFoundError(0, "Python does not know its own interpreter")
        return os.posix_spawn(
            argv[0],
            argv,
            environment(paths, dict(os.environ)),
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_DUP2, high[1], 1),
                (os.POSIX_SPAWN_DUP2, high[1], 2),
                (os.POSIX_SPAWN_DUP2, high[0], 3),
            ],
            setpgroup=0,
            setsigmask=(),
            setsigdef=[number for number in range(1, 32) if number not in _UNBLOCKABLE],
        )
    except OSError as error:
        why = f"{argv[0]}: {error.strerror}".removeprefix(": ")
        missing = isinstance(error, (FileNotFoundError, PermissionError))
        raise DaemonError("cannot start the daemon", why, "reinstall oomless" if missing else "try again") from None
    finally:
        for fd in (log, *high):
            os.close(fd)


def _read_answer(fd: int, seconds: float) -> str:
    """One line; cut short or empty at the end of file."""
    import select

    deadline = time.monotonic() + seconds
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    answer = b""
    while not answer.endswith(b"\n"):
        if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
            return _TIMEOUT
        part = os.read(fd, 4096)
        if not part:
            break
        answer += part
    return answer.decode("utf-8", "replace").rstrip("\n")


def success_line(path: str) -> bytes:
    return b"ok " + os.fsencode(path) + b"\n"


def failure_line(error: OomlessError) -> bytes:
    parts = "\t".join(" ".join(part.split()) for part in (error.what, error.why, error.hint))
    return f"error {error.exit_code} {parts}\n".encode()


def parse_answer(answer: str, log: str) -> str:
    """The socket in the daemon's answer, or the error that it names."""
    kind, _, rest = answer.partition(" ")
    if kind == "ok" and rest:
        return rest
    if answer == _TIMEOUT:
        raise DaemonError("the daemon did not answer", "it took too long to start", f"see {log}")
    code, _, text = rest.partition(" ")
    if kind == "error" and code.isdigit():
        raise (UsageError if int(code) == UsageError.exit_code else DaemonError)(*text.split("\t")[:3])
    raise DaemonError("the daemon died while it started", answer[:200], f"see {log}")
