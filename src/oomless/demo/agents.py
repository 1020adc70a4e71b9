"""The agents of the acts, in two forms. Synthetic: small Python processes (``agent.py``), sized before anything
starts. Real: one session of Claude Code for each page of the incident, with the incident's servers, in a home of the
act's own and an environment that holds nothing else of the user's.

An agent shows by files in its act's folder how far it is: ``NAME.half`` half-way, ``NAME.json`` when its work is
done, ``NAME.again`` when it is done a second time. A real session starts a background Bash child and calls the quick
tools of its servers, starts one subagent, makes the slow call and says meanwhile that it is half-way, writes its
result, and stops its background child, whose end Claude Code 2.1.330 with ``-p`` would wait for.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence

assert sys.platform == "linux"

import msgspec

from oomless.demo import agent
from oomless.demo.model import Call, Rule, Script, Turn
from oomless.demo.parts import BROWSERS, Built, ServerPart
from oomless.demo.record import ActRecord, Form
from oomless.errors import OomlessError, Refused, UsageError
from oomless.units import format_size

MB = 10**6
#: In an agent's environment, and so in that of all it starts: its name, and the act's folder.
AGENT, FOLDER = "OOMLESS_DEMO_AGENT", "OOMLESS_DEMO_FOLDER"
AGENT_FILE = os.path.abspath(agent.__file__)
#: Two at once must fit in BUDGET_SHARE of what all take at once, with a tenth to spare: 2 x 1.1 <= 0.6 N.
MIN_AGENTS, MAX_AGENTS = 4, 50
MIN_MEMORY, MIN_CHILD = 12 * MB, 3 * MB
MIN_SECONDS, MAX_SECONDS = 1.0, 30.0
#: A bare interpreter with the agent's imports: 6 MB of PSS with CPython 3.11 where 20 share its text.
INTERPRETER = 7 * MB
#: A session of Claude Code 2.1.330 with five servers and Chromium, where five run at a time (measured: 622 MB).
REAL_TREE = 700 * MB
#: The share of the available memory that the demo may take.
SHARE = 0.7
#: Kernel memory and page cache count in a cgroup and not in PSS.
NEED_SHARE = 1.06
#: The incident's pages, one for each agent.
PAGES = ("services", "resources", "network", "request", "news")
#: The server whose tool call takes its time (7 s); all others take 0.1 to 2 s.
SLOW = "flow-nexus"
#: Seconds: what an agent does where that server is missing, what a subagent thinks about, and until a background
#: child ends whatever happens.
SLOW_SECONDS, SUBAGENT_SECONDS, CHILD_SECONDS = 7, 1.5, 300
#: All that a session gets of the environment that the demo was started with.
ALLOWED = ("PATH", "LANG", "LC_ALL", "TZ", "USER", "LOGNAME")
#: Kernel memory, page cache and the shims of what an agent starts count in a cgroup and not in PSS (measured: a
#: cgroup's peak was 686 MB where five sessions took 622 MB each).
REAL_NEED_SHARE = 1.15
INSTALL_SECONDS = 60
_BROWSERS = (*BROWSERS, "chrome", "chrome_crashpad_handler")


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where an act plays. ``environ`` is the stage's, to which an agent's own is added."""

    folder: str
    governed: bool
    environ: dict[str, str]


class Start(msgspec.Struct, frozen=True, kw_only=True):
    """How an agent is started; ``env`` is added to the stage's."""

    command: tuple[str, ...]
    env: dict[str, str]
    cwd: str


class AgentPlan(msgspec.Struct, frozen=True, kw_only=True):
    agents: int
    agent_bytes: int
    seconds: float
    shrunk_from: int | None = None

    @property
    def life(self) -> int:
        """Seconds after which the kernel kills each process of the demo, whatever happens. What the first agent
        leaves must live through the sequential act, or it would be counted as clean."""
        return max(120, int(3 * self.agents * (self.seconds + 2)))

    @property
    def child_bytes(self) -> int:
        """25 MB beside an agent of 120 MB."""
        return max(MIN_CHILD, self.agent_bytes * 5 // 24)

    @property
    def tree_bytes(self) -> int:
        """What one agent takes at its height, children and interpreters included."""
        children = len(agent.CHILDREN)
        return self.agent_bytes + children * self.child_bytes + (1 + children) * INTERPRETER


def check_room(what: str, needed: int, available: int, hint: str) -> None:
    """Raises Refused if the demo would take too large a share of the available bytes."""
    if needed > available * SHARE:
        why = f"{what} need {format_size(int(needed / SHARE))} free, {format_size(available)} are available"
        raise Refused("not enough free memory for the demo", why, hint)


def check_real_room(sessions: int, available: int) -> None:
    """Raises Refused. Fewer sessions would show nothing: two at once take 59 % of what four take."""
    what = f"{sessions} sessions with their servers"
    check_room(what, sessions * REAL_TREE, available, "close something, or use --synthetic")


def make_plan(agents: int, agent_bytes: int, seconds: float, available: int) -> AgentPlan:
    """Shrinks the agents until all fit at once; raises Refused when they would be too small to show anything, and
    UsageError for figures that show nothing."""
    if not MIN_AGENTS <= agents <= MAX_AGENTS:
        why = "two at once must fit in 60 % of what all take at once" if agents < MIN_AGENTS else ""
        raise UsageError(f"--agents {agents} cannot be used", why, f"give a number from {MIN_AGENTS} to {MAX_AGENTS}")
    if agent_bytes < MIN_MEMORY:
        size, hint = format_size(agent_bytes), f"give {format_size(MIN_MEMORY)} or more"
        raise UsageError(f"--agent-memory {size} is too small to measure", "", hint)
    if not MIN_SECONDS <= seconds <= MAX_SECONDS:
        hint = f"give a number from {MIN_SECONDS:g} to {MAX_SECONDS:g}"
        raise UsageError(f"--seconds {seconds:g} cannot be used", "", hint)
    plan = AgentPlan(agents=agents, agent_bytes=agent_bytes, seconds=seconds)
    while agents * plan.tree_bytes > available * SHARE and plan.agent_bytes > MIN_MEMORY:
        smaller = max(MIN_MEMORY, plan.agent_bytes * 9 // 10)
        plan = msgspec.structs.replace(plan, agent_bytes=smaller, shrunk_from=agent_bytes)
    hint = "close something" + (f", or use --agents {MIN_AGENTS}" if agents > MIN_AGENTS else "")
    check_room(f"{agents} agents", agents * plan.tree_bytes, available, hint)
    return plan


class Synthetic:
    """``inherited``: what of this process's environment all acts get. ``tick``: seconds between two samples.
    ``longest``: seconds until an act is given up. ``Real`` has the same attributes and methods."""

    form: Form = "synthetic"
    tick = 0.1

    def __init__(self, plan: AgentPlan) -> None:
        self.plan = plan
        self.names = tuple(f"agent-{number}" for number in range(1, plan.agents + 1))
        self.inherited: Mapping[str, str] = os.environ
        #: Longer than all agents one after another, twice, could ever take.
        self.longest = 30 + 2 * plan.agents * (plan.seconds + 5)

    def open(self, place: Place) -> None:
        """Makes what the agents need in the act's folder, before the first of them starts: here nothing."""

    def start(self, place: Place, name: str) -> Start:
        plan = self.plan
        sizes = map(str, (plan.agent_bytes, plan.child_bytes, plan.seconds, plan.life))
        command = (sys.executable, "-I", "-S", "-E", AGENT_FILE, "agent", name, place.folder, *sizes)
        return Start(command=command, env={AGENT: name}, cwd=place.folder)

    def role(self, command: Sequence[str]) -> str:
        """``agent`` for an agent's root, else a word for the kind of process; ``other`` if that does not show."""
        at = command.index(AGENT_FILE) + 1 if AGENT_FILE in command else len(command)
        return command[at] if at < len(command) else "other"

    def need(self, parallel: ActRecord) -> int:
        """The bytes that are reserved for a governed agent, after the act ``parallel``: here known beforehand."""
        return int(self.plan.tree_bytes * NEED_SHARE)


def make_prompt(page: str) -> str:
    return f"AGENT={page} build the {page} page"


def tool_name(server: ServerPart) -> str:
    return f"mcp__{server.name}__{server.tool}"


def make_script(servers: Iterable[ServerPart]) -> Script:
    calls = {server.name: Call(name=tool_name(server), input=server.arguments) for server in servers}
    return Script(rules=tuple(rule for page in PAGES for rule in _make_rules(page, calls)))


def _make_rules(page: str, calls: Mapping[str, Call]) -> tuple[Rule, Rule]:
    quick = [call for name, call in calls.items() if name != SLOW]
    child = _bash(f'echo $$ > "${FOLDER}/{page}.child"; exec sleep {CHILD_SECONDS}', background=True)
    given = {"description": f"look at the {page} page", "prompt": f"SUBAGENT={page} look"}
    subagent = Call(name="Agent", input={**given, "subagent_type": "general-purpose"})
    turns = (
        Turn(calls=(child, *quick)),
        Turn(calls=(subagent, _bash(f'sleep 1; touch "${FOLDER}/{page}.half"', background=True))),
        Turn(calls=(calls.get(SLOW, _bash(f"sleep {SLOW_SECONDS}")),)),
        Turn(calls=(_bash(_write_result(page)),)),
        Turn(text=f"The {page} page is done."),
    )
    answers = (
        Turn(calls=(_bash(f"echo the {page} page has no header"),)),
        Turn(text="It has no header.", delay=SUBAGENT_SECONDS),
    )
    return (
        Rule(kind="main", marker=f"AGENT={page}", turns=turns),
        Rule(kind="subagent", marker=f"SUBAGENT={page}", turns=answers),
    )


def _bash(command: str, *, background: bool = False) -> Call:
    more = {"run_in_background": True} if background else {}
    return Call(name="Bash", input={"command": command, "description": "build", **more})


def _write_result(page: str) -> str:
    """The file is whole or absent; a second result does not take the place of the first."""
    file, draft = f'"${FOLDER}/{page}', f'"${FOLDER}/.{page}.$$"'
    return (
        f'echo \'{{"page": "{page}"}}\' > {draft} && '
        f'{{ ln {draft} {file}.json" 2>/dev/null && rm {draft} || mv {draft} {file}.again"; }}; '
        f'kill "$(cat {file}.child")"'
    )


class Real:
    """``url`` is the scripted model's, known once that runs."""

    form: Form = "real"
    #: A sample of five sessions reads the PSS of some 80 processes.
    tick = 0.25

    def __init__(self, built: Built) -> None:
        self.built = built
        self.names: tuple[str, ...] = PAGES
        self.inherited: Mapping[str, str] = {name: os.environ[name] for name in ALLOWED if name in os.environ}
        self.longest = 120.0 + 60 * len(PAGES)
        self.url = ""
        #: The script by which a server is known: the first argument of Node.
        self._entries = {server.command[1]: server.name for server in built.servers.values()}

    def open(self, place: Place) -> None:
        """In a governed act oomless is installed by its own command, as a user would."""
        for folder in (*_home(place).values(), *_own_xdg(place).values(), _work(place)):
            os.makedirs(folder, mode=0o700, exist_ok=True)
        entries = {
            server.name: {"command": server.command[0], "args": server.command[1:], "env": server.env}
            for server in self.built.servers.values()
        }
        with open(_mcp_config(place), "wb") as file:
            file.write(msgspec.json.encode({"mcpServers": entries}))
        if place.governed:
            _install(place)

    def start(self, place: Place, name: str) -> Start:
        config = _mcp_config(place)
        options = ("--permission-mode", "bypassPermissions", "--strict-mcp-config", "--mcp-config", config)
        env = {
            **_home(place),
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
        return Start(command=(self.built.claude, "-p", make_prompt(name), *options), env=env, cwd=_work(place))

    def role(self, command: Sequence[str]) -> str:
        if command[:1] == [self.built.claude]:
            return "agent" if "-p" in command[1:2] else "claude"
        if command == ["sleep", str(CHILD_SECONDS)]:
            return "shell"
        for part in command:
            if part in self._entries:
                return self._entries[part]
            if "/shell-snapshots/snapshot-" in part:
                return "shell"
        # chrome-devtools-mcp gives itself that title. Chromium starts its helpers through /proc/self/exe, and in its
        # sandbox their title is one word.
        program, *options = " ".join(command[:2]).split(" ", 2)
        if program.startswith("chrome-devtools-mcp"):
            return "chrome-devtools"
        helper = program == "/proc/self/exe" and options and options[0].startswith("--type=")
        return "browser" if helper or os.path.basename(program) in _BROWSERS else "other"

    def need(self, parallel: ActRecord) -> int:
        """Sessions share the pages of their programs, so that one more takes less than the first: what is reserved is
        what each took when all ran."""
        return int(parallel.peak_bytes / len(self.names) * REAL_NEED_SHARE)


def _home(place: Place) -> dict[str, str]:
    """The act's own home, as variables."""
    below = {"HOME": "h", "CLAUDE_CONFIG_DIR": "h/.claude", "TMPDIR": "t", "XDG_CACHE_HOME": "h/x"}
    return {name: os.path.join(place.folder, folder) for name, folder in {**below, "XDG_DATA_HOME": "h/d"}.items()}


def _own_xdg(place: Place) -> dict[str, str]:
    """Without oomless, so that no session could meet even the stage's daemon; governed, they are the stage's."""
    below = {"XDG_CONFIG_HOME": "h/c", "XDG_STATE_HOME": "h/s", "XDG_RUNTIME_DIR": "h/r"}
    return {name: os.path.join(place.folder, folder) for name, folder in below.items()}


def _work(place: Place) -> str:
    return os.path.join(place.folder, "w")


def _mcp_config(place: Place) -> str:
    return os.path.join(place.folder, "mcp.json")


def find_error(output: str) -> str:
    """The last error of oomless, else the last line."""
    lines = output.strip().splitlines()
    errors = [line.removeprefix("oomless: error: ") for line in lines if line.startswith("oomless: error: ")]
    return (errors or lines or [""])[-1]


def _install(place: Place) -> None:
    """Hooks and prefix into the act's settings; the stage's daemon is started by it."""
    try:
        done = subprocess.run(
            [sys.executable, "-m", "oomless", "install", "claude-code", "--yes"],
            env={**place.environ, **_home(place)},
            cwd=place.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=INSTALL_SECONDS,
            check=False,
        )
        failure = "" if done.returncode == 0 else find_error(done.stderr) or "no output"
    except subprocess.TimeoutExpired:
        failure = f"it did not end within {INSTALL_SECONDS} s"
    if failure:
        raise OomlessError("oomless could not be installed for the governed acts", failure, "see: oomless doctor")
