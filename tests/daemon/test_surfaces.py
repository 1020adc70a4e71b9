"""Who may ask for what: tokens, Host and Origin on 127.0.0.1, the peer's uid on the Unix socket, and the routes."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import stat
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from fake_core import FakeCore
from oomless.daemon import server as server_module
from oomless.daemon.api import Control, Loopback, unquote
from oomless.daemon.logs import Log
from oomless.daemon.message import Request, Response
from oomless.daemon.server import Server
from oomless.daemon.surfaces import Tokens, check_access, load_tokens, surface_of
from oomless.errors import DaemonError, StateUnwritable
from oomless.paths import Paths
from oomless.protocol.views import DaemonView, EventView

assert sys.platform == "linux"

TOKENS = Tokens(hooks="a" * 64, mcp="b" * 64, read="c" * 64)
PORT = 4242


@pytest.fixture
def paths() -> Paths:
    made = Paths()
    made.make()
    return made


def ask(path: str, token: str = "", **headers: str) -> int:
    given = {"host": f"127.0.0.1:{PORT}", "authorization": f"Bearer {token}", **headers}
    return check_access(path, given, TOKENS, PORT).status


# The judgement


@pytest.mark.parametrize(
    ("path", "surface"),
    [("/hooks/claude", "hooks"), ("/mcp/x", "mcp"), ("/status", "read"), ("/events", "read"), ("/nowhere", "read"),
     ("/hooks", "hooks"), ("/hooksx/a", "read"), ("//hooks/a", "read"), ("/%68ooks/a", "read"), ("hooks/a", "read")],
)  # fmt: skip
def test_a_token_opens_its_own_surface_and_no_other(path: str, surface: str) -> None:
    assert surface_of(path) == surface
    for name in ("hooks", "mcp", "read"):
        assert ask(path, getattr(TOKENS, name)) == (200 if name == surface else 401)


@pytest.mark.parametrize("token", ["", "c" * 63, "c" * 65, "C" * 64, "c" * 63 + "é", TOKENS.read + " x"])
def test_a_wrong_token_opens_nothing(token: str) -> None:
    assert ask("/status", token) == 401


def test_only_a_bearer_header_counts() -> None:
    assert ask("/status", authorization=f"bearer  {TOKENS.read}") == 200
    assert ask("/status", authorization=f"Basic {TOKENS.read}") == 401
    assert ask("/status", authorization=TOKENS.read) == 401
    assert check_access("/status", {"host": f"127.0.0.1:{PORT}"}, TOKENS, PORT).status == 401


@pytest.mark.parametrize(
    "host",
    ["evil.example", f"evil.example:{PORT}", "127.0.0.1", "127.0.0.1:1", f"127.0.0.1.evil.example:{PORT}", "",
     f"localhost:{PORT}, evil.example", f"0.0.0.0:{PORT}", f"[::1]:{PORT}"],
)  # fmt: skip
def test_a_name_rebound_to_our_address_gets_nothing(host: str) -> None:
    assert ask("/status", TOKENS.read, host=host) == 403


def test_our_own_names_pass() -> None:
    for host in (f"127.0.0.1:{PORT}", f"localhost:{PORT}", f"LOCALHOST:{PORT}"):
        assert ask("/status", TOKENS.read, host=host) == 200
        assert ask("/status", TOKENS.read, origin=f"http://{host}") == 200


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "", "https://127.0.0.1:4242", "http://127.0.0.1:1"]
)
def test_another_origin_gets_nothing(origin: str) -> None:
    assert ask("/status", TOKENS.read, origin=origin) == 403


@pytest.mark.parametrize("path", ["/v1", "/v1/status", "/v1/stop", "/v1/trees/x/end"])
def test_control_is_not_there_whatever_is_shown(path: str) -> None:
    assert {ask(path, token) for token in ("", TOKENS.hooks, TOKENS.mcp, TOKENS.read)} == {404}


# The token files


@pytest.mark.as_user
def test_tokens_are_made_once_and_private(paths: Paths) -> None:
    first = load_tokens(paths)
    assert len({first.hooks, first.mcp, first.read}) == 3
    for name in ("hooks", "mcp", "read"):
        assert len(bytes.fromhex(getattr(first, name))) == 32
        assert stat.S_IMODE(os.stat(paths.token(name)).st_mode) == 0o600
    assert load_tokens(paths) == first


def test_a_token_cut_short_or_open_to_others_is_replaced(paths: Paths) -> None:
    first = load_tokens(paths)
    Path(paths.token("hooks")).write_text("")
    os.chmod(paths.token("mcp"), 0o644)
    os.unlink(paths.token("read"))
    os.symlink("/dev/null", paths.token("read"))
    second = load_tokens(paths)
    for name in ("hooks", "mcp", "read"):
        assert len(getattr(second, name)) == 64
        assert getattr(second, name) != getattr(first, name)
        assert stat.S_IMODE(os.lstat(paths.token(name)).st_mode) == 0o600
    assert load_tokens(paths) == second


def test_no_place_for_tokens_is_one_line(tmp_path: Path) -> None:
    paths = Paths({"HOME": str(tmp_path)})
    with pytest.raises(StateUnwritable, match=r"^cannot keep a token in .*: No such file or directory; "):
        load_tokens(paths)


# Live


class Live:
    def __init__(self, core: FakeCore, server: Server, loopback: Loopback) -> None:
        self.core, self.server, self.loopback = core, server, loopback
        self.stopped = asyncio.Event()

    async def tcp(self, path: str, token: str = "", method: str = "GET", **headers: str) -> tuple[int, str]:
        host = headers.pop("host", f"127.0.0.1:{self.loopback.port}")
        lines = [f"{method} {path} HTTP/1.1", f"Host: {host}", f"Authorization: Bearer {token}", "Connection: close"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        reader, writer = await asyncio.open_connection("127.0.0.1", self.loopback.port)
        return await answer(reader, writer, "\r\n".join([*lines, "", ""]).encode())

    async def unix(self, path: str, method: str = "GET", body: bytes = b"") -> tuple[int, str]:
        head = f"{method} {path} HTTP/1.1\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
        reader, writer = await asyncio.open_unix_connection(self.server.path)
        return await answer(reader, writer, head.encode() + body)


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> tuple[int, str]:
    writer.write(request)
    raw = (await asyncio.wait_for(reader.read(), 20)).decode()
    writer.close()
    head, _, body = raw.partition("\r\n\r\n")
    return int(head.split()[1]), body


@asynccontextmanager
async def live(paths: Paths) -> AsyncIterator[Live]:
    core = FakeCore()
    loopback = Loopback(core, load_tokens(paths))
    stopped: list[Live] = []
    control = Control(core, lambda: DaemonView(pid=9, version="v"), lambda: stopped[0].stopped.set())
    with open(os.devnull, "wb") as nowhere:
        server = Server(paths, core, control, loopback, Log(nowhere.fileno()))
        await server.open(0)
        stopped.append(Live(core, server, loopback))
        try:
            yield stopped[0]
        finally:
            server.close()


def check(paths: Paths, body: Callable[[Live, Tokens], Awaitable[None]]) -> None:
    async def main() -> None:
        async with live(paths) as running:
            await body(running, load_tokens(paths))

    asyncio.run(main())


@pytest.mark.as_user
def test_the_read_surface(paths: Paths) -> None:
    async def body(it: Live, tokens: Tokens) -> None:
        status, text = await it.tcp("/status", tokens.read)
        assert status == 200
        view = json.loads(text)
        assert (view["schema"], view["trees"][0]["class"]) == ("oomless.status/1", "x")
        assert (await it.tcp("/health", tokens.read))[0] == 200
        assert (await it.tcp("/nowhere", tokens.read))[0] == 404
        assert (await it.tcp("/status", tokens.read, method="POST"))[0] == 405
        for token in (tokens.hooks, tokens.mcp, ""):
            assert (await it.tcp("/status", token))[0] == 401
        assert (await it.tcp("/status", tokens.read, host="evil.example"))[0] == 403
        assert (await it.tcp("/status", tokens.read, Origin="http://evil.example"))[0] == 403
        assert (await it.tcp("/status", tokens.read, HOST="evil.example"))[0] == 403  # a second Host

    check(paths, body)


@pytest.mark.as_user
def test_control_is_on_the_unix_socket_only(paths: Paths) -> None:
    async def body(it: Live, tokens: Tokens) -> None:
        for token in (tokens.read, tokens.hooks, tokens.mcp):
            for path in ("/v1/status", "/v1/daemon", "/v1/trees/t1"):
                assert (await it.tcp(path, token))[0] == 404
            for path in ("/v1/stop", "/v1/trees/t1/end"):
                assert (await it.tcp(path, token, method="POST"))[0] == 404
        assert not it.stopped.is_set()
        assert it.core.ended == []
        # A lease over TCP is no lease either.
        reader, writer = await asyncio.open_connection("127.0.0.1", it.loopback.port)
        assert (await answer(reader, writer, b'{"op":"lease"}\n'))[0] == 400
        assert it.core.leases == []

    check(paths, body)


def test_hooks_and_servers_answer_to_their_own_token_and_only_if_there(paths: Paths) -> None:
    async def hook(request: Request) -> Response:
        return Response(body=request.path.encode())

    async def body(it: Live, tokens: Tokens) -> None:
        for path, token, error in (
            ("/hooks/claude/x", tokens.hooks, "no such host"),
            ("/mcp/files", tokens.mcp, "no such server"),
        ):
            status, text = await it.tcp(path, token)
            assert (status, json.loads(text)) == (404, {"error": error})
            assert (await it.tcp(path, tokens.read))[0] == 401
        it.loopback.hooks["claude"] = hook
        assert await it.tcp("/hooks/claude/x", tokens.hooks) == (200, "/hooks/claude/x")
        assert (await it.tcp("/hooks/claude/x", tokens.mcp))[0] == 401
        assert (await it.tcp("/hooks", tokens.hooks))[0] == 404

    check(paths, body)


def test_events_come_as_they_happen_and_a_leaver_is_forgotten(paths: Paths) -> None:
    async def body(it: Live, tokens: Tokens) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", it.loopback.port)
        head = f"GET /events HTTP/1.1\r\nHost: localhost:{it.loopback.port}\r\n"
        writer.write(f"{head}Authorization: Bearer {tokens.read}\r\n\r\n".encode())
        raw = await reader.readuntil(b": listening\n\n")
        assert b"Content-Type: text/event-stream\r\n" in raw
        it.core.queues[0].put_nowait(EventView(at=1.0, kind="end", tree="t1", name="n", text="two\nlines"))
        got = await reader.readuntil(b"\n\n\r\n")
        assert b"event: end\ndata: {" in got
        assert json.loads(got.split(b"data: ")[1].split(b"\n\n")[0])["text"] == "two\nlines"
        writer.close()
        await asyncio.wait_for(it.core.unsubscribed.wait(), 20)
        assert it.core.queues == []

    check(paths, body)


def test_control_routes(paths: Paths) -> None:
    async def body(it: Live, tokens: Tokens) -> None:
        assert json.loads((await it.unix("/v1/status"))[1])["schema"] == "oomless.status/1"
        assert json.loads((await it.unix("/v1/daemon"))[1])["pid"] == 9
        assert json.loads((await it.unix("/v1/trees/t1"))[1])["tree"] == "t1"
        assert json.loads((await it.unix("/v1/trees/a%20b%2Fc"))[1])["tree"] == "t1"
        assert (await it.unix("/v1/trees/other"))[0] == 404
        assert (await it.unix("/v1/trees/%zz"))[0] == 404
        assert (await it.unix("/status"))[0] == 404
        assert (await it.unix("/v1/stop"))[0] == 405
        assert (await it.unix("/v1/trees/t1/end", "POST", b"rubbish"))[0] == 400
        assert it.core.ended == []
        assert (await it.unix("/v1/trees/t1/end", "POST", b'{"reason":"why not"}'))[0] == 200
        assert (await it.unix("/v1/trees/other/end", "POST"))[0] == 404
        assert it.core.ended == [("t1", "why not"), ("other", "asked for")]
        assert not it.stopped.is_set()
        assert (await it.unix("/v1/stop", "POST"))[0] == 200
        await asyncio.wait_for(it.stopped.wait(), 20)

    check(paths, body)


def test_a_first_brace_opens_a_lease_with_nothing_consumed(paths: Paths) -> None:
    async def body(it: Live, tokens: Tokens) -> None:
        reader, writer = await asyncio.open_unix_connection(it.server.path)
        line = b'{"op":"lease","argv":["' + b"x" * 3_000_000 + b'"]}\n'
        writer.write(line[:1])
        await writer.drain()
        writer.write(line[1:])
        assert await asyncio.wait_for(reader.read(), 20) == b"seen " + line
        writer.close()
        assert it.core.leases == [(os.getpid(), line)]

    check(paths, body)


def test_a_silent_connection_is_closed(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "FIRST_BYTE_SECONDS", 0.05)

    async def body(it: Live, tokens: Tokens) -> None:
        reader, writer = await asyncio.open_unix_connection(it.server.path)
        assert await asyncio.wait_for(reader.read(), 20) == b""
        writer.close()

    check(paths, body)


@pytest.mark.as_user
def test_the_socket_is_ours_alone(paths: Paths) -> None:
    async def body(it: Live, tokens: Tokens) -> None:
        assert stat.S_IMODE(os.stat(it.server.path).st_mode) == 0o600
        assert stat.S_IMODE(os.stat(os.path.dirname(it.server.path)).st_mode) == 0o700

    folder = os.path.dirname(paths.socket())
    os.makedirs(folder, exist_ok=True)
    os.chmod(folder, 0o755)
    check(paths, body)
    assert not os.path.exists(paths.socket())


def test_a_stale_socket_is_replaced_and_a_lost_one_made_anew(paths: Paths) -> None:
    os.makedirs(os.path.dirname(paths.socket()), exist_ok=True)
    old = socket.socket(socket.AF_UNIX)
    old.bind(paths.socket())
    old.close()

    async def body(it: Live, tokens: Tokens) -> None:
        assert (await it.unix("/v1/status"))[0] == 200
        assert not await it.server.reopen_if_lost()
        os.unlink(it.server.path)
        assert await it.server.reopen_if_lost()
        assert (await it.unix("/v1/status"))[0] == 200

    check(paths, body)


@pytest.mark.as_user
def test_a_folder_of_somebody_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with pytest.raises(DaemonError, match="it is not a folder of ours"):
        server_module.bind_socket(str(tmp_path / "link" / "x.sock"))


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")
def test_another_user_gets_nothing_even_past_the_files_modes(paths: Paths, house: Path) -> None:
    async def body(it: Live, tokens: Tokens) -> None:
        opened = Path(it.server.path)
        os.chmod(opened, 0o666)
        for parent in opened.parents:
            if parent.is_relative_to(house):
                os.chmod(parent, 0o711)
        out, into = os.pipe()
        child = os.fork()
        if child == 0:
            os.setgid(65534)
            os.setuid(65534)
            os.write(into, try_status(it.server.path))
            os._exit(0)
        os.close(into)
        got = await asyncio.to_thread(os.read, out, 1000)
        os.close(out)
        os.waitpid(child, 0)
        assert got == b"connected, then nothing"
        assert (await it.unix("/v1/status"))[0] == 200

    check(paths, body)


def try_status(path: str) -> bytes:
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.connect(path)
    except OSError as error:
        return f"not even connected: {error}".encode()
    try:
        connection.sendall(b"GET /v1/status HTTP/1.1\r\n\r\n")
        return connection.recv(900) or b"connected, then nothing"
    except (ConnectionResetError, BrokenPipeError):
        return b"connected, then nothing"


def test_percent_decoding() -> None:
    assert unquote("a%20b%2Fc%C3%A9") == "a b/cé"
    for wrong in ("%", "%4", "%zz", "%ff"):
        with pytest.raises(ValueError):
            unquote(wrong)
