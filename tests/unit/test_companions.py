"""Companions of a proven orphan: what a server had started, a browser's crash handler, a shell without its launcher.
On snapshots written by hand; near misses beside each.
"""

from __future__ import annotations

import msgspec
import pytest

from oomless.census.snapshot import Marks, Snapshot
from oomless.model import ProcessInfo
from oomless.platform.base import Standing
from snapshots import FLOW, GONE, HELD, INIT, NPX, SERVER_MARKS, TOOL_MARKS, UNKNOWN, decide, row, snapshot, words

CHROME, HANDLER = "/opt/chrome/chrome --remote-debugging-pipe", "/opt/chrome/chrome_crashpad_handler --monitor-self"


class TestOfServers:
    """A helper whose server has ended: it reads from nowhere, so nothing at its own input tells."""

    def seen(self, marks: Marks = SERVER_MARKS, pgid: int = 40, sid: int = 30) -> Snapshot:
        helper = row(55, 1, "git status", pgid=pgid, sid=sid)
        server = row(41, 1, "./my-server --fast", pgid=40, sid=30)
        below = row(56, 55, "git index-pack", pgid=40, sid=30)
        return snapshot(INIT, server, helper, below, p41=SERVER_MARKS, p55=marks)

    def test_it_is_where_its_host_put_the_server(self) -> None:
        found = decide(self.seen(), p55=UNKNOWN, p56=UNKNOWN)
        assert words(found) == {41: "orphan", 55: "orphan", 56: "orphan"}
        assert "in the process group 40 and session 30 of the server 41" in found[55].evidence[0]
        assert found[55].confidence == found[41].confidence

    def test_one_that_is_held_is_in_use_and_proves_nothing(self) -> None:
        assert decide(self.seen(), p55=HELD)[55].verdict == "unknown"
        assert decide(self.seen(), p41=HELD, p55=UNKNOWN)[55].verdict == "unknown"

    def test_a_process_that_listens_on_a_socket_is_no_companion(self) -> None:
        assert decide(self.seen(), p55=Standing(serves=True))[55].verdict == "unknown"

    def test_a_session_that_was_resumed_has_the_id_of_the_dead_one(self) -> None:
        seen = self.seen()
        more = (row(900, 1, "claude --resume s-1", sid=899), row(901, 900, FLOW, pgid=900, sid=899))
        again = msgspec.structs.replace(
            seen, processes=(*seen.processes, *more), marks=(*seen.marks, Marks(), SERVER_MARKS)
        )
        assert decide(again, default=HELD, p41=GONE, p55=UNKNOWN)[55].verdict == "unknown"

    @pytest.mark.parametrize("spared", [{"listens": True}, {"ignores_hangup": True}])
    @pytest.mark.parametrize("whose", ["p55", "p56"])
    def test_what_may_be_meant_to_go_on(self, whose: str, spared: dict[str, bool]) -> None:
        facts = {"p41": GONE, "p55": UNKNOWN, "p56": UNKNOWN, whose: msgspec.structs.replace(UNKNOWN, **spared)}
        found = decide(self.seen(), **facts)
        assert "orphan" not in (found[55].verdict, found[56].verdict)

    def test_a_server_that_is_spared_proves_nothing(self) -> None:
        found = decide(self.seen(), p41=Standing(stdin="gone", listens=True), p55=UNKNOWN)
        assert (found[41].verdict, found[55].verdict) == ("detached", "unknown")

    @pytest.mark.parametrize(("pgid", "sid"), [(55, 30), (40, 31), (55, 55)])
    def test_a_process_that_left_the_group_or_session_is_no_companion(self, pgid: int, sid: int) -> None:
        assert decide(self.seen(pgid=pgid, sid=sid), p55=UNKNOWN)[55].verdict != "orphan"

    def test_another_sessions_or_a_tool_shells(self) -> None:
        other = msgspec.structs.replace(SERVER_MARKS, session="s-2")
        for marks in (other, TOOL_MARKS, Marks()):
            found = decide(self.seen(marks), p55=UNKNOWN)
            assert 55 not in found or found[55].verdict == "unknown"


class TestOfBrowsers:
    def seen(self, *more: ProcessInfo, handler: str = HANDLER, marks: Marks = SERVER_MARKS) -> Snapshot:
        """A server's browser, and its handler, which forked twice."""
        server = row(41, 1, FLOW, pgid=40, sid=30)
        browser = row(45, 41, CHROME, pgid=40, sid=30)
        alone = row(47, 1, handler, pgid=46, sid=46)
        by_pid = {f"p{one.pid}": SERVER_MARKS for one in (server, browser, *more)}
        return snapshot(INIT, server, browser, alone, *more, **by_pid | {"p47": marks})

    def test_it_goes_with_its_browser(self) -> None:
        found = decide(self.seen(), p47=UNKNOWN)
        assert words(found) == {41: "orphan", 45: "orphan", 47: "orphan"}
        assert found[47].evidence[0] == "it is the crash handler of the browser 45, which is orphan"

    def test_of_another_session_or_browser(self) -> None:
        other = msgspec.structs.replace(SERVER_MARKS, session="s-2")
        assert decide(self.seen(marks=other), p47=UNKNOWN)[47].verdict == "unknown"
        elsewhere = self.seen(handler="/opt/code/chrome_crashpad_handler --monitor-self")
        assert decide(elsewhere, p47=UNKNOWN)[47].verdict == "unknown"

    def test_another_program_that_forked_twice_is_not(self) -> None:
        assert decide(self.seen(handler="/opt/chrome/daemon"), p47=UNKNOWN)[47].verdict == "unknown"

    def test_it_may_serve_a_second_browser(self) -> None:
        second = row(46, 1, "/opt/chrome/chrome --headless", pgid=46, sid=46)
        found = decide(self.seen(second), p47=UNKNOWN)
        assert (found[46].verdict, found[47].verdict) == ("detached", "unknown")

    def test_one_that_has_its_parent_is_that_ones(self) -> None:
        """Below the live session itself, of which the browser's server was replaced."""
        mark = Marks(session="s-1", project=True)
        rows = (
            row(100, 1, "claude", sid=99), row(101, 1, FLOW, pgid=100, sid=99),
            row(105, 101, CHROME, pgid=100, sid=99), row(107, 100, HANDLER, pgid=106, sid=106),
            row(201, 100, FLOW, start=5000, pgid=100, sid=99),
        )  # fmt: skip
        marks = {f"p{one.pid}": mark for one in rows[1:]}
        found = decide(snapshot(INIT, *rows, **marks), default=GONE, p201=HELD)
        assert (found[105].verdict, found[107].verdict) == ("superseded", "owned")

    def test_one_that_listens_or_was_not_read(self) -> None:
        assert decide(self.seen(), p47=Standing(listens=True))[47].verdict != "orphan"


class TestLostLauncher:
    MARK = Marks(session="s-1", project=True)

    def seen(self, marks: Marks = MARK) -> Snapshot:
        """Of ``npm exec`` > sh > node the first was killed, and the live session started all three again."""
        line, served = ("sh", "-c", "'flow-nexus' mcp start"), f"node {NPX}/node_modules/.bin/flow-nexus mcp start"
        return snapshot(
            INIT, row(100, 1, "claude", sid=99),
            row(104, 1, line, pgid=100, sid=99), row(105, 104, served, pgid=100, sid=99),
            row(201, 100, "npm exec flow-nexus mcp start", start=5000, pgid=100, sid=99),
            row(202, 201, line, start=5001, pgid=100, sid=99), row(203, 202, served, start=5002, pgid=100, sid=99),
            p104=marks, p105=self.MARK, p201=self.MARK, p202=self.MARK, p203=self.MARK,
        )  # fmt: skip

    def test_its_shell_is_part_of_the_server_it_left(self) -> None:
        found = decide(self.seen(), default=HELD, p104=GONE, p105=GONE)
        assert (found[104].verdict, found[105].verdict) == ("superseded", "superseded")
        assert (found[104].instance, found[105].instance) == (104, 104)
        assert found[201].verdict == "owned"

    def test_a_tool_shell_is_not(self) -> None:
        found = decide(self.seen(TOOL_MARKS), default=HELD, p104=GONE, p105=GONE)
        assert (found[104].instance, found[105].instance) == (None, 105)

    def test_what_a_lost_wrapper_had_started_is_compared_with_what_its_successor_starts(self) -> None:
        seen = snapshot(
            INIT, row(100, 1, "claude", sid=99), row(103, 1, FLOW, pgid=100, sid=99),
            row(201, 100, "python wrap.py flow", start=5000, pgid=100, sid=99),
            row(202, 201, FLOW, start=5001, pgid=100, sid=99), p103=self.MARK, p201=self.MARK, p202=self.MARK,
        )  # fmt: skip
        assert decide(seen, default=HELD, p103=GONE)[103].verdict == "superseded"

    def test_below_two_wrappers_two_servers_are_in_use(self) -> None:
        seen = snapshot(
            INIT, row(100, 1, "claude", sid=99), row(101, 100, "python wrap.py --account work", pgid=100, sid=99),
            row(102, 101, FLOW, pgid=100, sid=99),
            row(201, 100, "python wrap.py --account home", start=5000, pgid=100, sid=99),
            row(202, 201, FLOW, start=5001, pgid=100, sid=99), p101=self.MARK, p201=self.MARK,
        )  # fmt: skip
        for default in (UNKNOWN, HELD):
            assert set(words(decide(seen, default=default)).values()) == {"owned"}
        other = snapshot(
            *seen.processes, row(300, 1, "claude", sid=299), row(301, 300, FLOW), p101=self.MARK, p201=self.MARK
        )
        assert decide(other, default=HELD)[301].verdict == "owned", "below a wrapper it is another server"

    def test_a_browser_that_is_younger_than_the_handler_is_not_its_own(self) -> None:
        young = row(60, 41, CHROME, pgid=40, sid=30)
        seen = snapshot(
            INIT, row(41, 1, FLOW, pgid=40, sid=30), young, row(47, 1, HANDLER, pgid=46, sid=46),
            p41=SERVER_MARKS, p60=SERVER_MARKS, p47=SERVER_MARKS,
        )  # fmt: skip
        assert decide(seen, p47=UNKNOWN)[47].verdict == "unknown"
