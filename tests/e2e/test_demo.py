"""The demo: the policy with made-up records, the sampler and one small act with real processes."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from rich.console import Console

from contained import OFFERS
from helpers import run_oomless, wait_for, wait_gone
from oomless import platform
from oomless.cli.demo import command
from oomless.demo import agents, replay, show, stage
from oomless.demo.agent import write_result
from oomless.demo.agents import AGENT, AGENT_FILE, MB, AgentPlan, Synthetic, make_plan
from oomless.demo.record import ACTS, ActName, ActRecord, Check, DemoRecord, Member, Point, RoleShare, check_acts
from oomless.demo.sampler import MARK, ActSampler
from oomless.demo.show import Progress
from oomless.demo.stage import Act, Stage, choose_budget, play_parallel, play_sequential
from oomless.engines.batch_file import parse_batch
from oomless.errors import OomlessError, Refused, UsageError
from oomless.model import MachineMemory
from oomless.platform import proc
from oomless.platform.linux import Linux

AGENTS = 5


def act(name: ActName, **changes: object) -> ActRecord:
    governs = name.startswith("governed")
    record = ActRecord(
        name=name,
        agents_peak=2 if governs else AGENTS,
        processes_peak=8 if governs else 20,
        peak_bytes=430 * MB if governs else 1000 * MB,
        footprint_source="pss",
        budget_bytes=600 * MB if governs else None,
        finished=0 if name == "parallel-killed" else AGENTS,
        seconds=11.0,
        survivors=0 if governs else 10,
        survivors_bytes=0 if governs else 310 * MB,
        left=(),
        ended=0 if governs else 10,
        killed=AGENTS if name.endswith("killed") else 0,
        repeated=0,
        overhead_bytes=60 * MB if governs else 0,
        agent_bytes=210 * MB,
        at_peak=(),
        points=tuple(Point(seconds=i / 10, bytes=i * 20 * MB, agents=2, processes=8) for i in range(50)),
    )
    return msgspec.structs.replace(record, **changes)


def all_acts(**governed_changes: object) -> list[ActRecord]:
    return [act(name, **governed_changes) if name == "governed" else act(name) for name in ACTS]


def whole(records: list[ActRecord]) -> DemoRecord:
    checks = check_acts(records, AGENTS)
    return DemoRecord(
        form="synthetic",
        agents=AGENTS,
        agent_bytes=120 * MB,
        child_bytes=25 * MB,
        agent_seconds=2.5,
        shrunk_from=None,
        acts=tuple(records),
        checks=checks,
        ok=all(check.passed for check in checks),
    )


class TestChecks:
    def test_good_figures_pass(self) -> None:
        assert [check for check in whole(all_acts()).checks if not check.passed] == []
        assert len(whole(all_acts()).checks) == 9

    @pytest.mark.parametrize(
        ("change", "failed"),
        [
            ({"finished": 4}, ("all finish, each once", "4 of 5")),
            ({"repeated": 1}, ("all finish, each once", "5 of 5, 1 of them twice")),
            ({"survivors": 1}, ("no survivors", "1 process")),
            ({"peak_bytes": 610 * MB}, ("peak at most 60% of the first act's", "61%")),
            ({"agents_peak": 1}, ("at least two at once", "1")),
        ],
    )
    def test_a_governed_act_that_did_no_better_is_named(
        self, change: dict[str, object], failed: tuple[str, str]
    ) -> None:
        record = whole(all_acts(**change))
        assert not record.ok
        expected = Check(name=f"governed: {failed[0]}", passed=False, detail=failed[1])
        assert [check for check in record.checks if not check.passed] == [expected]

    def test_retries_that_were_never_needed_prove_nothing(self) -> None:
        records = [*all_acts()[:-1], act("governed-killed", killed=3)]
        failed = [check for check in check_acts(records, AGENTS) if not check.passed]
        expected = Check(name="governed-killed: each agent was killed once", passed=False, detail="3 of 5")
        assert failed == [expected]


class TestSizing:
    def test_all_fit_as_asked(self) -> None:
        plan = make_plan(5, 120 * MB, 2.5, available=4000 * MB)
        assert (plan.agent_bytes, plan.child_bytes, plan.shrunk_from, plan.life) == (120 * MB, 25 * MB, None, 120)

    def test_shrinks_until_all_fit(self) -> None:
        plan = make_plan(5, 120 * MB, 2.5, available=1000 * MB)
        assert plan.shrunk_from == 120 * MB
        assert agents.MIN_MEMORY <= plan.agent_bytes < 120 * MB
        assert plan.agents * plan.tree_bytes <= 0.7 * 1000 * MB

    def test_refuses_below_the_floor(self) -> None:
        with pytest.raises(Refused) as caught:
            make_plan(5, 120 * MB, 2.5, available=200 * MB)
        assert caught.value.exit_code == 75
        assert "5 agents need" in caught.value.line()
        assert "200 MB are available" in caught.value.line()

    @pytest.mark.parametrize(
        ("agents", "memory", "seconds"), [(3, 120 * MB, 2.5), (51, 120 * MB, 2.5), (5, MB, 2.5), (5, 120 * MB, 0.1)]
    )
    def test_what_cannot_be_shown_is_a_usage_error(self, agents: int, memory: int, seconds: float) -> None:
        with pytest.raises(UsageError):
            make_plan(agents, memory, seconds, available=10**11)

    @pytest.mark.parametrize("number", [4, 5, 12])
    def test_the_budget_has_room_for_two_but_never_for_all(self, number: int) -> None:
        plan = make_plan(number, 120 * MB, 2.5, available=10**11)
        peak = int(number * plan.tree_bytes * 0.93)
        need = Synthetic(plan).need(act("parallel"))
        budget = choose_budget(need, peak, "")
        assert budget <= 0.6 * peak
        assert 2 * need <= budget < number * need
        assert need >= plan.tree_bytes

    def test_a_first_act_without_overlap_gives_no_budget(self) -> None:
        with pytest.raises(OomlessError, match=r"no measure.*; wait$"):
            choose_budget(100 * MB, 200 * MB, "wait")

    def test_the_batch_file_is_one_that_batch_takes(self) -> None:
        with small_stage(io.StringIO()) as small, Act(small, "governed", "", 10**9) as act:
            lines = stage.make_jobs(act, 20 * MB, 50 * MB, retries=1)
            jobs, broken = parse_batch(msgspec.json.Encoder().encode_lines(lines), "jobs")
            assert broken == []
            assert [job.name for job in jobs] == ["agent-1", "agent-2"]
            assert {(job.expect, job.memory) for job in jobs} == {(20 * MB, 50 * MB)}
            assert {job.retries for job in jobs} == {1}
            assert [(job.env[MARK], job.env[AGENT]) for job in jobs] == [(act.mark, job.name) for job in jobs]

    def test_the_machine_is_asked_before_anything_starts(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        little = MachineMemory(total_bytes=10**9, available_bytes=10**8)
        monkeypatch.setattr(Linux, "memory", lambda self: little)
        with pytest.raises(SystemExit) as caught:
            command(synthetic=True)
        assert caught.value.code == 75
        assert "100 MB are available" in capsys.readouterr().err

    def test_a_memory_limit_above_counts_as_well(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(Linux, "headroom", lambda self, pid: 5 * 10**7)
        assert replay.find_available() == 5 * 10**7

    def test_shrunk_agents_are_told(self, monkeypatch: pytest.MonkeyPatch) -> None:
        class Stop(Exception):
            pass

        def stop(stage: Stage) -> ActRecord:
            raise Stop

        monkeypatch.setattr(replay, "play_parallel", stop)
        out = io.StringIO()
        with pytest.raises(Stop):
            replay.replay(make_plan(5, 120 * MB, 2.5, 10**9), Progress(Console(file=out), "synthetic", 5))
        assert "instead of 120 MB: more is not free" in out.getvalue()


class TestChart:
    @pytest.mark.parametrize("width", [40, 80, 200])
    @pytest.mark.parametrize(
        ("encoding", "plain"), [("utf-8", False), ("ascii", True), ("latin-1", True), (None, True)]
    )
    def test_keeps_to_width_and_encoding_and_shows_every_act(
        self, width: int, encoding: str | None, plain: bool
    ) -> None:
        lines = show.plot_text(all_acts(), width, encoding)
        assert "\n".join(lines).isascii() is plain
        assert max(map(len, lines)) <= width + 6
        assert [line.split()[0] for line in lines[0 : 5 * show.ROWS : show.ROWS]] == list(ACTS)
        assert len(lines) == 5 * show.ROWS + 2

    def test_only_governed_acts_have_a_budget_line(self) -> None:
        lines = show.plot_text(all_acts(), 80)
        with_line = [number // show.ROWS for number, line in enumerate(lines) if "┄" in line]
        assert with_line == [3, 4]

    def test_a_small_leak_does_not_round_to_nothing(self) -> None:
        leak = tuple(Point(seconds=float(i), bytes=MB, agents=0, processes=1) for i in range(10))
        lines = show.plot_text([act("parallel", points=leak)], 60)
        assert "▁" * 10 in lines[show.ROWS - 1]

    def test_columns_take_the_highest_sample_and_fill_gaps(self) -> None:
        points = [Point(seconds=s, bytes=b, agents=1, processes=1) for s, b in ((0.0, 5), (0.1, 9), (2.5, 7))]
        assert show.fill_columns(points, 1.0, 5) == [9, 9, 7, None, None]

    @pytest.mark.parametrize(("size", "expected"), [(1, 1), (1001, 1200), (950, 1000), (2.2e9, 2_500_000_000)])
    def test_scales_end_at_round_numbers(self, size: float, expected: int) -> None:
        assert show.round_up(size) == expected

    def test_svg_is_whole_by_itself(self) -> None:
        text = show.draw_svg(all_acts(), "a < b & c")
        root = ElementTree.fromstring(text)
        words = [element.text or "" for element in root.iter("{http://www.w3.org/2000/svg}text")]
        assert len(list(root.iter("{http://www.w3.org/2000/svg}polyline"))) == 5
        assert {"a < b & c", "MB", "seconds since the act began", "budget 600 MB"} <= set(words)
        assert all(any(word.startswith(f"{name}, peak") for word in words) for name in ACTS)
        assert "href" not in text

    def test_tables_plot_and_checks_are_printed(self) -> None:
        out = io.StringIO()
        left = tuple(Member(pid=pid, start=1, role="server", agent="a", bytes=30 * MB) for pid in (1, 2))
        peak = (RoleShare(role="agent", processes=5, bytes=700 * MB),)
        records = all_acts(finished=4)
        records[0] = msgspec.structs.replace(records[0], at_peak=peak)
        records[2] = msgspec.structs.replace(records[2], left=left)
        show.show_record(Console(file=out, width=100), whole(records))
        rows = [line.split() for line in out.getvalue().splitlines()]
        assert ["governed", "2", "8", "430", "MB", "600", "MB", "4", "of", "5", "11", "s", "0", "60", "MB"] in rows
        assert ["agent", "5,", "700", "MB", "-", "-"] in rows
        assert ["server", "-", "-", "2,", "60", "MB"] in rows
        assert out.getvalue().splitlines()[-2:] == [
            "Failed: governed: all finish, each once (4 of 5)",
            "8 of 9 checks hold.",
        ]

    def test_progress_says_what_is_in_memory_and_what_was_left(self) -> None:
        out = io.StringIO()
        console = Console(file=out, force_terminal=True, width=120)
        progress = Progress(console, "synthetic", AGENTS)
        progress.act("parallel", "all at once")
        progress.tick(Point(seconds=1.0, bytes=333 * MB, agents=4, processes=17), finished=1)
        progress.done(act("parallel"))
        assert "333 MB, 4 agents, 17 processes, 1 of 5 finished" in out.getvalue()
        assert "peak 1.00 GB, 10 survivors, 10 killed by the demo" in out.getvalue()


@pytest.fixture
def started() -> Iterator[list[subprocess.Popen[bytes]]]:
    """What a test starts, ended by the handles it holds."""
    processes: list[subprocess.Popen[bytes]] = []
    yield processes
    for process in processes:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()


#: Starts a child in a session of its own without any environment, says its pid, and waits.
PARENT = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-I", "-S", "-c", "import signal; signal.alarm(60); print(flush=True); "
                          "signal.pause()"], env={}, start_new_session=True, stdout=subprocess.PIPE)
child.stdout.readline()
print(child.pid, flush=True)
sys.stdin.read()
"""


def other(command: Sequence[str]) -> str:
    return "other"


def start_parent(mark: str | None, started: list[subprocess.Popen[bytes]]) -> tuple[int, int]:
    """The pids of a process that carries the mark, if any, and of its child that does not."""
    env = {**os.environ, MARK: mark} if mark else dict(os.environ)
    command = [sys.executable, "-I", "-S", "-c", PARENT]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env)
    started.append(process)
    assert process.stdout is not None
    return process.pid, int(process.stdout.readline())


class TestSampler:
    def test_sees_children_that_left_session_and_environment(self, started: list[subprocess.Popen[bytes]]) -> None:
        sampler = ActSampler("m1", other, platform.current())
        _, child = start_parent("m1", started)
        assert MARK.encode() not in proc.environ(child)
        members = sampler.sample(0.0)
        assert ([member.role for member in members], sampler.source) == (["other", "other"], "pss")
        assert sampler.points[0].bytes == sum(member.bytes for member in members) > 2 * MB
        # The parent goes: only memory still tells whose the child was.
        started[0].kill()
        started[0].wait()
        assert [member.pid for member in sampler.survivors()] == [child]
        start = proc.start_of(child)
        assert start is not None
        assert sampler.kill_survivors() == 1
        assert wait_gone(child, start, 5)
        assert sampler.survivors() == ()

    def test_others_are_neither_counted_nor_killed(self, started: list[subprocess.Popen[bytes]]) -> None:
        before, before_child = start_parent("m2", started)
        sampler = ActSampler("m2", other, platform.current())
        pids = [before, before_child, *start_parent(None, started), *start_parent("m3", started)]
        assert sampler.sample(0.0) == ()
        assert sampler.kill_survivors() == 0
        assert all((stat := proc.read_stat(pid)) is not None and stat.alive for pid in pids)
        for pid in pids:
            os.kill(pid, signal.SIGKILL)

    def test_a_parent_that_does_not_belong_is_overhead(self, started: list[subprocess.Popen[bytes]]) -> None:
        sampler = ActSampler("m4", other, platform.current())
        script = PARENT.replace("env={}", f"env={{{MARK!r}: 'm4'}}")
        command = [sys.executable, "-I", "-S", "-c", script]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        started.append(process)
        assert process.stdout is not None
        process.stdout.readline()
        assert len(sampler.sample(0.0)) == 1
        sampler.sample(0.0, overhead=[os.getpid()])
        first, second = sampler.points
        assert first.overhead_bytes > MB
        assert second.overhead_bytes > first.overhead_bytes
        assert sampler.kill_survivors() == 1


class TestAgent:
    def test_each_process_has_an_end_of_its_own(self) -> None:
        command = [sys.executable, "-I", "-S", "-E", AGENT_FILE, "server", "1000", "1"]
        with subprocess.Popen(command, stdin=subprocess.PIPE) as server:
            assert server.wait(timeout=10) == -signal.SIGALRM

    def test_work_done_twice_shows(self, tmp_path: Path) -> None:
        write_result(str(tmp_path), "agent-1")
        write_result(str(tmp_path), "agent-1")
        assert json.loads((tmp_path / "agent-1.json").read_text()) == {"name": "agent-1", "pid": os.getpid()}
        assert sorted(path.name for path in tmp_path.iterdir()) == ["agent-1.again", "agent-1.json"]


def small_stage(out: io.StringIO) -> Stage:
    plan = AgentPlan(agents=2, agent_bytes=12 * MB, seconds=1.0)
    return Stage(Synthetic(plan), platform.current(), Progress(Console(file=out), "synthetic", 2))


class TestActs:
    def test_killed_agents_leave_their_children_which_are_then_ended(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(stage, "LINGER", 0.5)
        out = io.StringIO()
        with small_stage(out) as small:
            record = play_parallel(small, kill=True)
            folder = small.folder
        assert (record.killed, record.finished, record.agents_peak) == (2, 0, 2)
        assert sorted(left.role for left in record.left) == ["detached", "detached", "server", "server"]
        assert {left.agent for left in record.left} == {"agent-1", "agent-2"}
        assert {(share.role, share.processes) for share in record.at_peak} == {
            ("agent", 2),
            ("helper", 2),
            ("server", 2),
            ("detached", 2),
        }
        assert record.survivors == record.ended == 4
        assert record.survivors_bytes > 4 * 3 * MB
        assert record.processes_peak == 8
        assert all(wait_gone(left.pid, left.start, 0) for left in record.left)
        assert "4 survivors, 4 killed by the demo" in out.getvalue()
        assert not os.path.exists(folder)

    def test_whole_agents_finish_and_leave_children_as_well(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(stage, "LINGER", 0.1)
        with small_stage(io.StringIO()) as small:
            record = play_sequential(small)
        assert (record.finished, record.repeated, record.agents_peak, record.killed) == (2, 0, 1, 0)
        assert record.survivors == record.ended == 4
        assert record.peak_bytes >= record.agent_bytes > 12 * MB
        assert record.seconds >= 2.0

    def test_an_error_in_the_middle_leaves_nothing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with small_stage(io.StringIO()) as small:
            seen: list[tuple[int, int]] = []

            def fail(act_now: Act) -> None:
                members = act_now.sampler.survivors()
                while "server" not in {member.role for member in members}:
                    act_now.step()
                    members = act_now.sampler.survivors()
                seen.extend((member.pid, member.start) for member in members)
                raise OomlessError("broken")

            monkeypatch.setattr(Act, "kill_halfway", fail)
            with pytest.raises(OomlessError, match="broken"):
                play_parallel(small, kill=True)
            assert seen
            assert all(wait_gone(pid, start, 0) for pid, start in seen)


RUN = """
import sys
from rich.console import Console
from oomless.demo import agents, replay, show, stage
from oomless.errors import OomlessError

class Report(show.Progress):
    def act(self, name, what):
        self.now = name

    def tick(self, point, finished):
        print(self.now, point.processes, flush=True)

stage.LINGER = 0.1
try:
    plan = agents.make_plan(5, 12 * 10**6, float(sys.argv[1]), replay.find_available())
    replay.replay(plan, Report(Console(stderr=True), "synthetic", 5))
except OomlessError as error:
    sys.exit(error.exit_code)
"""


@pytest.mark.skipif(not OFFERS[0].bases, reason="no control groups can be made here")
def test_the_watchdog_removes_the_groups_of_its_own_demo(house: Path) -> None:
    """Those that are empty: others are in use, whoever made them."""
    state = house / "demo" / "s" / "oomless"
    state.mkdir(parents=True)
    mine, other = os.urandom(4).hex(), os.urandom(4).hex()
    (state / "id").write_text(mine)
    bases = OFFERS[0].bases.values()
    ours = [f"{base}/oomless-{mine}-t1" for base in bases] + [
        f"{base}/oomless-{mine}-t1/oomless-x-t2" for base in bases
    ]
    theirs = [f"{base}/oomless-{other}-t1" for base in bases]
    try:
        for path in (*ours, *theirs):
            os.mkdir(path)
        watchdog = [sys.executable, "-m", "oomless.demo.watchdog", str(house / "demo")]
        subprocess.run(watchdog, stdin=subprocess.DEVNULL, timeout=30, check=True)
        assert [path for path in ours if os.path.exists(path)] == []
        assert [path for path in theirs if os.path.exists(path)] == theirs
        assert not (house / "demo").exists()
    finally:
        for path in (*reversed(ours), *theirs):
            if os.path.exists(path):
                os.rmdir(path)


@pytest.mark.parametrize(
    ("moment", "processes", "seconds", "number", "code"),
    [
        ("parallel", 20, 10, signal.SIGINT, 130),
        ("parallel", 20, 10, signal.SIGTERM, 143),
        ("parallel", 20, 10, signal.SIGKILL, -signal.SIGKILL),
        ("governed", 4, 1, signal.SIGINT, 130),
        ("governed", 4, 1, signal.SIGKILL, -signal.SIGKILL),
    ],
)
def test_a_signal_ends_the_demo_and_all_it_started(
    moment: str, processes: int, seconds: int, number: int, code: int, house: Path
) -> None:
    token = os.urandom(8).hex().encode()
    folder = house / "tmp"
    folder.mkdir()
    env = {**os.environ, "TMPDIR": str(folder), "DEMO_TEST": token.decode()}
    with subprocess.Popen([sys.executable, "-c", RUN, str(seconds)], stdout=subprocess.PIPE, env=env) as process:
        assert process.stdout is not None
        for line in process.stdout:
            words = line.decode().split()
            if words[0] == moment and int(words[1]) >= processes:
                break
        ids = [path.read_text() for path in folder.glob("*/s/oomless/id")]
        process.send_signal(number)
        assert process.wait(timeout=30) == code
    ours = (token, str(folder).encode())
    # After SIGKILL its watchdog cleans up; else nobody may be left already.
    patience = 10 if number == signal.SIGKILL else 0
    assert wait_for(lambda: not any(mark in proc.environ(pid) for pid in proc.pids() for mark in ours), patience)
    assert wait_for(lambda: list(folder.iterdir()) == [], patience)
    assert bool(ids) == (moment == "governed")
    bases = {base for offer in OFFERS for base in offer.bases.values()}
    assert [name for base in bases for name in os.listdir(base) for id in ids if f"oomless-{id}" in name] == []


@pytest.mark.machine
def test_the_whole_demo_with_small_agents(house: Path) -> None:
    drawing = house / "demo.svg"
    options = ["--agents", "5", "--agent-memory", "16MB", "--seconds", "1", "--svg", str(drawing)]
    done = run_oomless("demo", "--synthetic", "--json", *options, env={"TMPDIR": str(house)}, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(done.stdout)
    assert (found["schema"], found["ok"]) == ("oomless.demo/1", True)
    by_name = {one["name"]: one for one in found["acts"]}
    assert list(by_name) == list(ACTS)
    first = by_name["parallel"]
    assert (first["agents_peak"], first["processes_peak"], first["finished"]) == (5, 20, 5)
    assert [by_name[name]["survivors"] for name in ACTS] == [10, 10, 10, 0, 0]
    assert [by_name[name]["killed"] for name in ACTS] == [0, 0, 5, 0, 5]
    assert [by_name[name]["finished"] for name in ACTS] == [5, 5, 0, 5, 5]
    for name in ("governed", "governed-killed"):
        assert by_name[name]["budget_bytes"] <= 0.6 * first["peak_bytes"]
        assert 0 < by_name[name]["peak_bytes"] <= by_name[name]["budget_bytes"]
        assert by_name[name]["agents_peak"] >= 2
        assert by_name[name]["overhead_bytes"] > MB
    ElementTree.parse(drawing)
    assert list(house.glob("oomless-demo-*")) == []


@pytest.mark.parametrize(
    ("given", "option"),
    [({"agents": 5}, "--agents"), ({"agent_memory": "1GB"}, "--agent-memory"), ({"seconds": 2.0}, "--seconds")],
)
def test_sizes_are_for_synthetic_agents_only(
    given: dict[str, Any], option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        command(**given)
    assert caught.value.code == 2
    said = f"oomless: error: {option} is for the synthetic agents only\nhint: add --synthetic, or leave it out\n"
    assert capsys.readouterr().err == said


def test_an_svg_that_cannot_be_written_is_told_before_the_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        command(synthetic=True, svg_file=str(tmp_path / "no" / "such.svg"))
    assert caught.value.code == 2
    assert "such.svg\nhint: name a file" in capsys.readouterr().err
