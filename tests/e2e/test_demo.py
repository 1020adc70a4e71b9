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
from oomless.demo import acts, chart, governed, show, sizing, svg, verdict
from oomless.demo.agent import write
from oomless.demo.agents import AGENT
from oomless.demo.measure import MARK, Watch
from oomless.demo.record import ACTS, ActName, ActRecord, Check, DemoRecord, Point
from oomless.demo.replay import prepare, replay
from oomless.demo.sizing import MB, Plan, make_plan
from oomless.demo.stage import Act, Stage
from oomless.demo.synthetic import AGENT_FILE, Synthetic
from oomless.engines.jobs import parse
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
    found = verdict.checks(records, AGENTS)
    return DemoRecord(
        form="synthetic",
        agents=AGENTS,
        agent_bytes=120 * MB,
        child_bytes=25 * MB,
        agent_seconds=2.5,
        shrunk_from=None,
        acts=tuple(records),
        checks=found,
        conclusion=verdict.sentences(records, AGENTS, found),
        ok=all(check.passed for check in found),
    )


class TestVerdict:
    def test_good_figures_pass_and_are_told_as_they_are(self) -> None:
        record = whole(all_acts())
        text = " ".join(record.conclusion)
        assert record.ok
        assert "5 agents at once peaked at 1.00 GB and left 10 processes with 310 MB" in text
        assert "the peak was 43% of the first act's, 5 of 5 finished in 11 s and left nothing" in text
        assert f"All {len(record.checks)} checks" in text

    @pytest.mark.parametrize(
        ("change", "failed"),
        [
            ({"finished": 4}, "governed: all finish, each once (4 of 5)"),
            ({"repeated": 1}, "governed: all finish, each once (5 of 5, 1 of them twice)"),
            ({"survivors": 1}, "governed: nothing is left (1 process)"),
            ({"peak_bytes": 610 * MB}, "governed: peak at most 60% of the first act's (61%)"),
            ({"agents_peak": 1}, "governed: at least two at once (1)"),
        ],
    )
    def test_a_governed_act_that_did_no_better_is_named(self, change: dict[str, object], failed: str) -> None:
        record = whole(all_acts(**change))
        assert not record.ok
        assert record.conclusion[-1] == f"Not as it must be: {failed}."

    def test_retries_that_were_never_needed_prove_nothing(self) -> None:
        records = [*all_acts()[:-1], act("governed-killed", killed=3)]
        failed = [check for check in verdict.checks(records, AGENTS) if not check.passed]
        expected = Check(name="governed-killed: each agent was killed once", passed=False, detail="3 of 5")
        assert failed == [expected]

    def test_ungoverned_acts_that_leave_nothing_are_not_blamed(self) -> None:
        records = [act("parallel", survivors=0), *all_acts()[1:]]
        assert "peaked at 1.00 GB and left nothing;" in whole(records).conclusion[0]


class TestSizing:
    def test_all_fit_as_asked(self) -> None:
        plan = make_plan(5, 120 * MB, 2.5, available=4000 * MB)
        assert (plan.agent_bytes, plan.child_bytes, plan.shrunk_from, plan.life) == (120 * MB, 25 * MB, None, 120)

    def test_shrinks_until_all_fit(self) -> None:
        plan = make_plan(5, 120 * MB, 2.5, available=1000 * MB)
        assert plan.shrunk_from == 120 * MB
        assert sizing.MIN_MEMORY <= plan.agent_bytes < 120 * MB
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

    @pytest.mark.parametrize("agents", [4, 5, 12])
    def test_the_budget_has_room_for_two_but_never_for_all(self, agents: int) -> None:
        plan = make_plan(agents, 120 * MB, 2.5, available=10**11)
        peak = int(agents * plan.tree_bytes * 0.93)
        need = Synthetic(plan).need(act("parallel"))
        budget = governed.budget_of(need, peak, "")
        assert budget <= 0.6 * peak
        assert 2 * need <= budget < agents * need
        assert need >= plan.tree_bytes

    def test_a_first_act_without_overlap_gives_no_budget(self) -> None:
        with pytest.raises(OomlessError, match=r"no measure.*; wait$"):
            governed.budget_of(100 * MB, 200 * MB, "wait")

    def test_the_batch_file_is_one_that_batch_takes(self) -> None:
        with small_stage(io.StringIO()) as stage, Act(stage, "governed", "", 10**9) as act:
            lines = governed.job_lines(act, 20 * MB, 50 * MB, retries=1)
            jobs, broken = parse(msgspec.json.Encoder().encode_lines(lines), "jobs")
            assert broken == []
            assert [job.name for job in jobs] == ["agent-1", "agent-2"]
            assert {(job.expect, job.memory) for job in jobs} == {(20 * MB, 50 * MB)}
            assert {job.retries for job in jobs} == {1}
            assert [(job.env[MARK], job.env[AGENT]) for job in jobs] == [(act.mark, job.name) for job in jobs]

    def test_the_machine_is_asked_before_anything_starts(self, monkeypatch: pytest.MonkeyPatch) -> None:
        little = MachineMemory(total_bytes=10**9, available_bytes=10**8)
        monkeypatch.setattr(Linux, "memory", lambda self: little)
        with pytest.raises(Refused, match="100 MB are available"):
            prepare(5, 120 * MB, 2.5)

    def test_a_memory_limit_above_counts_as_well(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(Linux, "headroom", lambda self, pid: 5 * 10**7)
        with pytest.raises(Refused, match="50 MB are available"):
            prepare(5, 120 * MB, 2.5)

    def test_shrunk_agents_are_told(self, monkeypatch: pytest.MonkeyPatch) -> None:
        class Stop(Exception):
            pass

        def stop(stage: Stage) -> ActRecord:
            raise Stop

        monkeypatch.setattr(acts, "parallel", stop)
        monkeypatch.setattr(Linux, "headroom", lambda self, pid: 10**9)
        out = io.StringIO()
        with pytest.raises(Stop):
            replay(prepare(5, 120 * MB, 2.5), show.Lines(Console(file=out), 5))
        assert "instead of 120 MB: more is not free" in out.getvalue()


class TestChart:
    @pytest.mark.parametrize("width", [40, 80, 200])
    @pytest.mark.parametrize("style", [chart.BLOCKS, chart.ASCII])
    def test_keeps_to_the_width_and_shows_every_act(self, width: int, style: chart.Style) -> None:
        lines = chart.plot(all_acts(), width, style)
        assert max(map(len, lines)) <= width + 6
        assert [line.split()[0] for line in lines[0 : 5 * chart.ROWS : chart.ROWS]] == list(ACTS)
        assert len(lines) == 5 * chart.ROWS + 2

    def test_ascii_stays_ascii(self) -> None:
        assert "\n".join(chart.plot(all_acts(), 80, chart.ASCII)).isascii()

    @pytest.mark.parametrize(
        ("encoding", "style"),
        [("utf-8", chart.BLOCKS), ("ascii", chart.ASCII), ("latin-1", chart.ASCII), (None, chart.ASCII)],
    )
    def test_the_encoding_decides(self, encoding: str | None, style: chart.Style) -> None:
        assert chart.style_for(encoding) is style

    def test_only_governed_acts_have_a_budget_line(self) -> None:
        lines = chart.plot(all_acts(), 80)
        with_line = [number // chart.ROWS for number, line in enumerate(lines) if chart.BLOCKS.budget in line]
        assert with_line == [3, 4]

    def test_a_small_leak_does_not_round_to_nothing(self) -> None:
        leak = tuple(Point(seconds=float(i), bytes=MB, agents=0, processes=1) for i in range(10))
        lines = chart.plot([act("parallel", points=leak)], 60)
        assert "▁" * 10 in lines[chart.ROWS - 1]

    def test_columns_take_the_highest_sample_and_fill_gaps(self) -> None:
        points = [Point(seconds=s, bytes=b, agents=1, processes=1) for s, b in ((0.0, 5), (0.1, 9), (2.5, 7))]
        assert chart.buckets(points, 1.0, 5) == [9, 9, 7, None, None]

    @pytest.mark.parametrize(("size", "expected"), [(1, 1), (1001, 1200), (950, 1000), (2.2e9, 2_500_000_000)])
    def test_scales_end_at_round_numbers(self, size: float, expected: int) -> None:
        assert chart.nice(size) == expected

    def test_svg_is_whole_by_itself(self) -> None:
        text = svg.svg(all_acts(), "a < b & c")
        root = ElementTree.fromstring(text)
        words = [element.text or "" for element in root.iter("{http://www.w3.org/2000/svg}text")]
        assert len(list(root.iter("{http://www.w3.org/2000/svg}polyline"))) == 5
        assert {"a < b & c", "MB", "seconds since the act began", "budget 600 MB"} <= set(words)
        assert all(any(word.startswith(f"{name}, peak") for word in words) for name in ACTS)
        assert "href" not in text

    def test_table_plot_and_conclusion_are_printed(self) -> None:
        out = io.StringIO()
        record = whole(all_acts())
        show.show(Console(file=out, width=100), record)
        rows = [line.split() for line in out.getvalue().splitlines()]
        assert ["governed", "2", "8", "430", "MB", "600", "MB", "5", "of", "5", "11", "s", "0", "60", "MB"] in rows
        assert " ".join(record.conclusion) in " ".join(out.getvalue().split())

    def test_bars_say_what_is_in_memory_and_what_was_left(self) -> None:
        out = io.StringIO()
        with show.bars(Console(file=out, force_terminal=True, width=120)) as progress:
            bars = show.Bars(progress, AGENTS)
            bars.act("parallel", "all at once")
            bars.tick(Point(seconds=1.0, bytes=333 * MB, agents=4, processes=17), finished=1)
            progress.refresh()
            bars.done(act("parallel"))
        assert "333 MB, 4 agents, 17 processes" in out.getvalue()
        assert "peak 1.00 GB, 10 left, 10 ended by the demo" in out.getvalue()


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


def nobody(command: Sequence[str]) -> tuple[str, str]:
    return "other", ""


def start_parent(mark: str | None, started: list[subprocess.Popen[bytes]]) -> tuple[int, int]:
    """The pids of a process that carries the mark, if any, and of its child that does not."""
    env = {**os.environ, MARK: mark} if mark else dict(os.environ)
    command = [sys.executable, "-I", "-S", "-c", PARENT]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env)
    started.append(process)
    assert process.stdout is not None
    return process.pid, int(process.stdout.readline())


class TestWatch:
    def test_sees_children_that_left_session_and_environment(self, started: list[subprocess.Popen[bytes]]) -> None:
        watch = Watch("m1", nobody, platform.current())
        _, child = start_parent("m1", started)
        assert MARK.encode() not in proc.environ(child)
        sample = watch.sample(0.0)
        assert ([used.role for used in sample.used], watch.source) == (["other", "other"], "pss")
        assert sample.bytes > 2 * MB
        # The parent goes: only memory still knows whose the child was.
        started[0].kill()
        started[0].wait()
        assert [left.pid for left in watch.left()] == [child]
        start = proc.start_of(child)
        assert start is not None
        assert watch.end_left() == 1
        assert wait_gone(child, start, 5)
        assert watch.left() == ()

    def test_others_are_neither_counted_nor_ended(self, started: list[subprocess.Popen[bytes]]) -> None:
        before, before_child = start_parent("m2", started)
        watch = Watch("m2", nobody, platform.current())
        pids = [before, before_child, *start_parent(None, started), *start_parent("m3", started)]
        assert watch.sample(0.0).used == ()
        assert watch.end_left() == 0
        assert all((stat := proc.read_stat(pid)) is not None and stat.alive for pid in pids)
        for pid in pids:
            os.kill(pid, signal.SIGKILL)

    def test_a_parent_that_does_not_belong_is_overhead(self, started: list[subprocess.Popen[bytes]]) -> None:
        watch = Watch("m4", nobody, platform.current())
        script = PARENT.replace("env={}", f"env={{{MARK!r}: 'm4'}}")
        command = [sys.executable, "-I", "-S", "-c", script]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        started.append(process)
        assert process.stdout is not None
        process.stdout.readline()
        sample = watch.sample(0.0)
        assert len(sample.used) == 1
        assert sample.overhead_bytes > MB
        assert watch.sample(0.0, overhead=[os.getpid()]).overhead_bytes > sample.overhead_bytes
        assert watch.end_left() == 1


class TestAgent:
    def test_each_process_has_an_end_of_its_own(self) -> None:
        command = [sys.executable, "-I", "-S", "-E", AGENT_FILE, "server", "1000", "1"]
        with subprocess.Popen(command, stdin=subprocess.PIPE) as server:
            assert server.wait(timeout=10) == -signal.SIGALRM

    def test_work_done_twice_shows(self, tmp_path: Path) -> None:
        write(str(tmp_path), "agent-1", {"try": 1})
        write(str(tmp_path), "agent-1", {"try": 2})
        assert json.loads((tmp_path / "agent-1.json").read_text()) == {"try": 1}
        assert sorted(path.name for path in tmp_path.iterdir()) == ["agent-1.again", "agent-1.json"]


def small_stage(out: io.StringIO, agents: int = 2) -> Stage:
    plan = Plan(agents=agents, agent_bytes=12 * MB, seconds=1.0, life=60)
    return Stage(Synthetic(plan), platform.current(), show.Lines(Console(file=out), agents))


class TestActs:
    def test_killed_agents_leave_their_children_which_are_then_ended(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(acts, "LINGER", 0.5)
        out = io.StringIO()
        with small_stage(out) as stage:
            record = acts.parallel_killed(stage)
            folder = stage.folder
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
        assert "4 left, 4 ended by the demo" in out.getvalue()
        assert not os.path.exists(folder)

    def test_whole_agents_finish_and_leave_children_as_well(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(acts, "LINGER", 0.1)
        with small_stage(io.StringIO()) as stage:
            record = acts.sequential(stage)
        assert (record.finished, record.repeated, record.agents_peak, record.killed) == (2, 0, 1, 0)
        assert record.survivors == record.ended == 4
        assert record.peak_bytes >= record.agent_bytes > 12 * MB
        assert record.seconds >= 2.0

    def test_an_error_in_the_middle_leaves_nothing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with small_stage(io.StringIO()) as stage:
            seen: list[tuple[int, int]] = []

            def fail(act_now: Act) -> None:
                while not (left := act_now.watch.left()) or "server" not in {one.role for one in left}:
                    act_now.step()
                seen.extend((one.pid, one.start) for one in left)
                raise OomlessError("broken")

            monkeypatch.setattr(Act, "kill_halfway", fail)
            with pytest.raises(OomlessError, match="broken"):
                acts.parallel_killed(stage)
            assert seen
            assert all(wait_gone(pid, start, 0) for pid, start in seen)


RUN = """
import sys
from rich.console import Console
from oomless.demo import acts, replay, show
from oomless.errors import OomlessError

class Report(show.Lines):
    def act(self, name, what):
        self.now = name

    def tick(self, point, finished):
        print(self.now, point.processes, flush=True)

acts.LINGER = 0.1
try:
    replay.replay(replay.prepare(5, 12 * 10**6, float(sys.argv[1])), Report(Console(), 5))
except OomlessError as error:
    sys.exit(error.exit_code)
"""


@pytest.mark.skipif(not OFFERS[0].bases, reason="no control groups can be made here")
def test_the_keeper_removes_the_groups_of_its_own_demo(house: Path) -> None:
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
        keeper = [sys.executable, "-m", "oomless.demo.keeper", str(house / "demo")]
        subprocess.run(keeper, stdin=subprocess.DEVNULL, timeout=30, check=True)
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
    # After SIGKILL its keeper cleans up; else nobody may be left already.
    patience = 10 if number == signal.SIGKILL else 0
    assert wait_for(lambda: not any(mark in proc.environ(pid) for pid in proc.pids() for mark in ours), patience)
    assert wait_for(lambda: list(folder.iterdir()) == [], patience)
    assert bool(ids) == (moment == "governed")
    bases = {base for offer in OFFERS for base in offer.bases.values()}
    assert [name for base in bases for name in os.listdir(base) for id in ids if f"oomless-{id}" in name] == []


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
