"""Six more real MCP servers beside the demo's five, in a folder of their own: 57 MB from npm and 37 MB from PyPI, put
there once in half a minute. Where and whether they are built is decided as for the parts (``realparts.py``), whose
Node they run on.
"""

from __future__ import annotations

import fcntl
import functools
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from oomless.demo.parts.catalog import NODE
from oomless.demo.parts.commands import node_binary, npm_environment
from realparts import BUILD_HERE, FOLDER, real_parts

NPM = {
    "@modelcontextprotocol/server-memory": "2026.8.31",
    "@modelcontextprotocol/server-filesystem": "2026.8.31",
    "@modelcontextprotocol/server-sequential-thinking": "2026.8.31",
    "@playwright/mcp": "0.0.83",
}
PYPI = ("mcp-server-time==2026.10.19", "mcp-server-git==2026.10.19")
#: Not below the parts' own folder, which is the demo's.
PLACE = FOLDER.parent / "catalog-servers"
STAMP = json.dumps([NPM, PYPI])


@functools.cache
def real_servers() -> Path:
    """The folder with ``node_modules`` and ``python``. Skips the test if it is not there and not to be built."""
    real_parts()
    stamp = PLACE / "stamp.json"
    if not BUILD_HERE and not _is_built(stamp):
        pytest.skip(f"the real servers are not in {PLACE}")
    if not _is_built(stamp):
        PLACE.parent.mkdir(parents=True, exist_ok=True)
        with (PLACE.parent / "catalog-servers.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not _is_built(stamp):
                _build()
                stamp.write_text(STAMP)
    return PLACE


def node() -> Path:
    return node_binary(FOLDER / NODE.name)


def npx() -> Path:
    return node().parent.parent / "lib/node_modules/npm/bin/npx-cli.js"


def environment(home: Path) -> dict[str, str]:
    """All that such a server needs: no settings, no network."""
    return {
        "HOME": str(home),
        "PATH": f"{node().parent}:/usr/local/bin:/usr/bin:/bin",
        "PYTHONPATH": str(PLACE / "python"),
        "npm_config_cache": str(home / "npm"),
        "npm_config_offline": "true",
        "npm_config_update_notifier": "false",
        "OOMLESS_TEST": os.environ["OOMLESS_TEST"],
    }


def _is_built(stamp: Path) -> bool:
    return stamp.is_file() and stamp.read_text() == STAMP


def _build() -> None:
    shutil.rmtree(PLACE, ignore_errors=True)
    PLACE.mkdir()
    (PLACE / "package.json").write_text(json.dumps({"private": True, "dependencies": NPM}))
    npm = str(FOLDER / NODE.name / NODE.files[1])
    options = ("--no-audit", "--no-fund", "--omit=dev", "--omit=optional", "--ignore-scripts")
    _run([str(node()), npm, "install", *options], npm_environment(node()))
    pip = [sys.executable, "-m", "pip", "install", "--no-compile"] if _has_pip() else ["uv", "pip", "install"]
    _run([*pip, "--target", str(PLACE / "python"), *PYPI], dict(os.environ))


def _has_pip() -> bool:
    return (
        subprocess.run([sys.executable, "-m", "pip", "--version"], capture_output=True, check=False).returncode == 0
    )


def _run(command: list[str], env: dict[str, str]) -> None:
    done = subprocess.run(command, cwd=PLACE, env=env, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
