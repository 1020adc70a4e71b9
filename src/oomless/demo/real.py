"""The real agents as the acts start and recognise them: one session of Claude Code for each page, with the incident's
servers, in a home of the act's own and an environment that holds nothing else of the user's.

What a session is told to do: ``pages.py``; the programs: ``parts/``. In a governed act oomless is installed into the
act's settings by its own command, as a user would.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence

assert sys.platform == "linux"

import msgspec

from oomless.demo.agents import AGENT, FOLDER, Place, Start
from oomless.demo.pages import CHILD_SECONDS, PAGES, prompt
from oomless.demo.parts import Built, ServerPart
from oomless.demo.record import ActRecord, Form
from oomless.errors import OomlessError

#: All that a session gets of the environment that the demo was started with.
ALLOWED = ("PATH", "LANG", "LC_ALL", "TZ", "USER", "LOGNAME")
#: Kernel memory and page cache count in a cgroup, not in PSS, and so do the shims of what an agent starts (measured:
#: a cgroup's peak was 686 MB where five sessions took 622 MB each).
NEED_SHARE = 1.15
INSTALL_SECONDS = 60
OOMLESS = (sys.executable, "-m", "oomless")
_BROWSERS = (
    "chromium",
    "chromium-browser",
    "chrome",
    "google-chrome",
    "google-chrome-stable",
    "chrome_crashpad_handler",
)


class Config(msgspec.Struct, frozen=True, kw_only=True, rename={"servers": "mcpServers"}):
    """The file for ``--mcp-config``."""

    servers: dict[str, Entry]


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    command: str
    args: tuple[str, ...]
    env: dict[str, str]


class Real:
    """``url``: the scripted model's, known once that runs."""

    form: Form = "real"
    #: A sample of five sessions reads the PSS of some 80 processes.
    tick = 0.25

    def __init__(self, built: Built) -> None:
        self.built = built
        self.names = PAGES
        self.inherited: Mapping[str, str] = allowed(os.environ)
        self.longest = 120.0 + 60 * len(PAGES)
        self.url = ""
        self._entries = {_entry(server): server.name for server in built.servers.values()}

    def open(self, place: Place) -> None:
        for folder in (*home(place).values(), *_own_xdg(place).values()):
            os.makedirs(folder, mode=0o700, exist_ok=True)
        os.mkdir(_work(place))
        with open(_config(place), "wb") as file:
            file.write(msgspec.json.encode(Config(servers={s.name: entry(s) for s in self.built.servers.values()})))
        if place.governed:
            install(place)

    def start(self, place: Place, name: str) -> Start:
        options = ("--permission-mode", "bypassPermissions", "--mcp-config", _config(place), "--strict-mcp-config")
        env = {
            **home(place),
            **({} if place.governed else _own_xdg(place)),
            "ANTHROPIC_BASE_URL": self.url,
            "ANTHROPIC_API_KEY": "dummy",
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
            "DISABLE_TELEMETRY": "1",
            "DISABLE_AUTOUPDATER": "1",
            "IS_SANDBOX": "1",
            "MCP_SERVER_CONNECTION_BATCH_SIZE": str(len(self._entries)),
            "SHELL": shutil.which("bash") or "/bin/bash",
            AGENT: name,
            FOLDER: place.folder,
        }
        return Start(command=(self.built.claude, "-p", prompt(name), *options), env=env, cwd=_work(place))

    def role(self, command: Sequence[str]) -> tuple[str, str]:
        if command[:1] == [self.built.claude]:
            return ("agent", command[2].split()[0].partition("=")[2]) if "-p" in command[1:2] else ("claude", "")
        if command == ["sleep", str(CHILD_SECONDS)]:
            return "shell", ""
        for part in command:
            if part in self._entries:
                return self._entries[part], ""
            if "/shell-snapshots/snapshot-" in part:
                return "shell", ""
        return _by_program(command[0] if command else "", " ".join(command[1:2])), ""

    def need(self, parallel: ActRecord) -> int:
        """Sessions share the pages of their programs, so that one more takes less than the first: what is reserved is
        what each took when all ran."""
        return int(parallel.peak_bytes / len(self.names) * NEED_SHARE)


def allowed(environ: Mapping[str, str]) -> dict[str, str]:
    return {name: environ[name] for name in ALLOWED if name in environ}


def entry(server: ServerPart) -> Entry:
    return Entry(command=server.command[0], args=server.command[1:], env=server.env)


def _entry(server: ServerPart) -> str:
    """The script by which a server is known: the first argument of Node."""
    return server.command[1]


def _by_program(program: str, option: str) -> str:
    """chrome-devtools-mcp gives itself that title; Chromium starts its helpers through /proc/self/exe, and in its
    sandbox their title is one word."""
    program, _, rest = program.partition(" --")
    option = f"--{rest}" if rest else option
    if program.startswith("chrome-devtools-mcp"):
        return "chrome-devtools"
    if os.path.basename(program) in _BROWSERS or (program == "/proc/self/exe" and option.startswith("--type=")):
        return "browser"
    return "other"


def home(place: Place) -> dict[str, str]:
    """The act's own home, as variables."""
    below = {
        "HOME": "h",
        "CLAUDE_CONFIG_DIR": "h/.claude",
        "TMPDIR": "t",
        "XDG_CACHE_HOME": "h/x",
        "XDG_DATA_HOME": "h/d",
    }
    return {name: os.path.join(place.folder, folder) for name, folder in below.items()}


def _own_xdg(place: Place) -> dict[str, str]:
    """Without oomless, so that no session could meet even the stage's daemon; governed, they are the stage's."""
    below = {"XDG_CONFIG_HOME": "h/c", "XDG_STATE_HOME": "h/s", "XDG_RUNTIME_DIR": "h/r"}
    return {name: os.path.join(place.folder, folder) for name, folder in below.items()}


def _work(place: Place) -> str:
    return os.path.join(place.folder, "w")


def _config(place: Place) -> str:
    return os.path.join(place.folder, "mcp.json")


def install(place: Place) -> None:
    """Hooks and prefix into the act's settings; the stage's daemon is started by it."""
    command = [*OOMLESS, "install", "claude-code", "--yes"]
    try:
        done = subprocess.run(
            command,
            env={**place.environ, **home(place)},
            cwd=place.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=INSTALL_SECONDS,
            check=False,
        )
        said = (done.stderr.strip().splitlines() or ["it said nothing"])[-1].removeprefix("oomless: ")
    except subprocess.TimeoutExpired:
        said, done = f"it did not end within {INSTALL_SECONDS} s", None
    if done is None or done.returncode != 0:
        raise OomlessError("oomless could not be installed for the governed acts", said, "see: oomless doctor")
