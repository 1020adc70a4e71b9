"""Requests and responses as the HTTP server passes them on: whole, parsed, and free of their connection."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable

import msgspec

_REASONS = {
    200: "OK", 202: "Accepted", 400: "Bad Request", 401: "Unauthorized", 403: "Forbidden", 404: "Not Found",
    405: "Method Not Allowed", 408: "Request Timeout", 409: "Conflict", 413: "Content Too Large",
    431: "Request Header Fields Too Large", 500: "Internal Server Error", 503: "Service Unavailable",
}  # fmt: skip


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """``path`` as it came, ``headers`` by lower-case name, those given twice joined by commas."""

    method: str
    path: str
    query: str = ""
    headers: dict[str, str] = {}
    body: bytes = b""
    version: str = "1.1"
    keep_alive: bool = True


class Response(msgspec.Struct, frozen=True, kw_only=True):
    """``stream`` instead of ``body`` is sent as it comes; it is closed when the client goes away."""

    status: int = 200
    body: bytes = b""
    content_type: str = "application/json"
    headers: tuple[tuple[str, str], ...] = ()
    stream: AsyncGenerator[bytes, None] | None = None


Handler = Callable[[Request], Awaitable[Response]]


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    error: str


def json_response(view: msgspec.Struct, status: int = 200) -> Response:
    return Response(status=status, body=msgspec.json.encode(view) + b"\n")


def error_response(status: int, text: str) -> Response:
    return json_response(Failure(error=text), status)


def encode_head(response: Response, close: bool, chunked: bool) -> bytes:
    """Status line and header fields."""
    lines = [
        f"HTTP/1.1 {response.status} {_REASONS.get(response.status, 'Unknown')}",
        f"Content-Type: {response.content_type}",
        "Cache-Control: no-store",
        "X-Content-Type-Options: nosniff",
        *(f"{name}: {value}" for name, value in response.headers),
    ]
    if chunked:
        lines.append("Transfer-Encoding: chunked")
    elif response.stream is None:
        lines.append(f"Content-Length: {len(response.body)}")
    if close:
        lines.append("Connection: close")
    return "\r\n".join([*lines, "", ""]).encode("latin-1")
