"""``oomless hook HOST EVENT``: what a host's hooks run, with the event as JSON on standard input.

``session-start`` tells the daemon which process the session is. Every other event is passed on to the daemon, and its
answer printed: so ask hosts whose hooks are commands.

Standard library only, and started by ``boot_hook.py``: it is part of every start of a session. Nothing that goes
wrong here may hold up the host: the exit code is 0 then too, the reason is on stderr (which hosts show only when
asked), and nothing is on stdout, which a host would take for context or for an answer.
"""

from __future__ import annotations

import os
import sys

assert sys.platform == "linux"

from oomless import hosts
from oomless.errors import DaemonError, OomlessError, UsageError
from oomless.lean import dumps, loads, socket
from oomless.paths import Paths
from oomless.processes.descendants import ancestors
from oomless.protocol import spawn

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import NoReturn

    from oomless.hosts.base import HostFacts

USAGE = "usage: oomless hook HOST EVENT < EVENT.json"
#: Seconds that a host waits at most for a daemon to start, or to answer a connection.
CONNECT_WITHIN = 2.0
#: Seconds for the answer to an event that is passed on: a subagent may have to wait for memory.
ANSWER_WITHIN = 600.0
MAX_EVENT_BYTES = 2**20
START_EVENT = "session-start"


def registration(facts: HostFacts, event: bytes, environ: Mapping[str, str]) -> dict[str, object]:
    """Returns the body of ``POST /v1/sessions``; raises UsageError.

    The host's mark with its pid is believed only of an ancestor of ours: a shell that a session started long ago has
    it too, and by now it may be another process's pid.
    """
    try:
        session, cwd, source = facts.read_start(loads(event))
    except (ValueError, KeyError, TypeError, AttributeError):
        raise UsageError(f"that is no {START_EVENT} event of {facts.title}", "", USAGE) from None
    pid = environ.get(facts.pid_mark, "")
    if not pid.isdecimal():
        why, hint = f"{facts.pid_mark} is not set", f"update {facts.title}"
        raise UsageError("this session cannot be watched", why, hint) from None
    start = next((stat.start for stat in ancestors(os.getpid()) if stat.pid == int(pid) > 1), None)
    if start is None:
        raise UsageError("this session cannot be watched", f"{facts.pid_mark} is {pid}, which is not above us")
    return {
        "host": facts.name,
        "session": session,
        "pid": int(pid),
        "start": start,
        "cwd": cwd,
        "source": source,
    }


def post(connection: socket.socket, path: str, body: bytes) -> bytes:
    """Returns the body of the answer; raises DaemonError or OSError. Closes the connection."""
    # 1.0: the end of the connection is the end of the answer, and nothing of it is in chunks.
    head = f"POST {path} HTTP/1.0\r\nHost: oomless\r\nContent-Length: {len(body)}\r\n\r\n"
    try:
        connection.sendall(head.encode("ascii") + body)
        answer = connection.recv(4096)
        while part := connection.recv(65536):
            answer += part
    finally:
        connection.close()
    content = answer.partition(b"\r\n\r\n")[2]
    if answer[9:12] != b"200":
        why = content.decode("utf-8", "replace") or repr(answer[:40])
        raise DaemonError("the daemon did not take the event", why, "see oomless daemon logs")
    return content


def handle(facts: HostFacts, event: str) -> bytes:
    """Returns what the host gets as its answer; raises OomlessError or OSError."""
    if os.isatty(0):
        raise UsageError("no event on standard input", "it is a terminal", USAGE)
    body = sys.stdin.buffer.read(MAX_EVENT_BYTES)
    if event == START_EVENT:
        fields = registration(facts, body, os.environ)
        connection = spawn.connect(Paths(), CONNECT_WITHIN)
        connection.settimeout(CONNECT_WITHIN)
        post(connection, "/v1/sessions", dumps(fields).encode())
        return b""
    connection = spawn.connect(Paths(), CONNECT_WITHIN)
    connection.settimeout(ANSWER_WITHIN)
    return post(connection, f"/hooks/{facts.name}", body)


def boot(argv: list[str]) -> NoReturn:
    """Ends without taking the interpreter down piece by piece, which takes 2 ms."""
    code = main(argv)
    sys.stdout.flush()
    os._exit(code)


def main(argv: list[str]) -> int:
    if argv in (["--help"], ["-h"]):
        sys.stdout.write(
            f"{USAGE}\n\nRun by a host's hooks. EVENT is session-start or another one of the host's own.\n"
        )
        return 0
    facts = hosts.facts_of(argv[0]) if len(argv) == 2 else None
    if facts is None or argv[1] not in facts.hook_events:
        error = UsageError("there is no such hook", " ".join(argv) or "none is named", USAGE)
        sys.stderr.write(error.report() + "\n")
        return UsageError.exit_code
    try:
        answer = handle(facts, argv[1])
    except OomlessError as error:
        sys.stderr.write(error.report() + "\n")
    except OSError as error:
        why = error.strerror or str(error)
        sys.stderr.write(DaemonError("the daemon did not take the event", why).report() + "\n")
    else:
        sys.stdout.buffer.write(answer)
    return 0
