"""Findings, rule by rule: when there is one, when there is none, what it stands on, and what a person can do."""

from __future__ import annotations

import msgspec
import pytest

from oomless.census.attribution import attribute
from oomless.census.daemon_facts import DaemonFacts
from oomless.census.findings import Inventory, at_least, list_findings
from oomless.census.findings.finding import describe_session, join_words
from oomless.census.snapshot import Snapshot
from oomless.model import DetachedProcess, Footprint, MachineMemory, ProcessInfo
from oomless.platform.base import Standing
from snapshots import KNOWN, MB, MEMORY, NPX, ROOMY, SECRET, TOOL_MARKS, inventory, row, rules, snapshot, tree

FLOW = f"node {NPX}/node_modules/flow-nexus/cli.js"
NPM = ("npm exec @modelcontextprotocol/server-memory",)
INIT = row(1, 0, "init")


def on(terminal: int, process: ProcessInfo) -> ProcessInfo:
    return msgspec.structs.replace(process, terminal=f"pts/{terminal}")


class TestSubagents:
    TREES = tuple(tree(pid, tree=f"t{pid}", name=f"job {pid}") for pid in (11, 12))
    ROWS = snapshot(INIT, *(row(pid, 1, "python x.py") for pid in (11, 12)))

    def test_more_than_three_at_once(self) -> None:
        found = rules(inventory(self.ROWS, *self.TREES, subagents={"5e55-1abc-d": 2}))["many-subagents"]
        assert (found.severity, found.title, found.pids) == ("warning", "4 subagents run at once", (11, 12))
        assert found.bytes_recoverable == 60 * MB
        assert "2 in the session 5e55-1ab, tree job 11, tree job 12" in found.evidence[0]
        assert "max_parallel_subagents" in found.action

    def test_three_are_none(self) -> None:
        assert rules(inventory(self.ROWS, *self.TREES, subagents={"5e55": 1})) == {}

    def test_a_trees_name_may_hold_a_secret(self) -> None:
        trees = tuple(tree(pid, tree=f"t{pid}", name=f"x --token {SECRET}") for pid in (11, 12))
        found = rules(inventory(self.ROWS, *trees, subagents={"s": 2}))["many-subagents"]
        assert SECRET not in str(found)


class TestServers:
    def several(self, count: int) -> Snapshot:
        """So many processes of two servers, in one session."""
        rows = [row(100, 1, "claude"), *(row(101 + at, 100, f"{FLOW} {at}") for at in range(count - 1))]
        return snapshot(INIT, *rows, row(200, 100, MEMORY))

    def test_more_than_ten_processes(self) -> None:
        found = rules(inventory(self.several(11), default=Standing(stdin="held")))["many-servers"]
        assert found.title == "11 processes of MCP servers run, 440 MB together"
        assert (len(found.pids), found.bytes_recoverable) == (11, 330 * MB)
        assert "11 instances of 2 servers: flow-nexus 400 MB, server-memory 40 MB" in found.evidence[0]
        assert found.action.endswith("the largest first: flow-nexus, server-memory")

    def test_ten_are_none(self) -> None:
        assert rules(inventory(self.several(10), default=Standing(stdin="held"))) == {}

    def test_a_duplicate_names_the_terminal_to_close(self) -> None:
        seen = snapshot(
            INIT, on(8, row(100, 1, "claude")), on(8, row(101, 100, FLOW)), on(22, row(200, 1, "claude")),
            on(22, row(201, 200, FLOW)), row(202, 201, "helper"),
        )  # fmt: skip
        found = rules(inventory(seen))["duplicate-servers"]
        assert (found.severity, found.pids, found.bytes_recoverable) == ("warning", (201, 202), 60 * MB)
        assert "1 MCP server runs in another session as well: flow-nexus" in found.title
        assert "claude-code 200 (pid 200 on pts/22)" in found.action
        assert "on pts/8" not in found.action, "the older session is not the one to close"
        assert "the session 100:100 is older and runs the same command line, as 101" in found.evidence[0]

    def test_proven_and_likely_orphans_are_two_findings(self) -> None:
        job = row(60, 1, "python crunch.py", pgid=50, sid=50)
        seen = snapshot(INIT, row(41, 1, FLOW, pgid=40, sid=30), job, p60=TOOL_MARKS)
        found = rules(inventory(seen, p60=Standing(backgrounded=True)))
        assert (found["orphans"].pids, found["likely-orphans"].pids) == ((41,), (60,))
        assert "oomless reap shows what it kills" in found["orphans"].action
        assert found["likely-orphans"].title.startswith("1 process is likely left over")

    def test_an_older_generation(self) -> None:
        seen = snapshot(INIT, row(100, 1, "claude"), row(101, 100, FLOW), row(201, 100, FLOW))
        found = rules(inventory(seen, p201=Standing(stdin="held")))["superseded-servers"]
        assert (found.pids, found.bytes_recoverable) == ((101,), 30 * MB)
        assert "nothing holds the other end" in found.evidence[0]
        assert "oomless reap shows which of 101 it kills" in found.action
        assert rules(inventory(seen, default=Standing(stdin="held"))) == {}

    def test_launchers_that_only_wait(self) -> None:
        rows = [row(100, 1, "claude")]
        for at in (200, 300):
            rows += [row(at, 100, (f"{NPM[0]} {at}",)), row(at + 1, at, "sh -c mcp"), row(at + 2, at + 1, MEMORY)]
        found = rules(inventory(snapshot(INIT, *rows), default=Standing(stdin="held")))["launcher-overhead"]
        assert (found.severity, found.pids) == ("info", (200, 300))
        assert found.title == "2 launchers of MCP servers take 80 MB and only wait"
        assert "npm exec above server-memory: 80 MB by pss" in found.evidence[0]
        assert found.action.endswith("server-memory")
        assert rules(inventory(snapshot(INIT, *rows[:4]))) == {}, "40 MB are not worth a word"


class TestLeft:
    ORPHAN = row(41, 1, FLOW, pgid=40, sid=30)

    def test_orphans(self) -> None:
        found = rules(inventory(snapshot(INIT, self.ORPHAN)))["orphans"]
        assert (found.severity, found.pids, found.bytes_recoverable) == ("warning", (41,), 30 * MB)
        assert found.title == "1 leftover process of a dead session (frees 30 MB)"
        assert found.evidence[0].startswith("41 flow-nexus: nothing holds the other end")
        assert "oomless reap" in found.action

    def test_detached_processes_are_no_warning(self) -> None:
        left = DetachedProcess(pid=110, start=110, host="claude-code", session="s-1", why="it ignores SIGHUP")
        seen = inventory(
            snapshot(INIT, row(110, 1, f"npm run dev --token {SECRET}")), told=DaemonFacts(detached=(left,))
        )
        found = rules(seen)["detached"]
        assert (found.severity, found.pids) == ("info", (110,))
        assert "it ignores SIGHUP" in found.evidence[0]
        assert SECRET not in str(found)
        assert not at_least(list_findings(seen), "warning")

    def test_background_that_does_not_end(self) -> None:
        seen = snapshot(INIT, row(110, 1, "npm run dev", sid=90), p110=TOOL_MARKS)
        found = rules(inventory(seen))["background-not-ending"]
        assert (found.severity, found.pids) == ("warning", (110,))
        assert "did not end with its session" in found.title

    def test_background_of_a_live_session_is_none(self) -> None:
        seen = snapshot(INIT, row(100, 1, "claude"), row(110, 1, "npm run dev", sid=110), p110=TOOL_MARKS)
        assert rules(inventory(seen)) == {}

    def test_of_many_a_few_are_named_and_all_counted(self) -> None:
        rows = [row(100 + at, 1, f"sleep {at}", sid=90) for at in range(12)]
        found = rules(inventory(snapshot(INIT, *rows, **{f"p{one.pid}": TOOL_MARKS for one in rows})))
        finding = found["background-not-ending"]
        assert len(finding.pids) == 12
        assert finding.evidence[-1] == "and 9 more"
        assert finding.action.endswith("107 and 4 more")


class TestFigures:
    def seen(self, rss: int, source: str = "pss") -> Inventory:
        made = inventory(snapshot(INIT, row(100, 1, "claude", rss=rss), row(101, 100, FLOW, rss=rss)))
        footprint = Footprint(bytes=100 * MB, source=source)  # type: ignore[arg-type]
        return Inventory(memory=ROOMY, processes=made.processes, footprints=dict.fromkeys((100, 101), footprint))

    def test_a_sum_of_rss_that_misleads(self) -> None:
        found = rules(self.seen(rss=300 * MB))["confused-figures"]
        assert found.severity == "info"
        assert found.title == "RSS adds up to 600 MB where 200 MB are used"
        assert "VIRT" in found.evidence[1]

    def test_one_that_does_not(self) -> None:
        assert rules(self.seen(rss=120 * MB)) == {}
        assert rules(self.seen(rss=300 * MB, source="rss")) == {}, "there is nothing honest to compare it with"


def test_the_most_severe_comes_first_and_info_fails_nothing() -> None:
    tight = MachineMemory(total_bytes=100 * MB, available_bytes=2 * MB)
    made = inventory(snapshot(INIT, TestLeft.ORPHAN))
    left = DetachedProcess(pid=110, start=110, host="claude-code", session="s-1", why="w")
    info = inventory(snapshot(INIT, row(110, 1, "x")), told=DaemonFacts(detached=(left,)))
    seen = Inventory(
        memory=tight, processes=(*info.processes, *made.processes), footprints={**made.footprints, **info.footprints}
    )
    assert [one.severity for one in list_findings(seen)] == ["critical", "warning", "info"]
    assert at_least(list_findings(seen), "critical")
    assert at_least(list_findings(made), "warning")
    assert not at_least(list_findings(made), "critical")
    assert not at_least(list_findings(info), "warning")


def test_a_quiet_machine_has_none() -> None:
    assert list_findings(Inventory(memory=ROOMY)) == ()


@pytest.mark.parametrize("name", ["", "pts/3", "ttys008"])
def test_where_a_session_is(name: str) -> None:
    (one,) = attribute(snapshot(msgspec.structs.replace(row(100, 1, "claude"), terminal=name)), (), KNOWN)
    assert describe_session(one).endswith(f"(pid 100 on {name})" if name else "(pid 100)")


def test_what_cannot_be_read_is_not_nothing() -> None:
    """Two of three orphans are another user's: their own memory is not told, and the third has 30 MB."""
    rows = [row(pid, 1, FLOW, sid=pid - 1) for pid in (200, 300, 400)]
    whole = inventory(snapshot(INIT, *rows))
    (found,) = (one for one in list_findings(whole) if one.rule == "orphans")
    assert (found.bytes_recoverable, "(frees 90 MB)" in found.title) == (90 * MB, True)
    footprints = {**whole.footprints, 200: Footprint(bytes=MB, source="rss"), 300: Footprint(bytes=MB, source="rss")}
    (found,) = (
        one for one in list_findings(msgspec.structs.replace(whole, footprints=footprints)) if one.rule == "orphans"
    )
    assert (found.bytes_recoverable, "(frees at least 30 MB)" in found.title) == (30 * MB, True)
    footprints[400] = Footprint(bytes=MB, source="rss")
    (found,) = (
        one for one in list_findings(msgspec.structs.replace(whole, footprints=footprints)) if one.rule == "orphans"
    )
    assert found.bytes_recoverable is None
    assert "frees" not in found.title


def test_a_list_in_words() -> None:
    assert join_words(["a", "b", "a"]) == "a, b"
    assert join_words(str(at) for at in range(10)) == "0, 1, 2, 3, 4, 5, 6, 7 and 2 more"
