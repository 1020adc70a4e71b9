"""``oomless hook claude-code session-start``: what the host's SessionStart hook runs. It tells the daemon which
process the session is, for its other hooks come over HTTP and cannot say that.

Standard library only, and started by ``boot_hook.py``: it is part of every start of a session. Nothing that goes
wrong here may fail that: the exit code is 0 then too, the reason is on stderr (which the host shows only when asked),
and nothing ever is on stdout, which the host would take for context. Not here: what the daemon does with it
(``daemon/sessions/host_sessions.py``).
"""

from __future__ import annotations

import _socket
import os
import sys

assert sys.platform == "linux"

from oomless.errors import DaemonError, OomlessError, UsageError
from oomless.lean import dumps, loads
from oomless.paths import Paths
from oomless.platform import proc
from oomless.protocol import spawn

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import NoReturn

USAGE = "usage: oomless hook claude-code session-start < EVENT.json"
#: A session waits so long for a daemon at most, started or hanging.
WITHIN = 2.0
EVENT_MAX = 2**20


def registration(event: bytes, environ: Mapping[str, str], parent: int) -> dict[str, object]:
    """What to tell the daemon; raises UsageError. ``CLAUDE_PID`` is believed only of a process that is above us (from
    ``parent`` up): a shell that a session started long ago has it too, and by now it may be another's number."""
    try:
        found = loads(event)
        session = str(found["session_id"])
        cwd, source = str(found.get("cwd", "")), str(found.get("source", ""))
    except (ValueError, KeyError, TypeError, AttributeError):
        raise UsageError("that is no SessionStart event", "", USAGE) from None
    named = environ.get("CLAUDE_PID", "")
    if not named.isdecimal():
        raise UsageError("this session cannot be watched", "CLAUDE_PID is not set", "update Claude Code") from None
    start = start_above(int(named), parent)
    if start is None:
        raise UsageError("this session cannot be watched", f"CLAUDE_PID is {named}, which is not above us") from None
    return {
        "host": "claude-code",
        "session": session,
        "pid": int(named),
        "start": start,
        "cwd": cwd,
        "source": source,
    }


def start_above(pid: int, parent: int) -> int | None:
    """The start time of ``pid``, if it is ``parent`` or above that."""
    above: int = parent
    while above > 1:
        stat = proc.read_stat(above)
        if stat is None:
            return None
        if above == pid:
            return stat.start
        above = stat.ppid
    return None


def connect(path: str) -> _socket.socket:
    """Raises OSError."""
    connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)  # ``socket`` takes 4 ms to load
    try:
        connection.settimeout(WITHIN)
        connection.connect(path)
    except OSError:
        connection.close()
        raise
    return connection


def connected(paths: Paths) -> _socket.socket:
    """To the daemon that runs, started if there is none: asking whether it does would take as long as telling it."""
    known = spawn.DaemonFile.read(paths.daemon_file)
    if known is not None:
        try:
            return connect(known.socket)
        except OSError:
            pass  # what is left of one that was killed
    return connect(spawn.ensure(paths, WITHIN))


def post(connection: _socket.socket, fields: dict[str, object]) -> None:
    """Raises DaemonError or OSError."""
    body = dumps(fields).encode()
    head = f"POST /v1/sessions HTTP/1.1\r\nHost: oomless\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
    try:
        connection.sendall(head.encode("ascii") + body)
        answer = connection.recv(4096)
    finally:
        connection.close()
    if answer[9:12] != b"200":
        why = answer.partition(b"\r\n\r\n")[2].decode("utf-8", "replace") or repr(answer[:40])
        raise DaemonError("the daemon does not watch this session", why, "see oomless daemon logs")


def session_start() -> None:
    if os.isatty(0):
        raise UsageError("no event on standard input", "it is a terminal", USAGE)
    event = sys.stdin.buffer.read(EVENT_MAX)
    found = registration(event, os.environ, os.getppid())
    post(connected(Paths()), found)


def boot(argv: list[str]) -> NoReturn:
    """Without taking the interpreter down piece by piece, which takes 2 ms."""
    code = main(argv)
    sys.stdout.flush()
    os._exit(code)


def main(argv: list[str]) -> int:
    if argv in (["--help"], ["-h"]):
        sys.stdout.write(f"{USAGE}\n\nRun by Claude Code's SessionStart hook; see oomless install claude-code.\n")
        return 0
    if argv != ["claude-code", "session-start"]:
        sys.stderr.write(
            UsageError("there is no such hook", " ".join(argv) or "none is named", USAGE).report() + "\n"
        )
        return UsageError.exit_code
    try:
        session_start()
    except OomlessError as error:
        sys.stderr.write(error.report() + "\n")
    except OSError as error:
        why = error.strerror or str(error)
        sys.stderr.write(DaemonError("the daemon does not watch this session", why).report() + "\n")
    return 0
