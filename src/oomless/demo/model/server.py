"""The scripted model as an HTTP server: routes, holds, streams and the log, in the event loop of its caller.

Connections and parsing are the daemon's (``daemon/http.py``). What is answered is found by ``choose.py``; this
module only waits as the turn says and sends it. As a process of its own: ``process.py``.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Callable

import msgspec

from oomless.daemon.http import HttpProtocol
from oomless.daemon.message import Request, Response, as_json
from oomless.demo.model import log
from oomless.demo.model.choose import Choice, choose
from oomless.demo.model.conversation import Conversation, read
from oomless.demo.model.events import ApiError, Count, Reply, as_sse, events, reply, tokens
from oomless.demo.model.script import Hold, Script, Turn, WaitFile

#: How often a file that is waited for is looked for: nothing tells without a thread or inotify.
LOOK = 0.05


class Barriers:
    """Who runs in which group, and who waits for others to. A conversation runs from its first request until it is
    answered without calls, or its request is dropped; one whose session was killed between two requests runs on
    here, as nothing tells."""

    def __init__(self) -> None:
        self._running: dict[str, set[tuple[str, str]]] = {}
        self._open: set[tuple[str, int]] = set()
        self._changed = asyncio.Event()

    def enter(self, group: str, key: tuple[str, str]) -> None:
        self._running.setdefault(group, set()).add(key)
        self._changed.set()
        self._changed = asyncio.Event()

    def leave(self, group: str, key: tuple[str, str]) -> None:
        self._running.get(group, set()).discard(key)

    async def wait(self, hold: Hold) -> None:
        """Returns when it is reached or its time is over."""
        try:
            async with asyncio.timeout(hold.seconds):
                while not self._reached(hold):
                    await self._changed.wait()
        except TimeoutError:
            pass

    def _reached(self, hold: Hold) -> bool:
        name = (hold.group, hold.count)
        if name in self._open and not hold.every:
            return True
        if len(self._running.get(hold.group, ())) < hold.count:
            return False
        self._open.add(name)
        return True


class Model:
    """Answers requests after a script. One object, one event loop."""

    def __init__(self, script: Script, log_path: str | None = None) -> None:
        self._script = script
        self.log = log.Log(log_path)
        self._barriers = Barriers()
        self._requests = 0

    async def handle(self, request: Request) -> Response:
        if request.method == "POST" and request.path == "/v1/messages":
            return await self._messages(request)
        if request.method == "POST" and request.path == "/v1/messages/count_tokens":
            return as_json(Count(input_tokens=tokens(len(request.body))))
        if request.path == "/" and request.method in ("GET", "HEAD"):
            return Response(content_type="text/plain")
        return _failure(404, "not_found_error", f"no {request.method} {request.path} here")

    async def _messages(self, request: Request) -> Response:
        try:
            conversation = read(request.headers, request.body)
        except msgspec.DecodeError as error:
            return _failure(400, "invalid_request_error", str(error))
        choice = choose(self._script, conversation)
        await self._wait_and_log(conversation, choice)
        whole = reply(choice.turn, conversation.model, len(request.body))
        if conversation.stream:
            return Response(content_type="text/event-stream", stream=_stream(whole))
        return as_json(whole)

    async def _wait_and_log(self, conversation: Conversation, choice: Choice) -> None:
        self._requests += 1
        before = log.asked(self._requests, conversation, choice)
        self.log.add(before)
        if choice.group:
            self._barriers.enter(choice.group, conversation.key)
        over = dropped = True
        try:
            await self._wait(choice.turn)
            over, dropped = not choice.turn.calls, False
        finally:
            if choice.group and over:
                self._barriers.leave(choice.group, conversation.key)
            self.log.add(log.answered(before, choice, dropped=dropped))

    async def _wait(self, turn: Turn) -> None:
        if turn.hold:
            await self._barriers.wait(turn.hold)
        if turn.wait_file:
            await _file(turn.wait_file)
        await asyncio.sleep(turn.delay)


async def _file(wanted: WaitFile) -> None:
    try:
        async with asyncio.timeout(wanted.seconds):
            while not os.path.exists(wanted.path):
                await asyncio.sleep(LOOK)
    except TimeoutError:
        pass


async def _stream(whole: Reply) -> AsyncGenerator[bytes, None]:
    for event in events(whole):
        yield as_sse(event)


def _failure(status: int, kind: str, text: str) -> Response:
    return as_json(ApiError(error={"type": kind, "message": text}), status)


class Serving:
    """A server that listens on 127.0.0.1 until it is closed."""

    def __init__(self, model: Model, server: asyncio.Server, connections: set[asyncio.Transport]) -> None:
        self.model = model
        self._server = server
        self._connections = connections
        self.port: int = server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        self._server.close()
        for connection in list(self._connections):
            connection.abort()
        await self._server.wait_closed()
        self.model.log.close()


class _Connection(HttpProtocol):
    def __init__(self, model: Model, connections: set[asyncio.Transport]) -> None:
        super().__init__(model.handle)
        self._connections = connections

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._connections.add(self._transport)

    def eof_received(self) -> bool:
        """No client of this API closes its side and still listens: it is gone, and what it asked is dropped."""
        super().eof_received()
        return False

    def connection_lost(self, error: Exception | None) -> None:
        super().connection_lost(error)
        self._connections.discard(self._transport)


async def serve(script: Script, log_path: str | None = None, port: int = 0) -> Serving:
    """Listens on 127.0.0.1 (port 0: a free one) and returns at once; close it."""
    model = Model(script, log_path)
    connections: set[asyncio.Transport] = set()
    factory: Callable[[], _Connection] = lambda: _Connection(model, connections)  # noqa: E731
    server = await asyncio.get_running_loop().create_server(factory, "127.0.0.1", port)
    return Serving(model, server, connections)
