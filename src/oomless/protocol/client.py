"""The commands' client of the daemon: blocking, over the Unix socket, with typed answers.

One request for each connection, bounded in time; every way in which a daemon may fail to answer is a DaemonError.
There is no daemon on macOS yet: the answer there is that none runs.
"""

from __future__ import annotations

import os
import select
import socket
import sys
import time
from typing import TypeVar
from urllib.parse import quote

import msgspec

from oomless.errors import DaemonError, UnsupportedPlatform
from oomless.paths import Paths
from oomless.platform import current
from oomless.protocol.reap_views import ReapAnswer, ReapRequest
from oomless.protocol.views import Answer, DaemonView, EndRequest, StatusView, TreeView

if sys.platform == "linux":
    from oomless.platform import proc
    from oomless.protocol import spawn

ANSWER_SECONDS = 10.0
STOP_SECONDS = 10.0
_MAX_ANSWER = 64 * 2**20
View = TypeVar("View")


class Client:
    """``start``: whether a daemon is started if none runs. Without it, none running is an answer (``pid`` None)."""

    def __init__(self, paths: Paths, start: bool) -> None:
        self._paths = paths
        self._start = start

    def status(self) -> StatusView:
        path = self._socket()
        if path is None:
            return StatusView(pid=None, memory=current().memory())
        return _decode(_ask(path, "GET", "/v1/status"), StatusView)

    def daemon(self) -> DaemonView:
        path = self._socket()
        return _decode(_ask(path, "GET", "/v1/daemon"), DaemonView) if path else DaemonView()

    def tree(self, id_or_name: str) -> TreeView | None:
        path = self._socket()
        if path is None:
            return None
        answer = _ask(path, "GET", f"/v1/trees/{quote(id_or_name, safe='')}")
        return None if answer.status == 404 else _decode(answer, TreeView)

    def end(self, id_or_name: str, reason: str) -> bool:
        """False if there is no such open tree."""
        path = self._socket()
        if path is None:
            return False
        body = msgspec.json.encode(EndRequest(reason=reason))
        answer = _ask(path, "POST", f"/v1/trees/{quote(id_or_name, safe='')}/end", body)
        return answer.status != 404 and _decode(answer, Answer).ok

    def reap(self, asked: ReapRequest) -> ReapAnswer:
        """Raises DaemonError, also if none runs and none may be started."""
        path = self._socket()
        if path is None:
            raise DaemonError("no daemon runs", "", "oomless daemon start")
        return _decode(_ask(path, "POST", "/v1/reap", msgspec.json.encode(asked)), ReapAnswer)

    def stop(self) -> int | None:
        """Returns when the daemon is gone: its pid, or None if there was none. Never starts one."""
        if sys.platform == "linux":
            return _stop(self._paths)
        return None

    def _socket(self) -> str | None:
        if sys.platform == "linux":
            if self._start:
                return spawn.ensure(self._paths)
            daemon = spawn.running(self._paths)
            return daemon.socket if daemon else None
        if self._start:
            raise UnsupportedPlatform("no daemon can be started", f"there is none on {sys.platform} yet", "use Linux")
        return None


if sys.platform == "linux":

    def _stop(paths: Paths) -> int | None:
        daemon = spawn.running(paths)
        pidfd = proc.open_verified(daemon.pid, daemon.start) if daemon else None
        if daemon is None or pidfd is None:
            return None
        try:
            _decode(_ask(daemon.socket, "POST", "/v1/stop"), Answer)
            poll = select.poll()
            poll.register(pidfd, select.POLLIN)
            if not poll.poll(STOP_SECONDS * 1000):
                why = f"pid {daemon.pid} is still there after {STOP_SECONDS:.0f} s"
                raise DaemonError("the daemon does not stop", why, f"see {paths.log}")
        finally:
            os.close(pidfd)
        return daemon.pid


class _Reply(msgspec.Struct, frozen=True, kw_only=True):
    status: int
    body: bytes


class _Error(msgspec.Struct, frozen=True, kw_only=True):
    error: str = ""


def _decode(reply: _Reply, kind: type[View]) -> View:
    try:
        if reply.status == 200:
            return msgspec.json.decode(reply.body, type=kind)
        why = msgspec.json.decode(reply.body, type=_Error).error or f"status {reply.status}"
    except msgspec.DecodeError as error:
        why = f"its answer is not understood ({error})"
    raise DaemonError("the daemon did not do it", why, "if oomless was updated meanwhile: oomless daemon stop")


def _ask(path: str, method: str, target: str, body: bytes = b"") -> _Reply:
    head = f"{method} {target} HTTP/1.1\r\nHost: oomless\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
    try:
        raw = _exchange(path, head.encode("ascii") + body)
    except TimeoutError:
        raise DaemonError(
            "the daemon does not answer", f"no answer within {ANSWER_SECONDS:.0f} s", "see its log"
        ) from None
    except OSError as error:
        why = f"{path}: {error.strerror or error}"
        raise DaemonError("cannot reach the daemon", why, "try again") from None
    return _parse(raw)


def _exchange(path: str, request: bytes) -> bytes:
    """Everything up to the end of the connection; raises OSError. The time is for the whole of it."""
    deadline = time.monotonic() + ANSWER_SECONDS
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(ANSWER_SECONDS)
        connection.connect(path)
        connection.sendall(request)
        parts, size = [], 0
        while size < _MAX_ANSWER:
            connection.settimeout(max(0.001, deadline - time.monotonic()))
            part = connection.recv(65536)
            if not part:
                break
            parts.append(part)
            size += len(part)
    return b"".join(parts)


def _parse(raw: bytes) -> _Reply:
    head, blank, body = raw.partition(b"\r\n\r\n")
    first, *fields = head.decode("latin-1").split("\r\n")
    version, _, rest = first.partition(" ")
    sizes = [
        value.strip() for name, _, value in (f.partition(":") for f in fields) if name.lower() == "content-length"
    ]
    if blank and version == "HTTP/1.1" and rest[:3].isdecimal() and sizes == [str(len(body))]:
        return _Reply(status=int(rest[:3]), body=body)
    raise DaemonError("the daemon's answer is not understood", repr(raw[:60]) if raw else "it was empty", "try again")
