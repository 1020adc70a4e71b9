"""``oomless scan`` on real processes: a stand-in for a host with servers, a governed tree, churn, other users' files.

The stand-ins are Python under other names; each reports its pid and ends when the test closes the lifeline.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from contained import read_roster
from helpers import alive, wait_for, wait_gone
from oomless.census.daemon_facts import OpenTree
from oomless.hosts.claude_code import prefix
from oomless.model import MachineMemory, ProcessInfo
from oomless.paths import Paths
from oomless.platform import proc
from oomless.platform.linux import Linux
from oomless.protocol.client import Client
from oomless.protocol.views import StatusView, TreeView
from oomless.reports.look import daemon_facts
from puppets import PUPPET, Stage, marks_of, plan, run, session
from sessions import Session, member

pytestmark = [pytest.mark.as_user, pytest.mark.machine]

Rows = dict[str, dict[str, Any]]


def rows(stage: Stage) -> Rows:
    """The rows of ``scan --json`` for our stand-ins, by label."""
    found = {row["pid"]: row for row in json.loads(run("--json"))["processes"]}
    return {label: found[pid] for label, pid in stage.pids.items() if pid in found}


class TestHosts:
    def test_a_session_with_its_servers_and_shells(self, stage: Stage) -> None:
        stage.start(session(stage))
        found = rows(stage)
        assert {label: row["kind"] for label, row in found.items()} == {
            "host": "session",
            "npx": "launcher",
            "wrapper": "launcher",
            "server": "server",
            "flow": "server",
            "tool": "tool-shell",
            "job": "other",
        }
        assert {row["session"] for row in found.values()} == {"5e55-1"}
        assert {row["host"] for row in found.values()} == {"claude-code"}
        assert {row["verdict"] for row in found.values()} == {"owned"}
        assert {found[label]["server"] for label in ("npx", "wrapper", "server")} == {"server-memory"}
        assert (found["flow"]["server"], found["job"]["server"]) == ("flow-nexus", None)

    def test_the_figures_are_the_processes_own(self, stage: Stage) -> None:
        stage.start(plan("host", ["claude", "-c", f"data = bytearray(40_000_000)\n{PUPPET}"]))
        found = rows(stage)["host"]
        assert found["footprint_source"] == "pss"
        assert 40_000_000 < found["bytes_recoverable"] <= found["footprint_bytes"] <= found["rss_bytes"] < 90e6
        assert found["start"] == proc.start_of(found["pid"])
        assert (found["ppid"], found["uid"]) == (os.getpid(), os.geteuid())

    def test_no_secret_leaves_a_command_line_or_an_environment(self, stage: Stage) -> None:
        one = session(stage)
        one["env"]["ANTHROPIC_API_KEY"] = "hunter2hunter2"
        stage.start(one)
        found = rows(stage)["npx"]
        assert found["command"].endswith("--token ***")
        assert "hunter2" not in run("--json") + run()

    def test_what_a_killed_host_had_started_is_not_owned(self, stage: Stage) -> None:
        stage.start(session(stage))
        host = stage.pids["host"]
        start = proc.start_of(host)
        assert start is not None
        assert proc.kill(host, start) == proc.SENT
        stage.started[0].wait()
        found = rows(stage)
        assert found.keys() == {"npx", "wrapper", "server", "flow", "tool", "job"}
        apart = {"tool", "job"}  # in a process session of their own, and by no snapshot known for a tool shell's
        assert {name: row["verdict"] for name, row in found.items()} == {
            name: "detached" if name in apart else "unknown" for name in found
        }
        assert all(row["confidence"] < 0.5 for row in found.values())
        assert {(row["host"], row["session"]) for row in found.values()} == {("claude-code", "5e55-1")}
        assert {row["footprint_source"] for row in found.values()} == {"pss"}

    def test_what_left_its_parents_is_of_its_session_as_long_as_that_lives(self, stage: Stage) -> None:
        marks = marks_of("5e55-1")
        dev = plan("dev", ["dev", "-c", PUPPET], env={**marks, "CLAUDE_PID": "mine"}, detached=True)
        helper = plan("helper", ["helper", "-c", PUPPET], env=marks, detached=True)
        stage.start(session(stage, "5e55-1", dev, helper))
        found = rows(stage)
        for label in ("dev", "helper"):
            assert found[label]["ppid"] != stage.pids["host"]
            assert (found[label]["session"], found[label]["host"]) == ("5e55-1", "claude-code")
            assert (found[label]["kind"], found[label]["verdict"], found[label]["server"]) == ("other", "owned", None)
            assert "is alive and older" in found[label]["evidence"][0]

    def test_two_sessions_and_their_copies(self, stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
        real, mark = Linux.processes, f"OOMLESS_TEST={os.environ['OOMLESS_TEST']}".encode()

        def ours(self: Linux) -> list[ProcessInfo]:
            return [one for one in real(self) if mark in proc.environ(one.pid)]

        monkeypatch.setattr(Linux, "processes", ours)
        stage.start(session(stage))
        first = dict(stage.pids)
        stage.pids.clear()
        stage.start(session(stage, "5e55-2"))
        assert {row["session"] for row in rows(stage).values()} == {"5e55-2"}
        after = json.loads(run("--json"))["groups"]

        def instances(groups: list[dict[str, Any]], name: str) -> int:
            return sum(g["instances"] for g in groups if (g["kind"], g["name"]) == ("server", name))

        for name in ("flow-nexus", "server-memory"):
            assert instances(after, name) == 2
        stage.pids.update({f"first {label}": pid for label, pid in first.items()})


class TestGoverned:
    @pytest.fixture
    def govern(self, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
        """Has the daemon say that one tree is open, with this root."""

        def say(pid: int) -> None:
            tree = TreeView(
                tree="t1", name="fix-tests", owner="run", state="running", reserved_bytes=1, pid=pid,
                start=proc.start_of(pid), seconds=1.0,
            )  # fmt: skip
            memory = Linux().memory()
            monkeypatch.setattr(Client, "status", lambda self: StatusView(pid=1, memory=memory, trees=(tree,)))

        return say

    def test_descendants_and_whoever_carries_the_marker(self, stage: Stage, govern: Callable[[int], None]) -> None:
        mark = {"OOMLESS_TREE": f"{Paths().install_id()}:t1/t2"}
        root = stage.start(plan("root", ["job", "-c", PUPPET], plan("child", ["part", "-c", PUPPET])))
        stage.start(plan("marked", ["stray", "-c", PUPPET], env=mark))
        stage.start(plan("other", ["stray", "-c", PUPPET], env={"OOMLESS_TREE": "00000000:t1"}))
        govern(root)
        found = rows(stage)
        assert {label: row["kind"] for label, row in found.items()} == {
            "root": "subagent",
            "child": "other",
            "marked": "other",
        }
        assert {row["verdict"] for row in found.values()} == {"owned"}
        assert all("fix-tests (t1)" in row["evidence"][0] for row in found.values())
        assert "tree fix-tests" in run()

    def test_without_a_daemon_nothing_is_governed_and_none_is_started(self, stage: Stage) -> None:
        stage.start(plan("root", ["job", "-c", PUPPET], env={"OOMLESS_TREE": f"{Paths().install_id()}:t1"}))
        assert rows(stage) == {}
        assert not os.path.exists(Paths().daemon_file)

    def test_a_real_run(self) -> None:
        code = "import os, sys; print(os.getpid(), flush=True); sys.stdin.read()"
        command = [sys.executable, "-m", "oomless", "run", "--memory", "100MB", "--name", "real", "--"]
        with subprocess.Popen(
            [*command, sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as shim:
            assert shim.stdout is not None
            assert shim.stdin is not None
            pid = int(shim.stdout.readline())
            found = {row["pid"]: row for row in json.loads(run("--json"))["processes"]}
            shim.stdin.close()
        assert shim.returncode == 0
        assert (found[pid]["kind"], found[pid]["verdict"], found[pid]["confidence"]) == ("subagent", "owned", 1.0)
        assert (found[shim.pid]["kind"], found[shim.pid]["verdict"]) == ("launcher", "owned")

    def test_an_owner_without_a_session_is_no_host(self) -> None:
        trees = {owner: OpenTree(tree="t", name="x", root_pid=5, root_start=7) for owner in ("run", "batch:b1")}
        for owner, expected in trees.items():
            view = TreeView(
                tree="t", name="x", owner=owner, class_name="tool-shell", state="running", reserved_bytes=1, pid=5,
                start=7, seconds=1.0,
            )  # fmt: skip
            assert daemon_facts(StatusView(pid=1, memory=Linux().memory(), trees=(view,))).trees == (expected,)


class TestPrefix:
    """A stand-in for Claude Code behind the real shell prefix, with a real daemon."""

    def test_servers_and_shells_keep_their_session(self, house: Path, tmp_path: Path) -> None:
        claude = tmp_path / "claude"
        claude.symlink_to(os.path.realpath(sys.executable))
        roster = tmp_path / "roster"
        program, wrapper = prefix.write(Paths(), None), ["/bin/sh", "-c", f'exec {claude} "$@"']
        with Session(program, wrapper) as host:
            shim = host.server(member("polite", str(roster)))
            there = shlex.join(member("there", str(roster)))
            gone, stays = shlex.join(member("background", str(roster))), f"{there}; true"
            ended = host.shell(f"{gone} > /dev/null 2>&1 & true", str(tmp_path))
            assert host.wait(ended) == 0
            front = host.shell(stays, str(tmp_path))
            assert wait_for(lambda: {"polite", "there", "background"} <= set(read_roster(roster)), 20)
            who = {kind: pid for kind, (pid, _) in read_roster(roster).items()}
            found = {row["pid"]: row for row in json.loads(run("--json"))["processes"]}
            groups = json.loads(run("--json"))["groups"]
            for pid, start in read_roster(roster).values():
                proc.kill(pid, start)
            host.end("normal")
        id = f"stand-in-{host.pid}"
        ours = {pid: row for pid, row in found.items() if row["session"] == id}
        assert ours.keys() >= {host.pid, shim, front, *who.values()}
        assert (found[host.pid]["kind"], found[host.pid]["session"]) == ("session", id)
        assert [found[pid]["kind"] for pid in (shim, who["polite"])] == ["launcher", "server"]
        assert {found[pid]["server"] for pid in (shim, who["polite"])} == {"sessions"}
        shell = found[who["there"]]["ppid"]
        assert [found[pid]["kind"] for pid in (front, shell, who["there"])] == ["launcher", "tool-shell", "other"]
        keeper = found[who["background"]]["ppid"]
        assert keeper not in (front, host.pid)
        assert (found[keeper]["kind"], found[who["background"]]["kind"]) == ("launcher", "other")
        assert found[keeper]["evidence"][0] == "oomless' own shim, by its argument list"
        shells = next(group for group in groups if (group["kind"], group["name"]) == ("tool-shell", "claude-code"))
        assert shells["instances"] >= 2


class TestOutput:
    def test_the_table_for_people(self, stage: Stage) -> None:
        stage.start(session(stage))
        text = run()
        line = next(x for x in text.splitlines() if x.split()[:1] == [str(stage.pids["flow"])])
        assert line.split()[1] == "server"
        assert "flow-nexus: node" in line
        assert "claude-code 5e55-1" in line
        assert line.rstrip().endswith("owned")
        assert " pss" in line
        assert "processes, " in text
        assert "memory: " in text
        order = [int(x.split()[0]) for x in text.splitlines() if x.split()[:1] and x.split()[0].isdigit()]
        assert order.index(stage.pids["host"]) < order.index(stage.pids["flow"])

    def test_with_nothing_around_it_says_so(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(Linux, "processes", lambda self: [])
        assert run().startswith("No sessions, servers or governed trees found.\nmemory: ")

    @pytest.mark.parametrize(
        ("available", "fail_on", "code"),
        [
            (50, "warning", 0),
            (10, None, 0),
            (10, "warning", 1),
            (10, "critical", 0),
            (1, "critical", 1),
            (1, "warning", 1),
        ],
    )
    def test_findings_decide_the_exit_code_only_if_asked(
        self, monkeypatch: pytest.MonkeyPatch, available: int, fail_on: str | None, code: int
    ) -> None:
        memory = MachineMemory(total_bytes=100 * 10**9, available_bytes=available * 10**9)
        monkeypatch.setattr(Linux, "memory", lambda self: memory)
        monkeypatch.setattr(Linux, "memory_use", lambda self: None)
        monkeypatch.setattr(Linux, "processes", lambda self: [])
        args = ["--json"] + (["--fail-on", fail_on] if fail_on else [])
        report = json.loads(run(*args, expect=code))
        assert report["memory"] == {"total_bytes": 100 * 10**9, "available_bytes": available * 10**9}
        assert [finding["rule"] for finding in report["findings"]] == (["memory-in-use"] if available < 20 else [])

    def test_the_finding_is_shown_with_its_evidence(self, monkeypatch: pytest.MonkeyPatch) -> None:
        memory = MachineMemory(total_bytes=100 * 10**9, available_bytes=4 * 10**9)
        monkeypatch.setattr(Linux, "memory", lambda self: memory)
        monkeypatch.setattr(Linux, "memory_use", lambda self: None)
        monkeypatch.setattr(Linux, "processes", lambda self: [])
        title, evidence, action = run().splitlines()[-3:]
        assert title == "critical: 96% of the machine's memory is in use"
        assert evidence.startswith("  96.00 GB of 100.00 GB in use")
        assert action.startswith("  what to do: start no further agents now")

    def test_an_unknown_severity_is_a_usage_error(self) -> None:
        assert "panic" in run("--fail-on", "panic", expect=2)


class TestRaces:
    def test_processes_that_come_and_go_are_no_error(self) -> None:
        churn = "for i in $(seq 10000); do read -t 0 && break; sh -c ':' & sh -c ':'; done; wait"
        with subprocess.Popen(["bash", "-c", churn], stdin=subprocess.PIPE) as shell:
            for _ in range(4):
                report = json.loads(run("--json"))
                pids = [row["pid"] for row in report["processes"]]
                assert (report["schema"], len(set(pids))) == ("oomless.scan/1", len(pids))
            assert shell.poll() is None

    def test_a_process_that_ends_between_table_and_footprint_is_left_out(
        self, stage: Stage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        pid = stage.start(plan("host", ["claude", "-c", PUPPET]))
        start = proc.start_of(pid)
        assert start is not None
        real = Linux.footprint

        def footprint(self: Linux, asked: int) -> object:
            if asked == pid and alive(pid, start):
                proc.kill(pid, start)
                assert wait_gone(pid, start, 10)
            return real(self, asked)

        monkeypatch.setattr(Linux, "footprint", footprint)
        assert rows(stage) == {}

    def test_what_is_not_ours_to_read_is_rss_and_says_so(self, stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
        pid = stage.start(plan("host", ["claude", "-c", PUPPET]))
        real, denied = proc.read_file, (f"/proc/{pid}/smaps_rollup", f"/proc/{pid}/environ")
        monkeypatch.setattr(proc, "read_file", lambda path: None if path in denied else real(path))
        found = rows(stage)["host"]
        assert (found["footprint_source"], found["bytes_recoverable"]) == ("rss", None)
        assert found["footprint_bytes"] == found["rss_bytes"] > 0
        assert found["session"] == f"{pid}:{found['start']}"
