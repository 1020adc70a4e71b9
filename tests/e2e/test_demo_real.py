"""The demo with real agents: what is computed from samples and logs, with made-up ones, how sessions are started and
recognised, and (``parts``) whole acts with the real programs."""

from __future__ import annotations

import io
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from rich.console import Console

from helpers import run_oomless, wait_for
from oomless import platform
from oomless.cli import demo as cli
from oomless.demo import agents, stage
from oomless.demo.agents import AGENT, FOLDER, PAGES, Place, Real, check_real_room, make_prompt, make_script
from oomless.demo.model import Conversation, LogEntry, ModelProcess, ToolResult, choose_turn
from oomless.demo.parts import Built, Parts, ServerPart
from oomless.demo.record import (
    ACTS,
    ActName,
    ActRecord,
    DemoRecord,
    Member,
    Passed,
    Point,
    RoleShare,
    ToolCalls,
    check_real_acts,
    sum_by_role,
)
from oomless.demo.replay import LONGEST, count_calls
from oomless.demo.sampler import MARK, ActSampler
from oomless.demo.show import Progress, show_missing, show_record, show_step
from oomless.demo.stage import Act, Stage, play_parallel
from oomless.demo.watchdog import list_processes
from oomless.errors import Refused
from oomless.hosts.claude_code import settings as claude_settings
from oomless.model import MachineMemory
from oomless.platform import proc
from oomless.platform.linux import Linux
from oomless.processes import ours
from realparts import FOLDER as PARTS
from realparts import real_parts

MB = 10**6
SERVERS = ("everything", "flow-nexus")


def server(name: str, tool: str = "ping") -> ServerPart:
    command = ("/parts/node", f"/parts/{name}/cli.js", "start")
    return ServerPart(name=name, command=command, version="1", env={"PATH": "/bin"}, tool=tool, arguments={})


def built(*names: str) -> Built:
    servers = {name: server(name) for name in names or SERVERS}
    return Built(node="/parts/node", claude="/parts/claude", servers=servers, servers_missing={}, browser=None)


def act(name: ActName, **changes: Any) -> ActRecord:
    governs = name.startswith("governed")
    record = ActRecord(
        name=name,
        agents_peak=2 if governs else 5,
        processes_peak=38 if governs else 95,
        peak_bytes=1500 * MB if governs else 3000 * MB,
        footprint_source="pss",
        budget_bytes=1800 * MB if governs else None,
        finished=0 if name == "parallel-killed" else 5,
        seconds=25.0,
        survivors=2 if name == "parallel-killed" else 0,
        survivors_bytes=81 * MB if name == "parallel-killed" else 0,
        left=(),
        ended=0,
        killed=5 if name.endswith("killed") else 0,
        repeated=0,
        overhead_bytes=0,
        agent_bytes=990 * MB,
        at_peak=(
            RoleShare(role="agent", processes=5, bytes=800 * MB),
            RoleShare(role="flow-nexus", processes=5, bytes=80 * MB),
        ),
        points=(Point(seconds=0.0, bytes=1, agents=1, processes=1),),
        passed=Passed(subagents=5, servers=10, shells=20) if governs else None,
    )
    return msgspec.structs.replace(record, **changes)


def all_acts(**changes: dict[str, Any]) -> list[ActRecord]:
    return [act(name, **changes.get(name.replace("-", "_"), {})) for name in ACTS]


class TestChecks:
    TOOLS = tuple(ToolCalls(server=name, tool="ping", calls=10, errors=0) for name in SERVERS)

    def failed(self, tools: Sequence[ToolCalls] = TOOLS, changes: dict[str, Any] | None = None) -> list[str]:
        found = check_real_acts(all_acts(**changes or {}), 5, tools)
        return [f"{check.name} ({check.detail})" for check in found if not check.passed]

    def test_good_figures_pass(self) -> None:
        assert self.failed() == []

    @pytest.mark.parametrize(
        ("name", "change", "failed"),
        [
            ("parallel", {"finished": 4}, "parallel: all finish (4 of 5)"),
            ("sequential", {"finished": 4}, "sequential: all finish (4 of 5)"),
            ("parallel_killed", {"killed": 3}, "parallel-killed: each agent was killed once (3 of 5)"),
            ("parallel_killed", {"survivors": 0}, "parallel-killed: there are survivors (0 processes)"),
            (
                "governed",
                {"passed": Passed(subagents=4, servers=10, shells=20)},
                "governed: each subagent is admitted (4 of 5)",
            ),
            (
                "governed_killed",
                {"passed": Passed(subagents=9, servers=9, shells=20)},
                "governed-killed: each server comes by the prefix (9 trees)",
            ),
            (
                "governed",
                {"passed": Passed(subagents=5, servers=10, shells=0)},
                "governed: tool shells come by the prefix (0 trees)",
            ),
        ],
    )
    def test_what_is_not_so_is_named(self, name: str, change: dict[str, Any], failed: str) -> None:
        assert self.failed(changes={name: change}) == [failed]

    def test_a_server_that_nobody_called_is_named(self) -> None:
        tools = [self.TOOLS[0], msgspec.structs.replace(self.TOOLS[1], calls=9)]
        assert self.failed(tools) == ["each agent calls each server (19 of 20 answers)"]


def test_what_is_missing_and_what_failed_are_printed() -> None:
    broken = ToolCalls(server="chrome-devtools", tool="list_pages", calls=10, errors=10, error="no browser")
    record = DemoRecord(
        form="real",
        agents=5,
        agent_bytes=990 * MB,
        acts=tuple(all_acts()),
        checks=(),
        servers_missing={"ruv-swarm": "no C++ compiler"},
        tools=(*TestChecks.TOOLS, broken),
        ok=True,
    )
    out = io.StringIO()
    show_record(Console(file=out, width=100), record)
    assert out.getvalue().splitlines()[-3:-1] == [
        "Left out: ruv-swarm, no C++ compiler",
        "chrome-devtools: 10 of 10 calls of list_pages failed: no browser",
    ]
    assert msgspec.json.decode(msgspec.json.encode(record))["servers_missing"] == {"ruv-swarm": "no C++ compiler"}


def member(pid: int, role: str, size: int) -> Member:
    return Member(pid=pid, start=100, role=role, agent="news", bytes=size * MB)


def test_memory_is_summed_by_role_and_the_largest_first() -> None:
    members = (member(1, "shell", 40), member(2, "agent", 90), member(3, "agent", 250))
    agents, shells = (
        RoleShare(role="agent", processes=2, bytes=340 * MB),
        RoleShare(role="shell", processes=1, bytes=40 * MB),
    )
    assert sum_by_role(members) == (agents, shells)
    assert sum_by_role(()) == ()


def test_answers_of_each_servers_tool_are_counted() -> None:
    good = ToolResult(tool="mcp__everything__ping", error=False, text="ok")
    bad = ToolResult(tool="mcp__everything__ping", error=True, text="no\n browser " + "x" * 400)
    entries = [
        LogEntry(event="asked", session="s", agent="main", turn=1, results=results)
        for results in ((good,), (good, ToolResult(tool="Bash", error=False, text="")), (bad,))
    ]
    first, second = count_calls(entries, [server("everything"), server("flow-nexus")])
    assert (first.calls, first.errors, second.calls) == (3, 1, 0)
    assert first.error.startswith("no browser x")
    assert len(first.error) == LONGEST


class TestPages:
    def turns(self, *names: str) -> list[list[str]]:
        script = make_script([server(name) for name in names])
        (rule,) = [rule for rule in script.rules if rule.marker == "AGENT=news"]
        return [[call.name for call in turn.calls] for turn in rule.turns]

    def test_every_server_is_called_once_and_the_slow_one_last(self) -> None:
        assert self.turns("flow-nexus", "everything") == [
            ["Bash", "mcp__everything__ping"],
            ["Agent", "Bash"],
            ["mcp__flow-nexus__ping"],
            ["Bash"],
            [],
        ]
        assert self.turns("everything")[2] == ["Bash"]

    def test_each_page_and_each_subagent_has_a_rule(self) -> None:
        script = make_script([server("everything")])
        for page in PAGES:
            main = choose_turn(script, Conversation(session="s", prompt=make_prompt(page)))
            sub = choose_turn(script, Conversation(session="s", agent="a", prompt=f"SUBAGENT={page} look"))
            place = 2 * PAGES.index(page)
            assert (main.rule, sub.rule) == (place, place + 1)

    def test_a_result_is_written_once_and_stops_the_background_child(self, tmp_path: Path) -> None:
        script = make_script([])
        (rule,) = [rule for rule in script.rules if rule.marker == "AGENT=news"]
        finish = str(rule.turns[3].calls[0].input["command"])
        env = {**os.environ, FOLDER: str(tmp_path)}
        for expected in (["news.json"], ["news.again", "news.json"]):
            with subprocess.Popen(["sleep", "60"]) as child:
                (tmp_path / "news.child").write_text(f"{child.pid}\n")
                subprocess.run(["bash", "-c", finish], env=env, check=True, timeout=10)
                assert child.wait(timeout=10) == -signal.SIGTERM
            (tmp_path / "news.child").unlink()
            assert sorted(path.name for path in tmp_path.iterdir()) == expected
        assert json.loads((tmp_path / "news.json").read_text()) == {"page": "news"}


class TestReal:
    def place(self, folder: Path, governed: bool = False) -> Place:
        environ = {"PATH": "/bin", "XDG_STATE_HOME": str(folder / "s"), "XDG_RUNTIME_DIR": str(folder / "r")}
        (folder / "act").mkdir()
        return Place(folder=str(folder / "act"), governed=governed, environ=environ)

    @pytest.mark.parametrize(
        ("command", "role"),
        [
            (["/parts/claude", "-p", "AGENT=news build the news page", "--permission-mode"], "agent"),
            (["/parts/claude", "--ripgrep", "x"], "claude"),
            (["/parts/node", "/parts/flow-nexus/cli.js", "start"], "flow-nexus"),
            (["/parts/node", "/elsewhere/cli.js"], "other"),
            (["chrome-devtools-mcp", ""], "chrome-devtools"),
            (["/usr/lib/chromium/chromium", "--headless"], "browser"),
            (["/usr/lib/chromium/chrome_crashpad_handler", "--monitor-self"], "browser"),
            (["/proc/self/exe", "--type=utility", "--lang=en"], "browser"),
            (["/proc/self/exe --type=utility --lang=en"], "browser"),
            (["/usr/lib/chromium/chromium --type=renderer --x=/a b"], "browser"),
            (["/bin/bash", "-c", "source /h/shell-snapshots/snapshot-bash-1.sh && eval 'x'"], "shell"),
            (["sleep", str(agents.CHILD_SECONDS)], "shell"),
            (["sleep", "1"], "other"),
            ([], "other"),
        ],
    )
    def test_processes_are_known_by_their_commands(self, command: list[str], role: str) -> None:
        assert Real(built("flow-nexus")).role(command) == role

    def test_a_session_gets_nothing_of_the_users(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("ANTHROPIC_AUTH_TOKEN", "secret")
        monkeypatch.setenv("TZ", "UTC")
        real = Real(built())
        real.url = "http://127.0.0.1:1"
        assert set(real.inherited) <= {"PATH", "LANG", "LC_ALL", "TZ", "USER", "LOGNAME"}
        assert real.inherited["TZ"] == "UTC"
        place = self.place(tmp_path)
        start = real.start(place, "news")
        own = ("HOME", "CLAUDE_CONFIG_DIR", "TMPDIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME")
        for name in (*own, "XDG_STATE_HOME", "XDG_RUNTIME_DIR"):
            assert start.env[name].startswith(place.folder + "/")
        assert start.env["ANTHROPIC_BASE_URL"] == real.url
        assert "secret" not in start.env.values()
        assert (start.env[AGENT], start.env[FOLDER]) == ("news", place.folder)

    def test_only_governed_sessions_meet_the_stages_daemon(self, tmp_path: Path) -> None:
        start = Real(built()).start(self.place(tmp_path, governed=True), "news")
        assert not {"XDG_STATE_HOME", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME"} & set(start.env)

    def test_an_act_has_its_folders_and_the_servers_file(self, tmp_path: Path) -> None:
        place = self.place(tmp_path)
        real = Real(built())
        real.open(place)
        start = real.start(place, "news")
        assert os.path.isdir(start.cwd)
        assert os.path.isdir(start.env["TMPDIR"])
        config = json.loads(Path(start.command[start.command.index("--mcp-config") + 1]).read_text())
        expected = {"command": "/parts/node", "args": ["/parts/everything/cli.js", "start"], "env": {"PATH": "/bin"}}
        assert config["mcpServers"]["everything"] == expected
        assert not os.path.exists(os.path.join(start.env["CLAUDE_CONFIG_DIR"], "settings.json"))

    def test_a_governed_act_has_oomless_installed_by_its_own_command(self, tmp_path: Path, house: Path) -> None:
        environ = {"PATH": os.environ["PATH"]}
        environ |= {name: os.environ[name] for name in ("XDG_STATE_HOME", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME")}
        (tmp_path / "act").mkdir()
        place = Place(folder=str(tmp_path / "act"), governed=True, environ=environ)
        Real(built()).open(place)
        settings = json.loads((tmp_path / "act" / "h" / ".claude" / "settings.json").read_text())
        assert settings["env"]["CLAUDE_CODE_SHELL_PREFIX"] == str(house / "state" / "oomless" / "prefix")
        assert settings["hooks"]["PreToolUse"][0]["hooks"][0]["url"].startswith("http://127.0.0.1:")

    def test_one_more_session_is_reserved_less_than_one_alone_takes(self) -> None:
        assert Real(built()).need(act("parallel")) == 690 * MB < act("sequential").agent_bytes


def test_a_machine_that_is_too_full_is_refused() -> None:
    check_real_room(5, 5000 * MB)
    with pytest.raises(Refused, match=r"5 sessions with their servers need 5\.00 GB free, 4\.99 GB are available"):
        check_real_room(5, 4990 * MB)


def test_nothing_is_downloaded_for_a_machine_that_is_too_full(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def build(parts: Parts, on_progress: object) -> Built:
        raise AssertionError("built")

    monkeypatch.setattr(Parts, "build", build)
    little = MachineMemory(total_bytes=10**9, available_bytes=10**8)
    monkeypatch.setattr(Linux, "memory", lambda self: little)
    with pytest.raises(SystemExit) as caught:
        cli.command()
    assert caught.value.code == 75
    assert "not enough free memory" in capsys.readouterr().err


def test_what_is_installed_is_said_first_and_then_each_step() -> None:
    out = io.StringIO()
    console = Console(file=out)
    show_missing(console, ("node", "claude"), 595 * MB, "/cache/parts")
    show_step(console, "", "waiting for another build")
    show_step(console, "node", "ready")
    assert out.getvalue().splitlines() == [
        "Installing 2 programs into /cache/parts, about 595 MB, once: node, claude",
        "waiting for another build",
        "node: ready",
    ]


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (["/usr/bin/python3", "-I", "-m", "oomless", "hook", "claude-code", "session-start"], True),
        (shlex.split(claude_settings.session_start_command("/usr/bin/python3")), True),
        (["/usr/bin/python3", "-m", "oomless", "batch"], True),
        (["/bin/sh", "/tmp/x/s/oomless/prefix", "sleep 1"], True),
        (["/bin/sh", "-c", "sleep 1"], False),
        (["/usr/bin/python3", "-m", "oomless.demo.model"], False),
        ([], False),
    ],
)
def test_what_is_ours_is_not_the_agents(command: list[str], expected: bool) -> None:
    assert ours.is_ours(command) is expected


#: Starts a child whose command says nothing, tells its pid, and waits.
PARENT = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-I", "-S", "-c", "import signal; signal.alarm(60); print(flush=True); "
                          "signal.pause()"], stdout=subprocess.PIPE)
child.stdout.readline()
print(child.pid, flush=True)
sys.stdin.read()
"""


def role_of(command: Sequence[str]) -> str:
    return "server" if "SERVER" in command else "other"


def test_a_child_is_what_its_parent_was() -> None:
    sampler = ActSampler("roles", role_of, platform.current())
    env = {**os.environ, MARK: "roles", AGENT: "news"}
    command = [sys.executable, "-I", "-S", "-c", PARENT, "SERVER"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        expected = {(parent.pid, "server", "news"), (child, "server", "news")}
        assert {(member.pid, member.role, member.agent) for member in sampler.sample(0.0)} == expected
        parent.kill()
        parent.wait()
        assert [(member.pid, member.role) for member in sampler.survivors()] == [(child, "server")]
        assert sampler.kill_survivors() == 1


def test_the_watchdog_finds_the_processes_of_every_act() -> None:
    env = {**os.environ, "XDG_STATE_HOME": "/tmp/oomless-demo-x/parallel/h/s"}
    with subprocess.Popen(["sleep", "60"], env=env) as process:
        assert wait_for(lambda: proc.cmdline(process.pid)[:1] == ["sleep"], 5)
        found = [pid for pid, _ in list_processes("/tmp/oomless-demo-x")]
        others = list_processes("/tmp/oomless-demo-")
        process.kill()
    assert (found, others) == ([process.pid], [])


# With the real programs


def parts_environment(house: Path) -> dict[str, str]:
    real_parts()
    folder = house / "t"
    folder.mkdir()
    return {**os.environ, "TMPDIR": str(folder), "OOMLESS_PARTS": str(PARTS)}


@pytest.mark.long
@pytest.mark.parts
def test_the_whole_demo_with_real_agents(house: Path) -> None:
    env = parts_environment(house)
    done = run_oomless("demo", "--json", env=env, timeout=580)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout[-3000:]
    found = json.loads(done.stdout)
    servers = {row.partition(" ")[0] for row in found["servers"]}
    assert (found["schema"], found["form"], found["ok"]) == ("oomless.demo/1", "real", True)
    assert len(servers) + len(found["servers_missing"]) == 5
    by_name = {record["name"]: record for record in found["acts"]}
    assert list(by_name) == list(ACTS)
    first, second = by_name["parallel"], by_name["sequential"]
    assert (first["agents_peak"], second["agents_peak"]) == (5, 1)
    assert [by_name[name]["finished"] for name in ACTS] == [5, 5, 0, 5, 5]
    assert [by_name[name]["killed"] for name in ACTS] == [0, 0, 5, 0, 5]
    assert by_name["parallel-killed"]["survivors"] >= 5
    assert {"shell"} <= {left["role"] for left in by_name["parallel-killed"]["left"]}
    roles = {share["role"]: share["processes"] for share in first["at_peak"]}
    assert {name: roles[name] for name in servers} == dict.fromkeys(servers, 5)
    for name in ("governed", "governed-killed"):
        governed = by_name[name]
        assert governed["survivors"] == 0
        assert governed["peak_bytes"] <= governed["budget_bytes"] <= 0.6 * first["peak_bytes"]
        assert governed["agents_peak"] >= 2
        assert governed["passed"]["subagents"] >= 5
        assert governed["passed"]["servers"] >= 5 * len(servers)
    assert {tool["server"]: tool["calls"] for tool in found["tools"]} == dict.fromkeys(servers, 10)
    assert all(
        tool["errors"] == 0 for tool in found["tools"] if tool["server"] != "chrome-devtools" or found["browser"]
    )
    assert roles["agent"] == 5
    assert os.listdir(env["TMPDIR"]) == []


def lives(process: Member) -> bool:
    stat = proc.read_stat(process.pid)
    return stat is not None and stat.alive and stat.start == process.start


@pytest.mark.machine
@pytest.mark.parts
def test_scan_names_every_process_of_the_ungoverned_sessions(house: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", parts_environment(house)["TMPDIR"])
    monkeypatch.setattr(stage, "LINGER", 0.1)
    monkeypatch.setattr("tempfile.tempdir", None)
    seen: list[tuple[tuple[Member, ...], dict[int, Any]]] = []
    ended: set[int] = set()
    step = Act.step

    def step_and_scan(act: Act) -> tuple[Member, ...]:
        """Scans once, when three agents have all their servers and a tool shell: on a busy machine the five are not
        all in step."""
        now = step(act)
        there = {(member.agent, member.role) for member in now if member.role not in ("browser", "other")}
        whole = [n for n in Counter(agent for agent, _ in there).values() if n >= 2 + len(real_parts().servers)]
        if not seen and len(whole) >= 3:
            done = run_oomless("scan", "--json", timeout=60)
            assert done.returncode == 0, done.stderr
            ended.update(member.pid for member in now if not lives(member))
            seen.append((now, {row["pid"]: row for row in json.loads(done.stdout)["processes"]}))
        return now

    monkeypatch.setattr(Act, "step", step_and_scan)
    real = Real(real_parts())
    with Stage(real, platform.current(), Progress(Console(file=io.StringIO()), "real", 5)) as whole_stage:
        with ModelProcess(make_script(real.built.servers.values()), whole_stage.folder) as model:
            real.url = model.url
            play_parallel(whole_stage)
    ((now, rows),) = seen
    servers = set(real.built.servers)
    mine = [member for member in now if member.role in (*servers, "agent", "shell") and member.pid not in ended]
    assert {member.role for member in mine} == {*servers, "agent", "shell"}
    for member in mine:
        row = rows[member.pid]
        assert (row["start"], row["host"]) == (member.start, "claude-code"), row
        assert row["session"], row
        assert row["footprint_source"] == "pss"
        assert member.role not in servers or row["server"], row


RUN = """
import sys
from rich.console import Console
from oomless import platform
from oomless.demo.agents import Real, make_script
from oomless.demo.model import ModelProcess
from oomless.demo.parts import Parts
from oomless.demo.show import Progress
from oomless.demo.stage import Stage, play_governed, play_parallel
from oomless.errors import OomlessError

class Report(Progress):
    def tick(self, point, finished):
        print(point.processes, flush=True)

real = Real(Parts().build(lambda name, step: None))
try:
    with Stage(real, platform.current(), Report(Console(stderr=True), "real", 5)) as stage:
        with ModelProcess(make_script(real.built.servers.values()), stage.folder) as model:
            real.url = model.url
            if sys.argv[1] == "parallel":
                play_parallel(stage)
            else:
                play_governed(stage, 700 * 10**6, 1800 * 10**6)
except OomlessError as error:
    sys.exit(error.exit_code)
"""


@pytest.mark.parts
@pytest.mark.parametrize(
    ("moment", "processes", "number", "code"),
    [
        ("parallel", 30, signal.SIGINT, 130),
        ("parallel", 30, signal.SIGKILL, -signal.SIGKILL),
        ("governed", 12, signal.SIGINT, 130),
        ("governed", 12, signal.SIGKILL, -signal.SIGKILL),
    ],
)
def test_a_signal_ends_real_sessions_and_all_they_started(
    moment: str, processes: int, number: int, code: int, house: Path
) -> None:
    env = parts_environment(house)
    folder = env["TMPDIR"]
    with subprocess.Popen([sys.executable, "-c", RUN, moment], stdout=subprocess.PIPE, env=env) as process:
        assert process.stdout is not None
        deadline = time.monotonic() + 120
        for line in process.stdout:
            if int(line) >= processes:
                break
            assert time.monotonic() < deadline
        process.send_signal(number)
        assert process.wait(timeout=60) == code
    # After SIGKILL its watchdog cleans up; else nobody may be left already.
    patience = 15 if number == signal.SIGKILL else 0
    mark = os.fsencode(folder) + b"/"
    assert wait_for(lambda: not any(mark in proc.environ(pid) for pid in proc.pids()), patience)
    assert wait_for(lambda: os.listdir(folder) == [], patience)
