"""What tool shells of a session that is gone still run: each rule and its near misses, on recorded facts."""

from __future__ import annotations

import pytest

from oomless.census.ownerless import LIKELY
from oomless.census.snapshot import Marks, Snapshot
from oomless.model import ProcessInfo
from oomless.platform.base import Standing
from snapshots import INIT, TOOL_MARKS, decide, row, snapshot, words

#: As the host starts it: the leader of a process session, over the snapshot of its user's shell.
SHELL = "/bin/bash -c source /home/dev/.claude/shell-snapshots/snapshot-bash-1.sh; npm run build"
PLAIN = Standing(stdin="unknown")
LISTENS, NOHUP = Standing(listens=True), Standing(ignores_hangup=True)
TMUX = "tmux new-session -d"


def seen(*more: ProcessInfo, **marks: Marks) -> Snapshot:
    """A tool shell, 50, whose host (100) is gone, and what it runs, 51; both below init."""
    rows = (row(50, 1, SHELL, pgid=50, sid=50), row(51, 50, "npm run build", pgid=50, sid=50))
    return snapshot(INIT, *rows, *more, **({"p50": TOOL_MARKS, "p51": TOOL_MARKS} | marks))


def verdicts_of(snap: Snapshot, /, **standings: Standing) -> dict[int, str]:
    return words(decide(snap, default=PLAIN, **standings))


class TestOrphan:
    def test_a_tool_shell_and_what_it_runs_go_with_their_host(self) -> None:
        found = decide(seen(), default=PLAIN)
        assert words(found) == {50: "orphan", 51: "orphan"}
        assert all(one.confidence >= 0.9 for one in found.values())
        assert "the tool shell 50 is gone" in found[51].evidence[0] or "tool shell 50" in found[51].evidence[0]

    def test_a_job_that_lost_its_parents_is_still_in_the_shells_process_session(self) -> None:
        job = row(60, 1, "python crunch.py", pgid=50, sid=50)
        assert verdicts_of(seen(job, p60=TOOL_MARKS)) == {50: "orphan", 51: "orphan", 60: "orphan"}

    def test_without_the_shell_nothing_is_proven(self) -> None:
        """The number of the process session may stand for any shell of the user's."""
        job = row(60, 1, "python crunch.py", pgid=50, sid=50)
        assert verdicts_of(snapshot(INIT, job, p60=TOOL_MARKS)) == {60: "unknown"}

    def test_another_sessions_job_in_it_is_not_of_it(self) -> None:
        job = row(60, 1, "python crunch.py", pgid=50, sid=50)
        other = Marks(session="s-2", project=True, host_pid=200)
        assert verdicts_of(seen(job, p60=other))[60] == "unknown"

    def test_nothing_is_said_that_was_not_read(self) -> None:
        found = decide(seen(), default=Standing(listens=True))
        assert set(words(found).values()) == {"detached"}


class TestNotProven:
    def test_the_host_may_live_unrecognised(self) -> None:
        """CLAUDE_PID is in use by a process that is older than the shell."""
        host = row(100, 1, "node /opt/tool/cli.js", sid=99)
        earlier = seen(host)
        assert set(verdicts_of(earlier).values()) == {"orphan"}, "row() starts a process at its pid: it is younger"
        older = row(20, 1, "node /opt/tool/cli.js", sid=19)
        marks = Marks(session="s-1", project=True, host_pid=20)
        assert set(verdicts_of(seen(older, p50=marks, p51=marks)).values()) == {"unknown"}

    def test_a_process_above_it_may_own_it(self) -> None:
        above = row(30, 1, "python supervise.py", sid=30)
        rows = (row(50, 30, SHELL, pgid=50, sid=50), row(51, 50, "npm run build", pgid=50, sid=50))
        snap = snapshot(INIT, above, *rows, p50=TOOL_MARKS, p51=TOOL_MARKS)
        assert set(verdicts_of(snap).values()) == {"unknown"}

    def test_a_shell_that_leads_no_process_session_was_not_started_by_the_host(self) -> None:
        snap = snapshot(INIT, row(50, 1, SHELL, pgid=49, sid=40), p50=TOOL_MARKS)
        assert verdicts_of(snap) == {50: "unknown"}

    def test_another_shell_has_no_snapshot_of_the_hosts(self) -> None:
        snap = snapshot(INIT, row(50, 1, "bash -c make", pgid=50, sid=50), p50=TOOL_MARKS)
        assert verdicts_of(snap) == {50: "detached"}

    def test_its_session_lives(self) -> None:
        host, child = row(20, 1, "claude", sid=19), row(21, 20, "bash -c x", sid=21)
        marks = Marks(session="s-1", project=True, host_pid=20)
        found = verdicts_of(seen(host, child, p21=marks, p50=marks, p51=marks))
        assert (found[50], found[51]) == ("owned", "owned")


class TestSpared:
    @pytest.mark.parametrize("reason", [LISTENS, NOHUP])
    def test_a_detached_process_spares_those_above_it(self, reason: Standing) -> None:
        job = row(60, 50, "python crunch.py", pgid=50, sid=50)
        below = row(52, 51, "node serve.js", pgid=50, sid=50)
        found = decide(seen(job, below, p52=TOOL_MARKS, p60=TOOL_MARKS), default=PLAIN, p51=reason)
        assert words(found) == {50: "detached", 51: "detached", 52: "detached", 60: "orphan"}
        assert "51 below it goes on" in found[50].evidence[0]
        assert "started by 51" in found[52].evidence[0]

    def test_a_process_session_of_its_own(self) -> None:
        daemon = row(60, 50, "java org.gradle.launcher.daemon", pgid=60, sid=60)
        found = verdicts_of(seen(daemon, p60=TOOL_MARKS))
        assert found == {50: "detached", 51: "orphan", 60: "detached"}

    def test_a_browser_that_is_driven_by_a_pipe_is_not_meant_to_go_on(self) -> None:
        for option, verdict in (("--remote-debugging-pipe", "orphan"), ("--remote-debugging-port=0", "detached")):
            browser = row(60, 51, f"/usr/bin/chromium --headless {option}", pgid=60, sid=60)
            renderer = row(61, 60, "/usr/bin/chromium --type=renderer", pgid=60, sid=60)
            found = verdicts_of(seen(browser, renderer, p60=TOOL_MARKS))
            assert found == dict.fromkeys((50, 51, 60, 61), verdict)

    def test_a_multiplexer_and_a_live_session_below_it(self) -> None:
        for command in (TMUX, "claude"):
            found = verdicts_of(seen(row(60, 50, command, pgid=50, sid=50), p60=TOOL_MARKS))
            assert (found[50], found[51]) == ("detached", "orphan")
            assert found[60] not in ("orphan", "detached")

    def test_what_is_not_known_at_all(self) -> None:
        """Below it, but without a mark of its own, and so not listed."""
        other = Marks(session="s-2", project=True, host_pid=200)
        host = row(60, 51, "claude", pgid=60, sid=60)
        found = verdicts_of(seen(host, row(61, 60, "bash -c y", pgid=61, sid=61), p60=TOOL_MARKS, p61=other))
        assert (found[50], found[51], found[61]) == ("detached", "detached", "owned")


class TestMarkAlone:
    @pytest.mark.parametrize("reason", [LISTENS, NOHUP])
    def test_what_looks_meant_to_go_on_is_said_so_and_no_more(self, reason: Standing) -> None:
        job, below = row(60, 1, "make watch", pgid=40, sid=40), row(61, 60, "node watch.js", pgid=40, sid=40)
        found = decide(snapshot(INIT, job, below, p60=TOOL_MARKS, p61=TOOL_MARKS), default=PLAIN, p60=reason)
        assert words(found) == {60: "detached", 61: "detached"}
        assert max(one.confidence for one in found.values()) <= 0.3

    def test_else_it_stays_unknown(self) -> None:
        job = row(60, 1, "make watch", pgid=40, sid=40)
        assert verdicts_of(snapshot(INIT, job, p60=TOOL_MARKS)) == {60: "unknown"}


class TestJobs:
    """What a shell had started with ``&``, and has ended since: likely to be left, and never proven."""

    JOB = Standing(backgrounded=True)

    def one(self, *more: ProcessInfo, standing: Standing = JOB, pgid: int = 40, sid: int = 40, **marks: Marks) -> str:
        job = row(60, 1, "python crunch.py", pgid=pgid, sid=sid)
        decided = decide(snapshot(INIT, job, *more, **({"p60": TOOL_MARKS} | marks)), default=standing)
        assert decided[60].verdict != "orphan" or decided[60].confidence == LIKELY
        return decided[60].verdict

    def test_its_evidence_says_why(self) -> None:
        assert self.one() == "orphan"
        job, below = row(60, 1, "make -j", pgid=40, sid=40), row(61, 60, "cc x.c", pgid=40, sid=40)
        found = decide(snapshot(INIT, job, below, p60=TOOL_MARKS, p61=TOOL_MARKS), default=self.JOB)
        assert words(found) == {60: "orphan", 61: "orphan"}
        assert "as what a shell starts with &, and that shell has ended" in found[60].evidence[0]

    def test_near_misses(self) -> None:
        assert self.one(standing=PLAIN) == "unknown"
        assert self.one(pgid=60, sid=60) == "detached", "it leads a process session of its own"
        assert self.one(row(40, 1, "bash", pgid=40, sid=40)) == "unknown", "the shell lives"
        assert self.one(row(100, 1, "node host.js", start=10, sid=99)) == "unknown", (
            "CLAUDE_PID is in use, by somebody older"
        )
        assert self.one(standing=Standing(backgrounded=True, listens=True)) == "detached"
        assert self.one(p60=Marks(session="s-1", project=True)) != "detached", "no tool shell had it"

    def test_a_job_above_a_detached_process_is_not_left_over(self) -> None:
        job, below = row(60, 1, "make serve", pgid=40, sid=40), row(61, 60, "node s.js", pgid=40, sid=40)
        snap = snapshot(INIT, job, below, p60=TOOL_MARKS, p61=TOOL_MARKS)
        found = words(decide(snap, default=self.JOB, p61=LISTENS))
        assert found == {60: "unknown", 61: "detached"}
