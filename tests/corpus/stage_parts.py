"""The programs that appear in the scenes: servers as a host's configuration names them, and developers' tools.

The demo's servers and six more are cached by ``realparts.py`` and ``realservers.py``. The tools (a TypeScript server,
an ESLint server, Next.js, Playwright), uv, and two servers' wheels are put into a folder of their own beside those,
once; where that is expected is decided in ``realparts.py`` too.
"""

from __future__ import annotations

import fcntl
import functools
import json
import os
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec
import pytest

from oomless.demo.parts import CLAUDE, NODE, ServerPart, npm_environment
from realparts import BUILD_HERE, FOLDER, real_parts, real_server
from realservers import NPM as SERVER_VERSIONS
from realservers import PYPI, node, npx, real_servers

from .stage import ACTORS

NPM = {
    "typescript": "5.9.3",
    "typescript-language-server": "5.1.3",
    "vscode-langservers-extracted": "4.10.0",
    "eslint": "9.9.1",
    "next": "16.4.6",
    "react": "19.3.1",
    "react-dom": "19.3.1",
    "@playwright/test": "1.65.1",
}
UV = "uv==0.13.9"
PLACE = FOLDER.parent / "corpus-tools"
STAMP = json.dumps([NPM, UV, PYPI])
BROWSER = "/usr/bin/chromium"
CLAUDE_CODE = "Claude Code 2.1.330"
#: The scripts of six servers, in ``node_modules/.bin``, and their packages.
SCRIPTS = {
    "memory": ("mcp-server-memory", "@modelcontextprotocol/server-memory"),
    "filesystem": ("mcp-server-filesystem", "@modelcontextprotocol/server-filesystem"),
    "sequential-thinking": ("mcp-server-sequential-thinking", "@modelcontextprotocol/server-sequential-thinking"),
    "playwright": ("playwright-mcp", "@playwright/mcp"),
}
_BINARIES = {"flow-nexus": "flow-nexus", "claude-flow": "claude-flow", "everything": "mcp-server-everything",
             "ruv-swarm": "ruv-swarm"}  # fmt: skip


class Server(msgspec.Struct, frozen=True, kw_only=True):
    """An entry of a host's configuration. ``processes``: how many it is at least, once it serves."""

    name: str
    command: tuple[str, ...]
    env: dict[str, str] = {}
    program: str
    processes: int = 1


def claude() -> str:
    return real_parts().claude


def plain(name: str) -> Server:
    """One of the demo's five, as the program itself."""
    part = real_server(name)
    return Server(name=name, command=part.command, env=_env(part), program=f"{name} {part.version}")


@functools.cache
def silence() -> socket.socket:
    """A proxy that takes every connection and never answers. flow-nexus asks its maker's service when it starts; as
    long as it waits for that (over a minute), it is busy and goes on when its input ends."""
    here = socket.socket()
    here.bind(("127.0.0.1", 0))
    here.listen(512)
    return here


def _env(part: ServerPart) -> dict[str, str]:
    proxies = (name for name in part.env if name.endswith("_PROXY") and name.startswith("HTTP"))
    return {**part.env, **dict.fromkeys(proxies, f"http://127.0.0.1:{silence().getsockname()[1]}")}


def script(name: str, *arguments: str) -> Server:
    """One of four more of npm's, as the program itself."""
    binary, package = SCRIPTS[name]
    path = real_servers() / "node_modules/.bin" / binary
    return Server(name=name, command=(str(node()), str(path), *arguments), program=_version(package))


def module(name: str, *arguments: str) -> Server:
    """``time`` or ``git``, of PyPI."""
    command = (sys.executable, "-m", f"mcp_server_{name}", *arguments)
    program = next(one.replace("==", " ") for one in PYPI if name in one)
    return Server(name=name, command=command, env={"PYTHONPATH": str(real_servers() / "python")}, program=program)


def renamed(server: Server, name: str) -> Server:
    """The same under another name of the configuration."""
    return msgspec.structs.replace(server, name=name)


def by_npx(name: str, *arguments: str) -> Server:
    """The same under ``npx``: npm exec, a shell, and the server."""
    if name in SCRIPTS:
        binary, package = SCRIPTS[name]
        place, env, program = real_servers(), {}, _version(package)
    else:
        part: ServerPart = real_server(name)
        binary, place, env, program = _BINARIES[name], FOLDER / name, _env(part), f"{name} {part.version}"
        arguments = arguments or (("stdio",) if name == "everything" else ("mcp", "start"))
    command = (str(node()), str(npx()), "--no", "--prefix", str(place), "--", binary, *arguments)
    offline = {"npm_config_offline": "true", "npm_config_update_notifier": "false"}
    path = {"PATH": f"{node().parent}:/usr/local/bin:/usr/bin:/bin"}
    return Server(
        name=name, command=command, env={**env, **offline, **path}, program=f"{program} under npx", processes=3
    )


def by_shell(name: str) -> Server:
    """One of the demo's five, below a shell that stays: as people write it who set something up before."""
    inner = plain(name)
    line = f"cd . && {shlex.join(inner.command)}; true"
    return Server(
        name=name, command=("/bin/sh", "-c", line), env=inner.env, program=f"{inner.program} under sh", processes=2
    )


def by_wrapper(name: str) -> Server:
    """One of the demo's five, below a launcher of its own."""
    inner = plain(name)
    command = (sys.executable, "-I", "-S", ACTORS, "wrapper", *inner.command)
    return Server(name=name, command=command, env=inner.env, program=f"{inner.program} under a wrapper", processes=2)


def by_uvx(name: str, *arguments: str) -> Server:
    """The same under uvx, which stays as its parent."""
    package = next(one for one in PYPI if name in one)
    wheels = str(tools() / "wheels")
    command = (
        str(tools() / "uv/bin/uvx"), "--offline", "--no-index", "--find-links", wheels, "--python", sys.executable,
        "--from", package, package.partition("==")[0], *arguments,
    )  # fmt: skip
    env = {"UV_CACHE_DIR": str(tools() / "uv-cache")}
    return Server(name=name, command=command, env=env, program=f"{package.replace('==', ' ')} under uvx", processes=2)


def _version(package: str) -> str:
    return f"{package} {SERVER_VERSIONS[package]}"


# -- tools -----------------------------------------------------------------------------------------------------------


def prepare(needs: Iterable[str]) -> None:
    """Puts there what a stage needs."""
    found: dict[str, Callable[[], object]] = {"claude": real_parts, "servers": real_servers, "tools": tools}
    for need in needs:
        found[need]()


def npm() -> str:
    """The script ``bin/npm`` of the wheel looks for its files where they are not."""
    return f"{node()} {FOLDER / NODE.name / NODE.files[1]}"


def tool(name: str) -> str:
    """A script of ``node_modules/.bin``."""
    return str(tools() / "node_modules/.bin" / name)


def tool_environment() -> dict[str, str]:
    return {
        "PATH": f"{node().parent}:/usr/local/bin:/usr/bin:/bin",
        "NEXT_TELEMETRY_DISABLED": "1",
        "npm_config_offline": "true",
        "npm_config_update_notifier": "false",
    }


def tools() -> Path:
    """The folder with ``node_modules``, ``uv`` and ``wheels``. Skips the test if it is not there nor to be built."""
    real_servers()
    if not _is_built() and not BUILD_HERE:
        pytest.skip(f"the developers' tools are not in {PLACE}")
    if not _is_built():
        PLACE.parent.mkdir(parents=True, exist_ok=True)
        with (PLACE.parent / "corpus-tools.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not _is_built():
                _build()
    return PLACE


def _is_built() -> bool:
    stamp = PLACE / "stamp.json"
    return stamp.is_file() and stamp.read_text() == STAMP


def _build() -> None:
    shutil.rmtree(PLACE, ignore_errors=True)
    PLACE.mkdir()
    (PLACE / "package.json").write_text(json.dumps({"private": True, "dependencies": NPM}))
    options = ("--no-audit", "--no-fund", "--omit=dev", "--ignore-scripts")
    _run([*npm().split(), "install", *options], npm_environment(node()))
    pip = [sys.executable, "-m", "pip"]
    _run([*pip, "install", "--no-compile", "--target", str(PLACE / "uv"), UV])
    _run([*pip, "download", "--only-binary", ":all:", "--dest", str(PLACE / "wheels"), *PYPI])
    (PLACE / "stamp.json").write_text(STAMP)


def _run(command: list[str], env: dict[str, str] | None = None) -> None:
    done = subprocess.run(
        command, cwd=PLACE, env=env or dict(os.environ), capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]


# -- projects for them -----------------------------------------------------------------------------------------------

_PAGE = "export default function Page() { return <p>hello</p> }\n"
_LAYOUT = "export default function Layout({ children }) { return <html><body>{children}</body></html> }\n"
_TEST = """import {{ test }} from '@playwright/test'
test('it stays', async ({{ page }}) => {{
  await page.setContent('<p>hello</p>')
  require('fs').writeFileSync('{ready}', '')
  await page.waitForTimeout(500000)
}})
"""
_CONFIG = """module.exports = {{
  timeout: 600000, workers: 1, reporter: 'line',
  use: {{ launchOptions: {{ executablePath: '{browser}', args: {args} }} }},
}}
"""


def next_app() -> Path:
    """A folder with the smallest app, where Next.js finds itself; to be removed."""
    app = Path(tempfile.mkdtemp(prefix="app-", dir=tools()))
    (app / "app").mkdir()
    (app / "app/page.jsx").write_text(_PAGE)
    (app / "app/layout.jsx").write_text(_LAYOUT)
    scripts = {"dev": "next dev --hostname 127.0.0.1 --port 0"}
    (app / "package.json").write_text(json.dumps({"private": True, "scripts": scripts}))
    return app


def playwright_tests(ready: Path) -> Path:
    """A folder with one test that writes ``ready`` and stays; to be removed."""
    folder = Path(tempfile.mkdtemp(prefix="e2e-", dir=tools()))
    (folder / "stays.spec.ts").write_text(_TEST.format(ready=ready))
    args = json.dumps(["--no-sandbox"] if os.geteuid() == 0 else [])
    (folder / "playwright.config.js").write_text(_CONFIG.format(browser=BROWSER, args=args))
    return folder


VERSIONS = {
    "claude": f"{CLAUDE_CODE} (claude-agent-sdk {CLAUDE.version})",
    **{name: f"{name} {version}" for name, version in NPM.items()},
}
