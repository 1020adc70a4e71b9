"""Access to 127.0.0.1: a token for each surface, and a check against foreign web pages.

Any program of any user of the machine can connect there, and so can a web page in the user's browser: by a form, or
by DNS rebinding under its own host name. So Host and Origin must name us, and a token must be shown. A token opens
its own surface and no other: an agent can read its own settings, hence it may know the hooks token.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from typing import Literal

import msgspec

from oomless.errors import StateUnwritable
from oomless.lean import compare_digest
from oomless.paths import Paths

Surface = Literal["hooks", "mcp", "read"]
_TOKEN_BYTES = 32


class Tokens(msgspec.Struct, frozen=True, kw_only=True):
    hooks: str
    mcp: str
    read: str


class AccessDecision(msgspec.Struct, frozen=True, kw_only=True):
    """``status`` 200 admits the request; any other is the answer, with ``error`` as its text."""

    status: int
    surface: Surface
    error: str = ""


def check_access(path: str, headers: Mapping[str, str], tokens: Tokens, port: int) -> AccessDecision:
    """``headers`` by lower-case name, those given twice joined by commas (and thus no longer valid)."""
    surface = surface_of(path)
    ours = (f"127.0.0.1:{port}", f"localhost:{port}")
    if headers.get("host", "").lower() not in ours:
        return AccessDecision(status=403, surface=surface, error="the Host header does not name this daemon")
    origin = headers.get("origin")
    if origin is not None and origin.lower() not in [f"http://{host}" for host in ours]:
        return AccessDecision(status=403, surface=surface, error="requests from other origins are refused")
    if path == "/v1" or path.startswith("/v1/"):
        return AccessDecision(status=404, surface=surface, error="control is on the Unix socket only")
    if not _matches(headers.get("authorization", ""), getattr(tokens, surface)):
        return AccessDecision(status=401, surface=surface, error=f"the {surface} token is needed as a Bearer token")
    return AccessDecision(status=200, surface=surface)


def surface_of(path: str) -> Surface:
    """The path is taken as it came: neither decoded nor normalised, here as in the routes."""
    first = path.split("/", 2)[1] if path.startswith("/") else ""
    return "hooks" if first == "hooks" else "mcp" if first == "mcp" else "read"


def _matches(authorization: str, token: str) -> bool:
    scheme, _, shown = authorization.partition(" ")
    return scheme.lower() == "bearer" and compare_digest(shown.strip().encode(), token.encode())


def load_tokens(paths: Paths) -> Tokens:
    """The tokens of this installation, made at the first call; raises StateUnwritable."""
    return Tokens(hooks=_token(paths, "hooks"), mcp=_token(paths, "mcp"), read=_token(paths, "read"))


def _token(paths: Paths, surface: Surface) -> str:
    path = paths.token(surface)
    try:
        token = _read(path)
        if token is not None:
            return token
        if os.path.lexists(path):
            os.unlink(path)  # Cut short, a link, or open to others: no secret any more.
        return _write(path)
    except OSError as error:
        why = error.strerror or str(error)
        raise StateUnwritable(f"cannot keep a token in {path}", why, "free disk space or delete it") from None


def _read(path: str) -> str | None:
    """The token, if the file is whole and no other user can read it."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    with open(fd, "rb") as file:
        status = os.fstat(fd)
        private = stat.S_ISREG(status.st_mode) and not status.st_mode & 0o077 and status.st_uid == os.geteuid()
        text = file.read(4 * _TOKEN_BYTES).strip() if private else b""
    whole = len(text) == 2 * _TOKEN_BYTES and not text.strip(b"0123456789abcdef")
    return text.decode() if whole else None


def _write(path: str) -> str:
    """Only the daemon that holds the lock writes here: no other process can be first."""
    token = os.urandom(_TOKEN_BYTES).hex()
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(fd, "w", encoding="ascii") as file:
        file.write(token + "\n")
    return token
