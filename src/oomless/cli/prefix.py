"""The shell prefix: what a host starts in the place of its tool shells and MCP servers, each as a contained tree.

    boot_prefix.py shell|server LINE [FORMER-PREFIX]   (from the script of ``hosts/claude_code/prefix.py``)

``LINE`` is one command line for a POSIX shell, as the host would have run it. If anything fails before the tree is
there (no daemon within 2 s, a refusal, an unknown session), the line runs as if oomless were not installed. Standard
library only, and no second interpreter: this process becomes the shim itself.
"""

from __future__ import annotations

import os
import sys
import time

assert sys.platform == "linux"

from oomless.contain.launch import ShimSpec
from oomless.errors import OomlessError
from oomless.hosts.claude_code.facts import FACTS, SHELL_VARIABLE, ZSH_SNAPSHOT
from oomless.hosts.naming import short_name
from oomless.lean import signal
from oomless.paths import Paths
from oomless.platform import proc
from oomless.processes.ids import ProcessId
from oomless.protocol import lease, spawn

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, NoReturn

#: Seconds: a host's command waits no longer than this for a daemon.
PATIENCE = 2.0
KINDS = {"shell": "tool-shell", "server": "mcp-server"}
#: The daemon gets so many characters of the line.
LINE_KEPT = 400


def build_command(kind: str, line: str, former: str, environ: dict[str, str]) -> list[str]:
    """The argument list that runs the line as the host would.

    A tool shell's line begins by sourcing a snapshot that names the shell it is for; a server's is its command,
    quoted, so that a shell can become it. A prefix that was in the settings before ours gets the line unchanged."""
    if former:
        return ["/bin/sh", "-c", f'exec {former} "$1"', "sh", line]
    if kind == "server":
        return ["/bin/sh", "-c", f"exec {line}"]
    return [find_shell("zsh" if ZSH_SNAPSHOT in line[:LINE_KEPT] else "bash", environ), "-c", line]


def find_shell(wanted: str, environ: dict[str, str]) -> str:
    """The full path, as the host runs it: a shell's error messages begin with it."""
    for name in (SHELL_VARIABLE, "SHELL"):
        path = environ.get(name, "")
        if os.path.basename(path) == wanted and os.access(path, os.X_OK):
            return path
    paths = (os.path.join(folder, wanted) for folder in os.get_exec_path(environ))
    return next((path for path in paths if os.access(path, os.X_OK)), wanted)


def find_session(kind: str, environ: dict[str, str]) -> ProcessId | None:
    """The session's process, which is named to tool shells and is the parent of servers; None if it is gone."""
    named = environ.get(FACTS.pid_mark, "") if kind == "shell" else str(os.getppid())
    pid = int(named) if named.isdecimal() else 0
    start = proc.start_of(pid) if pid > 1 else None
    return None if start is None else ProcessId(pid, start)


def request_lease(kind: str, line: str, paths: Paths, until: float) -> tuple[lease.LeaseClient, ProcessId]:
    """Sends the request; returns its connection, and the session's process. Raises OomlessError."""
    owner = find_session(kind, dict(os.environ))
    if owner is None:
        raise OomlessError("that session is not known")
    session = os.environ.get(FACTS.session_mark)
    client = lease.LeaseClient(spawn.connect(paths, max(0.0, until - time.monotonic())))
    client.send(
        lease.request(
            kind=kind,
            name=short_name(kind, line, LINE_KEPT),  # the daemon masks secrets in it, then cuts it
            klass=KINDS[kind],
            argv=[line[:LINE_KEPT]],
            cwd=os.getcwd(),
            owner=f"{FACTS.name}:{session or ''}",
            session=session,
            session_pid=owner.pid,
            session_start=owner.start,
            wait=0,
        )
    )
    return client, owner


def fill_standard_descriptors() -> None:
    """Fills the standard descriptors that the host has closed, lest a socket or pipe of ours takes one's number. They
    close on exec, so that the command finds them closed."""
    for fd in (0, 1, 2):
        try:
            os.fstat(fd)
        except OSError:
            os.open("/dev/null", os.O_RDWR)  # takes the lowest free number, which is this one


def run(kind: str, line: str, former: str = "") -> int:
    fill_standard_descriptors()
    command = build_command(kind, line, former, dict(os.environ))
    paths = Paths()
    until = time.monotonic() + PATIENCE
    try:
        client, owner = request_lease(kind, line, paths, until)
        run_tree = _load_shim(kind)  # while the daemon decides
        granted = client.wait_granted(lambda message: None, max(spawn.SHORTEST, until - time.monotonic()))
    except (OomlessError, OSError):
        exec_unchanged(command)
    spec = ShimSpec(
        granted,
        name=KINDS[kind],
        state=paths.state,
        lease_fd=client.socket.detach(),
        owner=owner,
        same_group=True,
        tied=kind == "server",
    )
    try:
        return run_tree(spec.fields(), command)
    except OSError:
        if kind == "server":
            raise
        exec_unchanged(command)


def _load_shim(kind: str) -> Callable[[dict[str, Any], list[str]], int]:
    if kind == "server":
        from oomless.contain import shim  # noqa: F401

        return _run_server
    from oomless.contain.shells import background_shim

    return background_shim.run


def _run_server(spec: dict[str, Any], command: list[str]) -> int:
    """Becomes the server's shim; dies of the signal that the server died of, except of our own KILL for a limit."""
    from oomless.contain.shells.foreground import die_of
    from oomless.contain.shim import Shim

    shim = Shim(spec, command)
    code = shim.run()
    number = os.WTERMSIG(shim.root_status) if shim.root_status and os.WIFSIGNALED(shim.root_status) else 0
    if number and number != signal.SIGKILL and code == 128 + number:
        die_of(number)
    return code


def exec_unchanged(command: list[str]) -> NoReturn:
    """Becomes the command, without what Python has changed for itself."""
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    proc.forget_coerced_locale()
    try:
        os.execvp(command[0], command)
    except OSError as error:
        sys.stderr.write(OomlessError(f"cannot run {command[0]!r}", error.strerror or str(error)).report() + "\n")
    os._exit(127)


def main(argv: list[str]) -> None:
    os._exit(run(*argv[1:4]))
