"""The HTTP server protocol: whole requests in, answers in order, and bounds that hold whatever is sent."""

from __future__ import annotations

import asyncio
import errno
import itertools
from collections.abc import AsyncGenerator, Awaitable, Callable

import httptools
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oomless.daemon import http
from oomless.daemon.http import HttpProtocol
from oomless.daemon.message import Request, Response

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
closed_streams: list[str] = []


async def echo(request: Request) -> Response:
    if request.path == "/crash":
        raise RuntimeError("on purpose")
    if request.path == "/slow":
        await asyncio.sleep(0.05)
    if request.path == "/stream":
        return Response(stream=count(), content_type="text/plain")
    if request.path == "/endless":
        return Response(stream=endless())
    text = f"{request.method} {request.path} {request.query} ".encode() + request.body
    return Response(body=text, content_type="text/plain", headers=(("X-Seen", request.headers.get("x-it", "-")),))


async def count() -> AsyncGenerator[bytes, None]:
    for number in range(3):
        yield b"%d\n" % number
        yield b""


async def endless() -> AsyncGenerator[bytes, None]:
    try:
        yield b"first\n"
        await asyncio.Event().wait()
    finally:
        closed_streams.append("closed")


def serve(talk: Talk) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: HttpProtocol(echo), "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        await asyncio.wait_for(talk(reader, writer), 20)
        writer.close()
        server.close()

    asyncio.run(main())


def exchange(request: bytes) -> bytes:
    """Everything the server says to ``request`` until it closes the connection."""
    got = b""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal got
        writer.write(request)
        got = await reader.read()

    serve(talk)
    return got


def bodies(raw: bytes) -> list[tuple[int, bytes]]:
    """Status and body of each answer, by another parser's understanding."""
    found: list[tuple[int, bytes]] = []

    class Reader:
        def on_message_begin(self) -> None:
            self.body = b""

        def on_body(self, body: bytes) -> None:
            self.body += body

        def on_message_complete(self) -> None:
            found.append((parser.get_status_code(), self.body))

    parser = httptools.HttpResponseParser(Reader())
    parser.feed_data(raw)
    return found


LAST = b"Host: h\r\nConnection: close\r\n\r\n"


def test_a_request_is_answered_and_the_connection_kept() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(2):
            writer.write(b"GET /a?b=c HTTP/1.1\r\nHost: h\r\nX-It: one\r\nx-it: two\r\n\r\n")
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200 OK\r\n")
            assert b"X-Seen: one, two\r\n" in head
            assert b"Content-Length: 11\r\n" in head
            assert await reader.readexactly(11) == b"GET /a b=c "

    serve(talk)


def test_pipelined_requests_are_answered_in_order() -> None:
    raw = exchange(
        b"GET /slow HTTP/1.1\r\nHost: h\r\n\r\n"
        + b"GET /b HTTP/1.1\r\nHost: h\r\n\r\n" * 20
        + b"GET /c HTTP/1.1\r\n"
        + LAST
    )
    assert bodies(raw) == [(200, b"GET /slow  "), *[(200, b"GET /b  ")] * 20, (200, b"GET /c  ")]


def test_an_error_does_not_overtake_the_answers_before_it() -> None:
    raw = exchange(b"GET /slow HTTP/1.1\r\nHost: h\r\n\r\nrubbish\r\n\r\n")
    assert [status for status, _ in bodies(raw)] == [200, 400]


@pytest.mark.parametrize(
    ("head", "body"),
    [
        (b"Content-Length: 5\r\n", b"hello"),
        (b"Transfer-Encoding: chunked\r\n", b"2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\nTrailer: t\r\n\r\n"),
    ],
)
def test_bodies_by_length_and_chunked(head: bytes, body: bytes) -> None:
    raw = exchange(b"POST /p HTTP/1.1\r\nHost: h\r\nConnection: close\r\n" + head + b"\r\n" + body)
    assert bodies(raw) == [(200, b"POST /p  hello")]


def test_a_body_that_waits_for_permission_gets_it() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"POST /p HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n" + LAST)
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b"ok")
        assert (await reader.read()).endswith(b"POST /p  ok")

    serve(talk)


@pytest.mark.parametrize(
    "rubbish",
    [
        b"\x00\x01\x02\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
        b"GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"GET / HTTP/1.1\r\nContent-Length: 99999999999999999999999\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ],
)
def test_what_is_not_http_gets_400(rubbish: bytes) -> None:
    assert [status for status, _ in bodies(exchange(rubbish))] == [400]


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"POST / HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % (http.MAX_BODY + 1), 413),
        (
            b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n" + (b"10000\r\n" + b"x" * 65536 + b"\r\n") * 65,
            413,
        ),
        (b"GET / HTTP/1.1\r\nX: " + b"x" * 200_000, 431),
        (b"GET / HTTP/1.1\r\n" + b"X: 0123456789\r\n" * 10_000, 431),
        (b"GET /" + b"a" * 70_000, 431),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1;" + b"x" * 400_000, 431),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nT: " + b"x" * 400_000, 431),
    ],
)
def test_what_is_too_large_is_refused(request_bytes: bytes, status: int) -> None:
    assert [found for found, _ in bodies(exchange(request_bytes))] == [status]


def test_a_body_of_the_allowed_size_passes() -> None:
    body = b"x" * http.MAX_BODY
    raw = exchange(b"POST /p HTTP/1.1\r\nContent-Length: %d\r\n" % len(body) + LAST + body)
    assert bodies(raw) == [(200, b"POST /p  " + body)]


def test_a_slow_head_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "HEAD_SECONDS", 0.05)
    assert [status for status, _ in bodies(exchange(b"GET / HTTP/1.1\r\nHost:"))] == [408]
    assert exchange(b"") == b""


def test_a_slow_body_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "BODY_SECONDS", 0.05)
    assert [status for status, _ in bodies(exchange(b"POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\nx"))] == [408]


def test_an_idle_connection_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "IDLE_SECONDS", 0.05)
    assert bodies(exchange(b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n")) == [(200, b"GET /a  ")]


def test_a_stream_comes_in_chunks_and_the_connection_goes_on() -> None:
    raw = exchange(b"GET /stream HTTP/1.1\r\nHost: h\r\n\r\nGET /b HTTP/1.1\r\n" + LAST)
    assert bodies(raw) == [(200, b"0\n1\n2\n"), (200, b"GET /b  ")]


def test_a_stream_to_an_old_client_ends_with_the_connection() -> None:
    raw = exchange(b"GET /stream HTTP/1.0\r\n\r\n")
    assert raw.endswith(b"\r\n\r\n0\n1\n2\n")
    assert b"chunked" not in raw


def test_a_stream_is_closed_when_its_client_leaves() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        closed_streams.clear()
        writer.write(b"GET /endless HTTP/1.1\r\nHost: h\r\n\r\n")
        assert (await reader.readuntil(b"first\n")).startswith(b"HTTP/1.1 200")
        writer.close()
        await writer.wait_closed()
        while not closed_streams:
            await asyncio.sleep(0)

    serve(talk)


def test_a_half_closed_client_gets_its_answer() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"GET /slow HTTP/1.1\r\nHost: h\r\n\r\n")
        writer.write_eof()
        assert (await reader.read()).endswith(b"GET /slow  ")

    serve(talk)


def test_a_crash_of_the_handler_is_500_and_reported() -> None:
    reported: list[object] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context["exception"]))
        writer.write(b"GET /crash HTTP/1.1\r\nHost: h\r\n\r\n")
        assert [status for status, _ in bodies(await reader.read())] == [500]

    serve(talk)
    assert [type(error) for error in reported] == [RuntimeError]


def test_head_has_no_body() -> None:
    raw = exchange(b"HEAD /a HTTP/1.1\r\n" + LAST)
    assert raw.endswith(b"\r\n\r\n")
    assert b"Content-Length: 9\r\n" in raw


class Pipe(asyncio.Transport):
    """Keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.closing = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += bytes(data)

    def write_eof(self) -> None:
        self.closing = True

    def close(self) -> None:
        self.closing = True

    def is_closing(self) -> bool:
        return self.closing

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass


def feed(parts: list[bytes], pipe: Pipe | None = None) -> tuple[bytes, list[object]]:
    """What the protocol writes, and what went wrong in it."""
    wrong: list[object] = []

    async def main() -> bytes:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: wrong.append(context))
        to, protocol = pipe or Pipe(), HttpProtocol(echo)
        protocol.connection_made(to)
        for part in parts:
            protocol.data_received(part)
            await asyncio.sleep(0)
        while protocol._task:
            await asyncio.sleep(0)
        protocol.connection_lost(None)
        return to.written

    return asyncio.run(main()), wrong


@settings(max_examples=200, deadline=None)
@given(st.lists(st.one_of(st.binary(max_size=60), st.sampled_from([
    b"GET / HTTP/1.1\r\n", b"POST /x HTTP/1.1\r\n", b"\r\n", b"\r\n\r\n", b"Content-Length: 4\r\n", b"Host: h\r\n",
    b"Transfer-Encoding: chunked\r\n", b"4\r\nabcd\r\n", b"0\r\n\r\n", b"Upgrade: x\r\n", b"Connection: upgrade\r\n",
    b"CONNECT a:1 HTTP/1.1\r\n", b"OPTIONS * HTTP/1.1\r\n", b"GET //[ HTTP/1.1\r\n", b"HEAD / HTTP/1.0\r\n",
])), max_size=12))  # fmt: skip
def test_nothing_that_is_sent_breaks_it(parts: list[bytes]) -> None:
    written, wrong = feed(parts)
    assert wrong == []
    assert not written or written.startswith(b"HTTP/1.1 ")


WHOLE = (
    b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n"
    b"POST /b HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello"
    b"POST /c HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, len(WHOLE)), max_size=8))
def test_how_it_is_cut_makes_no_difference(cuts: list[int]) -> None:
    places = [0, *sorted(cuts), len(WHOLE)]
    written, wrong = feed([WHOLE[a:b] for a, b in itertools.pairwise(places)])
    assert wrong == []
    assert bodies(written) == [(200, b"GET /a  "), (200, b"POST /b  hello"), (200, b"POST /c  abc")]


def test_a_client_that_is_gone_when_it_is_told_the_end() -> None:
    """It asked, closed, and its system has said so with a reset: shutdown(2) fails with ENOTCONN then."""

    class Reset(Pipe):
        def write_eof(self) -> None:
            raise OSError(errno.ENOTCONN, "not connected")

    written, wrong = feed([b"GET /a HTTP/1.1\r\nConnection: close\r\n\r\n"], pipe := Reset())
    assert bodies(written) == [(200, b"GET /a  ")]
    assert (wrong, pipe.closing) == ([], True)


def test_a_refused_client_can_still_read_why() -> None:
    """Closing a TCP connection with unread input resets it, and the answer may be lost."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"POST / HTTP/1.1\r\nContent-Length: 8000000\r\n\r\n" + b"x" * 8_000_000)
        assert [status for status, _ in bodies(await reader.read())] == [413]

    serve(talk)
