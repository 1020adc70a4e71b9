"""Findings that need a memory over time, and memory that no process holds: when there is one, and what it says."""

from __future__ import annotations

import os
import sys

import pytest

from oomless.census.daemon_facts import DaemonFacts
from oomless.census.findings import Inventory, list_findings
from oomless.census.findings.memory import NAMED_BYTES, UNKNOWN_BYTES
from oomless.census.findings.sessions import LEAST_POINTS, fit_growth
from oomless.daemon.sessions.growth import KEPT_POINTS, SessionGrowth
from oomless.model import Identity, IdleProcess, LiveSession, MachineMemory, MemoryUse, SubagentEnd
from oomless.platform.linux import Linux
from snapshots import FLOW, HELD, INIT, MEMORY, inventory, row, rules, snapshot

assert sys.platform == "linux"

MB, GB = 10**6, 10**9


def idle(*pids: int, seconds: float = 2400.0) -> DaemonFacts:
    return DaemonFacts(idle=tuple(IdleProcess(pid=pid, start=pid, seconds=seconds, cpu_seconds=0.01) for pid in pids))


class TestUnused:
    SESSIONS = snapshot(
        INIT, row(100, 1, "claude"), row(101, 100, FLOW), row(102, 100, MEMORY),
        row(200, 1, "claude"), row(201, 200, FLOW),
    )  # fmt: skip

    def test_a_server_that_no_session_uses(self) -> None:
        found = rules(inventory(self.SESSIONS, told=idle(101, 201), default=HELD))["unused-servers"]
        assert (found.severity, found.pids, found.bytes_recoverable) == ("info", (101, 201), 60 * MB)
        assert found.title == "no session uses flow-nexus (frees 60 MB)"
        assert found.evidence[0] == "flow-nexus: 2 instances, 80 MB, 0.02 s of CPU time in the last 40 min 0 s"
        assert "calls are not seen" in found.evidence[-1]
        assert found.action == "disable for good what you do not need, in the settings of claude-code: flow-nexus"

    def test_one_that_only_some_sessions_use(self) -> None:
        found = rules(inventory(self.SESSIONS, told=idle(101, 102), default=HELD))
        assert (found["idle-servers"].pids, found["unused-servers"].pids) == ((101,), (102,))
        assert "used in one session and not in another: flow-nexus" in found["idle-servers"].title
        assert found["idle-servers"].action.endswith("or close claude-code 100 (pid 100): flow-nexus")

    def test_none_that_is_used_or_not_watched_for_long(self) -> None:
        for told in (DaemonFacts(), idle(101, 102, 201, seconds=1799.0)):
            found = rules(inventory(self.SESSIONS, told=told, default=HELD))
            assert not {"unused-servers", "idle-servers"} & found.keys()

    def test_what_is_gone_for_other_reasons_is_not_in_it(self) -> None:
        seen = snapshot(INIT, row(41, 1, FLOW, pgid=40, sid=30))
        assert rules(inventory(seen, told=idle(41))).keys() == {"orphans"}


def grown(*sizes: int, session: str = "5e55-1", pid: int = 100, first: int = 1) -> LiveSession:
    ends = tuple(SubagentEnd(ended=first + at, private_bytes=size) for at, size in enumerate(sizes))
    return LiveSession(host="claude-code", sessions=(session,), pid=pid, start=pid, ends=ends)


def points(*pairs: tuple[int, int]) -> tuple[SubagentEnd, ...]:
    return tuple(SubagentEnd(ended=ended, private_bytes=size) for ended, size in pairs)


def growing(*growth: LiveSession) -> Inventory:
    seen = snapshot(INIT, row(100, 1, "claude"))
    plain = inventory(seen)
    return Inventory(memory=plain.memory, processes=plain.processes, footprints=plain.footprints, sessions=growth)


class TestGrowth:
    STEEP = tuple(300 * MB + at * 60 * MB for at in range(6))

    def test_the_line_through_points(self) -> None:
        line = fit_growth(points(*((at, 5 + 3 * at) for at in range(8))))
        assert line is not None
        assert (round(line.slope, 6), round(line.share, 6), line.points) == (3.0, 1.0, 8)
        noisy = fit_growth(points((1, 10), (2, 30), (3, 20), (4, 50), (5, 40)))
        assert noisy is not None
        assert (round(noisy.slope, 6), round(noisy.share, 6)) == (8.0, 0.64)

    def test_no_line_through_too_few_or_all_alike(self) -> None:
        assert fit_growth(points(*((at, at) for at in range(LEAST_POINTS - 1)))) is None
        assert fit_growth(points(*((at, 7) for at in range(9)))) is None
        assert fit_growth(points(*((3, at) for at in range(9)))) is None

    def test_a_steep_one(self) -> None:
        found = rules(growing(grown(*self.STEEP)))["growing-session"]
        assert (found.severity, found.pids, found.bytes_recoverable) == ("warning", (100,), None)
        assert found.title == "the process 100 of claude-code 5e55-1 grew by 60 MB with each subagent that ended"
        assert "300 MB at number 1, 600 MB at number 6; a line through n = 6 points: 60 MB each, R² = 1.00" in str(
            found.evidence
        )
        assert "the host's own process" in found.evidence[-1]
        assert "claude --resume 5e55-1" in found.action

    def test_a_flat_line_is_no_warning(self) -> None:
        """1.8 MB each, as measured of the real one."""
        sizes = tuple(300 * MB + at * 1_800_000 for at in range(31))
        assert rules(growing(grown(*sizes)))["growing-session"].severity == "info"
        assert rules(growing(grown(*sizes[:20]))) == {}, "34 MB are not worth a word"

    def test_none_of_what_jumps_about(self) -> None:
        jumping = (300, 700, 310, 690, 320, 680, 330, 800)
        assert rules(growing(grown(*(size * MB for size in jumping)))) == {}

    def test_none_with_too_few(self) -> None:
        assert rules(growing(grown(*self.STEEP[:4]))) == {}

    def test_several_sessions_are_one_finding(self) -> None:
        other = grown(*(300 * MB + at * 20 * MB for at in range(9)), session="5e55-2", pid=200)
        found = rules(growing(other, grown(*self.STEEP)))["growing-session"]
        assert found.title.endswith("60 MB with each subagent that ended, 1 more too")
        assert "claude --resume 5e55-2" in found.action
        assert len(found.evidence) == 3


class TestKeeping:
    WHO = Identity(boot_id="b", pid=7, start=70)

    def test_bounded_and_numbered(self) -> None:
        growth = SessionGrowth(lambda who: who.pid * MB)
        for _ in range(KEPT_POINTS + 3):
            growth.record_end(self.WHO)
        kept = growth.points_of(self.WHO)
        assert (len(kept), kept[0].ended, kept[-1]) == (
            KEPT_POINTS,
            4,
            SubagentEnd(ended=KEPT_POINTS + 3, private_bytes=7 * MB),
        )
        growth.forget(self.WHO)
        assert growth.points_of(self.WHO) == ()

    def test_an_end_that_could_not_be_weighed_counts(self) -> None:
        sizes = iter((None, 5))
        growth = SessionGrowth(lambda who: next(sizes))
        growth.record_end(self.WHO)
        growth.record_end(self.WHO)
        assert growth.points_of(self.WHO) == (SubagentEnd(ended=2, private_bytes=5),)

    def test_another_process_with_that_number_is_not_weighed(self) -> None:
        linux = Linux()
        own = linux.identity(os.getpid())
        assert own is not None
        assert (linux.private_bytes(own) or 0) > MB
        assert linux.private_bytes(Identity(boot_id=own.boot_id, pid=own.pid, start=own.start + 1)) is None


class TestUnaccounted:
    def scene(self, used: int, use: MemoryUse | None) -> Inventory:
        return Inventory(memory=MachineMemory(total_bytes=16 * GB, available_bytes=16 * GB - used), use=use)

    def use(self, processes: int, *, shared: int = 0, kernel: int = 0, huge: int = 0) -> MemoryUse:
        return MemoryUse(processes_bytes=processes, shared_bytes=shared, kernel_bytes=kernel, huge_bytes=huge)

    def test_memory_of_no_process(self) -> None:
        found = rules(self.scene(8 * GB, self.use(5 * GB, kernel=GB)))["unaccounted-memory"]
        assert (found.severity, found.pids) == ("warning", ())
        assert found.title == "3.00 GB of the memory in use belong to no process, 2.00 GB of it unaccounted for"
        assert "processes hold 5.00 GB together" in found.evidence[0]
        assert "the kernel 1.00 GB" in found.evidence[1]
        assert found.evidence[2].endswith("2.00 GB")
        assert "a driver" in found.action

    @pytest.mark.parametrize(
        ("use", "action"), [("shared", "/dev/shm"), ("kernel", "slabtop"), ("huge", "vm.nr_hugepages")]
    )
    def test_what_is_named_and_no_process(self, use: str, action: str) -> None:
        held = {use: 4 * GB}
        found = rules(self.scene(8 * GB, self.use(4 * GB, **held)))["unaccounted-memory"]
        assert "unaccounted" not in found.title
        assert action in found.action

    def test_nothing_of_note(self) -> None:
        assert rules(self.scene(8 * GB, self.use(8 * GB - UNKNOWN_BYTES + 1))) == {}
        assert rules(self.scene(8 * GB, self.use(8 * GB - NAMED_BYTES, shared=NAMED_BYTES))) == {}, "6 % of 16 GB"
        assert rules(self.scene(8 * GB, None)) == {}
        assert rules(self.scene(5 * GB, self.use(6 * GB))) == {}, "more than what is in use: some can be given back"

    def test_this_machine_says_so(self) -> None:
        linux = Linux()
        use, memory = linux.memory_use(), linux.memory()
        assert use is not None
        assert 0 < use.processes_bytes < memory.total_bytes
        assert 0 < use.kernel_bytes < memory.total_bytes
        assert isinstance(list_findings(Inventory(memory=memory, use=use)), tuple)
