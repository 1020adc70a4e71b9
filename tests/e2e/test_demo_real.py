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
from oomless.demo import acts, differences, pages, show, sizing, told, verdict
from oomless.demo.agents import AGENT, FOLDER, Place
from oomless.demo.keeper import of_the_demo
from oomless.demo.measure import MARK, Watch, is_ours
from oomless.demo.model.choose import choose
from oomless.demo.model.conversation import Conversation
from oomless.demo.model.log import Entry, Result
from oomless.demo.model.process import ModelProcess
from oomless.demo.parts import Built, Parts, ServerPart
from oomless.demo.real import Real
from oomless.demo.record import (
    ACTS,
    ActName,
    ActRecord,
    DemoRecord,
    Missing,
    Outlived,
    Passed,
    Point,
    Share,
    Subagents,
    Tool,
)
from oomless.demo.samples import Sample, Used, agent_peak, at_peak
from oomless.demo.stage import Stage
from oomless.errors import Refused
from oomless.hosts.claude_code import settings as claude_settings
from oomless.model import MachineMemory
from oomless.platform import proc
from oomless.platform.linux import Linux
from realparts import FOLDER as PARTS
from realparts import real_parts

MB = 10**6
TICKS = 100
SERVERS = ("everything", "flow-nexus")


def server(name: str, tool: str = "ping") -> ServerPart:
    command = ("/parts/node", f"/parts/{name}/cli.js", "start")
    return ServerPart(name=name, command=command, version="1", env={"PATH": "/bin"}, tool=tool, arguments={})


def built(*names: str) -> Built:
    servers = {name: server(name) for name in names or SERVERS}
    return Built(node="/parts/node", claude="/parts/claude", servers=servers, servers_missing=(), browser=None)


def used(pid: int, role: str, size: int, agent: str = "news", start: int = 100) -> Used:
    return Used(pid=pid, start=start, role=role, agent=agent, bytes=size * MB)


def sample(at: float, *those: Used) -> Sample:
    return Sample(seconds=at, at=at, used=those)


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
            Share(role="agent", processes=5, bytes=800 * MB),
            Share(role="flow-nexus", processes=5, bytes=80 * MB),
        ),
        points=(Point(seconds=0.0, bytes=1, agents=1, processes=1),),
        passed=Passed(subagents=5, servers=10, shells=20) if governs else None,
    )
    return msgspec.structs.replace(record, **changes)


def all_acts(**changes: dict[str, Any]) -> list[ActRecord]:
    return [act(name, **changes.get(name.replace("-", "_"), {})) for name in ACTS]


IN_PROCESS = Subagents(ran=10, processes=0, shells=20, seconds=1.7, growth_bytes=5 * MB)
LEAKS = (
    Outlived(role="flow-nexus", processes=5, ended=1, seconds=6.25, bytes=300 * MB),
    Outlived(role="shell", processes=5, ended=0, seconds=0.0, bytes=1 * MB),
)


def words(found: Subagents = IN_PROCESS, outlived: Sequence[Outlived] = LEAKS, **changes: dict[str, Any]) -> str:
    records = all_acts(**changes)
    return "\n".join(differences.differences(records, found, outlived, SERVERS, agents=5, version="Claude Code 9"))


class TestDifferences:
    def test_each_sentence_is_what_was_measured(self) -> None:
        text = words()
        assert "With Claude Code 9, while 10 subagents worked (1.7 s each), no process began in their" in text
        assert "but 20 tool shells; the session's own process grew by 5 MB." in text
        assert "took 990 MB in up to 10 processes: Claude Code 800 MB (91%), flow-nexus 80 MB (9%)." in text
        assert "5 of them had 5 processes of 2 servers with 80 MB, and 800 MB of Claude Code, 95 processes in" in text
        assert "5 sessions that ended by themselves left nothing, and their peak was 3.0 times that of one." in text
        assert "killed session: 5 of flow-nexus (300 MB, 1 of them ended by itself within 6.2 s), 5 of tool" in text
        assert "(1 MB, still there at the end), and nothing of Claude Code itself; everything ended at once." in text
        assert "At the end 2 processes with 81 MB were left." in text

    def test_subagents_that_are_processes_would_be_said_to_be(self) -> None:
        found = msgspec.structs.replace(IN_PROCESS, processes=10, roles=("claude",), growth_bytes=-MB)
        assert "worked (1.7 s each), 10 processes began in their sessions (Claude Code), and 20" in words(found)
        assert "the session's own process shrank by 1 MB." in words(found)
        assert "here none ran, so nothing is said" in words(msgspec.structs.replace(IN_PROCESS, ran=0))

    def test_a_leak_of_sessions_that_end_by_themselves_would_be_said(self) -> None:
        text = words(sequential={"survivors": 3, "survivors_bytes": 2970 * MB})
        assert "ended by themselves left 3 processes with 2.97 GB" in text

    def test_who_leaks_is_who_was_left(self) -> None:
        assert "no program among them leaked" in words(outlived=())
        own = Outlived(role="agent", processes=1, ended=1, seconds=4.0, bytes=MB)
        text = words(outlived=(own,))
        assert (
            "1 of Claude Code (1 MB, ended by itself within 4.0 s); everything and flow-nexus ended at once" in text
        )
        assert "nothing of Claude Code" not in text


class TestChecks:
    TOOLS = tuple(Tool(server=name, tool="ping", calls=10, errors=0) for name in SERVERS)

    def failed(self, tools: Sequence[Tool] = TOOLS, changes: dict[str, Any] | None = None) -> list[str]:
        found = verdict.real_checks(all_acts(**changes or {}), 5, tools)
        return [f"{check.name} ({check.detail})" for check in found if not check.passed]

    def test_good_figures_pass(self) -> None:
        assert self.failed() == []

    @pytest.mark.parametrize(
        ("name", "change", "failed"),
        [
            ("parallel", {"finished": 4}, "parallel: all finish (4 of 5)"),
            ("sequential", {"finished": 4}, "sequential: all finish (4 of 5)"),
            ("parallel_killed", {"killed": 3}, "parallel-killed: each agent was killed once (3 of 5)"),
            ("parallel_killed", {"survivors": 0}, "parallel-killed: something is left (0 processes)"),
            (
                "governed",
                {"passed": Passed(subagents=4, servers=10, shells=20)},
                "governed: each subagent passes the gate (4 of 5)",
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


def test_differences_and_what_failed_are_printed() -> None:
    broken = Tool(server="chrome-devtools", tool="list_pages", calls=10, errors=10, error="no browser")
    record = DemoRecord(
        form="real",
        agents=5,
        agent_bytes=990 * MB,
        acts=tuple(all_acts()),
        checks=(),
        conclusion=("All 20 checks hold.",),
        servers_missing=(Missing(name="ruv-swarm", reason="no C++ compiler"),),
        tools=(*TestChecks.TOOLS, broken),
        differences=("One differs.",),
        ok=True,
    )
    out = io.StringIO()
    show.show(Console(file=out, width=100), record)
    lines = out.getvalue().splitlines()
    assert lines[-4:] == [
        "What is different from the incident's account",
        "- One differs.",
        "Left out: ruv-swarm, no C++ compiler",
        "chrome-devtools: 10 of 10 calls of list_pages failed: no browser",
    ]
    assert msgspec.json.decode(msgspec.json.encode(record))["servers_missing"][0]["name"] == "ruv-swarm"


class TestSamples:
    def test_whose_the_bytes_are(self) -> None:
        low = sample(1, used(1, "agent", 200), used(2, "shell", 1))
        high = sample(
            2, used(1, "agent", 90, "news"), used(3, "agent", 250, "request"), used(4, "shell", 40, "request")
        )
        assert agent_peak([low, high]) == 290 * MB
        assert at_peak([low, high]) == (
            Share(role="agent", processes=2, bytes=340 * MB),
            Share(role="shell", processes=1, bytes=40 * MB),
        )
        assert at_peak([]) == ()


def entry(event: str, at: float, group: str, agent: str = "main", **fields: Any) -> Entry:
    return Entry(at=at, request=1, event=event, session="s", agent=agent, group=group, turn=0, **fields)  # type: ignore[arg-type]


class TestTold:
    def test_answers_of_tools_are_counted_in_the_acts_that_are_asked_for(self) -> None:
        results = (Result(tool="mcp__everything__ping", error=False, text="ok"),)
        failed = (Result(tool="mcp__everything__ping", error=True, text="no\n browser " + "x" * 400),)
        entries = [entry("asked", at, "news", results=results) for at in (1.0, 11.0)]
        entries += [entry("asked", 12.0, "news", results=failed), entry("answered", 12.0, "news", results=failed)]
        watched = told.Watched(samples=[sample(110), sample(120)], alone=True)
        (found, none) = told.tools(entries, [server("everything"), server("flow-nexus")], [watched], offset=100.0)
        assert (found.calls, found.errors, none.calls) == (2, 1, 0)
        assert found.error.startswith("no browser x")
        assert len(found.error) == told.LONGEST

    def test_a_subagent_is_at_work_from_its_first_request_to_its_last_answer(self) -> None:
        entries = [
            entry("asked", 1.0, "news"),
            entry("asked", 2.0, "subagent of news", "a1"),
            entry("answered", 2.1, "subagent of news", "a1", calls=("Bash",)),
            entry("asked", 2.5, "subagent of news", "a1"),
            entry("answered", 4.0, "subagent of news", "a1", last=True),
            entry("asked", 5.0, "subagent of news", "a2"),
            entry("dropped", 6.0, "subagent of news", "a2", last=True),
        ]
        assert told.ran(entries, 10.0) == [told.Ran(page="news", began=12.0, ended=14.0)]

    def subagents(self, *during: Used, once: tuple[Used, ...] = (), alone: bool = True) -> Subagents:
        before = sample(11.0, used(1, "agent", 200), used(2, "flow-nexus", 60))
        first = sample(12.5, used(1, "agent", 203), used(2, "flow-nexus", 60), *during, *once)
        then = sample(13.0, used(1, "agent", 207), used(2, "flow-nexus", 60), *during)
        watched = told.Watched(samples=[before, first, then, sample(20.0)], alone=alone)
        return told.subagents([told.Ran(page="news", began=12.0, ended=14.0)], [watched], TICKS)

    def test_in_process_subagents_begin_nothing(self) -> None:
        expected = Subagents(ran=1, processes=0, shells=0, seconds=2.0, growth_bytes=7 * MB)
        assert self.subagents() == expected
        assert self.subagents(alone=False).growth_bytes == 0

    def test_what_begins_meanwhile_is_counted(self) -> None:
        born = 1250
        found = self.subagents(
            used(3, "claude", 500, start=born),
            used(4, "flow-nexus", 60, start=born),
            used(5, "shell", 1, start=born),
            used(6, "browser", 9, start=born),
            used(7, "claude", 500, "request", start=born),
            used(8, "claude", 500, start=1190),
            once=(used(9, "other", 200, start=born), used(10, "shell", 1, start=born)),
        )
        assert (found.processes, found.roles, found.shells) == (2, ("claude", "flow-nexus"), 2)

    def test_subagents_of_other_acts_do_not_count(self) -> None:
        watched = told.Watched(samples=[sample(1.0), sample(9.0)], alone=True)
        assert told.subagents([told.Ran(page="news", began=12.0, ended=14.0)], [watched], TICKS).ran == 0

    def test_what_outlives_its_killed_session(self) -> None:
        root, leak, slow, corpse = (
            used(1, "agent", 200),
            used(2, "shell", 2),
            used(3, "flow-nexus", 60),
            used(4, "other", 0),
        )
        samples = [
            sample(1.0, root, leak, slow, used(5, "everything", 30)),
            sample(2.0, leak, slow, used(5, "everything", 30)),
            sample(4.5, leak, slow, corpse),
            sample(6.0, leak),
        ]
        assert told.outlived(samples) == (
            Outlived(role="flow-nexus", processes=1, ended=1, seconds=3.5, bytes=60 * MB),
            Outlived(role="shell", processes=1, ended=0, seconds=0.0, bytes=2 * MB),
        )
        assert told.outlived(samples[:1]) == ()


class TestPages:
    def turns(self, *names: str) -> list[list[str]]:
        script = pages.script([server(name) for name in names])
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
        script = pages.script([server("everything")])
        for page in pages.PAGES:
            main = choose(script, Conversation(session="s", prompt=pages.prompt(page)))
            sub = choose(script, Conversation(session="s", agent="a", prompt=f"SUBAGENT={page} look"))
            assert (main.group, sub.group) == (page, pages.group(page))

    def test_a_result_is_written_once_and_stops_the_background_child(self, tmp_path: Path) -> None:
        script = pages.script([])
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
            (["/parts/claude", "-p", "AGENT=news build the news page", "--permission-mode"], ("agent", "news")),
            (["/parts/claude", "--ripgrep", "x"], ("claude", "")),
            (["/parts/node", "/parts/flow-nexus/cli.js", "start"], ("flow-nexus", "")),
            (["/parts/node", "/elsewhere/cli.js"], ("other", "")),
            (["chrome-devtools-mcp", ""], ("chrome-devtools", "")),
            (["/usr/lib/chromium/chromium", "--headless"], ("browser", "")),
            (["/usr/lib/chromium/chrome_crashpad_handler", "--monitor-self"], ("browser", "")),
            (["/proc/self/exe", "--type=utility", "--lang=en"], ("browser", "")),
            (["/proc/self/exe --type=utility --lang=en"], ("browser", "")),
            (["/usr/lib/chromium/chromium --type=renderer --x=/a b"], ("browser", "")),
            (["/bin/bash", "-c", "source /h/shell-snapshots/snapshot-bash-1.sh && eval 'x'"], ("shell", "")),
            (["sleep", str(pages.CHILD_SECONDS)], ("shell", "")),
            (["sleep", "1"], ("other", "")),
            ([], ("other", "")),
        ],
    )
    def test_processes_are_known_by_their_commands(self, command: list[str], role: tuple[str, str]) -> None:
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
    sizing.check_room(5, 5000 * MB)
    with pytest.raises(Refused, match=r"5 sessions with their servers need 5\.00 GB free, 4\.99 GB are available"):
        sizing.check_room(5, 4990 * MB)


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


class TestBuilding:
    def test_the_size_is_said_first_and_each_step_once(self) -> None:
        out = io.StringIO()
        with show.building(Console(file=out), ("node", "claude"), 595 * MB, "/cache/parts") as told_of:
            for fraction in (0.0, 0.5):
                told_of("node", "installing n 1", fraction)
            told_of("node", "ready", 1.0)
        assert out.getvalue().splitlines() == [
            "Installing 2 programs into /cache/parts, about 595 MB, once: node, claude",
            "node: installing n 1",
            "node: ready",
        ]

    def test_nothing_is_said_where_all_is_there(self) -> None:
        out = io.StringIO()
        with show.building(Console(file=out), (), 0, "/cache/parts") as told_of:
            told_of("node", "ready", 1.0)
        assert out.getvalue() == ""

    def test_bars_on_a_terminal(self) -> None:
        out = io.StringIO()
        with show.building(Console(file=out, force_terminal=True, width=100), ("node",), MB, "/c") as told_of:
            told_of("", "waiting for another build", None)
            told_of("node", "installing n 1", 0.5)
            told_of("node", "ready", 1.0)
        assert "waiting for another build" in out.getvalue()
        assert "ready" in out.getvalue()


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (["/usr/bin/python3", "-I", "-m", "oomless", "hook", "claude-code", "session-start"], True),
        (shlex.split(claude_settings.session_start("/usr/bin/python3")), True),
        (["/usr/bin/python3", "-m", "oomless", "batch"], True),
        (["/bin/sh", "/tmp/x/s/oomless/prefix", "sleep 1"], True),
        (["/bin/sh", "-c", "sleep 1"], False),
        (["/usr/bin/python3", "-m", "oomless.demo.model"], False),
        ([], False),
    ],
)
def test_what_is_ours_is_not_the_agents(command: list[str], expected: bool) -> None:
    assert is_ours(command) is expected


#: Starts a child whose command says nothing, tells its pid, and waits.
PARENT = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-I", "-S", "-c", "import signal; signal.alarm(60); print(flush=True); "
                          "signal.pause()"], stdout=subprocess.PIPE)
child.stdout.readline()
print(child.pid, flush=True)
sys.stdin.read()
"""


def role_of(command: Sequence[str]) -> tuple[str, str]:
    return ("server" if "SERVER" in command else "other"), ""


def test_a_child_is_what_its_parent_was() -> None:
    watch = Watch("roles", role_of, platform.current())
    env = {**os.environ, MARK: "roles", AGENT: "news"}
    command = [sys.executable, "-I", "-S", "-c", PARENT, "SERVER"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        expected = {(parent.pid, "server", "news"), (child, "server", "news")}
        assert {(one.pid, one.role, one.agent) for one in watch.sample(0.0).used} == expected
        parent.kill()
        parent.wait()
        assert [(left.pid, left.role) for left in watch.left()] == [(child, "server")]
        assert watch.end_left() == 1


def test_the_keeper_knows_those_of_every_act() -> None:
    env = {**os.environ, "XDG_STATE_HOME": "/tmp/oomless-demo-x/parallel/h/s"}
    with subprocess.Popen(["sleep", "60"], env=env) as process:
        assert wait_for(lambda: proc.cmdline(process.pid)[:1] == ["sleep"], 5)
        found = [pid for pid, _ in of_the_demo("/tmp/oomless-demo-x")]
        others = of_the_demo("/tmp/oomless-demo-")
        process.kill()
    assert (found, others) == ([process.pid], [])


# With the real programs


def parts_environment(house: Path) -> dict[str, str]:
    real_parts()
    folder = house / "t"
    folder.mkdir()
    return {**os.environ, "TMPDIR": str(folder), "OOMLESS_PARTS": str(PARTS)}


@pytest.mark.parts
def test_the_whole_demo_with_real_agents(house: Path) -> None:
    env = parts_environment(house)
    done = run_oomless("demo", "--json", env=env, timeout=580)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout[-3000:]
    found = json.loads(done.stdout)
    servers = {row["name"] for row in found["parts"]} - {"node", "claude"}
    assert (found["schema"], found["form"], found["ok"]) == ("oomless.demo/1", "real", True)
    assert len(servers) + len(found["servers_missing"]) == 5
    by_name = {one["name"]: one for one in found["acts"]}
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
    assert found["subagents"]["ran"] == 10
    assert len(found["differences"]) == 5
    assert os.listdir(env["TMPDIR"]) == []


def lives(one: Used) -> bool:
    stat = proc.read_stat(one.pid)
    return stat is not None and stat.alive and stat.start == one.start


class Halfway(show.Lines):
    """Calls ``then`` once, when three agents have all their servers and a tool shell: on a busy machine the five are
    not all in step."""

    def __init__(self, stage: list[Stage], then: Any) -> None:
        super().__init__(Console(file=io.StringIO()), 5)
        self._stage, self._then, self.done_ = stage, then, False

    def tick(self, point: Point, finished: int) -> None:
        now = self._stage[0].samples["parallel"][-1].used
        there = {(one.agent, one.role) for one in now if one.role not in ("browser", "other")}
        whole = [n for n in Counter(agent for agent, _ in there).values() if n >= 2 + len(real_parts().servers)]
        if not self.done_ and len(whole) >= 3:
            self.done_ = True
            self._then(now)


@pytest.mark.parts
def test_scan_names_every_process_of_the_ungoverned_sessions(house: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", parts_environment(house)["TMPDIR"])
    monkeypatch.setattr(acts, "LINGER", 0.1)
    monkeypatch.setattr("tempfile.tempdir", None)
    seen: list[tuple[tuple[Used, ...], dict[int, Any]]] = []
    ended: set[int] = set()

    def scan(now: tuple[Used, ...]) -> None:
        done = run_oomless("scan", "--json", timeout=60)
        assert done.returncode == 0, done.stderr
        ended.update(one.pid for one in now if not lives(one))
        seen.append((now, {row["pid"]: row for row in json.loads(done.stdout)["processes"]}))

    stages: list[Stage] = []
    real = Real(real_parts())
    with Stage(real, platform.current(), Halfway(stages, scan)) as stage:
        stages.append(stage)
        with ModelProcess(pages.script(real.built.servers.values()), stage.folder) as model:
            real.url = model.url
            acts.parallel(stage)
    ((now, rows),) = seen
    servers = set(real.built.servers)
    mine = [one for one in now if one.role in (*servers, "agent", "shell") and one.pid not in ended]
    assert {one.role for one in mine} == {*servers, "agent", "shell"}
    for one in mine:
        row = rows[one.pid]
        assert (row["start"], row["host"]) == (one.start, "claude-code"), row
        assert row["session"], row
        assert row["footprint_source"] == "pss"
        assert one.role not in servers or row["server"], row


RUN = """
import sys
from rich.console import Console
from oomless import platform
from oomless.demo import acts, governed, pages, show
from oomless.demo.model.process import ModelProcess
from oomless.demo.parts import Parts
from oomless.demo.real import Real
from oomless.demo.stage import Stage
from oomless.errors import OomlessError

class Report(show.Lines):
    def tick(self, point, finished):
        print(point.processes, flush=True)

real = Real(Parts().build(lambda name, step, fraction: None))
try:
    with Stage(real, platform.current(), Report(Console(stderr=True), 5)) as stage, governed.Throwaway(stage) as home:
        with ModelProcess(pages.script(real.built.servers.values()), stage.folder) as model:
            real.url = model.url
            if sys.argv[1] == "parallel":
                acts.parallel(stage)
            else:
                governed.governed(stage, home, 700 * 10**6, 1800 * 10**6, kill=False)
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
    # After SIGKILL its keeper cleans up; else nobody may be left already.
    patience = 15 if number == signal.SIGKILL else 0
    mark = os.fsencode(folder) + b"/"
    assert wait_for(lambda: not any(mark in proc.environ(pid) for pid in proc.pids()), patience)
    assert wait_for(lambda: os.listdir(folder) == [], patience)
