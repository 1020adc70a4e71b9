"""Six more real MCP servers beside the demo's five, in a folder of their own: 57 MB from npm and 37 MB from PyPI, put
there once in half a minute. Where and whether they are built is decided as for the parts (``realparts.py``), whose
Node they run on.
"""

from __future__ import annotations

import fcntl
import functools
import json
import os
import selectors
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from oomless.demo.parts import NODE, ServerPart, node_binary, npm_environment
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


class Client:
    """The least of an MCP client: one request after another over stdio. Lines that are no JSON are passed over."""

    def __init__(self, server: ServerPart, home: Path) -> None:
        self._errors = (home / "stderr").open("wb")
        self.process = subprocess.Popen(
            server.command,
            cwd=home,
            env={**server.env, "HOME": str(home), "TMPDIR": str(home), "OOMLESS_TEST": os.environ["OOMLESS_TEST"]},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
        )
        self._buffer = b""
        self._last = 0

    def request(self, method: str, timeout: float = 60, **params: Any) -> Any:
        self._last += 1
        self.send(method, params, id=self._last)
        deadline = time.monotonic() + timeout
        while True:
            answer = self._line(deadline)
            if answer.get("id") == self._last and "method" not in answer:
                assert "error" not in answer, answer
                return answer["result"]

    def send(self, method: str, params: dict[str, Any], **fields: Any) -> None:
        assert self.process.stdin
        message = {"jsonrpc": "2.0", "method": method, "params": params, **fields}
        self.process.stdin.write(json.dumps(message).encode() + b"\n")
        self.process.stdin.flush()

    def _line(self, deadline: float) -> dict[str, Any]:
        while True:
            line, found, rest = self._buffer.partition(b"\n")
            if not found:
                self._buffer += self._read(deadline)
                continue
            self._buffer = rest
            try:
                return dict(json.loads(line))
            except ValueError:
                pass

    def _read(self, deadline: float) -> bytes:
        assert self.process.stdout
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            assert selector.select(max(deadline - time.monotonic(), 0)), "no answer in time"
        part = os.read(self.process.stdout.fileno(), 2**16)
        assert part, Path(self._errors.name).read_text()[-500:]
        return part

    def close(self) -> None:
        """TERM lets chrome-devtools-mcp end its browser; flow-nexus does not end when its stdin does."""
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
        for pipe in (self.process.stdin, self.process.stdout, self._errors):
            if pipe:
                pipe.close()
        self.process.wait()
