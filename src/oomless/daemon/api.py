"""The routes: control on the Unix socket (``/v1``) and the surfaces on 127.0.0.1.

::

    Unix socket   GET /v1/status   GET /v1/daemon   GET /v1/trees/<id or name>
                  POST /v1/trees/<id or name>/end {"reason"}   POST /v1/stop
                  POST /v1/sessions {"host", "session", "pid", "start", "cwd", "source"}
                  POST /v1/reap {"processes": [{"pid", "start", "verdict", "evidence"}], "why", "include"}
                  POST /hooks/<host>   (of hosts whose hooks are commands)
    127.0.0.1     GET /status   GET /events   GET /health      (read token)
                  /hooks/<host>...   /mcp/<server>...          (their own tokens; handlers register themselves)

"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from typing import Protocol

import msgspec

from oomless.daemon.message import Handler, Request, Response, error_response, json_response
from oomless.daemon.surfaces import Tokens, check_access
from oomless.protocol.reap_views import ReapAnswer, ReapRequest
from oomless.protocol.views import Answer, DaemonView, EndRequest, EventView, Registration, StatusView, TreeView


class Backend(Protocol):
    """What the surfaces ask the daemon for (``app.App``)."""

    async def start(self) -> None: ...

    async def stop(self) -> None:
        """Leaves the trees alone; their shims reconnect to the next daemon. Also called after a failed start."""
        ...

    async def lease(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, peer_pid: int) -> None:
        """Serves one lease connection to its end; nothing of it has been consumed."""
        ...

    async def status(self) -> StatusView: ...

    def tree(self, id_or_name: str) -> TreeView | None: ...

    async def end(self, id_or_name: str, reason: str) -> bool:
        """False if there is no such open tree."""
        ...

    def open_trees(self) -> int: ...

    def hooks(self) -> dict[str, Handler]:
        """The handler of each host's hooks."""
        ...

    def register(self, asked: Registration) -> bool:
        """False if the session's process is gone."""
        ...

    async def reap(self, asked: ReapRequest) -> ReapAnswer:
        """Returns when none of the processes that may be killed is left, or after some seconds."""
        ...

    def subscribe(self) -> asyncio.Queue[EventView]:
        """Bounded; the oldest is dropped when nobody takes them."""
        ...

    def unsubscribe(self, queue: asyncio.Queue[EventView]) -> None: ...


def unquote(text: str) -> str:
    """Percent-decoding; raises ValueError. ``urllib.parse`` would do the same for 0.3 MB."""
    first, *rest = text.split("%")
    raw = first.encode("latin-1")
    for part in rest:
        if len(part) < 2 or not part[:2].isalnum():
            raise ValueError(text)
        raw += bytes.fromhex(part[:2]) + part[2:].encode("latin-1")
    return raw.decode("utf-8")


class Control:
    """``/v1``, for peers whose uid has been checked. ``stop`` must return before anything ends."""

    def __init__(self, backend: Backend, describe: Callable[[], DaemonView], stop: Callable[[], None]) -> None:
        self._backend = backend
        self._describe = describe
        self._stop = stop

    async def __call__(self, request: Request) -> Response:
        match (request.method, *request.path.split("/")[1:]):
            case ("GET", "v1", "status"):
                return json_response(await self._backend.status())
            case ("GET", "v1", "daemon"):
                return json_response(self._describe())
            case ("POST", "v1", "stop"):
                # The answer is written before the loop comes to this.
                asyncio.get_running_loop().call_soon(self._stop)
                return json_response(Answer(ok=True))
            case ("GET", "v1", "trees", name):
                return self._tree(name)
            case ("POST", "v1", "trees", name, "end"):
                return await self._end(name, request.body)
            case ("POST", "v1", "sessions"):
                return self._register(request.body)
            case ("POST", "v1", "reap"):
                return await self._reap(request.body)
            case (_, "hooks", host) if host in (handlers := self._backend.hooks()):
                return await handlers[host](request)
            case (
                (_, "v1", "status" | "daemon" | "stop" | "sessions" | "reap")
                | (_, "v1", "trees", _)
                | (_, "v1", "trees", _, "end")
            ):
                return error_response(405, f"{request.method} is not for this")
        return error_response(404, f"there is no {request.path}")

    def _tree(self, quoted: str) -> Response:
        name = _name(quoted)
        found = self._backend.tree(name) if name else None
        return json_response(found) if found else error_response(404, f"there is no tree {name or quoted!r}")

    def _register(self, body: bytes) -> Response:
        try:
            asked = msgspec.json.decode(body, type=Registration)
        except msgspec.DecodeError as error:
            return error_response(400, f"the body is not valid: {error}")
        if self._backend.register(asked):
            return json_response(Answer(ok=True))
        return error_response(409, f"there is no process {asked.pid} that started at {asked.start}")

    async def _reap(self, body: bytes) -> Response:
        try:
            asked = msgspec.json.decode(body, type=ReapRequest)
        except msgspec.DecodeError as error:
            return error_response(400, f"the body is not valid: {error}")
        return json_response(await self._backend.reap(asked))

    async def _end(self, quoted: str, body: bytes) -> Response:
        name = _name(quoted)
        try:
            asked = msgspec.json.decode(body, type=EndRequest) if body else EndRequest()
        except msgspec.DecodeError as error:
            return error_response(400, f"the body is not valid: {error}")
        if name and await self._backend.end(name, asked.reason):
            return json_response(Answer(ok=True))
        return error_response(404, f"there is no open tree {name or quoted!r}")


def _name(quoted: str) -> str | None:
    try:
        return unquote(quoted)
    except ValueError:
        return None


class Loopback:
    """The surfaces on 127.0.0.1. ``hooks`` and ``mcp`` map the second part of the path to its handler."""

    def __init__(self, backend: Backend, tokens: Tokens) -> None:
        self.port = 0
        self.hooks: dict[str, Handler] = backend.hooks()
        self.mcp: dict[str, Handler] = {}
        self._backend = backend
        self._tokens = tokens

    async def __call__(self, request: Request) -> Response:
        decision = check_access(request.path, request.headers, self._tokens, self.port)
        if decision.status != 200:
            return error_response(decision.status, decision.error)
        if decision.surface == "hooks":
            return await self._registered(self.hooks, "host", request)
        if decision.surface == "mcp":
            return await self._registered(self.mcp, "server", request)
        return await self._read(request)

    async def _registered(self, handlers: dict[str, Handler], kind: str, request: Request) -> Response:
        handler = handlers.get("/".join(request.path.split("/")[2:3]))
        return await handler(request) if handler else error_response(404, f"no such {kind}")

    async def _read(self, request: Request) -> Response:
        if request.path not in ("/status", "/events", "/health"):
            return error_response(404, f"there is no {request.path}")
        if request.method not in ("GET", "HEAD"):
            return error_response(405, "this surface is read-only")
        if request.path == "/status":
            return json_response(await self._backend.status())
        if request.path == "/health":
            return json_response(Answer(ok=True))
        return Response(content_type="text/event-stream", stream=stream_events(self._backend))


async def stream_events(backend: Backend) -> AsyncGenerator[bytes, None]:
    """Server-sent events; the first bytes, a comment, say that nothing from then on is missed."""
    queue: asyncio.Queue[EventView] = backend.subscribe()
    try:
        yield b": listening\n\n"
        while True:
            event = await queue.get()
            yield b"event: %b\ndata: %b\n\n" % (event.kind.encode(), msgspec.json.encode(event))
    finally:
        backend.unsubscribe(queue)
