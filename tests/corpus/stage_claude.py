"""Scenes of sessions that live: one, two with the same servers, one of which is killed, and servers that are started
again under a session that goes on.
"""

from __future__ import annotations

import os
import signal
import sys

from oomless.platform import proc

from .stage import Stage, play
from .stage_host import KEEP, Session, bash, left_in_background
from .stage_parts import Server, by_npx, by_shell, by_wrapper, module, plain, renamed, script
from .stage_work import busy_turn, repository

assert sys.platform == "linux"

DUPLICATE = "another session that lives has run the same server for longer"
OLDER = "its session ended this generation and runs the server again"


def duplicates(session: Session) -> None:
    for server in session.servers:
        session.stage.say(f"{session.name}:{server.name}", "duplicate", DUPLICATE)


@play("one session with six servers and its jobs, alive", "claude", "servers")
def one_session_alive(stage: Stage) -> None:
    servers = [*(plain(n) for n in ("everything", "chrome-devtools", "ruv-swarm", "claude-flow", "flow-nexus"))]
    turns = [
        left_in_background("one:build", "sleep 600"),
        left_in_background(f"one:{KEEP}job", "nohup sleep 601"),
        bash("sleep 602", run_in_background=True),
    ]
    Session(stage, "one", [*servers, by_npx("memory")], turns).ready()


@play("two sessions with the same five servers, both alive", "claude", "servers")
def two_sessions_alike(stage: Stage) -> None:
    servers = [
        plain("everything"),
        plain("flow-nexus"),
        script("memory"),
        module("time"),
        by_npx("sequential-thinking"),
    ]
    Session(stage, "one", servers).ready()
    duplicates(Session(stage, "two", servers).ready())


@play("two sessions with the same servers, one killed while two of them were busy", "claude", "servers")
def one_of_two_killed(stage: Stage) -> None:
    repo = repository(stage)
    servers = [
        plain("flow-nexus"), plain("everything"), plain("claude-flow"),
        script("filesystem", str(stage.work)), module("git", "--repository", str(repo)),
    ]  # fmt: skip
    first = Session(stage, "one", servers, [busy_turn(stage, repo)]).ready(stuck=1)
    Session(stage, "two", servers).ready()
    first.killed()
    for name in ("flow-nexus", "filesystem", "git"):
        stage.expect(f"one:{name}")


@play("a session that had its servers reconnected three times", "claude", "servers")
def servers_reconnected(stage: Stage) -> None:
    servers = [by_npx("flow-nexus"), by_shell("flow-nexus"), plain("everything")]
    named = [servers[0], renamed(servers[1], "nexus-in-a-shell"), servers[2]]
    session = Session(stage, "one", named, talk=True).ready()
    for server in named * 3:
        older = session.reconnect(server)
        stage.say_of(older, "superseded", OLDER)
    stage.expect("one:flow-nexus", 4)


@play("a session whose servers' launchers were killed, and that started them again", "claude", "servers")
def launchers_killed(stage: Stage) -> None:
    named = [by_npx("flow-nexus"), renamed(by_wrapper("flow-nexus"), "wrapped-nexus"), by_npx("memory")]
    session = Session(stage, "one", named, talk=True).ready()
    for _ in range(2):
        for server in named:
            kill_launcher(session, server)
            stage.say_of(session.reconnect(server), "superseded", OLDER)
    stage.expect("one:flow-nexus", 4)


def kill_launcher(session: Session, server: Server) -> None:
    """Only the process that the host started: what the kernel does to one of them when memory is short."""
    table, host = proc.table(), session.process_id.pid
    those = session.stage.those(f"{session.name}:{server.name}")
    ((pid, start),) = ((pid, start) for pid, start in those.items() if table[pid].ppid == host)
    assert pid != os.getpid()
    proc.send(pid, start, signal.SIGKILL)
    session.stage.wait(lambda: proc.start_of(pid) != start, 20, f"{pid} is gone")
    session.stage.await_quiet()
