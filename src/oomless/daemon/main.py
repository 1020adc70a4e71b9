"""oomlessd's process: it detaches, wins the lock or names the winner, serves until it is told to stop, cleans up.

An idle daemon sleeps in one epoll_wait, but for a sample of the process table every five seconds.

asyncio is imported late: before that, ``ssl`` is made unavailable, for OpenSSL would cost 2.7 MB and is never used.
"""

from __future__ import annotations

import sys

assert sys.platform == "linux"

import gc
import os
import resource
import signal
import time
from typing import TYPE_CHECKING, Any

from oomless import __version__, atomicfile, config
from oomless.daemon.logs import Log, rotate
from oomless.errors import DaemonError, OomlessError, StateUnwritable
from oomless.paths import Paths
from oomless.platform import current, system
from oomless.protocol import spawn

if TYPE_CHECKING:
    import asyncio

    from oomless.daemon.api import Backend
    from oomless.daemon.server import Server
    from oomless.protocol.views import DaemonView

#: Seconds that a loser waits until the winner answers, or until one that is stopping is gone.
WINNER_SECONDS = 10.0


class Ready:
    """The one answer to the process that started us, which may be gone by then."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def say(self, line: bytes) -> None:
        if self._fd < 0:
            return
        try:
            os.write(self._fd, line)
        except OSError:
            pass  # A closed pipe: the caller was interrupted. The daemon stays, the next one will find it.
        os.close(self._fd)
        self._fd = -1


def main(argv: list[str]) -> int:
    match argv:
        case []:
            ready_fd = os.dup(1)
        case ["--ready-fd", number] if number.isdecimal():
            ready_fd = int(number)
        case _:
            os.write(2, b"usage: python -I -m oomless.daemon [--ready-fd N]\n")
            return 2
    detach()
    return run_detached(Paths(), Log(), Ready(ready_fd), ready_fd)


def run_detached(paths: Paths, log: Log, ready: Ready, ready_fd: int) -> int:
    try:
        paths.make()
        redirect_output(paths.log, ready_fd)
        reset_limits(log)
        settings = config.load_settings(paths.config_file)
        winner = win_lock(paths)
        if winner:
            ready.say(spawn.success_line(winner.socket))
            return 0
        rotate(paths.log)  # Not earlier: a winner would go on writing to the file that a loser has renamed.
        open_log(paths.log)
        run_app(paths, log, ready, settings.daemon.port)
    except OomlessError as error:
        log.error(error.line(), exit_code=error.exit_code)
        ready.say(spawn.failure_line(error))
        return error.exit_code
    return 0


def detach() -> None:
    """No parent, no terminal, no working directory. The second fork gives up the leadership of the session, with
    which opening a terminal could make it ours again."""
    for step in (os.setsid, lambda: None):
        if os.fork():
            os._exit(0)
        step()
    os.chdir("/")
    os.umask(0o077)


def redirect_output(log: str, ready_fd: int) -> None:
    """No standard input, output to the log, and of the inherited descriptors only the one for the answer: an
    inherited pipe would keep its reader waiting as long as we live."""
    open_log(log)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    for fd in system.own_descriptors():
        if fd > 2 and fd != ready_fd:
            os.close(fd)
    os.set_inheritable(ready_fd, False)


def open_log(path: str) -> None:
    try:
        fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StateUnwritable(f"cannot write {path}", error.strerror or str(error), "make it writable") from None
    os.dup2(fd, 1)
    os.dup2(fd, 2)
    if fd > 2:
        os.close(fd)


def reset_limits(log: Log) -> None:
    """The daemon does not keep the limits, signals and cgroup of the process that started it."""
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    for line in system.leave_governed_trees():
        log.warning(line)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        system.set_oom_score_adj(-100)
    except OSError:
        pass  # Lowering it needs CAP_SYS_RESOURCE (proc(5)): an ordinary user's daemon stays as it is.


def win_lock(paths: Paths) -> spawn.DaemonFile | None:
    """None: the lock is ours until this process ends (the descriptor stays open). Otherwise the daemon that has it
    and answers."""
    try:
        lock = os.open(paths.daemon_lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        why = error.strerror or str(error)
        raise StateUnwritable(f"cannot write {paths.daemon_lock}", why, "make it writable") from None
    deadline, hung_up = time.monotonic() + WINNER_SECONDS, False
    while not spawn.take_lock(lock, 0):
        winner = spawn.DaemonFile.read(paths.daemon_file)
        if winner and winner.alive():
            if winner.accepts():
                os.close(lock)
                return winner
            if not hung_up:  # its socket was deleted: on SIGHUP it listens anew
                system.send(winner.pid, winner.start, signal.SIGHUP)
                hung_up = True
        if time.monotonic() > deadline:
            process = f"pid {winner.pid}" if winner and winner.alive() else "another process"
            why = f"{process} holds {paths.daemon_lock}"
            raise DaemonError("a daemon runs and does not answer", why, "kill it and try again")
        time.sleep(0.02)
    return None


def run_app(paths: Paths, log: Log, ready: Ready, port: int) -> None:
    sys.modules["ssl"] = None  # type: ignore[assignment]
    import asyncio

    from oomless.daemon.app import App

    asyncio.run(serve(paths, App(paths, log), log, ready, port))


async def serve(paths: Paths, backend: Backend, log: Log, ready: Ready, port: int) -> None:
    """From the journal's opening to the last line of the log."""
    import asyncio

    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    loop.set_exception_handler(lambda _, context: log_unhandled(log, context))
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    server = build_server(paths, backend, log, stop)
    try:
        await backend.start()
        await server.open(port)
        reload = Reload(paths, server, log)
        loop.add_signal_handler(signal.SIGHUP, reload)
        write_daemon_file(paths, server)
        log.info("ready", pid=os.getpid(), socket=server.path, url=server.url, version=__version__)
        ready.say(spawn.success_line(server.path))
        gc.collect()
        gc.freeze()  # What lives now lives for good: no collection has to touch (and copy) its pages again.
        await stop.wait()
        await reload.wait()
    finally:
        # In this order: a reader of the file that finds no socket would take us for one that needs a SIGHUP.
        atomicfile.remove(paths.daemon_file)
        server.close()
        await backend.stop()
    log.info("stopped", pid=os.getpid())


def build_server(paths: Paths, backend: Backend, log: Log, stop: asyncio.Event) -> Server:
    from oomless.daemon.api import Control, Loopback
    from oomless.daemon.server import Server
    from oomless.daemon.surfaces import load_tokens

    loopback = Loopback(backend, load_tokens(paths))
    control = Control(backend, lambda: describe_daemon(paths, backend, server), stop.set)
    server = Server(paths, backend, control, loopback, log)
    return server


def describe_daemon(paths: Paths, backend: Backend, server: Server) -> DaemonView:
    from oomless.protocol.views import DaemonView, TokenFiles

    memory = current().own_memory()
    return DaemonView(
        pid=os.getpid(),
        socket=server.path,
        url=server.url,
        token_files=TokenFiles(hooks=paths.token("hooks"), mcp=paths.token("mcp"), read=paths.token("read")),
        open_trees=backend.open_trees(),
        private_dirty_bytes=memory["private_dirty_bytes"],
        uss_bytes=memory["uss_bytes"],
        pss_bytes=memory["pss_bytes"],
        version=__version__,
    )


class Reload:
    """On SIGHUP: logs what is wrong with the settings (they are read again whenever they change anyway), and listens
    anew if the socket is gone."""

    def __init__(self, paths: Paths, server: Server, log: Log) -> None:
        self._paths, self._server, self._log = paths, server, log
        self._task: asyncio.Task[None] | None = None

    def __call__(self) -> None:
        import asyncio

        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._reload())

    async def _reload(self) -> None:
        try:
            if await self._server.reopen_if_lost():
                write_daemon_file(self._paths, self._server)
            config.load_settings(self._paths.config_file)
            self._log.info("settings read again")
        except OomlessError as error:
            self._log.error(error.line())

    async def wait(self) -> None:
        if self._task:
            await self._task


def write_daemon_file(paths: Paths, server: Server) -> None:
    """``daemon.json``: readers see the old one or the new one."""
    pid = os.getpid()
    own = spawn.DaemonFile(pid, system.start_of(pid) or 0, system.boot_id(), server.path, server.url, __version__)
    try:
        atomicfile.write(paths.daemon_file, own.encode())
    except OSError as error:
        why = error.strerror or str(error)
        raise StateUnwritable(f"cannot write {paths.daemon_file}", why, "free disk space") from None


def log_unhandled(log: Log, context: dict[str, Any]) -> None:
    """What asyncio reports as unhandled, with its traceback: the log is for developers."""
    import traceback

    error = context.get("exception")
    trace = "".join(traceback.format_exception(error)) if isinstance(error, BaseException) else None
    log.error(str(context.get("message")), trace=trace)
