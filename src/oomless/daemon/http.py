"""A small HTTP/1.1 server protocol over httptools, for the Unix socket and for 127.0.0.1 alike.

Covers: parsing within bounds, keep-alive and pipelining (answered in order), bodies by length and chunked,
streamed answers, time-outs, and errors that are answered before the connection ends.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any

import httptools

from oomless.daemon.message import Handler, Request, Response, encode_head, error_response

MAX_BODY = 4 * 2**20
MAX_HEAD = 64 * 2**10
HEAD_SECONDS, BODY_SECONDS, IDLE_SECONDS, LINGER_SECONDS = 10.0, 60.0, 75.0, 2.0


class _Draft:
    """A request that is still coming in."""

    __slots__ = ("body", "head_bytes", "head_done", "headers", "url")

    def __init__(self) -> None:
        self.url = b""
        self.headers: dict[str, str] = {}
        self.body = bytearray()
        self.head_bytes = 0
        self.head_done = False

    def add_header(self, name: bytes, value: bytes) -> None:
        key, text = name.decode("latin-1").lower(), value.decode("latin-1")
        self.headers[key] = f"{self.headers[key]}, {text}" if key in self.headers else text

    def request(self, method: bytes, version: str, keep_alive: bool) -> Request:
        """Raises HttpParserInvalidURLError."""
        url = httptools.parse_url(self.url)
        return Request(
            method=method.decode("latin-1"),
            path=(url.path or b"/").decode("latin-1"),
            query=(url.query or b"").decode("latin-1"),
            headers=self.headers,
            body=bytes(self.body),
            version=version,
            keep_alive=keep_alive,
        )


class HttpProtocol(asyncio.Protocol):
    """One connection. What comes in is queued as a request, or as the answer to what was no request; one
    task takes the queue in order, so errors don't overtake answers."""

    def __init__(self, handler: Handler) -> None:
        self._handler = handler
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpRequestParser(self)
        self._draft: _Draft | None = None
        self._queue: deque[Request | Response] = deque()
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._drained: asyncio.Future[None] | None = None
        self._unparsed = 0
        self._deaf = False  # nothing more is parsed: an error, or the end of input
        self._answering = False  # the head of an answer is out and its end is not
        self._streaming = False

    # The transport's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._arm(HEAD_SECONDS, self._too_slow)

    def data_received(self, data: bytes) -> None:
        if self._deaf:
            return
        self._unparsed += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._deaf = True  # The request is answered as any other, what follows it is not HTTP.
        except httptools.HttpParserError:
            self._refuse(400, "not an HTTP/1.1 request")
        if self._unparsed > MAX_HEAD and not self._deaf:
            self._refuse(431, "a header field or chunk header is too large")
        if len(self._queue) > 1:
            self._transport.pause_reading()

    def eof_received(self) -> bool:
        self._deaf = True
        # What was asked is still answered: the client may have closed its sending side only.
        return not (self._draft or self._streaming) and bool(self._queue or self._task)

    def connection_lost(self, error: Exception | None) -> None:
        self._deaf = True
        self._queue.clear()
        self._disarm()
        if self._task:
            self._task.cancel()
        self.resume_writing()

    def pause_writing(self) -> None:
        self._drained = self._loop.create_future()

    def resume_writing(self) -> None:
        if self._drained and not self._drained.done():
            self._drained.set_result(None)
        self._drained = None

    # The parser's side

    def on_message_begin(self) -> None:
        self._draft = _Draft()
        self._arm(HEAD_SECONDS, self._too_slow)

    def on_url(self, url: bytes) -> None:
        if self._draft and self._count_head(len(url)):
            self._draft.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._draft and self._count_head(len(name) + len(value) + 4) and not self._draft.head_done:
            self._draft.add_header(name, value)  # Trailers are counted and dropped.

    def on_headers_complete(self) -> None:
        self._unparsed = 0
        if not self._draft or self._deaf:
            return
        self._draft.head_done = True
        length = self._draft.headers.get("content-length", "")
        if length.isdecimal() and int(length) > MAX_BODY:
            self._refuse(413, f"the body is larger than {MAX_BODY} bytes")
            return
        expected = self._draft.headers.get("expect", "").lower() == "100-continue"
        if expected and not (self._queue or self._task):
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        self._arm(BODY_SECONDS, self._too_slow)

    def on_body(self, body: bytes) -> None:
        self._unparsed = 0
        if self._draft and not self._deaf:
            self._draft.body += body
            if len(self._draft.body) > MAX_BODY:
                self._refuse(413, f"the body is larger than {MAX_BODY} bytes")

    def on_message_complete(self) -> None:
        self._unparsed = 0
        draft, self._draft = self._draft, None
        if not draft or self._deaf:
            return
        self._disarm()
        method, version = self._parser.get_method(), self._parser.get_http_version()
        try:
            self._enqueue(draft.request(method, version, self._parser.should_keep_alive()))
        except httptools.HttpParserInvalidURLError:
            self._refuse(400, "the request target is not a path")

    def _count_head(self, size: int) -> bool:
        self._unparsed = 0
        if not self._draft or self._deaf:
            return False
        self._draft.head_bytes += size
        if self._draft.head_bytes > MAX_HEAD:
            self._refuse(431, f"the head is larger than {MAX_HEAD} bytes")
        return not self._deaf

    def _refuse(self, status: int, text: str) -> None:
        """Answered when its turn comes; then the connection ends."""
        if not self._deaf:
            self._deaf, self._draft = True, None
            self._disarm()
            self._enqueue(error_response(status, text))

    # Answering

    def _enqueue(self, item: Request | Response) -> None:
        self._queue.append(item)
        if not self._task:
            self._start()

    def _start(self) -> None:
        self._task = self._loop.create_task(self._serve())
        self._task.add_done_callback(self._served)

    async def _serve(self) -> None:
        while self._queue:
            item = self._queue.popleft()
            if len(self._queue) <= 1:
                self._transport.resume_reading()
            if isinstance(item, Response):
                await self._send(item, None)
            else:
                await self._send(await self._handler(item), item)

    def _served(self, task: asyncio.Task[None]) -> None:
        self._task = None
        error = None if task.cancelled() else task.exception()
        if error:
            report = {"message": "a request failed", "exception": error}
            self._loop.call_exception_handler(report)
            if not self._answering:
                response = error_response(500, "the daemon failed; its log says more")
                self._transport.write(encode_head(response, True, False) + response.body)
            self._transport.close()
        elif self._queue:
            self._start()  # it came after the loop had seen the queue empty
        elif self._deaf:
            self._linger()
        elif not self._draft:
            self._arm(IDLE_SECONDS, self._transport.close)

    async def _send(self, response: Response, request: Request | None) -> None:
        stream, old = response.stream, request is not None and request.version == "1.0"
        close = request is None or not request.keep_alive or (self._deaf and not self._queue)
        close = close or (old and stream is not None)  # The end of the connection is the only end it has.
        bare = request is not None and request.method == "HEAD"
        chunked = stream is not None and not old
        self._answering = True
        self._transport.write(encode_head(response, close, chunked) + (b"" if bare else response.body))
        if stream is not None:
            await self._pump(stream, chunked, bare)
        await self._drain()
        self._answering = False
        if close:
            self._deaf = True
            self._queue.clear()

    async def _pump(self, stream: AsyncGenerator[bytes, None], chunked: bool, bare: bool) -> None:
        self._streaming = True
        async with aclosing(stream):
            if not bare:
                async for part in stream:
                    if not part:
                        continue  # An empty chunk would end the answer.
                    self._transport.write(b"%x\r\n%b\r\n" % (len(part), part) if chunked else part)
                    await self._drain()
        self._streaming = False
        if chunked and not bare:
            self._transport.write(b"0\r\n\r\n")

    async def _drain(self) -> None:
        if self._drained:
            await self._drained

    # Ends and time

    def _linger(self) -> None:
        """Closing with unread input resets a TCP connection and may destroy the answer on its way: so the
        client is told that we are done, and has a moment to close first."""
        if self._transport.is_closing():
            return
        try:
            self._transport.write_eof()
        except OSError:  # ENOTCONN: the client is gone already, and has nothing left to be told
            self._transport.close()
            return
        self._arm(LINGER_SECONDS, self._transport.close)

    def _too_slow(self) -> None:
        if self._draft:
            self._refuse(408, "the request did not come in time")
        else:
            self._transport.close()

    def _arm(self, seconds: float, then: Callable[[], Any]) -> None:
        self._disarm()
        self._timer = self._loop.call_later(seconds, then)

    def _disarm(self) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None
