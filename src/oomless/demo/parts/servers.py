"""How each server is started: the plain program under the Node of the cache, without the wrappers of npx.

What is here was found by starting them (versions in ``catalog.py``): each answers ``initialize`` and ``tools/list``
in 0.2 to 0.9 s. ruv-swarm and flow-nexus print lines on stdout first that are no JSON.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import msgspec

from oomless.demo.parts.catalog import Part

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_BROWSER_PATH = "/usr/bin:/usr/local/bin:/snap/bin"
#: Nobody listens on the discard port: what goes through this proxy fails at once.
_NOWHERE = "http://127.0.0.1:9"


class ServerPart(msgspec.Struct, frozen=True, kw_only=True):
    """``env`` is all that it needs beside a home. ``tool`` with ``arguments`` is a cheap call that works offline."""

    name: str
    command: tuple[str, ...]
    version: str
    env: dict[str, str]
    tool: str
    arguments: dict[str, Any]


def server(part: Part, place: Path, node: Path, browser: str | None) -> ServerPart:
    """``place``: the part's folder; ``node``: the program."""
    extra = _browser_options(browser) if part.name == "chrome-devtools" else ()
    return ServerPart(
        name=part.name,
        command=(str(node), str(place / part.entry), *part.arguments, *extra),
        version=part.version,
        env={"PATH": f"{node.parent}:/usr/local/bin:/usr/bin:/bin", **_quiet(part.name)},
        tool=part.tool,
        arguments=part.tool_input,
    )


def find_browser() -> str | None:
    """An installed Chromium or Chrome."""
    for name in BROWSERS:
        found = shutil.which(name, path=_BROWSER_PATH)
        if found:
            return found
    return None


def _browser_options(browser: str | None) -> tuple[str, ...]:
    """Chromium refuses to run its sandbox as root."""
    chosen = (f"--executablePath={browser}",) if browser else ()
    return (*chosen, "--chromeArg=--no-sandbox") if os.geteuid() == 0 else chosen


def _quiet(name: str) -> dict[str, str]:
    """What keeps a server from talking to its maker: chrome-devtools-mcp starts a process that asks for a newer
    version, flow-nexus has no switch, but Node 24 obeys a proxy."""
    if name == "chrome-devtools":
        return {"CHROME_DEVTOOLS_MCP_NO_UPDATE_CHECKS": "1"}
    if name == "flow-nexus":
        return {"NODE_USE_ENV_PROXY": "1", "HTTP_PROXY": _NOWHERE, "HTTPS_PROXY": _NOWHERE}
    return {}
