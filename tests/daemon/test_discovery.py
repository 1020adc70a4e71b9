"""Hosts' sessions that nobody registered: remembered while they live, and what they leave is told, not ended."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import fake_claude
from descents import ENDED, HOOK, KINDS, SPARED, FakeClaude, NoTrees, told
from helpers import alive, wait_for, wait_gone
from hosting import Host, settings
from oomless import catalog
from oomless.daemon.logs import Log
from oomless.daemon.sessions import discovery
from oomless.daemon.sessions.ancestry_store import AncestryStore
from oomless.daemon.sessions.discovery import HINTS, DiscoveredSessions, HostRecogniser
from oomless.daemon.sessions.sampling import ProcessSample, ProcessSampler
from oomless.journal.journal import Journal
from oomless.platform import proc
from oomless.platform.fork_events import ProcEvents
from oomless.processes.detach import DAEMON, OWN_SESSION
from oomless.processes.ids import ProcessId

assert sys.platform == "linux"

pytestmark = pytest.mark.as_user


def test_what_an_unregistered_session_left_is_told_within_two_seconds_and_not_ended(
    fake: Callable[..., FakeClaude],
) -> None:
    host = Host()
    dying, living = fake("dying", *KINDS), fake("living", "server", "background")
    host.status()
    who = dying.who
    assert told(host, dying) == {}
    dying.end(signal.SIGKILL)
    assert wait_for(lambda: {who[kind] for kind in (*ENDED, *SPARED)} <= set(told(host, dying)), 2.0)
    found = told(host, dying)
    pids = {kind: str(pid) for kind, (pid, _) in who.items()}
    assert {kind: found[who[kind]].spared for kind in ENDED} == dict.fromkeys(ENDED, "")
    assert {kind: found[who[kind]].spared for kind in SPARED} == {k: v.format(**pids) for k, v in SPARED.items()}
    assert all(alive(*who[kind]) for kind in (*ENDED, *SPARED))
    below = found[who["launched"]]
    assert (below.host, below.session, below.above) == ("claude-code", dying.session, (who["launcher"][0],))
    assert "launched" in below.command
    assert not set(living.who.values()) & {(left.pid, left.start) for left in host.status().leftovers}
    dying.clean()
    assert told(host, dying) == {}


def test_a_session_that_dies_without_leaving_anything_is_not_told(fake: Callable[..., FakeClaude]) -> None:
    host = Host()
    one = fake("clean")
    host.status()
    one.end(signal.SIGKILL)
    assert told(host, one) == {}


def test_what_only_looks_like_no_host_is_none(fake: Callable[..., FakeClaude], house: Path) -> None:
    host = Host()
    other = FakeClaude(house, "other", ("server",), hook="true")
    try:
        host.status()
        other.end(signal.SIGKILL)
        assert told(host, other) == {}
    finally:
        other.clean()


def test_one_that_registers_later_is_cleared_and_not_told(fake: Callable[..., FakeClaude]) -> None:
    host = Host()
    one = fake("late", "server", "background")
    host.status()
    one.do("orphan")  # only who looked before knows whose it is
    assert host.register(one.session, one.process.pid) == 200
    who = one.who
    one.end(signal.SIGKILL)
    for kind in ("server", "background"):
        assert wait_gone(*who[kind], 2.0), kind
    assert told(host, one) == {}


def test_a_registered_one_is_only_told_of_if_the_settings_say_so(fake: Callable[..., FakeClaude]) -> None:
    settings('reap = "ask"\n')
    host = Host()
    one = fake("asked", "server", "background", hook=HOOK)
    host.status()
    who = one.who
    one.end(signal.SIGKILL)
    assert wait_for(lambda: {who["server"], who["background"]} <= set(told(host, one)), 2.0)
    assert alive(*who["server"])
    assert {left.session for left in told(host, one).values()} == {one.session}


def test_a_live_session_inside_of_the_dead_one_is_spared(fake: Callable[..., FakeClaude]) -> None:
    """And what that one leaves when it dies itself is its own."""
    host = Host()
    outer = fake("outer", fake_claude.INNER)
    host.status()
    who = outer.who
    outer.end(signal.SIGKILL)
    assert wait_for(lambda: {who[fake_claude.INNER], who["server"]} <= set(told(host, outer)), 2.0)
    found, inner = told(host, outer), who[fake_claude.INNER]
    assert found[inner].spared == "it is a session of claude-code itself"
    assert found[who["server"]].spared == f"started by {inner[0]}, which is detached"
    proc.kill(*inner)
    assert wait_gone(*inner, 5)

    def nearer() -> bool:
        return any(left.root == inner[0] and left.spared == "" for left in host.status().leftovers)

    assert wait_for(nearer, 2.0)
    assert who["server"] not in told(host, outer)


def hears() -> bool:
    """Whether the kernel gives this user process events."""
    events = ProcEvents.open()
    if events is not None:
        events.close()
    return events is not None


@pytest.mark.skipif(not os.path.exists("/usr/bin/tmux"), reason="tmux is not installed")
def test_a_multiplexer_is_never_only_left(fake: Callable[..., FakeClaude]) -> None:
    """Its client, which is its parent, has ended before any look: without events nothing is known of it."""
    host = Host()
    one = fake("with-tmux", "server")
    host.status()
    one.do("start tmux")
    assert wait_for(lambda: "tmux" in one.who, 10)
    who = one.who
    one.end(signal.SIGKILL)
    expected = {who["tmux"], who["server"]} if hears() else {who["server"]}
    assert wait_for(lambda: expected <= set(told(host, one)), 2.0)
    found = told(host, one)
    assert found[who["server"]].spared == ""
    assert who["tmux"] not in found or found[who["tmux"]].spared
    assert all(left.spared for left in found.values() if left.command.startswith("tmux"))


def test_a_parent_that_nobody_saw_is_remembered(fake: Callable[..., FakeClaude]) -> None:
    if not hears():
        pytest.skip("this user gets no process events here")
    host = Host()
    one = fake("brief")
    host.status()
    one.do("start brief")
    assert wait_for(lambda: "brief" in one.who, 10)
    who = one.who
    one.end(signal.SIGKILL)
    assert wait_for(lambda: who["brief"] in told(host, one), 2.0)
    left = told(host, one)[who["brief"]]
    assert left.spared == OWN_SESSION
    assert left.above


def test_a_daemon_that_a_server_started_for_others_too_is_spared(fake: Callable[..., FakeClaude]) -> None:
    host = Host()
    one = fake("sharing", "daemonizing")
    assert wait_for(lambda: {"shared", "between"} <= set(one.who), 10)
    host.status()
    who = one.who
    one.roster.with_name(f"{one.roster.name}.seen").touch()
    assert wait_gone(*who["between"], 10)
    host.status()
    one.end(signal.SIGKILL)
    assert wait_for(lambda: {who["daemonizing"], who["shared"]} <= set(told(host, one)), 2.0)
    found = told(host, one)
    assert (found[who["daemonizing"]].spared, found[who["shared"]].spared) == ("", DAEMON)


def test_a_registered_one_that_has_just_died_is_not_taken_for_another(tmp_path: Path) -> None:
    """Its process is still in the table until its parent has waited for it."""
    process = named(tmp_path, "claude")
    who = ProcessId(process.pid, proc.start_of(process.pid) or 0)
    registered = {who: "claude-code"}
    journal = Journal.open(str(tmp_path / "journal.db"))

    async def run() -> None:
        trees = NoTrees()
        kept = AncestryStore(journal.ancestry, "b", Log(-1))
        watching = DiscoveredSessions(trees, lambda: registered, ProcessSampler(NoTrees()), Log(-1), kept)
        assert wait_for(lambda: who in HostRecogniser().recognise(proc.table()), 5)
        watching.observe(ProcessSample(proc.table()))
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        registered.clear()
        watching.observe(ProcessSample(proc.table()))
        assert who not in watching._sessions
        watching.stop()

    try:
        asyncio.run(run())
    finally:
        journal.close()
        process.kill()
        process.communicate(timeout=10)


# Recognising


def test_every_host_of_the_catalog_has_a_hint_in_all_that_it_is_known_by() -> None:
    hosts = [program for program in catalog.load().programs if program.host]
    assert hosts
    for program in hosts:
        for word in (*program.executables, *program.paths, *program.packages, *program.modules):
            assert any(hint.decode() in word for hint in HINTS), (program.name, word)


def named(folder: Path, name: str) -> subprocess.Popen[bytes]:
    script = folder / name
    script.write_text("import sys; sys.stdin.read()")
    return subprocess.Popen([sys.executable, "-I", "-S", str(script)], stdin=subprocess.PIPE)


def test_a_process_becomes_a_host_by_exec_and_ceases_to_be_one(tmp_path: Path) -> None:
    script = tmp_path / "claude"
    script.write_text("import os; print(flush=True); os.read(0, 3); os.execvp('cat', ['cat'])")
    line = f'read x; exec "{sys.executable}" -I -S "{script}"'
    recogniser = HostRecogniser()
    with subprocess.Popen(["sh", "-c", line], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        who = ProcessId(process.pid, proc.start_of(process.pid) or 0)
        for _ in range(3):  # long known as what it is not
            assert who not in recogniser.recognise(proc.table())
        process.stdin.write(b"go\n")
        process.stdin.flush()
        process.stdout.readline()
        assert recogniser.recognise(proc.table())[who] == "claude-code"
        assert recogniser.recognise(proc.table())[who] == "claude-code"
        process.stdin.write(b"on\nback\n")
        process.stdin.flush()
        assert process.stdout.readline() == b"back\n"
        assert who not in recogniser.recognise(proc.table(), {process.pid})
        process.stdin.close()
        process.wait(10)


def test_one_that_is_seen_often_before_it_becomes_a_host_under_the_same_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever asks for the status asks for a look, and a tree's root is a fork of ours until it is let go."""
    monkeypatch.setattr(discovery, "YOUNG", 60.0)
    code = "import os, sys; os.read(0, 1); os.execv(sys.executable, ['claude', '-I', '-S', '-c', 'input(print(1))'])"
    command = [sys.executable, "-I", "-S", "-c", code]
    recogniser = HostRecogniser()
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        who = ProcessId(process.pid, proc.start_of(process.pid) or 0)
        assert wait_for(lambda: code in proc.cmdline(process.pid), 10)
        for _ in range(5):
            assert who not in recogniser.recognise(proc.table())
        before = recorded(process.pid).comm
        process.stdin.write(b"x")
        process.stdin.flush()
        process.stdout.readline()
        assert recorded(process.pid).comm == before
        assert recogniser.recognise(proc.table())[who] == "claude-code"
        process.stdin.close()
        process.wait(10)


def test_a_host_that_is_dead_and_not_waited_for_stays_one(tmp_path: Path) -> None:
    """Else what it left would be forgotten in the very look after its death."""
    process = named(tmp_path, "claude")
    recogniser = HostRecogniser()
    who = ProcessId(process.pid, proc.start_of(process.pid) or 0)
    try:
        assert wait_for(lambda: who in recogniser.recognise(proc.table()), 5)
        process.kill()
        assert os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT) is not None
        assert who in recogniser.recognise(proc.table())
    finally:
        process.kill()
        process.communicate(timeout=10)


def test_a_host_that_is_ending_stays_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its arguments go with its descendants, before it is dead."""
    process = named(tmp_path, "claude")
    recogniser = HostRecogniser()
    who = ProcessId(process.pid, proc.start_of(process.pid) or 0)
    try:
        assert wait_for(lambda: who in recogniser.recognise(proc.table()), 5)
        monkeypatch.setattr(proc, "read_file", lambda path: b"")
        assert who in recogniser.recognise({process.pid: recorded(process.pid)}, {process.pid})
    finally:
        monkeypatch.undo()
        process.communicate(timeout=10)


def recorded(pid: int) -> proc.Stat:
    return proc.Stat(Path(f"/proc/{pid}/stat").read_bytes())


def test_another_users_host_is_not_watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    process = named(tmp_path, "claude")
    try:
        monkeypatch.setattr(os, "geteuid", lambda: 12345)
        assert process.pid not in {pid for pid, _ in HostRecogniser().recognise(proc.table())}
    finally:
        monkeypatch.undo()
        process.communicate(timeout=10)
