"""Subagents inside a host's process: its hooks as events, their reservations, and the gate over HTTP."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from helpers import alive, wait_for, wait_gone
from hosting import Asked, Host, began, event, finished, launched, settings, wanted
from oomless.daemon.app import App
from oomless.daemon.logs import Log
from oomless.daemon.message import Request
from oomless.daemon.sessions import subagents
from oomless.daemon.sessions.subagents import Subagent, Subagents
from oomless.hosts.claude_code import hooks as claude_hooks
from oomless.hosts.claude_code.hooks import ClaudeHooks
from oomless.hosts.events import (
    HostEvent,
    OtherEvent,
    RequestFailed,
    SubagentLaunched,
    SubagentRequested,
    SubagentStarted,
    SubagentStopped,
)
from oomless.paths import Paths
from oomless.platform import proc
from running import start as start_run

assert sys.platform == "linux"

READ = ClaudeHooks().parse_event
UP = "import os; print(os.getpid(), flush=True); input()"


def read(what: dict[str, Any]) -> HostEvent:
    return READ(json.dumps(what).encode())


# The host's words


@pytest.mark.parametrize("tool", ["Agent", "Task"])
def test_a_request_for_a_subagent(tool: str) -> None:
    found = read({**wanted("s", "u", "Explore", agent_id="outer"), "tool_name": tool, "cwd": "/work"})
    assert found == SubagentRequested(session="s", request="u", agent_type="Explore", cwd="/work", requester="outer")
    assert read(wanted("s", "u")) == SubagentRequested(
        session="s", request="u", agent_type="general-purpose", cwd="/"
    )


@pytest.mark.parametrize(
    ("what", "expected"),
    [
        (launched("s", "u", "a"), SubagentLaunched(session="s", request="u", agent="a")),
        (launched("s", "u", "a", "completed"), SubagentLaunched(session="s", request="u", agent="a", over=True)),
        (
            event(
                "PostToolUse", "s", tool_name="Agent", tool_use_id="u", tool_response={"status": "remote_launched"}
            ),
            SubagentLaunched(session="s", request="u", over=True),
        ),
        (
            event("PostToolUse", "s", tool_name="Agent", tool_use_id="u", tool_response=["another", "shape"]),
            SubagentLaunched(session="s", request="u"),
        ),
        (
            event("PostToolUseFailure", "s", tool_name="Agent", tool_use_id="u", error="x"),
            RequestFailed(session="s", request="u"),
        ),
        (event("PermissionDenied", "s", tool_name="Task", tool_use_id="u"), RequestFailed(session="s", request="u")),
        (began("s", "a", "Plan"), SubagentStarted(session="s", agent="a", agent_type="Plan", cwd="/")),
        (finished("s", "a"), SubagentStopped(session="s", agent="a")),
        (
            event("PreToolUse", "s", tool_name="Bash", tool_use_id="u", agent_id="a"),
            OtherEvent(session="s", agent="a"),
        ),
        (event("PostToolUse", "s", tool_name="Read", tool_use_id="u"), OtherEvent(session="s")),
        (event("PostToolUseFailure", "s", tool_name="Read", tool_use_id="u"), OtherEvent(session="s")),
        (event("SessionEnd", "s", reason="clear"), OtherEvent()),
        (event("SomethingNew", "s", agent_id=5, tool_input=7), OtherEvent()),
    ],
)
def test_events(what: dict[str, Any], expected: HostEvent) -> None:
    assert read(what) == expected


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"7", b"\xff", b'{"hook_event_name": 5}', b'{"session_id": "s"}',
     b'{"hook_event_name": "SubagentStart", "session_id": "s"}',
     b'{"hook_event_name": "SubagentStop", "agent_id": "a"}',
     b'{"hook_event_name": "PreToolUse", "session_id": "s", "tool_name": "Agent"}',
     b'{"hook_event_name": "PreToolUse", "session_id": ["s"], "tool_name": "Agent", "tool_use_id": "u"}'],
)  # fmt: skip
def test_what_is_no_event_is_told_in_one_line(body: bytes) -> None:
    with pytest.raises(ValueError, match=r"^that is no hook event: .+$"):
        READ(body)


def test_an_admission_leaves_the_users_own_permissions_alone() -> None:
    assert json.loads(ClaudeHooks().allow()) == {}


def test_a_refusal_tells_the_model_what_to_do() -> None:
    refused = json.loads(ClaudeHooks().refuse("2 of 2 places taken: Agent:Plan (40 MB)", never=False))
    specific = refused["hookSpecificOutput"]
    assert (specific["hookEventName"], specific["permissionDecision"]) == ("PreToolUse", "deny")
    reason = specific["permissionDecisionReason"]
    assert reason.startswith("oomless did not start this subagent: 2 of 2 places taken: Agent:Plan (40 MB). ")
    assert "call the tool again" in reason
    assert "fewer subagents at once, or one after another" in reason
    assert "without a subagent" in claude_hooks.advice("needs 2 GB, the budget is 1 GB", never=True)


# Reservations


class Book:
    """Subagents of session ``s`` (``s2`` is the same process), at second ``now``."""

    def __init__(self) -> None:
        self.now = 0.0
        self.all = Subagents(lambda one, other: one == other or {one, other} == {"s", "s2"})

    def admit(self, use: str, kind: str = "x", session: str = "s") -> Subagent:
        one = self.all.add_request(
            "claude-code", SubagentRequested(session=session, request=use, agent_type=kind), self.now
        )
        self.all.mark_admitted(one, 1, "", self.now)
        return one

    def link(self, use: str, agent: str, over: bool = False) -> Subagent | None:
        return self.all.link_agent(SubagentLaunched(session="s", request=use, agent=agent, over=over), self.now)

    def begin(self, agent: str, kind: str = "x", session: str = "s") -> Subagent | None:
        return self.all.mark_started(
            "claude-code", SubagentStarted(session=session, agent=agent, agent_type=kind), self.now
        )

    def finish(self, agent: str, session: str = "s") -> Subagent | None:
        found = self.all.mark_stopped(SubagentStopped(session=session, agent=agent))
        if found is not None:
            self.all.remove(found)
        return found


def test_a_link_before_the_start_decides_whose_it_is() -> None:
    book = Book()
    first, second = book.admit("u1"), book.admit("u2")
    book.link("u2", "a2")
    assert book.begin("a2") is None
    assert (first.state, second.state, second.agent) == ("admitted", "running", "a2")
    assert book.begin("a1") is None
    assert (first.state, first.agent) == ("running", "a1")


def test_a_start_without_a_link_takes_the_oldest_of_its_session_and_type() -> None:
    book = Book()
    other, elsewhere = book.admit("u0", "y"), book.admit("u9", session="t")
    first, second = book.admit("u1"), book.admit("u2")
    book.begin("a")
    assert [one.state for one in (other, elsewhere, first, second)] == ["admitted", "admitted", "running", "admitted"]


def test_a_wrong_guess_is_put_right_by_the_link() -> None:
    book = Book()
    first, second = book.admit("u1"), book.admit("u2")
    book.begin("a2")
    book.link("u2", "a2")
    assert (first.request, first.agent, second.request, second.state) == ("u2", "a2", "u1", "admitted")
    book.link("u1", "a1")
    assert book.finish("a2") is first
    assert book.finish("a1") is second
    assert list(book.all) == []


def test_a_short_one_may_have_finished_before_its_link_comes() -> None:
    book = Book()
    book.admit("u1"), book.admit("u2")
    book.begin("a2"), book.finish("a2")
    assert book.link("u2", "a2") is None
    (left,) = book.all
    assert left.state == "admitted"
    assert book.begin("a1") is None
    assert book.finish("a1") is left


def test_a_link_counts_as_a_start_that_was_lost() -> None:
    book = Book()
    one = book.admit("u")
    book.link("u", "a")
    assert one.state == "running"
    assert book.finish("a") is one


def test_a_start_told_again_changes_nothing() -> None:
    book = Book()
    one, other = book.admit("u1"), book.admit("u2")
    for _ in range(3):
        assert book.begin("a") is None
    assert (one.state, other.state) == ("running", "admitted")


def test_one_that_never_asked_is_accounted_once_and_again_after_its_end() -> None:
    book = Book()
    new = book.begin("a")
    assert new is not None
    assert book.begin("a") is None
    assert book.finish("a") is new
    assert book.begin("a") is not None


def test_a_foreground_request_ends_with_its_tool() -> None:
    book = Book()
    one = book.admit("u")
    book.begin("a")
    assert book.link("u", "a", over=True) is one
    never = book.admit("u2")
    assert book.link("u2", "", over=True) is never


def test_a_request_that_was_guessed_wrong_does_not_end_anothers_agent() -> None:
    book = Book()
    book.admit("u1"), book.admit("u2")
    book.begin("a2"), book.begin("a1")
    assert book.finish("a2") is not None
    assert book.link("u2", "a2", over=True) is None
    (left,) = book.all
    assert left.agent == "a1"


def test_a_new_id_of_the_same_process_still_finds_it() -> None:
    book = Book()
    one = book.admit("u")
    book.begin("a")
    assert book.finish("a", "t") is None
    assert book.finish("a", "s2") is one


def test_every_state_but_waiting_ends_by_time() -> None:
    book = Book()
    waiting = book.all.add_request("claude-code", SubagentRequested(session="s", request="u0", agent_type="x"), 0.0)
    admitted = book.admit("u1")
    assert (waiting.due(), admitted.due()) == (None, subagents.START_WITHIN)
    book.now = 5.0
    book.begin("a")
    assert book.all.next_due() == 5.0 + subagents.QUIET_FOR
    book.all.note_activity("s", "a", 100.0)
    assert book.all.next_due() == 100.0 + subagents.QUIET_FOR
    assert book.all.overdue(99.0 + subagents.QUIET_FOR) == []
    assert book.all.overdue(100.0 + subagents.QUIET_FOR) == [admitted]


# Over HTTP


@pytest.fixture
def host() -> Host:
    return Host()


def states(host: Host) -> tuple[int, int]:
    """How many run and wait."""
    return len(host.subagents("running")), len(host.subagents("waiting"))


def test_only_the_hooks_token_opens_it_and_nothing_else(host: Host) -> None:
    body = json.dumps(wanted("s", "u")).encode()
    for name in ("read", "mcp"):
        assert host.raw(body, token=Path(host.paths.token(name)).read_text().strip()).status == 401
    assert states(host) == (0, 0)
    for path in ("/status", "/events", "/mcp/x", "/v1/status", "/v1/sessions"):
        assert host.raw(body, path=path).status in (401, 404)
    assert host.raw(body, path="/hooks/other").status == 404
    assert host.raw(body, path="/hooks/claude-code/x").status == 404
    assert host.raw(body).status == 200


def test_what_is_not_understood_is_refused_or_passed_over(host: Host) -> None:
    bad = host.raw(b'{"hook_event_name": ')
    assert bad.status == 400
    assert "\n" not in bad.body["error"]
    assert (host.tell({"hook_event_name": "New"}).status, host.tell({"hook_event_name": "New"}).body) == (200, {})
    connection = host.connect()
    connection.request("GET", "/hooks/claude-code", headers={"Authorization": f"Bearer {host.token}"})
    assert connection.getresponse().status == 405
    connection.close()


def test_five_at_once_under_a_cap_of_two(host: Host) -> None:
    settings("max_parallel_subagents = 2\n")
    asked = [host.ask(wanted("s", f"u{n}", "Explore")) for n in range(5)]
    peak, done = 0, set[int]()
    while len(done) < 5:
        assert wait_for(lambda: any(not a.waits for n, a in enumerate(asked) if n not in done), 20)
        ready = [n for n, one in enumerate(asked) if n not in done and not one.waits]
        for n in ready:
            assert asked[n].answer().body == {}
            host.tell(began("s", f"a{n}", "Explore"))
        running, _ = states(host)
        peak = max(peak, running)
        assert running <= 2
        for n in ready:
            host.tell(launched("s", f"u{n}", f"a{n}"))
            host.tell(finished("s", f"a{n}", "Explore"))
            done.add(n)
    assert peak == 2
    assert states(host) == (0, 0)


def test_who_waits_is_shown_with_the_reason(host: Host) -> None:
    settings("max_parallel_subagents = 1\n")
    host.tell(wanted("s", "u1", "Plan"))
    host.tell(began("s", "a1", "Plan"))
    second = host.ask(wanted("s", "u2"))
    assert wait_for(lambda: states(host) == (1, 1), 10)
    view = host.status()
    running, waiting = view.trees
    assert (running.name, running.class_name, running.agent_type) == ("Agent:Plan", "subagent", "Plan")
    assert running.owner == "claude-code s"
    assert running.reserved_bytes == view.reserved_bytes == ClaudeHooks.subagent_bytes
    assert (waiting.name, waiting.owner) == ("Agent:general-purpose", "claude-code s")
    assert (waiting.class_name, waiting.agent_type) == ("subagent", "general-purpose")
    assert waiting.reason == "1 of 1 places taken: Agent:Plan (40 MB)"
    (session,) = view.sessions
    assert (session.sessions, session.pid, session.subagents_running, session.subagents_waiting) == (
        ("s",),
        None,
        1,
        1,
    )
    assert [d.verdict for d in view.decisions] == ["waiting", "admitted"]
    host.tell(finished("s", "a1", "Plan"))
    assert second.answer().body == {}


def test_fail_fast_and_a_later_retry(host: Host) -> None:
    settings('max_parallel_subagents = 1\nwait = "0"\n')
    assert host.tell(wanted("s", "u1")).decision is None
    host.tell(began("s", "a1"))
    refused = host.tell(wanted("s", "u2"))
    assert refused.decision == "deny"
    assert "1 of 1 places taken: Agent:general-purpose (40 MB)" in refused.reason
    assert states(host) == (1, 0)
    host.tell(finished("s", "a1"))
    assert host.tell(wanted("s", "u3")).decision is None


def test_who_hangs_up_waits_no_longer(host: Host) -> None:
    settings("max_parallel_subagents = 1\n")
    host.tell(wanted("s", "u1"))
    second = host.ask(wanted("s", "u2"))
    assert wait_for(lambda: states(host) == (1, 1), 10)
    second.hang_up()
    assert wait_for(lambda: states(host) == (1, 0), 10)
    assert host.status().decisions[0].verdict == "withdrawn"


def test_a_hook_that_is_installed_twice_takes_one_place(host: Host) -> None:
    settings("max_parallel_subagents = 1\n")
    host.tell(wanted("s", "u0"))
    twice = [host.ask(wanted("s", "u1")) for _ in range(2)]
    assert wait_for(lambda: states(host) == (1, 1), 10)
    twice.pop().hang_up()
    host.tell(event("PostToolUseFailure", "s", tool_name="Agent", tool_use_id="u0", error="x"))
    assert twice[0].answer().body == {}
    assert states(host) == (1, 0)
    assert host.tell(wanted("s", "u1")).body == {}
    assert states(host) == (1, 0)


@pytest.mark.parametrize("name", ["PostToolUseFailure", "PermissionDenied"])
def test_a_request_that_came_to_nothing_holds_nothing(host: Host, name: str) -> None:
    host.tell(wanted("s", "u"))
    assert states(host) == (1, 0)
    host.tell(event(name, "s", tool_name="Agent", tool_use_id="u"))
    assert states(host) == (0, 0)
    assert host.status().reserved_bytes == 0


def test_one_that_did_not_ask_is_accounted_beyond_the_cap(host: Host) -> None:
    settings("max_parallel_subagents = 1\n")
    host.tell(wanted("s", "u1"))
    for _ in range(2):
        host.tell(began("s", "teammate", "Plan"))
    assert states(host) == (2, 0)
    assert any("without asking" in one.reason for one in host.subagents())
    third = host.ask(wanted("s", "u2"))
    assert wait_for(lambda: states(host) == (2, 1), 10)
    host.tell(finished("s", "teammate", "Plan"))
    assert third.waits
    host.tell(began("s", "a1"))
    host.tell(finished("s", "a1"))
    assert third.answer().body == {}


def test_run_and_subagents_count_together(host: Host) -> None:
    settings("max_parallel_subagents = 1\n")
    command = start_run("--name", "holder", "--", sys.executable, "-c", UP, stdin=subprocess.PIPE)
    try:
        assert command.stdout is not None
        assert command.stdout.readline()
        asked = host.ask(wanted("s", "u"))
        assert wait_for(lambda: states(host) == (0, 1), 10)
        assert "holder (300 MB)" in host.subagents()[0].reason
    finally:
        command.communicate("\n", 20)
    assert asked.answer().body == {}


def test_what_the_settings_say_of_subagents_and_of_one_type(host: Host) -> None:
    settings('[classes.subagent]\nexpect = "70MB"\n[classes."claude-code/Plan"]\nexpect = "90MB"\n')
    host.tell(wanted("s", "u1", "Explore"))
    host.tell(wanted("s", "u2", "Plan"))
    host.tell(began("s", "a2", "Plan"))
    host.tell(began("s", "teammate", "Plan"))
    assert sorted(one.reserved_bytes for one in host.subagents()) == [70 * 10**6, 90 * 10**6, 90 * 10**6]


def test_one_that_can_never_run_is_told_so_at_once(host: Host) -> None:
    settings('budget = "50MB"\n[classes.subagent]\nexpect = "70MB"\n')
    refused = host.tell(wanted("s", "u"))
    assert refused.decision == "deny"
    assert "needs 70 MB, the budget is 50 MB" in refused.reason
    assert "without a subagent" in refused.reason


def test_a_projects_file_tightens_and_a_broken_one_is_passed_over(host: Host, house: Path) -> None:
    project = house / "home" / "project"
    project.mkdir()
    (project / "oomless.toml").write_text('max_parallel_subagents = 1\nwait = "0"\n')
    assert host.tell({**wanted("s", "u1"), "cwd": str(project)}).decision is None
    assert host.tell({**wanted("s", "u2"), "cwd": str(project)}).decision == "deny"
    assert host.tell(wanted("s", "u3")).decision is None
    (project / "oomless.toml").write_text("max_parallel_subagents = 'many'\n")
    assert host.tell({**wanted("s", "u4"), "cwd": str(project)}).decision is None
    assert "settings are ignored" in Path(host.paths.log).read_text()


def test_one_inside_another_shares_its_place(host: Host) -> None:
    """Else two that hold all places and want one more each would wait for each other."""
    settings("max_parallel_subagents = 1\n")
    host.tell(wanted("s", "u1"))
    host.tell(began("s", "outer"))
    assert host.tell(wanted("s", "u2", agent_id="outer")).body == {}
    inner = next(one for one in host.subagents() if one.parent)
    assert inner.reason.startswith("fits in the reservation of 'Agent:general-purpose'")


@pytest.fixture
def process() -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(["sleep", "60"], text=True) as sleeper:
        yield sleeper
        sleeper.kill()


def test_the_death_of_the_sessions_process_ends_all_of_it(host: Host, process: subprocess.Popen[str]) -> None:
    settings("max_parallel_subagents = 2\n")
    assert host.register("s", process.pid) == 200
    assert host.register("after-clear", process.pid) == 200
    host.tell(wanted("s", "u1"))
    host.tell(began("s", "a1"))
    host.tell(wanted("after-clear", "u2"))
    waiting = host.ask(wanted("after-clear", "u3"))
    other = host.ask(wanted("other", "u4"))
    assert wait_for(lambda: states(host) == (2, 2), 10)
    (session, _) = host.status().sessions
    assert (session.subagents_running, session.subagents_waiting) == (2, 1)
    host.tell(event("SessionEnd", "s", reason="clear"))
    assert states(host) == (2, 2)
    process.kill()
    assert other.answer().body == {}
    assert wait_for(lambda: states(host) == (1, 0), 10)
    waiting.answer()


def test_a_session_inside_a_governed_tree_uses_its_place(host: Host) -> None:
    settings("max_parallel_subagents = 1\n")
    expect = ("--expect", "300MB")
    command = start_run("--name", "agent", *expect, "--", sys.executable, "-c", UP, stdin=subprocess.PIPE)
    try:
        assert command.stdout is not None
        assert host.register("s", int(command.stdout.readline())) == 200
        assert host.tell(wanted("s", "u1")).body == {}
        (one,) = host.subagents()
        (tree,) = [t for t in host.status().trees if t.kind != "subagent"]
        assert one.parent == tree.tree
        assert one.reason.startswith("fits in the reservation of 'agent'")
    finally:
        command.communicate("\n", 20)
    assert wait_for(lambda: states(host) == (0, 0), 10)


# With the daemon's clock at hand


def test_one_that_never_starts_and_one_that_is_never_heard_of_again_are_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(subagents, "START_WITHIN", 0.3)
    monkeypatch.setattr(subagents, "QUIET_FOR", 0.4)
    paths = Paths()
    paths.make()

    async def scene() -> list[str]:
        app = App(paths, Log(-1))
        await app.start()
        hooked, ends = app.hooks()["claude-code"], app.subscribe()
        try:
            for use in ("u1", "u2"):
                body = json.dumps(wanted("s", use)).encode()
                response = await hooked(Request(method="POST", path="/hooks/claude-code", body=body))
                assert response.stream is not None
                assert [part async for part in response.stream] == [b"{}\n"]
            body = json.dumps(began("s", "a")).encode()
            await hooked(Request(method="POST", path="/hooks/claude-code", body=body))
            assert (await app.status()).reserved_bytes == 2 * ClaudeHooks.subagent_bytes
            found: list[str] = []
            while len(found) < 2:
                one = await asyncio.wait_for(ends.get(), 10)
                found += [one.text] if one.kind == "end" else []
            assert (await app.status()).reserved_bytes == 0
            return found
        finally:
            await app.stop()

    assert asyncio.run(scene()) == ["not started in time", "no hook about it for too long"]


# The port that settings name


def test_a_daemon_comes_back_on_its_port(host: Host) -> None:
    found = proc.read_stat(host.status().pid or 0)
    assert found is not None
    proc.kill(found.pid, found.start)
    assert wait_gone(found.pid, found.start, 10)
    assert Host().port == host.port
    assert Path(host.paths.port_file).read_text() == f"{host.port}\n"


def test_a_port_that_is_taken_meanwhile_is_not_insisted_on(host: Host) -> None:
    import socket

    pid = host.status().pid or 0
    start = proc.start_of(pid) or 0
    proc.send(pid, start, signal.SIGTERM)
    assert wait_gone(pid, start, 10)
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", host.port))
        other.listen()
        again = Host()
    assert again.port != host.port
    assert f"cannot listen on port {host.port}" in Path(host.paths.log).read_text()
    assert Path(host.paths.port_file).read_text() == f"{again.port}\n"


@pytest.mark.parametrize("text", ["", "x", "80", "70000", "-1", "²"])
def test_a_port_file_that_names_none(text: str) -> None:
    paths = Paths()
    paths.make()
    Path(paths.port_file).write_text(text)
    assert Host().port > 1023


def test_nothing_is_asked_without_a_daemon() -> None:
    """The host's request fails at once, and its hook lets the subagent start."""
    host = Host()
    pid, start = host.status().pid or 0, proc.start_of(host.status().pid or 0) or 0
    held = [host.ask(wanted("s", f"u{n}")) for n in range(2)]
    proc.send(pid, start, signal.SIGTERM)
    assert wait_gone(pid, start, 10)
    assert not alive(pid, start)
    for one in held:
        one.join(10)
        assert not one.is_alive()
        one._connection.close()
    with pytest.raises(OSError, match="refused"):
        Asked(host, b"{}")
