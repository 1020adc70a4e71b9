"""``oomless scan --watch``: the rows of its table and how they fit, JSON lines, and the terminal given back."""

from __future__ import annotations

import fcntl
import io
import json
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from helpers import wait_for
from oomless.census import governed
from oomless.census.attribution import attribute
from oomless.census.findings import Finding
from oomless.census.snapshot import Marks, Snapshot
from oomless.cli.watch import LiveTable
from oomless.cli.watch_view import count_lines, fit_sections
from oomless.demo.model import Call, ModelProcess, Rule, Script, Turn
from oomless.errors import DaemonError
from oomless.model import DetachedProcess, Footprint, LiveSession, MachineMemory
from oomless.paths import Paths
from oomless.platform import proc
from oomless.platform.linux import Linux
from oomless.protocol.client import Client
from oomless.protocol.views import StatusView, TreeView
from oomless.reports.look import Looks, Scan, Scanner, daemon_facts
from oomless.reports.scan import build_scan
from oomless.reports.watch import (
    LEFTOVER,
    OTHER,
    WatchRow,
    WatchSection,
    count_totals,
    footprints_by_key,
    make_sections,
)
from puppets import PUPPET, Stage, plan, run, session
from realparts import claude_environment, mcp_config, real_parts, real_server
from snapshots import KNOWN, NPX, ROOMY, SERVER_MARKS, SHIM, TOOL_MARKS, row, snapshot

SHELL = ("bash", "-c", "source /h/shell-snapshots/snapshot-bash-1.sh && eval 'make all' < /dev/null && pwd -P")
NO_DAEMON = StatusView(pid=None, memory=ROOMY)


def look(seen: Snapshot, status: StatusView = NO_DAEMON, sizes: dict[int, int] | None = None) -> Scan:
    """What one look at that machine is; each process has as many megabytes as ``sizes`` says, else one."""
    told = daemon_facts(status)
    members = governed.find_members(seen, told.trees, "a1b2c3d4")
    found = {one.process.pid: one for one in attribute(seen, members, KNOWN, told)}
    sized = {pid: Footprint(bytes=(sizes or {}).get(pid, 1) * 10**6, source="pss") for pid in found}
    return Scan(build_scan(found.values(), sized, ROOMY), found, sized, status)


def tree(**fields: Any) -> TreeView:
    return TreeView(**{"tree": "t1", "name": "job", "owner": "run", "state": "running", "reserved_bytes": 0,
                       "seconds": 1.0, **fields})  # fmt: skip


FLOW = f"node {NPX}/node_modules/flow-nexus/cli.js"
SEEN = snapshot(
    row(1, 0, "init"), row(100, 1, "claude"), row(101, 100, FLOW), row(102, 101, "helper"), row(103, 100, SHELL),
    row(104, 103, "make all"), row(105, 1, "npm run dev", sid=105), row(200, 1, "claude"),
    row(300, 1, "/bin/sleep 9"), row(400, 1, "/usr/bin/emacs"), p101=SERVER_MARKS,
    p103=TOOL_MARKS, p104=TOOL_MARKS, p105=TOOL_MARKS, p300=Marks(session="dead-beef", host_pid=77),
)  # fmt: skip


def lines(found: tuple[WatchSection, ...]) -> dict[str, list[tuple[str, str, int, str]]]:
    return {s.title: [(r.kind, r.name, r.processes, r.state) for r in s.rows] for s in found}


class TestSections:
    def test_a_row_for_each_thing_with_its_processes(self) -> None:
        assert lines(make_sections(look(SEEN), {})) == {
            "claude-code s-1": [
                ("session", "claude-code, pid 100", 1, "running"),
                ("server", "flow-nexus", 2, "running"),
                ("tool-shell", "make all", 2, "running"),
                ("tool-shell", "npm run dev", 1, "reparented"),
            ],
            "claude-code 200": [("session", "claude-code, pid 200", 1, "running")],
            OTHER: [("editor", "emacs", 1, "protected")],
            LEFTOVER: [("tool-shell", "dead-bee: sleep 9", 1, "session ended")],
        }

    def test_what_is_left_comes_last(self) -> None:
        assert [section.title for section in make_sections(look(SEEN), {})][-2:] == [OTHER, LEFTOVER]

    def test_changes_since_the_look_before(self) -> None:
        before = footprints_by_key(make_sections(look(SEEN, sizes={101: 10, 102: 5}), {}))
        later = Snapshot(processes=(*SEEN.processes, row(500, 100, SHELL)), marks=(*SEEN.marks, TOOL_MARKS))
        (first, *_) = make_sections(look(later, sizes={101: 30, 102: 5}), before)
        changed = {r.name: (r.change, r.footprint) for r in first.rows if r.kind == "server"}
        assert changed == {"flow-nexus": (20_000_000, 35_000_000)}
        assert [(r.state, r.change) for r in first.rows if r.kind == "tool-shell"] == [
            ("running", 0), ("reparented", 0), ("new", None),
        ]  # fmt: skip

    def test_subagents_of_the_host_are_rows_without_processes(self) -> None:
        status = StatusView(
            pid=1,
            memory=ROOMY,
            sessions=(LiveSession(host="claude-code", sessions=("s-0", "s-1"), pid=100, start=100),),
            trees=(
                tree(
                    tree="a1", kind="subagent", class_name="subagent", name="Agent:Explore", owner="claude-code s-0"
                ),
                tree(
                    tree="a2", kind="subagent", class_name="subagent", name="Agent:Plan", owner="claude-code s-1",
                    state="waiting",
                ),
            ),
        )  # fmt: skip
        rows = next(s.rows for s in make_sections(look(SEEN, status), {}) if s.title == "claude-code s-1")
        assert [(r.kind, r.name, r.processes, r.footprint, r.state) for r in rows[:3]] == [
            ("session", "claude-code, pid 100", 1, 1_000_000, "running"),
            ("subagent", "Agent:Explore", 0, None, "running"),
            ("subagent", "Agent:Plan", 0, None, "waiting"),
        ]

    def test_what_is_governed_and_what_was_left_running(self) -> None:
        seen = snapshot(
            row(1, 0, "init"), row(9, 1, SHIM), row(10, 9, "job"), row(50, 1, "npm run dev"), row(60, 1, "stray"),
            row(100, 1, "claude"), row(201, 100, ("python3", "/o/oomless/cli/boot_prefix.py", "shell", "line")),
            row(204, 201, ("bash", "-c", "x")), row(205, 1, "y"),
            p60=Marks(trees="a1b2c3d4:t1"), p205=Marks(trees="a1b2c3d4:b1"),
        )  # fmt: skip
        left = DetachedProcess(
            pid=50, start=50, command="", why="it ignores SIGHUP", host="claude-code", session="s-9", since=0.0
        )
        shell = tree(
            tree="b1", name="make | tee log", class_name="tool-shell", owner="claude-code:100:100", pid=204, start=204
        )
        status = StatusView(pid=1, memory=ROOMY, trees=(tree(pid=10, start=10), shell), detached=(left,))
        assert lines(make_sections(look(seen, status), {})) == {
            "claude-code 100": [
                ("session", "claude-code, pid 100", 1, "running"),
                ("tool-shell", "make | tee log", 3, "governed"),
            ],
            OTHER: [("subagent", "job", 3, "governed")],
            LEFTOVER: [("other", "s-9: npm run dev", 1, "detached")],
        }

    def test_the_totals_tell_what_runs_from_what_is_left(self) -> None:
        runs, left = count_totals(make_sections(look(SEEN), {}))
        assert runs == "2 sessions, 1 server, 2 tool shells, 1 editor"
        assert left == "1 tool-shell"

    def test_no_secret_is_in_a_name(self) -> None:
        shell = ("bash", "-c", "source /h/shell-snapshots/snapshot-bash-1.sh && eval 'x --token hunter2hunter2'")
        seen = snapshot(row(100, 1, "claude"), row(101, 100, shell), row(102, 1, "y --token hunter2hunter2"),
                        p101=TOOL_MARKS, p102=TOOL_MARKS)  # fmt: skip
        names = [r.name for section in make_sections(look(seen), {}) for r in section.rows]
        assert not any("hunter2" in name for name in names)
        assert any("y --token ***" in name for name in names)


def rows_of(*kinds: str) -> tuple[WatchRow, ...]:
    return tuple(
        WatchRow(key=f"{kind}{at}", kind=kind, name=f"n{at}", processes=2, footprint=5, change=at, state="running")
        for at, kind in enumerate(kinds)
    )


class TestFitting:
    FOUND = (
        WatchSection(title="a", rows=rows_of("session", "server", "server", "server", "tool-shell")),
        WatchSection(title="b", rows=rows_of("session", "server", "server")),
    )

    @pytest.mark.parametrize(
        ("height_of_screen", "rows", "more"),
        [(9, [5, 3], 0), (8, [3, 2], 0), (6, [3, 2], 0), (5, [1, 1], 0), (3, [1, 1], 0)],
    )
    def test_rows_are_added_up_only_as_far_as_they_must(
        self, height_of_screen: int, rows: list[int], more: int
    ) -> None:
        shown, left_out = fit_sections(self.FOUND, height_of_screen)
        assert ([len(section.rows) for section in shown], left_out) == (rows, more)
        assert count_lines(shown) <= height_of_screen

    @pytest.mark.parametrize(("height_of_screen", "kept"), [(2, 1), (1, 1), (-3, 1)])
    def test_what_does_not_fit_even_so_is_counted(self, height_of_screen: int, kept: int) -> None:
        shown, left_out = fit_sections(self.FOUND, height_of_screen)
        assert (len(shown), left_out) == (kept, 2 - kept)

    def test_nothing_is_lost_in_a_sum(self) -> None:
        (first, second), _ = fit_sections(self.FOUND, 3)
        (all_of_it,) = first.rows
        assert all_of_it.name == "1 session, 3 servers, 1 tool-shell"
        assert (all_of_it.count, all_of_it.processes, all_of_it.footprint, all_of_it.change) == (5, 10, 25, 10)
        assert second.footprint == 15
        by_kind = fit_sections(self.FOUND, 6)[0][0].rows
        assert [(r.kind, r.count, r.name) for r in by_kind] == [
            ("session", 1, "n0"), ("server", 3, "n1, n2, n3"), ("tool-shell", 1, "n4"),
        ]  # fmt: skip


class TestScanner:
    def test_memory_is_read_anew_only_of_what_has_changed(
        self, stage: Stage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked: list[int] = []
        real = Linux.footprint

        def footprint(self: Linux, pid: int) -> Footprint | None:
            asked.append(pid)
            return real(self, pid)

        monkeypatch.setattr(Linux, "footprint", footprint)
        host = stage.start(plan("host", ["claude", "-c", PUPPET]))
        scanner = Scanner(Linux(), Paths())
        reports = [scanner.scan(scanner.status()) for _ in range(3)]
        assert asked.count(host) == 1
        assert all(host in scan.footprints for scan in reports)

    def test_a_daemon_that_goes_away_is_none_and_is_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def status(self: Client) -> StatusView:
            raise DaemonError("the daemon does not answer", "no word in 5 s", "see its log")

        monkeypatch.setattr(Client, "status", status)
        (scan,) = Looks(Linux(), Paths(), 0.1, 1)
        assert scan.status.pid is None
        assert scan.status.problem == "the daemon does not answer: no word in 5 s; see its log"


@pytest.mark.machine
class TestLines:
    def test_one_object_a_look(self, stage: Stage) -> None:
        stage.start(session(stage))
        looks = [json.loads(line) for line in run("--watch", "--count", "2", "--interval", "100ms").splitlines()]
        assert [one["schema"] for one in looks] == ["oomless.scan/1"] * 2
        for one in looks:
            kinds = {row["pid"]: (row["kind"], row["session"]) for row in one["processes"]}
            assert kinds[stage.pids["host"]] == ("session", "5e55-1")
            assert kinds[stage.pids["flow"]] == ("server", "5e55-1")

    def test_each_is_there_at_once_and_ctrl_c_ends_it(self) -> None:
        command = [sys.executable, "-m", "oomless", "scan", "--watch", "--json", "--interval", "100ms"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as watch:
            assert watch.stdout is not None
            assert watch.stderr is not None
            for _ in range(3):
                assert json.loads(watch.stdout.readline())["schema"] == "oomless.scan/1"
            watch.send_signal(signal.SIGINT)
            assert watch.wait(20) == 130
            assert watch.stderr.read() == b""

    def test_a_reader_that_goes_away_ends_it_quietly(self) -> None:
        command = [sys.executable, "-m", "oomless", "scan", "--watch", "--interval", "100ms"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as watch:
            assert watch.stdout is not None
            assert watch.stderr is not None
            watch.stdout.readline()
            watch.stdout.close()
            assert watch.wait(20) == 141
            assert watch.stderr.read() == b""

    def test_a_finding_in_any_look_counts(self, monkeypatch: pytest.MonkeyPatch) -> None:
        available = iter((50, 10, 50))
        monkeypatch.setattr(
            Linux, "memory", lambda self: MachineMemory(total_bytes=100, available_bytes=next(available, 50))
        )
        monkeypatch.setattr(Client, "status", lambda self: NO_DAEMON)
        lines = run("--watch", "--count", "3", "--interval", "100ms", "--fail-on", "warning", expect=1).splitlines()
        found = [[each["rule"] for each in json.loads(line)["findings"]] for line in lines]
        assert found == [[], ["memory-in-use"], []]

    @pytest.mark.parametrize(
        ("args", "words"),
        [
            (["--interval", "1s"], "add --watch"),
            (["--count", "1"], "add --watch"),
            (["--watch", "--interval", "50ms"], "too short"),
            (["--watch", "--interval", "often"], "not a duration"),
            (["--watch", "--count", "0"], "--count"),
        ],
    )
    def test_what_makes_no_sense_is_refused(self, args: list[str], words: str) -> None:
        assert words in run(*args, expect=2)


class Screen:
    """``oomless scan --watch`` on a terminal of its own."""

    ON, OFF, HIDDEN, SHOWN = b"\x1b[?1049h", b"\x1b[?1049l", b"\x1b[?25l", b"\x1b[?25h"

    def __init__(self, *args: str, rows: int = 40, columns: int = 120) -> None:
        self.fd, follower = pty.openpty()
        fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        command = [sys.executable, "-m", "oomless", "scan", "--watch", *args]
        environ = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES", "NO_COLOR")}
        self.process = subprocess.Popen(
            command,
            stdin=follower,
            stdout=follower,
            stderr=follower,
            env={**environ, "TERM": "xterm"},
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        os.close(follower)
        self.seen = b""

    def read(self) -> bool:
        """False at the end."""
        if not select.select([self.fd], [], [], 20)[0]:
            raise TimeoutError(self.seen[-500:])
        try:
            part = os.read(self.fd, 65536)
        except OSError:  # EIO: nobody has the terminal any more
            return False
        self.seen += part
        return bool(part)

    def until(self, text: bytes) -> None:
        while text not in self.seen:
            assert self.read(), self.seen[-500:]

    def end(self) -> int:
        while self.read():
            pass
        return self.process.wait(20)

    def restored(self) -> bool:
        pairs = ((self.ON, self.OFF), (self.HIDDEN, self.SHOWN))
        return all(0 <= self.seen.rfind(on) < self.seen.rfind(off) for on, off in pairs)

    def after(self) -> str:
        """What stays on the terminal when it is over."""
        return self.seen.rpartition(self.OFF)[2].decode()


@pytest.fixture
def screens() -> Iterator[list[Screen]]:
    made: list[Screen] = []
    yield made
    for one in made:
        one.process.kill()
        one.process.wait()
        os.close(one.fd)


class TestTerminal:
    def test_the_screen_is_given_back_with_the_last_table_on_it(self, stage: Stage, screens: list[Screen]) -> None:
        stage.start(session(stage))
        screens.append(Screen("--count", "2", "--interval", "100ms", rows=500))
        assert screens[0].end() == 0
        assert screens[0].restored()
        text = screens[0].after()
        for words in ("memory", "SESSION", "claude-code 5e55-1", "flow-nexus", "server-memory"):
            assert words in text
        assert screens[0].seen.count(b"claude-code 5e55-1") == 3  # two looks and the end

    @pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
    def test_however_it_ends(self, screens: list[Screen], number: int, code: int) -> None:
        screens.append(Screen("--interval", "100ms"))
        screens[0].until(b"memory")
        screens[0].process.send_signal(number)
        assert screens[0].end() == code
        assert screens[0].restored()
        assert "memory" in screens[0].after()
        assert "Traceback" not in screens[0].after()

    def test_ctrl_c(self, screens: list[Screen]) -> None:
        screens.append(Screen())
        screens[0].until(b"memory")
        os.write(screens[0].fd, b"\x03")
        assert screens[0].end() == 130
        assert screens[0].restored()
        assert "Traceback" not in screens[0].after()

    def test_no_frame_is_higher_than_the_screen(self, stage: Stage) -> None:
        from rich.console import Console

        stage.start(session(stage))
        for number in range(2, 5):
            first = dict(stage.pids)
            stage.pids.clear()
            stage.start(session(stage, f"5e55-{number}"))
            stage.pids.update({f"{number} {label}": pid for label, pid in first.items()})
        (scan,) = Looks(Linux(), Paths(), 0.1, 1)
        short = MachineMemory(total_bytes=100, available_bytes=1)
        status = StatusView(pid=1, memory=short, problem="the settings are wrong")
        scan = scan._replace(status=status, report=build_scan(scan.attributed.values(), scan.footprints, short))
        for rows in (60, 24, 14):
            out = Console(force_terminal=True, width=100, height=rows, file=open(os.devnull, "w"))  # noqa: SIM115
            with out.file:
                frame = LiveTable(out).frame(scan)
                assert len(out.render_lines(frame)) <= rows


def test_findings_leave_room_for_the_table() -> None:
    from rich.console import Console

    found = tuple(Finding(rule="r", severity="warning", title=f"nr {n}", evidence=(), action="") for n in range(9))
    report = msgspec.structs.replace(build_scan((), {}, ROOMY), findings=found)
    scan = Scan(report, {}, {}, StatusView(pid=None, memory=ROOMY))
    for rows, shown in ((40, 9), (12, 3), (9, 0)):
        out = Console(force_terminal=True, width=100, height=rows, file=io.StringIO())
        out.print(LiveTable(out).frame(scan))
        assert isinstance(out.file, io.StringIO)
        text = out.file.getvalue()
        assert text.count("warning: nr") == shown
        assert (f"and {9 - shown} more findings" in text) == (shown < 9)
        assert len(text.splitlines()) <= rows


@pytest.mark.machine
@pytest.mark.parts
def test_a_real_session_is_named_with_all_that_it_started(tmp_path: Path) -> None:
    """Foreground and background shells, one that detached, two servers, one behind a launcher's back."""
    home, ready = tmp_path, tmp_path / "ready"
    commands: tuple[tuple[str, dict[str, bool]], ...] = (
        ("nohup setsid sleep 120 > /dev/null 2>&1 & echo", {}),
        ("sleep 121", {"run_in_background": True}),
        (f"touch {ready}; sleep 122; true", {}),
    )
    turns = [
        Turn(calls=(Call(name="Bash", input={"command": text, "description": "x", **more}),))
        for text, more in commands
    ]
    script = Script(rules=(Rule(kind="main", turns=(*turns, Turn(text="Done."))),))
    servers = [real_server("everything"), real_server("flow-nexus")]
    options = ["--permission-mode", "bypassPermissions", "--strict-mcp-config", "--mcp-config"]
    (home / "work").mkdir()
    with ModelProcess(script, str(home)) as model, open(home / "out", "wb") as out:
        host = subprocess.Popen(
            [real_parts().claude, "-p", "go", *options, str(mcp_config(home, *servers))],
            cwd=home / "work",
            env=claude_environment(home, model.url),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
        )
        assert wait_for(ready.exists, 90), (home / "out").read_text()
        (mine,) = (one for one in of_session(host.pid) if one["kind"] == "session")
        found = [row for row in of_session(host.pid) if row["session"] == mine["session"]]
        host.kill()
        host.wait()
        left = [row for row in json.loads(run("--json"))["processes"] if row["session"] == mine["session"]]
        for row in left:
            proc.kill(row["pid"], row["start"])
    assert len(mine["session"]) == 36
    assert {row["server"] for row in found if row["kind"] == "server"} == {"server-everything", "flow-nexus"}
    shells = [row for row in found if row["kind"] == "tool-shell"]
    assert len(shells) == 2
    assert {row["host"] for row in found} == {"claude-code"}
    assert {row["footprint_source"] for row in found} == {"pss"}
    assert {row["verdict"] for row in found} == {"owned"}
    detached = next(row for row in found if row["command"] == "sleep 120")
    assert (detached["kind"], detached["confidence"]) == ("other", 0.6)
    assert [row["verdict"] for row in left if row["command"] == "sleep 120"] == ["detached"]
    assert [row["verdict"] for row in left if row["kind"] == "tool-shell"] == ["orphan"] * 2
    assert {row["verdict"] for row in left if row["server"]} <= {"orphan"}


def of_session(pid: int) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads(run("--json"))["processes"]
    (id,) = (row["session"] for row in rows if row["pid"] == pid)
    return [row for row in rows if row["session"] == id]
