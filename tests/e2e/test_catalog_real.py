"""Eleven real MCP servers, each started as its makers say, answered by, and recognised: name, kind, and the processes
that are one instance. The demo's five are cached with it; the other six by ``realservers.py``. And Claude Code's
background daemon with its spare workers.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from helpers import wait_for
from leaks import marked
from oomless import catalog
from oomless.census.attribution import Attributed, attribute
from oomless.census.snapshot import take_snapshot
from oomless.demo.parts import ServerPart
from oomless.platform import proc
from oomless.platform.linux import Linux
from realparts import claude_environment, real_parts, real_server
from realservers import Client, environment, node, npx, real_servers

pytestmark = pytest.mark.parts

KNOWN = catalog.load()
#: The demo's, by their names in the catalog.
DEMO = {
    "chrome-devtools": "chrome-devtools-mcp",
    "flow-nexus": "flow-nexus",
    "claude-flow": "claude-flow",
    "ruv-swarm": "ruv-swarm",
    "everything": "server-everything",
}
BACKGROUND = {"claude-code-daemon": "other", "claude-code-pty-host": "other", "spare": "session"}
MODULES = "node_modules/@modelcontextprotocol"


class Started(msgspec.Struct, frozen=True, kw_only=True):
    """``args`` with ``{place}``, ``{home}``, ``{node}`` and ``{python}``."""

    name: str
    args: tuple[str, ...]
    by: str


OTHERS = (
    Started(
        name="server-memory",
        args=("{node}", f"{{place}}/{MODULES}/server-memory/dist/index.js"),
        by="package @modelcontextprotocol/server-memory",
    ),
    Started(
        name="server-filesystem",
        args=("{node}", "{place}/node_modules/.bin/mcp-server-filesystem", "{home}"),
        by="script mcp-server-filesystem",
    ),
    Started(
        name="server-sequential-thinking",
        args=("{place}/node_modules/.bin/mcp-server-sequential-thinking",),
        by="script mcp-server-sequential-thinking",
    ),
    Started(
        name="playwright-mcp",
        args=("{node}", "{place}/node_modules/@playwright/mcp/cli.js", "--headless"),
        by="package @playwright/mcp",
    ),
    Started(name="mcp-server-time", args=("{place}/python/bin/mcp-server-time",), by="script mcp-server-time"),
    Started(name="mcp-server-git", args=("{python}", "-m", "mcp_server_git"), by="module mcp_server_git"),
)


@contextmanager
def running(command: tuple[str, ...], env: dict[str, str], home: Path) -> Iterator[int]:
    """A server that has answered its first two requests, by pid; ended with all below it."""
    part = ServerPart(name="x", command=command, version="", env=env, tool="", arguments={})
    client = Client(part, home)
    try:
        client.request(
            "initialize", protocolVersion="2025-11-25", capabilities={}, clientInfo={"name": "t", "version": "1"}
        )
        client.send("notifications/initialized", {})
        assert client.request("tools/list")["tools"]
        yield client.process.pid
    finally:
        table = proc.table()
        below = [(pid, table[pid].start) for pid in _below(client.process.pid) if pid in table]
        client.close()
        for pid, start in below:
            proc.kill(pid, start)


def _below(root: int) -> list[int]:
    """The deepest first."""
    children = [pid for pid, stat in proc.table().items() if stat.ppid == root]
    return [found for child in children for found in (*_below(child), child)]


def seen(root: int) -> dict[int, Attributed]:
    """What the census says of it and of all below, by pid."""
    found = attribute(take_snapshot(Linux()), (), KNOWN)
    inside = {root, *_below(root)}
    return {one.process.pid: one for one in found if one.process.pid in inside}


@pytest.mark.parametrize("part", DEMO)
def test_a_server_of_the_incident(part: str, tmp_path: Path) -> None:
    server = real_server(part)
    env = {**server.env, "HOME": str(tmp_path), "OOMLESS_TEST": os.environ["OOMLESS_TEST"]}
    with running(server.command, env, tmp_path) as pid:
        row = seen(pid)[pid]
        assert (row.server, row.kind, row.instance) == (DEMO[part], "server", pid)


@pytest.mark.parametrize("started", OTHERS, ids=lambda one: one.name)
def test_another_server(started: Started, tmp_path: Path) -> None:
    place, python = real_servers(), sys.executable
    words = {"place": place, "home": tmp_path, "node": node(), "python": python}
    command = tuple(word.format(**words) for word in started.args)
    with running(command, environment(tmp_path), tmp_path) as pid:
        row = seen(pid)[pid]
        assert (row.server, row.kind, row.instance) == (started.name, "server", pid)
        assert any(started.by in line for line in row.evidence)


def test_npx_keeps_its_wrappers_and_all_are_one_instance(tmp_path: Path) -> None:
    place = real_servers()
    command = (str(node()), str(npx()), "--no", "--prefix", str(place), "--", "mcp-server-memory")
    with running(command, environment(tmp_path), tmp_path) as pid:
        rows = seen(pid)
        assert {one.instance for one in rows.values()} == {pid}
        assert {one.server for one in rows.values()} == {"server-memory"}
        kinds = [one.kind for one in rows.values()]
        assert kinds.count("server") == 1
        assert rows[pid].kind == "launcher"


def test_the_background_daemon_of_claude_code_and_its_spare(tmp_path: Path) -> None:
    """They outlive ``claude --bg``, in process sessions of their own; only the worker is a session."""
    claude, env = real_parts().claude, claude_environment(tmp_path, "http://127.0.0.1:9")
    mark = f"OOMLESS_TEST={env['OOMLESS_TEST']}".encode()
    work = tmp_path / "work"
    trusted = {"hasTrustDialogAccepted": True, "hasCompletedProjectOnboarding": True}
    settings = {"hasCompletedOnboarding": True, "projects": {str(work): trusted}}
    for folder in (work, tmp_path / "claude"):
        folder.mkdir()
    (tmp_path / "claude" / ".claude.json").write_text(json.dumps(settings))
    try:
        subprocess.run([claude, "--bg", "hi"], cwd=work, env=env, stdin=subprocess.DEVNULL, timeout=60, check=True)
        assert wait_for(lambda: _kinds(mark).items() >= BACKGROUND.items(), 30), _kinds(mark)
    finally:
        subprocess.run(
            [claude, "daemon", "stop", "--any"], env=env, stdin=subprocess.DEVNULL, timeout=60, check=False
        )
        for pid, start in marked((mark,)).items():
            proc.kill(pid, start)


def _kinds(mark: bytes) -> dict[str, str]:
    """Of the known programs that run with that mark. ``claude --bg`` has a session of its own beside the spare."""
    inside = marked((mark,))
    kinds: dict[str, str] = {}
    for one in attribute(take_snapshot(Linux()), (), KNOWN):
        if one.program and one.process.pid in inside:
            spare = one.program == "claude-code" and "--bg-spare" in one.process.command
            kinds["spare" if spare else one.program] = one.kind
    return kinds
