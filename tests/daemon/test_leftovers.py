"""What a dead session leaves: who is remembered, who is spared, and real processes of every kind at every end."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import fake_claude
from contained import read_roster
from descents import CHILD, CLAUDE, ENDED, KINDS, ROOT, SERVER, SHELL, SPARED, FakeClaude, NoTrees, stat, table
from helpers import alive, wait_for, wait_gone
from hosting import Host
from oomless.daemon.sessions.cleanup import find_marked
from oomless.daemon.sessions.leftovers import LivingDescendants, read_survival_facts
from oomless.journal.journal import Journal
from oomless.journal.sessions import ReapRow
from oomless.platform import proc
from oomless.platform.proc import Stat
from oomless.platform.sockets import listeners
from oomless.processes.descent import Descendants, Descent
from oomless.processes.detach import DAEMON, OWN_SESSION, SurvivalFacts, detach_reasons
from oomless.processes.forks import ForkLines
from oomless.processes.ids import ProcessId
from oomless.protocol.client import Client

assert sys.platform == "linux"


# Descendants


def test_a_direct_child_with_a_process_session_of_its_own_is_a_tool_shell() -> None:
    descendants = Descendants(ROOT)
    descendants.observe(table(CLAUDE, SERVER, SHELL, CHILD, stat(40, 1, 40)))
    assert descendants.descents == {
        (20, 20): Descent(above=(), shell_sid=None),
        (30, 30): Descent(above=(), shell_sid=30),
        (31, 31): Descent(above=(ProcessId(30, 30),), shell_sid=30),
    }


def test_who_lost_its_parent_is_remembered_with_what_it_forks_later() -> None:
    descendants = Descendants(ROOT)
    descendants.observe(table(CLAUDE, SHELL, CHILD))
    descendants.observe(table(CLAUDE, stat(31, 1, 30)))
    descendants.observe(table(stat(31, 1, 30), stat(50, 31, 50)))
    assert descendants.descents == {
        (31, 31): Descent(above=(ProcessId(30, 30),), shell_sid=30),
        (50, 50): Descent(above=(ProcessId(30, 30), ProcessId(31, 31)), shell_sid=30),
    }


def test_a_number_that_is_used_again_is_a_stranger() -> None:
    descendants = Descendants(ROOT)
    descendants.observe(table(CLAUDE, SHELL, CHILD))
    again = table(CLAUDE, stat(30, 1, 30, start=99), stat(31, 30, 30, start=100))
    descendants.observe(again)
    assert descendants.living(again) == {}


def test_what_a_root_left_whose_own_birth_was_told_of_a_moment_ago() -> None:
    """Events are kept over two looks. Only another birth under that number makes it somebody else."""
    births = ForkLines()
    births.add_fork(5, 10)
    for again in (False, True):
        descendants = Descendants(ROOT)
        descendants.observe(table(CLAUDE), lines=births.lines())
        births.mark_read()
        if again:
            births.add_fork(5, 10)
        births.add_fork(10, 49)
        births.add_fork(49, 50)
        descendants.observe(table(stat(50, 1, 50)), lines=births.lines())
        assert set(descendants.descents) == (set() if again else {(50, 50)})


def test_who_made_itself_a_daemon_below_a_server_that_goes_on() -> None:
    """By two forks, with or without the one in between having been seen; and what is none."""
    descendants = Descendants(ROOT)
    browser, renderer = stat(60, 20, 60), stat(61, 60, 60)
    descendants.observe(table(CLAUDE, SERVER, stat(40, 20, 40), stat(41, 40, 40), browser, renderer, stat(70, 20, 5)))
    assert descendants.daemons == set()
    there = [CLAUDE, SERVER, browser, stat(61, 1, 60), stat(70, 1, 5)]
    descendants.observe(table(*there, stat(41, 1, 40), stat(51, 1, 50)), lines={51: (20, 50)})
    assert descendants.daemons == {(41, 41), (51, 51)}
    descendants.observe(table(SERVER, stat(41, 1, 40)))
    assert descendants.daemons == {(41, 41)}, "for good"


@pytest.mark.parametrize("gone", [CLAUDE, SERVER])
def test_what_a_server_that_ends_leaves_behind_is_no_daemon(gone: Stat) -> None:
    descendants = Descendants(ROOT)
    descendants.observe(table(CLAUDE, SERVER, stat(60, 20, 60)))
    descendants.observe(table(*(one for one in (CLAUDE, SERVER) if one is not gone), stat(60, 1, 60)))
    assert (60, 60) in descendants.descents
    assert descendants.daemons == set()


def test_a_root_that_is_another_by_now_has_no_children() -> None:
    descendants = Descendants(ROOT)
    descendants.observe(table(stat(10, 1, 5, start=99), stat(20, 10, 5, start=100)))
    assert descendants.descents == {}


def test_a_child_older_than_its_parent_is_none() -> None:
    descendants = Descendants(ROOT)
    descendants.observe(table(CLAUDE, SHELL, stat(31, 30, 31, start=7), stat(20, 10, 5, start=7)))
    assert list(descendants.descents) == [(30, 30)]


def test_an_orphan_that_was_never_seen_is_known_by_the_process_session_of_its_shell() -> None:
    descendants = Descendants(ROOT)
    descendants.observe(table(CLAUDE, SHELL))
    descendants.observe(table(CLAUDE, SHELL, stat(35, 1, 30), stat(36, 35, 30), stat(8, 1, 30)))
    assert descendants.descents[ProcessId(35, 35)] == Descent(above=(ProcessId(30, 30),), shell_sid=30)
    assert descendants.descents[ProcessId(36, 36)].shell_sid == 30
    assert (8, 8) not in descendants.descents, "it was there before the shell"


def test_the_session_of_a_shell_that_nobody_is_in_any_more_proves_nothing() -> None:
    descendants = Descendants(ROOT)
    descendants.observe(table(CLAUDE, SHELL))
    descendants.observe(table(CLAUDE))
    descendants.observe(table(CLAUDE, stat(35, 1, 30)))
    assert descendants.descents == {}


def test_a_tool_shell_that_was_first_seen_before_its_setsid() -> None:
    descendants = Descendants(ROOT)
    descendants.observe(table(CLAUDE, stat(30, 10, 5)))
    descendants.observe(table(stat(30, 1, 30), CHILD))
    assert {trace.shell_sid for trace in descendants.descents.values()} == {30}


def test_what_is_in_a_tree_of_ours_is_no_candidate_even_when_its_shim_is_gone() -> None:
    descendants = Descendants(ROOT)
    shim = stat(32, 31, 32)
    descendants.observe(table(CLAUDE, SHELL, CHILD, shim, stat(33, 32, 33)), governed={ProcessId(32, 32)})
    later = table(SHELL, CHILD, stat(33, 1, 33), stat(34, 33, 33))
    descendants.observe(later)
    assert set(descendants.living(later)) == {(30, 30), (31, 31)}


def test_a_corpse_is_no_candidate() -> None:
    descendants = Descendants(ROOT)
    last = table(CLAUDE, stat(20, 10, 5, state="Z"))
    descendants.observe(last)
    assert descendants.living(last) == {}


# Verdicts

TOP, IN, BELOW, DEEP = (ProcessId(pid, pid) for pid in (30, 31, 32, 33))
SHELL_DESCENTS = {
    TOP: Descent(above=(), shell_sid=30),
    IN: Descent(above=(TOP,), shell_sid=30),
    BELOW: Descent(above=(TOP, IN), shell_sid=30),
    DEEP: Descent(above=(TOP, IN, BELOW), shell_sid=30),
}
SERVER_DESCENTS = {who: Descent(above=trace.above, shell_sid=None) for who, trace in SHELL_DESCENTS.items()}


def facts(**more: Any) -> SurvivalFacts:
    return SurvivalFacts(**{"sid": 30, **more})


@pytest.mark.parametrize(
    ("descents", "special", "spared"),
    [
        (SHELL_DESCENTS, {}, set()),
        (SERVER_DESCENTS, {}, set()),
        (SHELL_DESCENTS, {IN: facts(sid=31, leads_session=True)}, {IN, BELOW, DEEP}),
        (SHELL_DESCENTS, {BELOW: facts(sid=99)}, {BELOW, DEEP}),
        (SHELL_DESCENTS, {IN: facts(sid=31, leads_session=True, driven=True), BELOW: facts(sid=31)}, set()),
        (SHELL_DESCENTS, {IN: facts(sid=31, leads_session=True, driven=True), DEEP: facts(sid=33)}, {DEEP}),
        (SHELL_DESCENTS, {IN: facts(sid=31, driven=True, listens=True)}, {IN, BELOW, DEEP}),
        (SERVER_DESCENTS, {IN: facts(sid=31, leads_session=True)}, set()),
        (SHELL_DESCENTS, {BELOW: facts(ignores_hangup=True)}, {BELOW, DEEP}),
        (SERVER_DESCENTS, {TOP: facts(ignores_hangup=True)}, {TOP, IN, BELOW, DEEP}),
        (SHELL_DESCENTS, {TOP: facts(listens=True)}, {TOP, IN, BELOW, DEEP}),
        (SHELL_DESCENTS, {DEEP: facts(listens=True)}, {IN, BELOW, DEEP}),
        (SERVER_DESCENTS, {BELOW: facts(listens=True)}, {IN, BELOW, DEEP}),
        (SERVER_DESCENTS, {TOP: facts(listens=True)}, {TOP, IN, BELOW, DEEP}),
        (SHELL_DESCENTS, {BELOW: facts(protected="tmux")}, {IN, BELOW, DEEP}),
        (SERVER_DESCENTS, {IN: facts(protected="Vim")}, {IN, BELOW, DEEP}),
        (SHELL_DESCENTS, {TOP: facts(host=True, leads_session=True)}, {TOP, IN, BELOW, DEEP}),
        (SHELL_DESCENTS, {IN: facts(host=True)}, set()),
    ],
)
def test_who_is_spared(
    descents: dict[ProcessId, Descent], special: dict[ProcessId, SurvivalFacts], spared: set[ProcessId]
) -> None:
    found = detach_reasons(descents, {who: special.get(who, facts()) for who in descents})
    assert set(found) == spared
    assert all(found.values())


def test_each_reason_is_named() -> None:
    def why(**more: Any) -> str:
        return detach_reasons(SHELL_DESCENTS, {IN: facts(**more)})[IN]

    assert why(sid=31) == OWN_SESSION
    assert why(ignores_hangup=True) == "it ignores SIGHUP (nohup)"
    assert why(listens=True) == "it listens on a port"
    assert why(protected="tmux") == "tmux is never ended"
    server, browser = {TOP: Descent(above=(), shell_sid=None)}, {IN: Descent(above=(TOP,), shell_sid=None)}
    assert detach_reasons(server, {TOP: facts(stray_server=True)}) == {TOP: OWN_SESSION}
    assert detach_reasons(browser, {IN: facts(stray_server=True)}) == {}, "what a server starts goes with it"
    assert detach_reasons(SHELL_DESCENTS, {IN: facts(sid=31, crash_handler=True)}) == {}
    below = detach_reasons(SHELL_DESCENTS, {IN: facts(sid=31), DEEP: facts()})
    assert below[DEEP] == "started by 31, which is detached"
    above = detach_reasons(SHELL_DESCENTS, {IN: facts(), DEEP: facts(listens=True)})
    assert above[IN] == "33 below it listens on a port"
    above = detach_reasons(SHELL_DESCENTS, {IN: facts(), DEEP: facts(sid=33, protected="Vim")})
    assert above[IN] == "33 below it is never ended (Vim)"


def test_what_a_dead_one_that_was_spared_has_started_is_spared() -> None:
    assert set(detach_reasons(SHELL_DESCENTS, {BELOW: facts()}, {IN: OWN_SESSION})) == {IN, BELOW}


# SurvivalFacts


def listens(pid: int) -> bool:
    return pid in listeners((pid,))


def test_a_listening_socket_is_seen_and_one_that_does_not_listen_is_none() -> None:
    import socket

    assert not listens(os.getpid())
    for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        with socket.socket(family) as one:
            one.bind((address, 0))
            assert not listens(os.getpid())
            one.listen()
            assert listens(os.getpid())
    assert not listens(2**22 + 1)


def test_what_may_not_be_read_counts_as_listening_unless_it_is_ending(monkeypatch: pytest.MonkeyPatch) -> None:
    """An ordinary user may not read the descriptors of a shell that is on its way out; all below would be spared."""

    def refused(path: str) -> list[str]:
        raise PermissionError(13, "refused", path)

    with subprocess.Popen(["sleep", "60"]) as child:
        with monkeypatch.context() as patched:
            patched.setattr(os, "listdir", refused)
            assert listens(child.pid)
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        with monkeypatch.context() as patched:
            patched.setattr(os, "listdir", refused)
            assert not listens(child.pid)


def test_a_mark_is_the_whole_id() -> None:
    own = uuid.uuid4().hex
    with subprocess.Popen(["sleep", "60"], env={"CLAUDE_CODE_SESSION_ID": f"{own}-1"}) as sleeper:
        try:
            found = proc.table()
            start = found[sleeper.pid].start
            assert [one.pid for one in find_marked(found, ("x", f"{own}-1"), start)] == [sleeper.pid]
            assert find_marked(found, (f"{own}-1",), start + 1) == []
            assert find_marked(found, (own, f"{own}-", f"{own[1:]}-1", f"{own}-12"), start) == []
        finally:
            sleeper.kill()


# Real processes


@pytest.fixture
def fake(house: Path) -> Iterator[Callable[..., FakeClaude]]:
    made: list[FakeClaude] = []

    def make(session: str, *kinds: str) -> FakeClaude:
        made.append(FakeClaude(house, session, kinds))
        return made[-1]

    yield make
    for one in made:
        one.clean()


def reaped(host: Host, one: FakeClaude) -> ReapRow:
    """The journal's account, once it is there (it is written when all is verified)."""
    journal = Journal.open(host.paths.journal)
    found: list[ReapRow] = []

    def look() -> bool:
        found.extend(row for row in journal.sessions.reaps() if row.session == one.session)
        return bool(found)

    try:
        assert wait_for(look, 10)
        return found[0]
    finally:
        journal.close()


@pytest.mark.parametrize("end", [0, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_every_end_of_a_session_leaves_nothing_but_what_was_asked_to_stay(
    fake: Callable[..., FakeClaude], end: int
) -> None:
    host = Host()
    dying, living = fake("dying", *KINDS), fake("living", "server", "foreground", "background")
    dying.do("look")
    dying.do("orphan")
    who = dying.who
    dying.end(end)
    for kind in ENDED:
        assert wait_gone(*who[kind], 2.0), kind
    reap = reaped(host, dying)
    assert [kind for kind in SPARED if not alive(*who[kind])] == []
    assert all(alive(*one) for one in living.who.values())
    pids = {kind: str(pid) for kind, (pid, _) in who.items()}
    reasons = {who[kind][0]: why.format(**pids) for kind, why in SPARED.items()}
    assert {one.pid: one.why for one in reap.left_running} == reasons
    assert reap.left == ()
    assert {who[kind][0] for kind in ENDED} <= {one.pid for one in reap.ended}
    assert reap.bytes_freed > 0
    view = host.status()
    assert {one.pid: one.why for one in view.detached} == reasons
    assert [session.sessions for session in view.sessions] == [(living.session,)]
    dying.clean()
    assert host.status().detached == ()


@pytest.mark.skipif(not os.path.exists("/usr/bin/tmux"), reason="tmux is not installed")
def test_a_multiplexer_started_from_a_tool_shell_is_left_alone(fake: Callable[..., FakeClaude]) -> None:
    host = Host()
    one = fake("with-tmux", "tmux", "foreground")
    one.do("look")
    who = one.who
    one.end(signal.SIGKILL)
    assert wait_gone(*who["foreground"], 2.0)
    reap = reaped(host, one)
    assert alive(*who["tmux"])
    assert {one.pid: one.why for one in reap.left_running}[who["tmux"][0]] == OWN_SESSION
    assert any("tmux" in one.command for one in reap.left_running)


def test_what_only_has_a_mark_is_told_and_not_touched(fake: Callable[..., FakeClaude]) -> None:
    host = Host()
    one = fake("marked", "server")
    one.do("look")
    with subprocess.Popen(["sleep", "60"], env={**os.environ, "CLAUDE_CODE_SESSION_ID": one.session}) as stranger:
        try:
            one.end(signal.SIGKILL)
            told = reaped(host, one).left_running
            assert [(found.pid, found.command) for found in told] == [(stranger.pid, "sleep 60")]
            assert told[0].why == "only a mark in its environment says whose it is"
            assert stranger.poll() is None
        finally:
            stranger.kill()


def test_a_governed_tree_below_a_session_is_not_touched(fake: Callable[..., FakeClaude], house: Path) -> None:
    """Its shim decides, which is not the session's to take along."""
    host = Host()
    one = fake("governed", "server")
    roster = house / "inside.roster"
    inside = [*fake_claude.PYTHON, "stay", str(roster), "inside"]
    line = f"{shlex.quote(sys.executable)} -m oomless run --quiet -- {shlex.join(inside)}; true"
    session = subprocess.Popen(["sh", "-c", line], start_new_session=True)
    assert wait_for(lambda: "inside" in read_roster(roster), 30)
    who = read_roster(roster)["inside"]
    assert wait_for(lambda: [tree.pid for tree in host.status().trees] == [who[0]], 10)
    (tree,) = host.status().trees
    try:
        assert host.register(f"other-{uuid.uuid4()}", session.pid) == 200
        session.kill()
        session.wait(10)
        one.end(signal.SIGKILL)
        assert reaped(host, one).ended
        assert wait_for(lambda: host.status().sessions == (), 10)
        assert alive(*who)
        assert host.status().detached == ()
        assert len(host.status().trees) == 1
    finally:
        Client(host.paths, start=False).end(tree.tree, "test")
        assert wait_gone(*who, 10)


def test_a_daemon_that_stops_finishes_what_it_has_begun(fake: Callable[..., FakeClaude]) -> None:
    host = Host()
    one = fake("last", "server", "ignores-term")
    one.do("look")
    pid = host.status().pid or 0
    start, who = proc.start_of(pid) or 0, one.who
    one.end(signal.SIGKILL)
    assert wait_for(lambda: host.status().sessions == (), 10)
    proc.send(pid, start, signal.SIGTERM)
    for kind in ("server", "ignores-term"):
        assert wait_gone(*who[kind], 2.0), kind
    assert wait_gone(pid, start, 10)
    assert {one.pid for one in reaped(host, one).ended} >= {who[kind][0] for kind in ("server", "ignores-term")}


def test_a_daemon_started_anew_remembers_what_lives(fake: Callable[..., FakeClaude]) -> None:
    host = Host()
    one = fake("kept", "server", "background")
    pid = host.status().pid or 0
    start = proc.start_of(pid) or 0
    proc.kill(pid, start)
    assert wait_gone(pid, start, 10)
    host = Host()
    assert [session.sessions for session in host.status().sessions] == [(one.session,)]
    who = one.who
    one.end(signal.SIGKILL)
    for kind in ("server", "background"):
        assert wait_gone(*who[kind], 2.0), kind


def test_a_browser_that_a_program_drives_is_known_by_its_pipe() -> None:
    def driven(*argv: str) -> bool:
        return read_survival_facts(stat(os.getpid(), 1, 1), argv).driven

    assert driven("/usr/bin/chromium", "--headless", "--remote-debugging-pipe")
    assert not driven("/usr/bin/chromium", "https://example.org")
    assert not driven("node", "drive.js", "--remote-debugging-pipe")


def test_a_server_that_left_its_hosts_process_session_is_known_by_its_marks(house: Path) -> None:
    marks = {"CLAUDE_CODE_SESSION_ID": "s", "CLAUDE_PROJECT_DIR": "/p"}
    for more, apart in ((marks, True), ({**marks, "CLAUDE_PID": "7"}, False), ({}, False)):
        for alone in (True, False):
            env = {**os.environ, **more}
            with subprocess.Popen(["sleep", "60"], env=env, start_new_session=alone) as process:
                try:
                    assert wait_for(lambda: proc.environ(process.pid) != b"", 5)  # set late in exec
                    found = proc.read_stat(process.pid)
                    assert found is not None
                    assert read_survival_facts(found, ("sleep", "60")).stray_server is (apart and alone)
                finally:
                    process.kill()


def test_a_crash_handler_is_no_daemon_for_others(house: Path) -> None:
    with subprocess.Popen(["sleep", "60"], start_new_session=True) as process:
        try:
            found = proc.read_stat(process.pid)
            assert found is not None
            who, descendants = ProcessId.of(found), Descendants(ProcessId(2**22 + 1, 1))
            descendants.descents[who], descendants.daemons = Descent(above=(), shell_sid=None), {who}
            remains = LivingDescendants(descendants, NoTrees())
            assert remains.classify({found.pid: found}) == {}
            assert remains.detached == {who: DAEMON}
            remains = LivingDescendants(descendants, NoTrees())
            remains._facts[who], remains.commands[who] = facts(sid=found.sid, crash_handler=True), "x"
            assert set(remains.classify({found.pid: found})) == {who}
        finally:
            process.kill()
