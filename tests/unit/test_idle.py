"""Servers that nobody seems to use: what the daemon remembers of their CPU time, and when the census says so."""

from __future__ import annotations

import sys

import pytest

from oomless.census.daemon_facts import DaemonFacts, OpenTree
from oomless.daemon.sessions.idle import MINUTE, PER_MINUTE, IdleTracker
from oomless.daemon.sessions.sampling import ProcessSample
from oomless.model import IdleProcess, Leftover
from oomless.platform.proc import Stat
from oomless.processes.descent import Descendants
from oomless.processes.ids import ProcessId
from oomless.protocol.reap_views import INCLUDABLE, PROVEN
from snapshots import FLOW, HELD, INIT, NPM, NPX, decide, row, snapshot, words

assert sys.platform == "linux"

CLAUDE = ProcessId(10, 10)
MEMORY = f"node {NPX}/node_modules/.bin/mcp-server-descendants"


def stat(pid: int, ppid: int, sid: int = 5, cpu: int = 0, start: int = 0) -> Stat:
    fields = ["0"] * 22
    fields[0], fields[1], fields[2], fields[3] = "S", str(ppid), str(sid), str(sid)
    fields[11], fields[19] = str(cpu), str(start or pid)
    return Stat(f"{pid} (x) {' '.join(fields)}".encode())


class Watched:
    """One session with a clock that only moves when told to."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.descendants = Descendants(CLAUDE)
        self.living = [self.descendants]
        self.watch = IdleTracker(lambda: self.living, lambda: self.now)

    def look(self, *stats: Stat, after: float = 0.0) -> dict[int, tuple[float, float]]:
        """Seconds and CPU seconds by pid."""
        self.now += after
        table = {one.pid: one for one in (stat(10, 1), *stats)}
        self.descendants.observe(table)
        self.watch.observe(ProcessSample(table))
        return {one.pid: (one.seconds, one.cpu_seconds) for one in self.watch.views()}


class TestWatching:
    def test_a_little_in_every_minute_is_idle(self) -> None:
        """As timers and the collection of garbage take it."""
        one, cpu = Watched(), 70
        one.look(stat(20, 10, cpu=cpu))
        for _ in range(40):
            cpu += PER_MINUTE
            found = one.look(stat(20, 10, cpu=cpu), after=MINUTE)
        assert found == {20: (40 * MINUTE, 40 * PER_MINUTE / 100)}

    def test_a_minutes_work_ends_it(self) -> None:
        one = Watched()
        one.look(stat(20, 10, cpu=70))
        assert one.look(stat(20, 10, cpu=70), after=3600.0) == {20: (3600.0, 0.0)}
        assert one.look(stat(20, 10, cpu=70 + PER_MINUTE + 1), after=1.0) == {20: (0.0, 0.0)}
        assert one.look(stat(20, 10, cpu=70 + PER_MINUTE + 1), after=30.0) == {20: (30.0, 0.0)}

    def test_many_small_calls_within_a_minute_end_it(self) -> None:
        one = Watched()
        one.look(stat(20, 10))
        seconds = [one.look(stat(20, 10, cpu=at), after=1.0)[20][0] for at in range(1, PER_MINUTE + 2)]
        assert seconds == [*(float(at) for at in range(1, PER_MINUTE + 1)), 0.0]

    def test_nothing_is_said_of_the_time_between_samples(self) -> None:
        """What was used is known, but not when: it counts as one minute."""
        one = Watched()
        one.look(stat(20, 10))
        assert one.look(stat(20, 10, cpu=PER_MINUTE + 1), after=86400.0) == {20: (0.0, 0.0)}

    def test_the_clock_that_stands_still_while_the_machine_is_suspended(self) -> None:
        one = Watched()
        one.look(stat(20, 10))
        assert one.look(stat(20, 10)) == {20: (0.0, 0.0)}

    def test_a_process_that_starts_another_is_at_work(self) -> None:
        one = Watched()
        one.look(stat(20, 10))
        assert one.look(stat(20, 10), stat(21, 20), after=60.0) == {20: (0.0, 0.0), 21: (0.0, 0.0)}
        assert one.look(stat(20, 10), stat(21, 20), after=60.0) == {20: (60.0, 0.0), 21: (60.0, 0.0)}
        assert one.look(stat(20, 10), after=60.0) == {20: (120.0, 0.0)}, "its end is no work"

    def test_tool_shells_and_what_is_below_them_are_not_watched(self) -> None:
        one = Watched()
        assert one.look(stat(30, 10, sid=30), stat(31, 30, sid=30), stat(20, 10)).keys() == {20}

    def test_a_number_that_is_used_again_begins_anew(self) -> None:
        one = Watched()
        one.look(stat(20, 10))
        assert one.look(stat(20, 10, start=99), after=60.0) == {20: (0.0, 0.0)}

    def test_a_corpse_or_a_stranger_is_not_watched_though_it_is_still_remembered(self) -> None:
        one = Watched()
        one.look(stat(20, 10), stat(22, 10))
        corpse, stranger = stat(20, 10), stat(22, 10, start=99)
        corpse.state = "Z"
        one.watch.observe(ProcessSample({20: corpse, 22: stranger}))
        assert one.watch.views() == ()

    def test_of_a_session_that_is_gone_nothing_is_kept(self) -> None:
        one = Watched()
        one.look(stat(20, 10))
        one.living.clear()
        assert one.look(stat(20, 10), after=60.0) == {}

    def test_it_is_no_reason_to_look(self) -> None:
        one = Watched()
        one.look(stat(20, 10))
        assert not one.watch


def quiet(*pids: int, seconds: float = 1800.0) -> DaemonFacts:
    return DaemonFacts(idle=tuple(IdleProcess(pid=pid, start=pid, seconds=seconds, cpu_seconds=0.02) for pid in pids))


class TestVerdict:
    ALONE = snapshot(
        INIT,
        row(100, 1, "claude"),
        row(101, 100, NPM),
        row(102, 101, "sh -c mcp-server-descendants"),
        row(103, 102, MEMORY),
    )

    def test_all_of_an_instance_for_half_an_hour(self) -> None:
        found = decide(self.ALONE, quiet(101, 102, 103))
        assert words(found) == {100: "owned", 101: "idle", 102: "idle", 103: "idle"}
        assert found[103].confidence == 0.6
        why = found[103].evidence[0]
        assert why.startswith("it used 0.06 s of CPU time in the last 30 min 0 s, by the daemon's samples")
        assert "calls are not seen" in why

    @pytest.mark.parametrize("told", [quiet(101, 103), quiet(101, 102, 103, seconds=1799.0), DaemonFacts()])
    def test_a_member_at_work_or_too_short_or_not_watched(self, told: DaemonFacts) -> None:
        assert set(words(decide(self.ALONE, told)).values()) == {"owned"}

    def test_a_few_calls_a_minute_are_seen_in_the_sum(self) -> None:
        """Two real servers that were called three times a minute used 0.30 and 0.44 s in half an hour."""
        calm = quiet(101, 102).idle
        for used, verdict in ((0.19, "idle"), (0.30, "owned")):
            server = IdleProcess(pid=103, start=103, seconds=1800.0, cpu_seconds=used)
            assert words(decide(self.ALONE, DaemonFacts(idle=(*calm, server))))[103] == verdict

    def test_the_shortest_time_and_the_sum_of_all(self) -> None:
        some = (*quiet(101, 102).idle, *quiet(103, seconds=7200.0).idle)
        assert "0.06 s of CPU time in the last 30 min" in decide(self.ALONE, DaemonFacts(idle=some))[103].evidence[0]

    def test_another_process_with_that_number_is_not_meant(self) -> None:
        told = DaemonFacts(idle=tuple(IdleProcess(pid=pid, start=7, seconds=9000.0) for pid in (101, 102, 103)))
        assert set(words(decide(self.ALONE, told)).values()) == {"owned"}

    def test_our_own_shim_above_it_may_tick(self) -> None:
        """It looks at its limits. What the prefix started is a tree of the journal's."""
        shim = ("python", "-I", "/x/oomless/cli/boot_prefix.py", "server", FLOW)
        seen = snapshot(INIT, row(100, 1, "claude"), row(101, 100, shim), row(102, 101, FLOW))
        tree = OpenTree(
            tree="t1", name="flow", root_pid=102, root_start=102, role="server", host="claude-code", session="s"
        )
        found = decide(seen, DaemonFacts(trees=(tree,), idle=quiet(102).idle))
        assert words(found) == {100: "owned", 101: "idle", 102: "idle"}

    def test_only_servers_are_idle(self) -> None:
        seen = snapshot(INIT, row(100, 1, "claude"), row(101, 100, "sleep 9"))
        assert words(decide(seen, quiet(100, 101))) == {100: "owned", 101: "owned"}

    def test_a_duplicate_stays_one(self) -> None:
        seen = snapshot(INIT, row(100, 1, "claude"), row(101, 100, FLOW), row(200, 1, "claude"), row(201, 200, FLOW))
        assert words(decide(seen, quiet(101, 201), default=HELD)) == {
            100: "owned", 101: "idle", 200: "owned", 201: "duplicate",
        }  # fmt: skip

    def test_an_orphan_is_never_only_idle(self) -> None:
        seen = snapshot(INIT, row(41, 1, FLOW, pgid=40, sid=30))
        assert words(decide(seen, quiet(41))) == {41: "orphan"}
        left = Leftover(pid=41, start=41, host="claude-code", session="s", root=40)
        facts = DaemonFacts(leftovers=(left,), idle=quiet(41).idle)
        assert words(decide(seen, facts, default=HELD)) == {41: "orphan"}

    def test_it_is_never_proposed(self) -> None:
        assert "idle" not in (*PROVEN, *INCLUDABLE)
