"""The real programs for tests marked ``parts``, and how the real Claude Code CLI is run: offline, against a scripted
model, with a home of its own.

They are built where that is expected (CI, or root's own machine); elsewhere they are used if they are there:
``OOMLESS_PARTS`` or the user's cache. The place is settled when this module is loaded, before a test has a home of
its own.
"""

from __future__ import annotations

import functools
import json
import os
import subprocess
from pathlib import Path

import pytest

from oomless.demo.parts import Built, Parts, ServerPart, cache_folder

FOLDER = cache_folder()
BUILD_HERE = os.environ.get("CI") == "true" or os.geteuid() == 0


@functools.cache
def real_parts() -> Built:
    """Skips the test if they are not there and not to be built."""
    parts = Parts(FOLDER)
    missing = [part.name for part in parts.missing()]
    if missing and not BUILD_HERE:
        pytest.skip(f"the real parts are not in {FOLDER}: {', '.join(missing)}")
    return parts.build(lambda name, step: None)


def real_server(name: str) -> ServerPart:
    """In CI none may be missing."""
    built = real_parts()
    if name not in built.servers and os.environ.get("CI") != "true":
        pytest.skip(f"{name}: {built.servers_missing[name]}")
    return built.servers[name]


def mcp_config(folder: Path, *servers: ServerPart) -> Path:
    """A file for ``--mcp-config``."""
    entries = {s.name: {"command": s.command[0], "args": list(s.command[1:]), "env": s.env} for s in servers}
    file = folder / "mcp.json"
    file.write_text(json.dumps({"mcpServers": entries}))
    return file


def claude_environment(home: Path, url: str) -> dict[str, str]:
    """All of it: nothing of ours but the mark by which the tests find what is left behind."""
    mark = {"OOMLESS_TEST": os.environ["OOMLESS_TEST"]} if "OOMLESS_TEST" in os.environ else {}
    return {
        **mark,
        "HOME": str(home),
        "CLAUDE_CONFIG_DIR": str(home / "claude"),
        "ANTHROPIC_BASE_URL": url,
        "ANTHROPIC_API_KEY": "dummy",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "DISABLE_TELEMETRY": "1",
        "DISABLE_AUTOUPDATER": "1",
        "IS_SANDBOX": "1",
        "PATH": "/usr/local/bin:/usr/bin:/bin",
    }


def run_claude(
    home: Path, url: str, prompt: str, *options: str, timeout: float = 120
) -> subprocess.CompletedProcess[str]:
    """One session in a folder ``work`` of ``home``, to its end."""
    work = home / "work"
    work.mkdir(exist_ok=True)
    command = [
        real_parts().claude,
        "-p",
        prompt,
        "--permission-mode",
        "bypassPermissions",
        "--strict-mcp-config",
        *options,
    ]
    return subprocess.run(
        command,
        cwd=work,
        env=claude_environment(home, url),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
