"""Orphan, superseded, duplicate, detached: each rule and its near misses, on recorded facts. What is read from
real processes is in ``test_sockets.py``, real sessions that die in ``test_verdicts_real.py``.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import ClassVar

import msgspec
import pytest

from oomless.census import verdicts
from oomless.census.attribution import Attributed, attribute
from oomless.census.daemon_facts import DaemonFacts, OpenTree
from oomless.census.snapshot import Marks, Snapshot, read_standings
from oomless.model import Identity, Leftover, ProcessInfo
from oomless.platform.base import Standing
from oomless.platform.linux import Linux
from snapshots import (
    FLOW,
    GONE,
    HELD,
    INIT,
    KNOWN,
    NPM,
    NPX,
    SERVER_MARKS,
    TOOL_MARKS,
    UNKNOWN,
    decide,
    row,
    snapshot,
    words,
)

PACKAGE = f"node {NPX}/node_modules/.bin/mcp-server-memory"


def asked(seen: Snapshot) -> set[int]:
    return {one.pid for one in verdicts.select_doubtful(attribute(seen, (), KNOWN), seen)}


class TestStandings:
    """Reading more of a few processes, some of which have ended meanwhile."""

    class Platform(Linux):
        STARTS: ClassVar = {41: 41, 42: 900}

        def standing(self, pids: Collection[int]) -> dict[int, Standing]:
            return dict.fromkeys(pids, GONE)

        def identity(self, pid: int) -> Identity | None:
            start = self.STARTS.get(pid)
            return Identity(boot_id="b", pid=pid, start=start) if start else None

    def test_a_number_that_is_used_again_or_not_at_all_tells_nothing(self) -> None:
        assert read_standings(self.Platform(), [row(pid, 1, FLOW) for pid in (41, 42, 43)]) == {41: GONE}

    def test_standings_are_read_only_of_doubtful_processes(self) -> None:
        class Never(Linux):
            def standing(self, pids: Collection[int]) -> dict[int, Standing]:
                raise AssertionError(pids)

        assert read_standings(Never(), []) == {}


class TestOrphan:
    """A server whose session is gone: 40 was the host, 30 its terminal's process session."""

    LEFT = row(41, 1, FLOW, pgid=40, sid=30)

    def test_nothing_holds_its_stdin_and_its_parent_is_gone(self) -> None:
        found = decide(snapshot(INIT, self.LEFT, row(42, 41, "node helper.js", pgid=40, sid=30)))
        assert words(found) == {41: "orphan", 42: "orphan"}
        assert found[41].confidence == 0.9
        assert found[41].evidence[0] == (
            "nothing holds the other end of the standard input of 41, and its parent is gone"
        )
        assert "catalog: " in found[41].evidence[1], "the former evidence is kept"

    @pytest.mark.parametrize("standing", [HELD, UNKNOWN])
    def test_a_process_may_hold_its_stdin(self, standing: Standing) -> None:
        """A terminal and /dev/null have no other end that could be gone."""
        assert words(decide(snapshot(INIT, self.LEFT), p41=standing)) == {41: "unknown"}

    def test_what_was_not_read_stays_as_it_was(self) -> None:
        seen = snapshot(INIT, self.LEFT)
        found = attribute(seen, (), KNOWN)
        assert verdicts.decide(found, seen, {}) == found

    def test_init_as_parent_and_a_name_prove_nothing(self) -> None:
        """No server, though it is known, marked, and init's child."""
        other = Marks(session="s-9", host_pid=40)
        seen = snapshot(INIT, row(41, 1, "next-server (v15.1)", pgid=40, sid=30), p41=other)
        assert words(decide(seen)) == {41: "unknown"}

    def test_a_live_parent_may_be_the_client(self) -> None:
        seen = snapshot(INIT, row(35, 1, "python agent.py", sid=30), row(41, 35, FLOW, sid=30))
        assert words(decide(seen)) == {41: "unknown"}

    def test_a_first_process_may_be_the_client(self) -> None:
        """In a container: what init itself has started is in its own process session."""
        assert words(decide(snapshot(INIT, row(41, 1, FLOW, sid=1)))) == {41: "unknown"}

    def test_a_parent_that_is_hidden_may_be_the_client(self) -> None:
        """/proc mounted with hidepid shows no process of other users; in a container's exec the parent is outside."""
        assert words(decide(snapshot(row(41, 35, FLOW, sid=30), row(43, 0, FLOW, sid=30)))) == {
            41: "unknown", 43: "unknown",
        }  # fmt: skip
        assert words(decide(snapshot(row(41, 1, FLOW, pgid=40, sid=30)))) == {41: "orphan"}, "init's number is known"
        assert words(decide(snapshot(row(41, 1, FLOW, pgid=1, sid=1)))) == {41: "unknown"}

    def test_a_user_service_and_what_the_users_systemd_took(self) -> None:
        """A service leads a process session of its own; its stdin is /dev/null or a socket of systemd's."""
        manager = row(20, 1, "/usr/lib/systemd/systemd --user", sid=20)
        taken, service = row(41, 20, FLOW, pgid=40, sid=30), row(43, 20, FLOW, pgid=43, sid=43)
        found = decide(snapshot(INIT, manager, taken, service))
        assert words(found) == {41: "orphan", 43: "detached"}
        assert words(decide(snapshot(INIT, manager, service), p43=UNKNOWN)) == {43: "unknown"}

    def test_what_a_relay_of_wsl_took_and_what_windows_asked_for(self) -> None:
        """The relay is root's, and holds the pipes of what it starts for Windows."""
        relay = row(20, 1, "/init", sid=19, uid=0)
        taken, asked_for = row(41, 20, FLOW, pgid=40, sid=30), row(43, 20, FLOW, pgid=43, sid=43)
        found = decide(snapshot(INIT, relay, taken, asked_for), p43=HELD)
        assert words(found) == {41: "orphan", 43: "unknown"}

    def test_a_projects_runner_goes_with_its_server_and_with_nothing_else(self) -> None:
        """``uv run`` runs any command: what that does besides a server is its user's work."""
        run, server = row(41, 1, "uv run mcp", pgid=40, sid=30), row(42, 41, PACKAGE, pgid=40, sid=30)
        assert words(decide(snapshot(INIT, run, server))) == {41: "orphan", 42: "orphan"}
        run, shell = row(41, 1, "uv run bash x", pgid=40, sid=30), row(42, 41, "bash x", pgid=40, sid=30)
        beside = row(44, 42, "python train.py", pgid=40, sid=30)
        seen = snapshot(INIT, run, shell, row(43, 42, PACKAGE, pgid=40, sid=30), beside)
        assert words(decide(seen)) == {43: "unknown"}
        assert asked(seen) == set()

    def test_a_launcher_goes_with_its_server(self) -> None:
        seen = snapshot(
            INIT, row(41, 1, NPM, pgid=40, sid=30), row(42, 41, "sh -c mcp", pgid=40, sid=30),
            row(43, 42, PACKAGE, pgid=40, sid=30),
        )  # fmt: skip
        assert words(decide(seen, p43=HELD)) == {41: "orphan", 42: "orphan", 43: "orphan"}
        assert asked(seen) == {41, 42, 43}

    def test_a_server_that_a_wrapper_detached_spares_the_wrapper(self) -> None:
        """``sh -c "setsid server"`` as the server's command; its browser detaches too, and that is no sign of it."""
        shell, browser = row(41, 1, "sh -c mcp", pgid=40, sid=30), row(44, 43, "chromium --headless", pgid=44, sid=44)
        mine = Marks(session="s-1", project=True)
        for sid, verdict in ((43, "detached"), (30, "orphan")):
            seen = snapshot(INIT, shell, row(43, 41, PACKAGE, pgid=sid, sid=sid), browser, p41=mine, p43=mine)
            assert words(decide(seen)) == {41: verdict, 43: verdict, 44: verdict}

    def test_the_same_server_of_a_live_session_is_not(self) -> None:
        seen = snapshot(INIT, self.LEFT, row(100, 1, "claude", sid=99), row(101, 100, FLOW, pgid=100, sid=99))
        found = decide(seen)
        assert (found[41].verdict, found[101].verdict) == ("orphan", "owned")
        assert asked(seen) == {41}, "only of what is in doubt more is read"

    def test_below_an_editor_or_a_multiplexer_nothing_is(self) -> None:
        for command in ("/usr/share/code/code", "tmux new -d", "/usr/bin/emacs"):
            seen = snapshot(INIT, row(35, 1, command, sid=35), row(41, 35, FLOW, sid=30))
            assert decide(seen)[41].verdict in ("owned", "unknown")

    def test_a_protected_process_is_never_called_one(self) -> None:
        marks = {f"p{pid}": SERVER_MARKS for pid in (41, 42)}
        seen = snapshot(
            INIT, row(41, 1, "tmux new -d", pgid=40, sid=30), row(42, 1, "/usr/bin/emacs", pgid=40, sid=30), **marks
        )
        assert words(decide(seen)) == {41: "protected", 42: "protected"}

    def test_what_we_govern_is_not_judged(self) -> None:
        tree = OpenTree(tree="t1", name="job", root_pid=41)
        seen = snapshot(INIT, self.LEFT)
        assert words(decide(seen, DaemonFacts(trees=(tree,)))) == {41: "owned"}


class TestMarkedOrphan:
    """Servers that no catalog knows: by the marks that the host gives to its stdio servers and to nothing else."""

    def stray(self, ppid: int = 1, **changes: int) -> ProcessInfo:
        return msgspec.structs.replace(row(41, ppid, "./my-server --fast", pgid=40, sid=30), **changes)

    def test_it_is_a_server_of_the_session_that_is_gone(self) -> None:
        found = decide(snapshot(INIT, self.stray(), row(42, 41, "helper", pgid=40, sid=30), p41=SERVER_MARKS))
        assert words(found) == {41: "orphan", 42: "orphan"}
        assert (found[41].kind, found[41].server, found[41].session) == ("server", "my-server", "s-1")

    def test_a_subreaper_that_has_not_the_mark_took_it(self) -> None:
        """So it is in containers and under some desktops, where init never sees it."""
        above = row(20, 1, "reaper", sid=20)
        assert words(decide(snapshot(INIT, above, self.stray(20), p41=SERVER_MARKS))) == {41: "orphan"}
        foreign = msgspec.structs.replace(above, uid=0)
        found = decide(snapshot(INIT, foreign, self.stray(20), p41=SERVER_MARKS))
        assert words(found) == {41: "unknown"}, "another user's marks cannot be read"

    def test_a_host_that_no_catalog_knows_is_its_client(self) -> None:
        """It keeps its servers in its own process group, and has no mark itself."""
        host = row(40, 1, "/opt/own-build", pgid=40, sid=30)
        assert words(decide(snapshot(INIT, host, self.stray(40), p41=SERVER_MARKS))) == {41: "unknown"}

    def test_a_live_job_of_the_dead_session_may_be_its_client(self) -> None:
        seen = snapshot(
            INIT, row(35, 1, "python agent.py", pgid=35, sid=35), row(41, 35, FLOW, pgid=35, sid=35),
            p35=TOOL_MARKS, p41=TOOL_MARKS,
        )  # fmt: skip
        assert words(decide(seen)) == {35: "detached", 41: "detached"}, "the job left, and is not ended"
        above = row(35, 1, "./agent", pgid=35, sid=30)
        seen = snapshot(INIT, above, row(41, 35, FLOW, pgid=41, sid=30), p35=SERVER_MARKS, p41=SERVER_MARKS)
        assert decide(seen)[41].verdict == "unknown", "also below a server of that session"

    def test_a_server_from_a_tool_shell_may_be_owned_from_above(self) -> None:
        seen = snapshot(INIT, row(20, 1, "agent", sid=20), row(41, 20, FLOW, pgid=40, sid=30), p41=TOOL_MARKS)
        assert decide(seen)[41].verdict == "unknown"

    def test_what_came_from_a_tool_shell_is_none(self) -> None:
        """A background job of the agent's, a build daemon, an editor's helper: they have CLAUDE_PID."""
        for sid, verdict in ((30, "unknown"), (41, "detached")):
            seen = snapshot(INIT, self.stray(sid=sid), p41=TOOL_MARKS)
            assert words(decide(seen)) == {41: verdict}

    def test_what_left_the_hosts_group_is_none(self) -> None:
        """A daemon that a server started: by setsid or setpgid it has left the process group of the host."""
        for changes, verdict in (({"sid": 41}, "detached"), ({"pgid": 41}, "unknown")):
            seen = snapshot(INIT, self.stray(**changes), p41=SERVER_MARKS)
            assert words(decide(seen)) == {41: verdict}

    def test_its_session_lives(self) -> None:
        live = Marks(session="s-1", host_pid=100)
        seen = snapshot(
            INIT, row(30, 1, "claude", sid=29), row(39, 30, "bash -c x", sid=39), self.stray(), p39=live,
            p41=SERVER_MARKS,
        )  # fmt: skip
        found = decide(seen)[41]
        assert (found.verdict, found.session_root, found.server) == ("owned", 30, None)

    def test_a_resumed_session_has_the_id_and_is_another_process(self) -> None:
        """``--resume`` gives the id of the dead session to a younger process: what is older is not its own."""
        seen = snapshot(
            INIT, self.stray(), row(100, 1, "claude --resume s-1", sid=99),
            row(101, 100, "./my-server --fast", pgid=100, sid=99), p41=SERVER_MARKS, p101=SERVER_MARKS,
        )  # fmt: skip
        found = decide(seen)
        assert found[100].session == "s-1"
        assert (found[41].verdict, found[101].verdict) == ("orphan", "owned")
        assert decide(seen, p41=HELD)[41].verdict == "unknown"


class TestLeftRunning:
    """Nobody holds its stdin, and still it may have been started to go on."""

    def one(self, standing: Standing = GONE, **changes: int) -> Attributed:
        left = msgspec.structs.replace(row(41, 1, FLOW, pgid=40, sid=30), **changes)
        return decide(snapshot(INIT, left), p41=standing)[41]

    def test_a_nohup_setsid_job(self) -> None:
        for found in (
            self.one(sid=41, pgid=41),
            self.one(Standing(stdin="gone", ignores_hangup=True)),
            self.one(Standing(stdin="gone", ignores_hangup=True), sid=41, pgid=41),
        ):
            assert found.verdict == "detached"
            assert "setsid" in found.evidence[0] or "nohup" in found.evidence[0]

    def test_it_listens(self) -> None:
        found = self.one(Standing(stdin="gone", listens=True))
        assert found.verdict == "detached"
        assert "listens" in found.evidence[0]

    def test_processes_below_and_in_between_are_detached_too(self) -> None:
        seen = snapshot(
            INIT, *(row(pid, above, "node x.js", pgid=40, sid=30) for pid, above in ((42, 41), (43, 42), (44, 43))),
            row(45, 41, "node y.js", pgid=40, sid=30), row(41, 1, FLOW, pgid=40, sid=30),
        )  # fmt: skip
        found = decide(seen, p43=Standing(listens=True))
        assert words(found) == {
            41: "orphan", 42: "detached", 43: "detached", 44: "detached", 45: "orphan",
        }  # fmt: skip
        assert "43 below it is detached" in found[42].evidence[0]
        assert "started by 43" in found[44].evidence[0]

    def test_a_browser_that_leads_a_session_goes_with_its_server(self) -> None:
        chrome = row(42, 41, "/opt/chrome/chrome --headless", pgid=42, sid=42)
        assert words(decide(snapshot(INIT, row(41, 1, FLOW, pgid=40, sid=30), chrome))) == {
            41: "orphan",
            42: "orphan",
        }


class TestLeftovers:
    """What the daemon remembers of sessions that nobody had registered."""

    ONE = Leftover(pid=110, start=110, host="claude-code", session="s-1", root=100, above=(105, 107), since=5.0)

    def told(self, **changes: object) -> DaemonFacts:
        return DaemonFacts(leftovers=(msgspec.structs.replace(self.ONE, **changes),))

    def test_recorded_ancestry_proves_it(self) -> None:
        found = decide(snapshot(INIT, row(110, 1, "make all")), self.told())[110]
        assert (found.verdict, found.confidence, found.session) == ("orphan", 0.95, "s-1")
        assert found.evidence == (
            "recorded ancestry: 110 < 107 < 105 < 100, the process of the session s-1, which has ended",
        )

    def test_with_a_reason_it_is_detached(self) -> None:
        found = decide(snapshot(INIT, row(110, 1, "make all")), self.told(spared="it listens on a port"))[110]
        assert found.verdict == "detached"
        assert found.evidence[0].endswith("which has ended; it listens on a port")

    def test_a_number_that_is_used_again_is_another_process(self) -> None:
        assert decide(snapshot(INIT, row(110, 1, "make all", start=900)), self.told()) == {}

    def test_a_process_below_a_live_session_is_owned(self) -> None:
        seen = snapshot(INIT, row(90, 1, "claude"), row(110, 90, "make all"))
        assert decide(seen, self.told())[110].verdict == "owned"

    def test_a_protected_process_stays_protected(self) -> None:
        assert decide(snapshot(INIT, row(110, 1, "tmux new")), self.told())[110].verdict == "protected"

    def test_a_server_that_is_known_to_be_spared_is_not_judged_again(self) -> None:
        seen = snapshot(INIT, row(110, 1, FLOW, pgid=40, sid=30))
        assert decide(seen, self.told(spared="it ignores SIGHUP"))[110].verdict == "detached"


class TestSuperseded:
    """Two generations of a server under one live session."""

    def two(self, later: int = 1000, host: str = "claude", **older: int) -> Snapshot:
        old = msgspec.structs.replace(row(101, 100, FLOW, pgid=100, sid=99), **older)
        return snapshot(
            INIT, row(100, 1, host, sid=99), old, row(102, 101, "node helper.js", pgid=100, sid=99),
            row(201, 100, FLOW, start=101 + later, pgid=100, sid=99),
        )  # fmt: skip

    def test_the_session_has_let_the_older_one_go(self) -> None:
        found = decide(self.two(), p201=HELD)
        assert words(found) == {100: "owned", 101: "superseded", 102: "superseded", 201: "owned"}
        assert found[101].confidence == 0.9
        assert "runs the same command line again, as 201" in found[101].evidence[0]

    @pytest.mark.parametrize(
        ("host", "later", "verdict"),
        [
            ("claude", 501, "superseded"),
            ("gemini", 501, "superseded"),
            ("claude", 500, "owned"),  # seconds apart: it may be configured under two names
            ("codex app-server", 9999, "owned"),  # one process holds many conversations
        ],
    )
    def test_by_order_of_start_alone_where_nothing_is_known_of_stdin(
        self, host: str, later: int, verdict: str
    ) -> None:
        found = decide(self.two(later, host), default=UNKNOWN)
        assert found[101].verdict == verdict
        assert found[101].confidence == (0.6 if verdict == "superseded" else 0.95)
        assert found[201].verdict == "owned"

    def test_one_that_is_still_held_is_in_use(self) -> None:
        """However much later the other came: it may be a second name, or an agent's own server."""
        assert decide(self.two(90_000), default=HELD)[101].verdict == "owned"

    @pytest.mark.parametrize("spared", [{"listens": True}, {"ignores_hangup": True}])
    @pytest.mark.parametrize("whose", ["p101", "p102"])
    def test_what_may_be_used_by_others_is_not(self, whose: str, spared: dict[str, bool]) -> None:
        facts = {"p101": GONE, "p201": HELD, whose: Standing(stdin="gone", **spared)}
        assert decide(self.two(), **facts)[101].verdict == "owned"

    def test_without_a_server_in_its_place_it_is_not(self) -> None:
        assert decide(self.two())[101].verdict == "owned", "both are on their way out"
        single = snapshot(INIT, row(100, 1, "claude", sid=99), row(101, 100, FLOW, pgid=100, sid=99))
        assert (decide(single)[101].verdict, asked(single)) == ("owned", set())

    def test_another_command_line_is_another_server(self) -> None:
        seen = snapshot(
            INIT, row(100, 1, "claude", sid=99), row(101, 100, f"{FLOW} mcp start", pgid=100, sid=99),
            row(201, 100, FLOW, start=5000, pgid=100, sid=99),
        )  # fmt: skip
        assert decide(seen)[101].verdict == "owned"

    def test_the_rest_of_a_launchers_generation_under_init(self) -> None:
        """A host ends ``npm exec`` and starts it anew: what that had started is left, with the session's mark."""
        mark = Marks(session="s-1", project=True)
        seen = snapshot(
            INIT, row(100, 1, "claude", sid=99), row(103, 1, PACKAGE, pgid=100, sid=99),
            row(201, 100, NPM, start=5000, pgid=100, sid=99), row(202, 201, PACKAGE, start=5001, pgid=100, sid=99),
            p103=mark, p201=mark, p202=mark,
        )  # fmt: skip
        found = decide(seen, default=HELD, p103=GONE)
        assert words(found) == {100: "owned", 103: "superseded", 201: "owned", 202: "owned"}


class TestDuplicate:
    def two(self, other: str = FLOW) -> Snapshot:
        return snapshot(
            INIT, row(100, 1, "claude"), row(101, 100, FLOW), row(200, 1, "claude"), row(201, 200, other),
            row(202, 201, "node helper.js"),
        )  # fmt: skip

    def test_an_older_copy_runs_in_another_live_session(self) -> None:
        found = decide(self.two())
        assert words(found) == {100: "owned", 101: "owned", 200: "owned", 201: "duplicate", 202: "duplicate"}
        assert found[201].evidence[0] == "the session 100:100 is older and runs the same command line, as 101"
        assert asked(self.two()) == set(), "nothing has to be read for it"

    def test_of_a_server_by_its_name_alone_it_is_likely(self) -> None:
        """Codex' shell becomes the only command that it was given: that is an agent's work."""
        job = "python /w/mcp/train.py"
        seen = snapshot(INIT, row(100, 1, "codex"), row(101, 100, job), row(200, 1, "codex"), row(201, 200, job))
        assert (decide(seen)[201].verdict, decide(seen)[201].confidence) == ("duplicate", 0.6)

    def test_a_language_server_may_be_an_mcp_server_by_its_marks(self) -> None:
        mark = Marks(session="s-1", project=True)
        seen = snapshot(INIT, row(100, 1, "claude"), row(101, 100, "gopls mcp", pgid=100), p101=mark)
        assert (decide(seen)[101].server, decide(seen)[101].kind) == ("gopls", "server")

    def test_a_server_that_was_started_again_is_still_the_older_sessions(self) -> None:
        seen = snapshot(INIT, row(100, 1, "claude"), row(301, 100, FLOW), row(200, 1, "claude"), row(201, 200, FLOW))
        assert words(decide(seen)) == {100: "owned", 200: "owned", 201: "duplicate", 301: "owned"}

    def test_of_two_sessions_that_started_together_none_is_older(self) -> None:
        seen = snapshot(
            INIT, row(100, 1, "claude"), row(101, 100, FLOW), row(200, 1, "claude", start=100), row(201, 200, FLOW)
        )
        assert "duplicate" not in words(decide(seen)).values()

    def test_another_command_line_is_none(self) -> None:
        assert decide(self.two(f"{FLOW} --other"))[201].verdict == "owned"

    def test_two_copies_in_the_same_session_are_none(self) -> None:
        """Configured under two names: no other session has it."""
        seen = snapshot(INIT, row(100, 1, "claude"), row(101, 100, FLOW), row(102, 100, FLOW))
        assert words(decide(seen, default=HELD)) == {100: "owned", 101: "owned", 102: "owned"}

    def test_a_copy_of_a_dead_session_makes_none(self) -> None:
        seen = snapshot(INIT, row(41, 1, FLOW, pgid=40, sid=30), row(200, 1, "claude"), row(201, 200, FLOW))
        assert words(decide(seen)) == {41: "orphan", 200: "owned", 201: "owned"}
