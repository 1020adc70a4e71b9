"""The real Claude Code at our gate: its subagents under a cap, and what a session leaves behind, only watched or with
the shell prefix.

Offline, against the scripted model; hooks and prefix are put in by ``oomless install claude-code``.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers import alive, run_oomless, wait_for, wait_gone
from hosting import Host, settings
from leaks import descendants
from model_log import peak_running
from oomless.demo.model import (
    Call,
    Hold,
    LogEntry,
    ModelProcess,
    OnError,
    Rule,
    Script,
    Turn,
    WaitFile,
    read_log,
)
from oomless.paths import Paths
from oomless.platform import proc
from oomless.protocol import spawn
from oomless.protocol.client import Client
from realparts import claude_environment, mcp_config, real_parts, real_server

assert sys.platform == "linux"

pytestmark = pytest.mark.parts
AGENTS = 5
LONGEST = 120.0


def agents(count: int = AGENTS) -> tuple[Call, ...]:
    return tuple(
        Call(
            name="Agent", input={"description": f"part {n}", "prompt": f"SUB={n}", "subagent_type": "general-purpose"}
        )
        for n in range(count)
    )


def script(hold: int, retry: OnError | None = None) -> Script:
    """All agents are asked for in one turn; each is answered once ``hold`` of them run, and a little later, so that
    more would be seen together if there were more."""
    together = Hold(group="subagents", count=hold, seconds=30)
    return Script(
        rules=(
            Rule(kind="main", turns=(Turn(calls=agents(), on_error=retry), Turn(text="all done"))),
            Rule(kind="subagent", group="subagents", turns=(Turn(text="found it", hold=together, delay=0.3),)),
        )
    )


@pytest.fixture
def claude() -> str:
    return real_parts().claude


@pytest.fixture
def home(house: Path) -> Path:
    """With our hooks installed, and the daemon that they name running."""
    home = house / "home"
    (home / "work").mkdir()
    (home / "claude").mkdir()
    install(home, "--hooks-only")
    return home


def install(home: Path, *options: str) -> None:
    done = run_oomless("install", "claude-code", *options, "--yes", env={"CLAUDE_CONFIG_DIR": str(home / "claude")})
    assert done.returncode == 0, done.stderr


def start(claude: str, home: Path, model: ModelProcess, *options: str) -> subprocess.Popen[str]:
    ours = {name: value for name, value in os.environ.items() if name.startswith("XDG_")}
    return subprocess.Popen(
        [claude, "-p", "go", "--permission-mode", "bypassPermissions", "--strict-mcp-config", *options],
        cwd=home / "work",
        env={**claude_environment(home, model.url), **ours},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def play(claude: str, home: Path, what: Script, sessions: int = 1) -> list[LogEntry]:
    """So many sessions to their end; what the model saw."""
    with ModelProcess(what, str(home)) as model:
        started = [start(claude, home, model) for _ in range(sessions)]
        try:
            told = [session.communicate(timeout=LONGEST) for session in started]
        finally:
            for session in started:
                session.kill()
        assert [session.returncode for session in started] == [0] * sessions, told
        return read_log(model.log)


def done(entries: list[LogEntry]) -> int:
    """How many subagents were answered to their end."""
    ended = (one for one in entries if one.group == "subagents" and one.event == "answered" and one.last)
    return len({(one.session, one.agent) for one in ended})


def test_five_at_once_under_a_cap_of_two(claude: str, home: Path) -> None:
    settings("max_parallel_subagents = 2\n")
    entries = play(claude, home, script(hold=2))
    assert peak_running(entries, "subagents") == 2
    assert done(entries) == AGENTS
    decisions = Client(Paths(), start=False).status().decisions
    assert sum(one.verdict == "admitted" for one in decisions) == AGENTS
    assert wait_for(lambda: Client(Paths(), start=False).status().reserved_bytes == 0, 10)


def test_two_sessions_share_the_cap(claude: str, home: Path) -> None:
    """With the settings that the incident's report recommends, taken over."""
    wanted = {"maxParallelSubagents": 2, "subagentMemoryLimit": "512MB", "preferentialModel": "haiku"}
    (home / "config.json").write_text(json.dumps({**wanted, "mcpServerSharing": True}))
    took = run_oomless("config", "import", str(home / "config.json"), "--yes")
    assert took.returncode == 0, took.stderr
    entries = play(claude, home, script(hold=2), sessions=2)
    assert peak_running(entries, "subagents") == 2
    assert done(entries) == 2 * AGENTS


def test_without_a_cap_all_five_run_together(claude: str, home: Path) -> None:
    """Else the test before would prove nothing."""
    entries = play(claude, home, script(hold=AGENTS))
    assert peak_running(entries, "subagents") == AGENTS
    assert done(entries) == AGENTS


def test_fail_fast_tells_the_model_and_its_retry_is_admitted(claude: str, home: Path) -> None:
    settings('max_parallel_subagents = 2\nwait = "0"\n')
    retry = OnError(text="oomless did not start this subagent", retries=40, delay=0.3)
    entries = play(claude, home, script(hold=2, retry=retry))
    assert peak_running(entries, "subagents") == 2
    assert done(entries) == AGENTS
    refused = [result for one in entries for result in one.results if result.error]
    assert refused
    assert {result.tool for result in refused} == {"Agent"}
    assert "2 of 2 places taken: Agent:general-purpose (40 MB), Agent:general-purpose (40 MB)" in refused[0].text
    assert "call the tool again with the same input" in refused[0].text


def test_without_a_daemon_everything_starts_at_once(claude: str, home: Path) -> None:
    settings("max_parallel_subagents = 2\n")
    Client(Paths(), start=False).stop()
    settings("max_parallel_subagents = 'none can start with this'\n")
    began = time.monotonic()
    entries = play(claude, home, script(hold=AGENTS))
    assert peak_running(entries, "subagents") == AGENTS
    assert done(entries) == AGENTS
    assert time.monotonic() - began < 30
    assert spawn.running(Paths()) is None


@pytest.fixture
def member(house: Path) -> Iterator[str]:
    """A command that stays; whatever of it is left at the end is ended here."""
    roster = house / "roster"
    code = (
        "import os, signal, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        "start = open('/proc/self/stat').read().rsplit(')', 1)[1].split()[19];"
        f"open({str(roster)!r}, 'a').write(f'{{sys.argv[1]}} {{os.getpid()}} {{start}}\\n'); time.sleep(100)"
    )
    yield shlex.join([sys.executable, "-I", "-S", "-c", code])
    for line in roster.read_text().splitlines() if roster.exists() else ():
        _, pid, start = line.split()
        proc.kill(int(pid), int(start))
        wait_gone(int(pid), int(start), 10)


def roster(house: Path) -> dict[str, tuple[int, int]]:
    path = house / "roster"
    rows = [line.split() for line in path.read_text().splitlines()] if path.exists() else []
    return {kind: (int(pid), int(start)) for kind, pid, start in rows}


@pytest.mark.parametrize("prefixed", [False, True])
@pytest.mark.parametrize("end", [0, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_every_end_of_a_session(claude: str, home: Path, house: Path, member: str, end: int, prefixed: bool) -> None:
    """flow-nexus ignores the end of its input, and a Bash tool's commands live in process sessions of their own."""
    seen, go, kinds = house / "seen", house / "go", {"dev-server", "orphan"}
    quiet = "> /dev/null 2>&1 &"
    if prefixed:
        install(home)
    calls: list[dict[str, object]] = [
        {"command": f"nohup setsid {member} dev-server {quiet}"},
        {"command": f"{member} orphan {quiet} while [ ! -e {seen} ]; do sleep 0.05; done"},
    ]
    if end:  # at its normal end, ``claude -p`` waits for these
        calls.append({"command": f"{member} background & {member} foreground", "run_in_background": True})
        kinds |= {"background", "foreground"}
    wait = WaitFile(path=str(go), seconds=LONGEST)
    turns = [Turn(calls=(Call(name="Bash", input={"description": "x", **one}),)) for one in reversed(calls)]
    what = Script(rules=(Rule(kind="main", turns=(*turns, Turn(text="bye", wait_file=wait))),))
    config = mcp_config(house, real_server("flow-nexus"))
    with ModelProcess(what, str(home)) as model:
        session = start(claude, home, model, "--mcp-config", str(config))
        try:
            assert wait_for(lambda: set(roster(house)) == kinds - {"dev-server"}, 60)
            host = Host()
            assert wait_for(lambda: len(host.status().sessions) == 1, 10)
            # The daemon looks at who is there when it is told of a session, else once a second.
            (watched,) = host.status().sessions
            assert watched.pid == session.pid
            assert host.register(watched.sessions[-1], session.pid) == 200
            below = descendants(session.pid)
            seen.touch()
            assert wait_for(lambda: set(roster(house)) == kinds, 60)
            who = roster(house)
            trees = [tree.class_name or "" for tree in host.status().trees if tree.state == "running"]
            assert sorted(set(trees)) == (["mcp-server", "tool-shell"] if prefixed else [])
            assert any("flow-nexus" in " ".join(proc.cmdline(pid)) for pid in below)
            go.touch() if not end else session.send_signal(end)
            session.wait(60)
        finally:
            session.kill()
            session.communicate()
        until = time.monotonic() + 2.0
        server = who.pop("dev-server")
        left = [
            " ".join(proc.cmdline(pid))
            for pid, start in {**below, **dict(who.values())}.items()
            if (pid, start) != server and not wait_gone(pid, start, until - time.monotonic())
        ]
        assert left == []
        assert wait_for(lambda: host.status().detached, 10)
        assert alive(*server)
        assert [one.pid for one in host.status().detached] == [server[0]]
