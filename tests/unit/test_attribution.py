"""Whose a process is when the plain chain of parents does not say it: tool shells and what has left them, trees of
the shell prefix, and what the daemon tells. On snapshots written by hand, like ``test_census.py``.
"""

from __future__ import annotations

import msgspec

from oomless.census import governed
from oomless.census.attribution import Attributed
from oomless.census.daemon_facts import DaemonFacts, OpenTree
from oomless.census.snapshot import Marks, Snapshot
from oomless.model import DetachedProcess, LiveSession
from snapshots import NPX, SECRET, SERVER_MARKS, TOOL_MARKS, by_pid, row, snapshot


class TestShells:
    """What Claude Code starts for its agent, also after it has left its parents."""

    SNAPSHOT = ("bash", "-c", "source /h/shell-snapshots/snapshot-bash-1.sh && eval 'sleep 1'")

    def test_a_subshell_of_a_tool_shell_is_none(self) -> None:
        seen = snapshot(row(100, 1, "claude"), row(101, 100, self.SNAPSHOT), row(102, 101, self.SNAPSHOT))
        found = by_pid(seen)
        assert [found[pid].kind for pid in (101, 102)] == ["tool-shell", "other"]
        assert found[102].shell == 101

    def test_what_a_tool_shell_became_by_exec_still_is_one_but_a_hook_is_not(self) -> None:
        seen = snapshot(
            row(100, 1, "claude"), row(101, 100, "sleep 300", sid=101), row(102, 100, "sh -c hook", sid=102),
            row(103, 100, "helper"), p101=TOOL_MARKS, p102=SERVER_MARKS, p103=TOOL_MARKS,
        )  # fmt: skip
        found = by_pid(seen)
        assert [found[pid].kind for pid in (101, 102, 103)] == ["tool-shell", "other", "other"]
        assert [found[pid].shell for pid in (101, 102, 103)] == [101, None, None]

    def test_a_reparented_process_is_of_the_live_session_that_its_marks_name(self) -> None:
        seen = snapshot(
            row(1, 0, "init"), row(100, 1, "claude"), row(101, 100, "bash -c x"), row(110, 1, "npm run dev", sid=109),
            row(111, 110, "wiped"), p101=TOOL_MARKS, p110=TOOL_MARKS,
        )  # fmt: skip
        found = by_pid(seen)
        for pid in (110, 111):
            assert (found[pid].session, found[pid].session_root, found[pid].host) == ("s-1", 100, "claude-code")
            assert (found[pid].verdict, found[pid].kind, found[pid].chain_broken) == ("owned", "other", True)
            assert 0.5 < found[pid].confidence < found[101].confidence
        assert "CLAUDE_PID=100, whose process 100 is alive and older" in found[110].evidence[0]
        assert "of 110 above it" in found[111].evidence[0]
        assert found[110].shell == 109
        assert not found[101].chain_broken

    def test_its_id_is_found_by_those_that_name_its_process(self) -> None:
        seen = snapshot(row(100, 1, "claude"), row(110, 1, "sleep 5"), p110=TOOL_MARKS)
        assert by_pid(seen)[100].session == "s-1"

    def test_after_clear_an_older_id_still_names_the_process(self) -> None:
        old = Marks(session="s-0", host_pid=100)
        seen = snapshot(
            row(100, 1, "claude"), row(102, 100, "bash -c x"), row(101, 1, "old"), p102=TOOL_MARKS, p101=old
        )
        assert by_pid(seen)[101].session == "s-1"

    def test_a_servers_helper_has_only_the_sessions_id(self) -> None:
        seen = snapshot(
            row(100, 1, "claude"), row(101, 100, "bash -c x"), row(110, 1, "/c/chrome_crashpad_handler --x"),
            p101=TOOL_MARKS, p110=Marks(session="s-1", project=True),
        )  # fmt: skip
        found = by_pid(seen)[110]
        assert (found.session, found.kind, found.verdict, found.shell) == ("s-1", "browser", "owned", None)

    def test_a_session_that_is_younger_than_the_process_with_its_mark_is_another(self) -> None:
        marks = {"p50": TOOL_MARKS, "p51": Marks(session="s-1"), "p101": TOOL_MARKS}
        seen = snapshot(
            row(1, 0, "init"), row(100, 1, "claude", start=500), row(101, 100, "bash -c x", start=501),
            row(50, 1, "sleep 5"), row(51, 1, "sleep 6"), **marks,
        )  # fmt: skip
        found = by_pid(seen)
        for pid in (50, 51):
            assert (found[pid].verdict, found[pid].session_root) == ("unknown", None)
            assert "does not run here" in found[pid].evidence[0]

    def test_of_two_sessions_with_the_same_id_only_the_pid_decides(self) -> None:
        seen = snapshot(
            row(100, 1, "claude"), row(101, 100, "bash -c x"), row(200, 1, "claude"), row(201, 200, "bash -c x"),
            row(300, 1, "a"), row(301, 1, "b"), p101=TOOL_MARKS, p201=Marks(session="s-1", host_pid=200),
            p300=Marks(session="s-1", host_pid=200), p301=Marks(session="s-1"),
        )  # fmt: skip
        found = by_pid(seen)
        assert (found[300].session_root, found[301].session_root) == (200, None)

    def test_what_a_dead_session_left_is_listed_but_not_what_is_below_a_multiplexer(self) -> None:
        seen = snapshot(
            row(1, 0, "init"), row(110, 1, self.SNAPSHOT, sid=110), row(111, 110, "sleep 9", sid=110),
            row(120, 1, "tmux"), row(121, 120, "make"), row(130, 1, "stranger"),
            p110=TOOL_MARKS, p111=TOOL_MARKS, p120=TOOL_MARKS, p121=TOOL_MARKS,
        )  # fmt: skip
        found = by_pid(seen)
        assert found.keys() == {110, 111, 120}
        assert [(found[pid].kind, found[pid].verdict) for pid in (110, 111)] == [
            ("tool-shell", "unknown"), ("other", "unknown"),
        ]  # fmt: skip
        assert [(found[pid].host, found[pid].session, found[pid].shell) for pid in (110, 111)] == [
            ("claude-code", "s-1", 110)
        ] * 2
        assert "alone proves no owner" in found[111].evidence[0]
        assert found[120].session is None

    def test_a_fork_that_has_not_yet_become_something_else_is_no_session(self) -> None:
        seen = snapshot(row(100, 1, "claude -p x", pgid=100, sid=9), row(101, 100, "claude -p x", pgid=100, sid=9))
        found = by_pid(seen)
        assert [found[pid].kind for pid in (100, 101)] == ["session", "other"]
        assert found[101].session == "100:100"


BOOT_PREFIX = ("/usr/bin/python3", "-I", "-S", "-E", "/opt/oomless/cli/boot_prefix.py")


def front(line: str) -> tuple[str, ...]:
    return (*BOOT_PREFIX, "shell", f"source /h/shell-snapshots/snapshot-bash-1.sh && eval '{line}'")


class TestPrefixed:
    """Tool shells and servers that the shell prefix made trees of, as the daemon tells of them."""

    SERVER = OpenTree(tree="s1", name="node x", root_pid=102, role="server", host="claude-code", session="s-1")
    SHELL = OpenTree(tree="b1", name="make", root_pid=204, role="tool-shell", host="claude-code", session="s-1")

    def attributed(self, seen: Snapshot, *trees: OpenTree) -> dict[int, Attributed]:
        return by_pid(seen, *governed.find_members(seen, trees, "a1b2c3d4"))

    def test_a_servers_shim_and_its_stray_helpers_are_of_its_instance(self) -> None:
        seen = snapshot(
            row(100, 1, "claude"), row(101, 100, (*BOOT_PREFIX, "server", "node /srv/my-mcp.js"), pgid=100),
            row(102, 101, "node /srv/my-mcp.js", pgid=100), row(103, 102, "helper"), row(104, 101, "adopted"),
            p101=SERVER_MARKS, p102=SERVER_MARKS,
        )  # fmt: skip
        for trees in ((self.SERVER,), ()):
            found = self.attributed(seen, *trees)
            assert [found[pid].kind for pid in (101, 102, 103, 104)] == ["launcher", "server", "other", "other"]
            assert {found[pid].server for pid in (101, 102, 103, 104)} == {"my-mcp"}
            assert {found[pid].instance for pid in (101, 102, 103, 104)} == {102}
            assert {found[pid].session for pid in (101, 102, 103, 104)} == {"s-1"}
            assert found[101].evidence[0] == "oomless' own shim, by its argument list"
        assert (
            "journal: root of the server node x (s1) of the session s-1"
            in self.attributed(seen, self.SERVER)[102].evidence
        )

    def test_a_shell_around_a_prefixed_server_is_a_wrapper(self) -> None:
        shim = row(101, 100, (*BOOT_PREFIX, "server", "./start.sh"))
        seen = snapshot(
            row(100, 1, "claude"), shim, row(102, 101, "sh ./start.sh"),
            row(103, 102, f"node {NPX}/node_modules/flow-nexus/cli.js"),
        )  # fmt: skip
        found = by_pid(seen)
        assert [(found[pid].kind, found[pid].server) for pid in (102, 103)] == [
            ("launcher", "flow-nexus"), ("server", "flow-nexus"),
        ]  # fmt: skip

    def test_a_tool_shell_behind_front_and_keeper(self) -> None:
        seen = snapshot(
            row(100, 1, "claude"), row(201, 100, front("make")), row(202, 201, front("make")),
            row(203, 201, front("make")), row(204, 203, ("bash", "-c", "make")), row(205, 204, "make"),
        )  # fmt: skip
        found = self.attributed(seen, self.SHELL)
        assert [found[pid].kind for pid in range(201, 206)] == [*["launcher"] * 3, "tool-shell", "other"]
        assert {found[pid].shell for pid in range(201, 206)} == {201}
        assert {found[pid].session for pid in range(201, 206)} == {"100:100"}
        assert [found[pid].confidence == 1.0 for pid in range(201, 206)] == [False, False, True, True, True]

    def test_a_keeper_that_stayed_with_what_is_in_the_background(self) -> None:
        """The front and the shell itself have ended."""
        mark = Marks(trees="a1b2c3d4:b1", session="s-1", host_pid=100)
        seen = snapshot(
            row(1, 0, "init"), row(100, 1, "claude"), row(101, 100, "bash -c x"),
            row(203, 1, front("make &")), row(205, 203, "make"), row(206, 205, "wiped"),
            p101=TOOL_MARKS, p203=TOOL_MARKS, p205=mark,
        )  # fmt: skip
        found = self.attributed(seen, self.SHELL)
        assert [found[pid].kind for pid in (203, 205, 206)] == ["launcher", "other", "other"]
        assert {found[pid].shell for pid in (203, 205, 206)} == {203}
        for pid in (203, 205, 206):
            assert (found[pid].verdict, found[pid].confidence) == ("owned", 1.0)
            assert (found[pid].session, found[pid].session_root) == ("s-1", 100)

    def test_without_the_daemon_the_keeper_still_stands_for_its_shell(self) -> None:
        seen = snapshot(
            row(1, 0, "init"), row(100, 1, "claude"), row(101, 100, "bash -c x"), row(203, 1, front("make &")),
            row(205, 203, "make"), p101=TOOL_MARKS, p203=TOOL_MARKS, p205=TOOL_MARKS,
        )  # fmt: skip
        found = by_pid(seen)
        assert [(found[pid].kind, found[pid].shell) for pid in (203, 205)] == [("launcher", 203), ("other", 203)]

    def test_of_two_keepers_the_marker_tells_which(self) -> None:
        first, second = Marks(trees="a1b2c3d4:b1"), Marks(trees="a1b2c3d4:b2")
        seen = snapshot(
            row(1, 0, "init"), row(203, 1, front("a")), row(205, 203, "a"), row(303, 1, front("b")),
            row(305, 303, "b"), p205=first, p305=second,
        )  # fmt: skip
        other = msgspec.structs.replace(self.SHELL, tree="b2", root_pid=304)
        trees = governed.find_members(seen, (self.SHELL, other), "a1b2c3d4")
        assert [(tree.shim_pid, tree.pids) for tree in trees] == [
            (203, frozenset({205})), (303, frozenset({305})),
        ]  # fmt: skip

    def test_a_trees_name_is_a_command_and_may_hold_a_secret(self) -> None:
        seen = snapshot(row(100, 1, "claude"), row(101, 100, (*BOOT_PREFIX, "server", "x")), row(102, 101, "x"))
        named = msgspec.structs.replace(self.SERVER, name=f"x --token {SECRET}")
        assert not any(SECRET in line for line in self.attributed(seen, named)[102].evidence)


class TestTold:
    def test_the_daemon_knows_the_newest_id_of_a_session(self) -> None:
        seen = snapshot(row(100, 1, "claude"), row(101, 100, "bash -c x"), p101=TOOL_MARKS)
        one = LiveSession(host="claude-code", sessions=("s-2",), pid=100, start=100)
        assert by_pid(seen, told=DaemonFacts(sessions=(one,)))[101].session == "s-2"
        recycled = msgspec.structs.replace(one, start=99)
        assert by_pid(seen, told=DaemonFacts(sessions=(recycled,)))[101].session == "s-1"

    def test_a_detached_process_says_why(self) -> None:
        seen = snapshot(row(1, 0, "init"), row(110, 1, "npm run dev"), row(111, 1, "npm run dev"))
        left = DetachedProcess(pid=110, start=110, host="claude-code", session="s-1", why="it ignores SIGHUP")
        found = by_pid(seen, told=DaemonFacts(detached=(left, msgspec.structs.replace(left, pid=111))))
        assert found.keys() == {110}
        assert (found[110].verdict, found[110].session, found[110].session_root) == ("detached", "s-1", None)
        assert found[110].evidence == ("journal: outlived the session s-1; it ignores SIGHUP",)
