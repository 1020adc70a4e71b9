"""The shell prefix: what a host starts in the place of its tool shells and MCP servers, each as a contained tree.

    boot_prefix.py shell|server LINE [FORMER-PREFIX]        (from the script that ``hosts/prefix.py`` writes)

``LINE`` is one command line for a POSIX shell, as the host would have run it. Whatever goes wrong before the tree is
there (no daemon within 2 s, a refusal, an unknown session), the line is run as if we were not there. Standard library
only, and no second interpreter: this process becomes the shim itself.
"""

from __future__ import annotations

import os
import sys

from oomless.contain.launch import ShimSpec
from oomless.daemon import lease, spawn
from oomless.errors import OomlessError
from oomless.paths import Paths
from oomless.platform import proc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

#: A host that waits for us waits no longer than this for a daemon that is not there.
PATIENCE = 2.0
KINDS = {"shell": "tool-shell", "server": "mcp-server"}


def command_of(kind: str, line: str, former: str, environ: dict[str, str]) -> list[str]:
    """The argument list that runs the line as the host would. A tool shell's line begins by sourcing a snapshot that
    names the shell it is for; a server's is its command, quoted, so that a shell can become it. A prefix that was in
    the settings before ours gets the line as it always did."""
    if former:
        return ["/bin/sh", "-c", f'exec {former} "$1"', "sh", line]
    if kind == "server":
        return ["/bin/sh", "-c", f"exec {line}"]
    wanted = "zsh" if "snapshot-zsh-" in line[:400] else "bash"
    own = environ.get("SHELL", "")
    return [own if os.path.basename(own) == wanted else wanted, "-c", line]


def name_of(kind: str, line: str) -> str:
    """Short, for people; a tool shell's own command stands in an ``eval`` behind the preliminaries."""
    if kind == "server":
        return " ".join(line.split())[:60]
    _, found, rest = line.partition("eval '")
    command = rest.rpartition("' < /dev/null")[0] or rest
    return (" ".join(command.split()) if found else "tool shell")[:60]


def session_of(kind: str, environ: dict[str, str]) -> tuple[int, int] | None:
    """Pid and start of the session's process: told to tool shells, the parent of servers."""
    told = environ.get("CLAUDE_PID", "") if kind == "shell" else str(os.getppid())
    pid = int(told) if told.isdecimal() else 0
    start = proc.start_of(pid) if pid > 1 else None
    return None if start is None else (pid, start)


def lease_for(kind: str, line: str, paths: Paths) -> tuple[lease.Conversation, dict[str, Any], tuple[int, int]]:
    """Raises OomlessError if the tree cannot be had."""
    owner = session_of(kind, dict(os.environ))
    if owner is None:
        raise OomlessError("that session is not known")
    known = spawn.DaemonFile.read(paths.daemon_file)
    try:
        conversation = lease.Conversation(known.socket if known else "")
    except OomlessError:
        conversation = lease.Conversation(spawn.ensure(paths, PATIENCE))
    opening = lease.request(
        kind=kind,
        name=name_of(kind, line),
        klass=KINDS[kind],
        argv=[line[:400]],
        cwd=os.getcwd(),
        owner=f"claude-code:{os.environ.get('CLAUDE_CODE_SESSION_ID', '')}",
        session=os.environ.get("CLAUDE_CODE_SESSION_ID"),
        session_pid=owner[0],
        session_start=owner[1],
        wait=0,
    )
    return conversation, conversation.ask(opening, lambda message: None, PATIENCE), owner


def run(kind: str, line: str, former: str = "") -> int:
    command = command_of(kind, line, former, dict(os.environ))
    paths = Paths()
    try:
        conversation, granted, owner = lease_for(kind, line, paths)
    except (OomlessError, OSError):
        unchanged(command)
    spec = ShimSpec(
        granted,
        name=KINDS[kind],
        state=paths.state,
        lease_fd=conversation.socket.detach(),
        owner=owner,
        same_group=True,
    )
    if kind == "server":
        from oomless.contain.shim import Shim

        return Shim(spec.fields(), command).run()
    from oomless.contain import toolshell

    return toolshell.run(spec.fields(), command)


def unchanged(command: list[str]) -> NoReturn:
    try:
        os.execvp(command[0], command)
    except OSError as error:
        sys.stderr.write(f"oomless: cannot run {command[0]!r}; {error.strerror}\n")
    os._exit(127)


def main(argv: list[str]) -> None:
    os._exit(run(*argv[1:4]))
