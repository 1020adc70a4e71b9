"""Hosts' sessions: registered by their hook, watched until their process dies, and known to the next daemon."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers import is_error_report, run_oomless, wait_for, wait_gone
from hosting import Host, began, control, settings, wanted
from oomless.cli import hook
from oomless.errors import JournalError, UsageError
from oomless.hosts.claude_code import settings as claude_settings
from oomless.hosts.claude_code.facts import FACTS
from oomless.journal.journal import Journal
from oomless.journal.sessions import HostSession, ReapRow
from oomless.model import Identity, LiveSession, Survivor
from oomless.paths import Paths
from oomless.platform import proc
from oomless.protocol import spawn

assert sys.platform == "linux"

EVENT = {"hook_event_name": "SessionStart", "session_id": "s-1", "cwd": "/work", "source": "startup", "model": "m"}
#: As ``install`` writes it, and as people and earlier versions have it.
COMMAND = tuple(shlex.split(claude_settings.session_start_command(sys.executable)))
LONG_COMMAND = (sys.executable, "-I", "-m", "oomless", "hook", "claude-code", "session-start")


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "60"]) as process:
        yield process
        process.kill()


def run_hook(
    event: object = EVENT, pid: object = None, command: tuple[str, ...] = COMMAND, **environ: str
) -> subprocess.CompletedProcess[str]:
    """As this very process's SessionStart hook, below a shell."""
    named = {"CLAUDE_PID": str(os.getpid() if pid is None else pid)}
    text = event if isinstance(event, str) else json.dumps(event)
    return subprocess.run(
        ["/bin/sh", "-c", '"$@"; exit $?', "sh", *command],
        input=text,
        env={**os.environ, **named, **environ},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def sessions() -> tuple[LiveSession, ...]:
    return Host().status().sessions


# The hook


@pytest.mark.parametrize("command", [COMMAND, LONG_COMMAND])
def test_the_hook_starts_the_daemon_and_registers_without_a_word(command: tuple[str, ...]) -> None:
    done = run_hook(command=command)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert spawn.running(Paths()) is not None
    (session,) = sessions()
    assert (session.host, session.sessions, session.cwd) == ("claude-code", ("s-1",), "/work")
    assert (session.pid, session.start) == (os.getpid(), proc.start_of(os.getpid()))


@pytest.mark.parametrize("source", ["startup", "resume", "clear", "compact", "fork"])
def test_every_source_registers(source: str) -> None:
    run_hook()
    run_hook({**EVENT, "session_id": "s-2" if source in ("clear", "fork") else "s-1", "source": source})
    (session,) = sessions()
    assert session.sessions == (("s-1", "s-2") if source in ("clear", "fork") else ("s-1",))


@pytest.mark.parametrize(
    ("event", "pid", "expected"),
    [
        ("{", None, "that is no session-start event of Claude Code"),
        ("[]", None, "that is no session-start event of Claude Code"),
        ({"hook_event_name": "SessionStart"}, None, "that is no session-start event of Claude Code"),
        (EVENT, "", "CLAUDE_PID is not set"),
        (EVENT, "abc", "CLAUDE_PID is not set"),
        (EVENT, "1", "which is not above us"),
        (EVENT, str(2**22 + 1), "which is not above us"),
    ],
)
def test_what_cannot_be_registered_fails_nothing(event: object, pid: object, expected: str) -> None:
    done = run_hook(event, pid)
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr.startswith("oomless: error: ")
    assert expected in done.stderr
    assert is_error_report(done.stderr)


def test_a_pid_that_is_not_above_the_hook_is_not_believed(sleeper: subprocess.Popen[bytes]) -> None:
    """A shell in a multiplexer has the CLAUDE_PID of long ago, and the number may be anybody's by now."""
    done = run_hook(pid=sleeper.pid)
    assert f"CLAUDE_PID is {sleeper.pid}, which is not above us" in done.stderr
    assert sessions() == ()


def test_without_a_daemon_the_session_starts_all_the_same(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    done = run_hook(XDG_STATE_HOME=str(blocked))
    assert (done.returncode, done.stdout) == (0, "")
    assert "state folder" in done.stderr


def test_a_daemon_that_was_killed_is_started_again() -> None:
    run_hook()
    killed = spawn.running(Paths())
    assert killed is not None
    proc.kill(killed.pid, killed.start)
    assert wait_gone(killed.pid, killed.start, 5)
    done = run_hook()
    assert (done.returncode, done.stderr) == (0, "")
    assert [session.sessions for session in sessions()] == [("s-1",)]


def test_it_loads_little() -> None:
    """Each of these takes 3 to 10 ms, of the 25 that the hook takes as it is (``bench/hook.py``)."""
    python, *rest = COMMAND
    run_hook()
    done = run_hook(command=(python, "-X", "importtime", *rest))
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "oomless.cli.hook" in loaded
    assert loaded & {"site", "json", "re", "enum", "signal", "socket", "subprocess", "typing", "msgspec"} == set()


def test_a_daemon_that_does_not_answer_holds_no_session_up(tmp_path: Path) -> None:
    import socket
    import time

    silent = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(silent)
        listener.listen()
        began = time.monotonic()
        with pytest.raises(TimeoutError):
            hook.post(spawn.connect_to(silent, hook.CONNECT_WITHIN), "/v1/sessions", b"{}")
        assert time.monotonic() - began < hook.CONNECT_WITHIN + 1


def test_its_command_line() -> None:
    unknown = run_oomless("hook", "claude-code", "session-end")
    assert (unknown.returncode, unknown.stdout) == (2, "")
    assert "there is no such hook: claude-code session-end\nhint: usage: " in unknown.stderr
    assert run_oomless("hook").returncode == 2
    shown = run_oomless("hook", "--help")
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "session-start" in shown.stdout


def test_who_is_above() -> None:
    body = b'{"session_id": "s"}'
    parent = os.getppid()
    assert hook.registration(FACTS, body, {"CLAUDE_PID": str(parent)})["start"] == proc.start_of(parent)
    for pid in (os.getpid(), 2**22 + 1):
        with pytest.raises(UsageError, match="which is not above us"):
            hook.registration(FACTS, body, {"CLAUDE_PID": str(pid)})
    with pytest.raises(UsageError):
        hook.registration(FACTS, body, {})


# The registry


def test_a_process_that_is_gone_or_another_is_not_registered(sleeper: subprocess.Popen[bytes]) -> None:
    host = Host()
    assert host.register("s", sleeper.pid, start=1) == 409
    assert host.register("s", 1) == 409
    assert host.register("", sleeper.pid) == 409
    daemon = spawn.running(Paths())
    assert daemon is not None
    assert host.register("s", daemon.pid) == 409
    assert control(host.socket, "POST", "/v1/sessions", "{")[0] == 400
    assert control(host.socket, "GET", "/v1/sessions")[0] == 405
    assert host.status().sessions == ()


def test_it_ends_with_its_process_and_no_sooner(sleeper: subprocess.Popen[bytes]) -> None:
    host = Host()
    host.register("s", sleeper.pid)
    host.tell({"hook_event_name": "SessionEnd", "session_id": "s", "reason": "clear"})
    host.register("s-after", sleeper.pid)
    (session,) = host.status().sessions
    assert session.sessions == ("s", "s-after")
    sleeper.send_signal(signal.SIGSTOP)
    assert len(host.status().sessions) == 1
    sleeper.kill()
    assert wait_for(lambda: host.status().sessions == (), 10)


def test_a_resumed_id_is_of_the_newer_process(sleeper: subprocess.Popen[bytes]) -> None:
    """And the end of the older one does not end what the newer one runs."""
    settings("max_parallel_subagents = 1\n")
    host = Host()
    with subprocess.Popen(["sleep", "60"]) as older:
        host.register("s", older.pid)
        host.register("s", sleeper.pid)
        host.tell(wanted("s", "u"))
        host.tell(began("s", "a"))
        older.kill()
    assert wait_for(lambda: len(host.status().sessions) == 1, 10)
    (session,) = host.status().sessions
    assert (session.pid, session.subagents_running) == (sleeper.pid, 1)


def restart(number: int) -> None:
    found = spawn.running(Paths())
    assert found is not None
    proc.send(found.pid, found.start, number)
    assert wait_gone(found.pid, found.start, 10)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_next_daemon_watches_those_that_live(sleeper: subprocess.Popen[bytes], number: int) -> None:
    host = Host()
    with subprocess.Popen(["sleep", "60"]) as dying:
        host.register("dying", dying.pid)
        host.register("s", sleeper.pid, cwd="/work")
        host.register("s-after", sleeper.pid)
        restart(number)
        dying.kill()
    (session,) = sessions()
    assert (session.sessions, session.pid, session.cwd) == (("s", "s-after"), sleeper.pid, "/")
    sleeper.kill()
    assert wait_for(lambda: sessions() == (), 10)
    restart(number)
    assert sessions() == ()


def test_status_shows_sessions(sleeper: subprocess.Popen[bytes]) -> None:
    settings("max_parallel_subagents = 1\n")
    host = Host()
    host.register("s-1", sleeper.pid, cwd="/work")
    host.tell(wanted("s-1", "u", "Plan"))
    held = [host.ask(wanted("s-1", f"u{n}")) for n in range(2)]
    assert wait_for(lambda: len(host.subagents("waiting")) == 2, 10)
    shown = run_oomless("status", "--why").stdout
    assert f"claude-code s-1 (pid {sleeper.pid}) for " in shown
    assert "in /work; 1 subagent running, 2 waiting" in shown
    assert "Agent:Plan" in shown
    one = run_oomless("status", "Agent:Plan", "--json")
    found = json.loads(one.stdout)
    assert [(tree["kind"], tree["name"]) for tree in found["trees"]] == [("subagent", "Agent:Plan")]
    assert found["sessions"] == []
    sleeper.kill()
    for each in held:
        each.answer()


# The journal


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    opened = Journal.open(str(tmp_path / "journal.db"))
    yield opened
    opened.close()


def row(session: str, pid: int = 7, start: int = 9) -> HostSession:
    who = Identity(boot_id="b", pid=pid, start=start)
    return HostSession(host="claude-code", session=session, process=who, cwd="/work", at=5.0)


def reap(session: str) -> ReapRow:
    one = Survivor(pid=1, start=2, command="x", why="killed")
    return ReapRow(
        host="claude-code",
        session=session,
        process=row(session).process,
        at=6.0,
        ended=(one,),
        left_running=(one, one),
        bytes_freed=8,
    )


def test_rows_come_back_as_they_were(journal: Journal) -> None:
    rows = journal.sessions
    for one in (row("a"), row("b"), row("a"), row("c", pid=8)):
        rows.register(one)
    assert rows.open() == [row("a"), row("b"), row("c", pid=8)]
    rows.mark_ended(row("a").process, 6.0, reap("b"))
    assert rows.open() == [row("c", pid=8)]
    assert rows.reaps() == [reap("b")]
    rows.register(row("a"))
    assert [one.session for one in rows.open()] == ["a", "c"]


def test_pruning_keeps_what_is_open_and_the_newest(journal: Journal) -> None:
    rows = journal.sessions
    for n in range(5):
        rows.register(row(f"s{n}", pid=10 + n))
        rows.mark_ended(row("", pid=10 + n).process, 6.0, reap(f"s{n}"))
    rows.register(row("open"))
    assert rows.prune(2) == 6
    assert [one.session for one in rows.reaps()] == ["s4", "s3"]
    assert rows.open() == [row("open")]


def test_a_damaged_row_is_one_clear_line(journal: Journal) -> None:
    rows = journal.sessions
    rows.mark_ended(row("a").process, 6.0, reap("a"))
    journal.database.write("UPDATE reaps SET ended = 'x'")
    with pytest.raises(JournalError, match="damaged"):
        rows.reaps()
