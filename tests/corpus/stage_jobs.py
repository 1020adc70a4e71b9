"""Scenes of what agents leave running: jobs meant to outlive the session and jobs that are not, multiplexers, build
daemons; with and without the daemon's memory; and beside them what is the user's own.
"""

from __future__ import annotations

import sys
from pathlib import Path

from oomless.demo.model import Turn
from oomless.platform import proc
from sessions import Session as StandIn
from sessions import member

from .stage import ROLE, Stage, play
from .stage_host import KEEP, MUX, Session, Terminal, bash
from .stage_parts import by_npx, module, plain, renamed, script
from .stage_work import LOOK_AFTER_IT, PYTHON, actor, build_daemon, kept, multiplexer, plain_job

assert sys.platform == "linux"


def jobs(stage: Stage, name: str) -> list[Turn]:
    return [
        kept(name, "nohup", "nohup sleep 604"),
        kept(name, "setsid", "setsid sleep 605", LOOK_AFTER_IT),
        kept(name, "dev-server", f"nohup setsid {actor('server-of-mine')}", LOOK_AFTER_IT),
        build_daemon(stage, name),
        *multiplexer(stage, name),
        plain_job(name),
        bash("sleep 606", run_in_background=True),
    ]


@play("a killed session that had started jobs in every way, nobody remembering", "claude", "servers")
def jobs_left(stage: Stage) -> None:
    own_things(stage)
    Session(stage, "one", [plain("flow-nexus"), plain("everything")], jobs(stage, "one")).ready().killed()
    stage.expect("one:keep-*", 4)


@play(
    "a killed session that had started jobs in every way, the daemon remembering", "claude", "servers", machine=True
)
def jobs_left_remembered(stage: Stage) -> None:
    stage.daemon()
    own_things(stage)
    other = Session(stage, "two", [plain("flow-nexus"), module("time")], [plain_job("two")]).ready()
    servers = [by_npx("flow-nexus"), module("time"), renamed(plain("flow-nexus"), "nexus")]
    Session(stage, "one", servers, jobs(stage, "one")).ready().killed()
    stage.expect("one:keep-*", 4)
    stage.wait(lambda: stage.daemon_facts().leftovers, 20, "the daemon tells of what is left")
    other.ready()


def own_things(stage: Stage) -> None:
    """What the user runs beside: a server by hand, for a client that is no host, and a terminal multiplexer."""
    stage.say("mine", "unknown", "the user's own, started by no session")
    stage.start("mine", *PYTHON, "client", *script("memory").command)
    stage.start("mine", "/usr/bin/python3", "-m", "http.server", "--bind", "127.0.0.1", "0")
    stage.say("mine-mux", "protected", "the user's own multiplexer")
    stage.start("mine-mux", "tmux", "-S", f"{stage.folder}/mine", "-f", "/dev/null", "new-session", "-d",
                f"exec env {ROLE}=mine bash --norc").wait(20)  # fmt: skip
    stage.expect("mine", 4)
    Terminal(stage, "mine-client", "/usr/bin/tmux", "-S", f"{stage.folder}/mine", "attach")
    stage.say("mine-client", "protected", "where the user looks at the multiplexer")


@play("two sessions of a stand-in for Claude Code, one killed, the daemon remembering")
def stand_in_killed(stage: Stage) -> None:
    """Its shapes are Claude Code's (``sessions.py``); it needs no program that is not on every machine."""
    stage.daemon()
    stage.uses("a stand-in for Claude Code")
    python = stage.folder / "claude"
    python.symlink_to(Path(sys.executable).resolve())
    first, second = stand_in(stage, "one", python), stand_in(stage, "two", python)
    first.end("KILL")
    say_over(stage, "one")
    stage.wait(lambda: stage.daemon_facts().leftovers, 20, "the daemon tells of what is left")
    assert second.process.poll() is None


def stand_in(stage: Stage, name: str, python: Path) -> StandIn:
    """With a server that is deaf, a launcher with one, and jobs."""
    roster, folder = str(stage.folder / f"roster-{name}"), stage.folder / name
    folder.mkdir()
    session = StandIn(None, python=str(python), env=stage.environment(name), cwd=stage.work)
    stage.kept.append(session)
    stage.say(name, "owned", "the session that started it lives")
    stage.say(f"{name}:*", "owned", "the session that started it lives")
    for kind in ("stubborn", "launcher"):
        session.server(["env", f"{ROLE}={name}:{kind}", *member(kind, roster)])
    waits = " ".join(member("waits", roster))
    tmux = f"{ROLE}={name}:{MUX}tmux tmux -S {folder}/t -f /dev/null new-session -d"
    session.shell(
        f"{ROLE}={name}:{KEEP}nohup nohup {waits} > /dev/null 2>&1 & {ROLE}={name}:{KEEP}setsid setsid {waits} &"
        f" {ROLE}={name}:job {waits} & {tmux} '{ROLE}={name}:mine-inside exec {waits}'; wait",
        str(folder),
    )
    stage.say(f"{name}:{MUX}*", "protected", "a terminal multiplexer")
    stage.say(f"{name}:mine-*", "unknown", "in a terminal multiplexer, where people work")
    stage.wait(lambda: len(stage.those(f"{name}*")) >= 10, 30, f"{name} has started all")
    stage.await_quiet()
    assert proc.start_of(session.pid) is not None
    return session


def say_over(stage: Stage, name: str) -> None:
    stage.say(name, "orphan", "a tool shell's, and its session is gone")
    stage.say(f"{name}:*", "orphan", "its session is gone, and it was only to serve that")
    stage.say(f"{name}:{KEEP}*", "detached", "its session is gone, and it was started to go on without")
    stage.say(f"{name}:{MUX}*", "protected", "a terminal multiplexer")
    stage.say(f"{name}:mine-*", "unknown", "in a terminal multiplexer, where people work")
