"""Scenes that were first recorded when the rules were frozen: other programs, ends and combinations than those on
which the rules were tried.
"""

from __future__ import annotations

import json
import signal
import sys

from helpers import run_oomless

from . import stage_settings as settings
from .stage import ROLE, Stage, StageFailed, play, unseen
from .stage_claude import OLDER, duplicates, kill_launcher
from .stage_host import KEEP, OWNED, Session, bash, left_in_background, shell_in_terminal
from .stage_jobs import own_things
from .stage_parts import by_npx, by_shell, by_uvx, by_wrapper, module, plain, renamed, script
from .stage_tools import language_servers, next_dev, next_serves, playwright, playwright_runs
from .stage_work import actor, build_daemon, busy_turn, kept, multiplexer, plain_job, repository

assert sys.platform == "linux"


@unseen(
    "three sessions with the same servers: one told to end, one killed, one alive", "claude", "servers", machine=True
)
def two_of_three_ended(stage: Stage) -> None:
    stage.daemon()
    servers = [
        by_npx("flow-nexus"), by_wrapper("ruv-swarm"), script("playwright", "--headless"),
        by_npx("sequential-thinking"), renamed(by_shell("flow-nexus"), "nexus"),
    ]  # fmt: skip
    turns = [plain_job(name) for name in ("one", "two", "three")]
    first, second, third = (
        Session(stage, name, servers, [turn]).ready()
        for name, turn in zip(("one", "two", "three"), turns, strict=True)
    )
    first.end(signal.SIGTERM)
    second.killed()
    stage.expect("two:flow-nexus", 3)
    third.ready()
    duplicates(Session(stage, "four", servers[2:4]).ready())


@unseen("a session that an agent had started in its tool shell, and the outer one killed", "claude", "servers")
def session_in_a_session(stage: Stage) -> None:
    inner = Session(stage, "inner", [by_npx("flow-nexus"), module("time")], launch=False)
    servers = [plain("flow-nexus"), by_npx("memory"), script("filesystem", str(stage.work))]
    turn = bash(f"bash -c {json.dumps(inner.line())}", run_in_background=True)
    outer = Session(stage, "outer", servers, [turn, busy_turn(stage)]).ready(stuck=1)
    inner.ready()
    outer.killed()
    stage.say("inner", "owned", OWNED)
    stage.say("outer", "detached", "a tool shell of a session that is gone, and in it another session goes on")
    stage.expect("outer:filesystem")


@unseen("a session with oomless' hooks and prefix installed, killed", "claude", "servers", machine=True)
def prefix_installed(stage: Stage) -> None:
    (stage.home / "claude").mkdir()
    env = {"CLAUDE_CONFIG_DIR": str(stage.home / "claude")}
    done = run_oomless("install", "claude-code", "--yes", env=env)
    if done.returncode:
        raise StageFailed(done.stderr)
    stage.daemon()
    alive = Session(stage, "two", [plain("everything"), by_npx("memory")], [plain_job("two")]).ready()
    turns = [
        kept("one", "nohup", f"nohup {actor('server-of-mine')}"),
        kept("one", "setsid", "setsid sleep 611"),
        build_daemon(stage, "one"),
        *multiplexer(stage, "one"),
        plain_job("one"),
    ]
    Session(stage, "one", [by_npx("flow-nexus"), plain("everything")], turns).ready().killed()
    stage.wait(lambda: stage.daemon_facts().detached, 20, "the daemon tells what was left running")
    stage.expect("one:keep-*", 3)
    alive.ready()


@unseen(
    "a session whose servers were restarted under npx, uvx and shells, beside one with the same",
    "claude",
    "servers",
    "tools",
    machine=True,
)
def restarted_beside_another(stage: Stage) -> None:
    stage.daemon()
    other = Session(stage, "two", [by_npx("flow-nexus"), by_uvx("time")]).ready()
    servers = [by_npx("flow-nexus"), by_uvx("time"), renamed(by_shell("flow-nexus"), "nexus"),
               renamed(by_wrapper("flow-nexus"), "wrapped")]  # fmt: skip
    session = Session(stage, "one", servers, talk=True).ready()
    stage.say("one:time", "duplicate", "another session that lives has run the same server for longer")
    stage.say("one:flow-nexus", "duplicate", "another session that lives has run the same server for longer")
    for server in servers * 2:
        stage.say_of(session.reconnect(server), "superseded", OLDER)
    for server in servers[2:]:
        kill_launcher(session, server)
        stage.say_of(session.reconnect(server), "superseded", OLDER)
    other.ready()


@play(
    "a session at work on a web application, killed, the daemon remembering",
    "claude",
    "servers",
    "tools",
    machine=True,
)
def frontend_left(stage: Stage) -> None:
    stage.daemon()
    turns = [
        *language_servers(stage, "one"), next_dev(stage, "one", "setsid"), playwright(stage, "one"),
        kept("one", "http", "nohup python3 -m http.server --bind 127.0.0.1 0"),
    ]  # fmt: skip
    servers = [plain("chrome-devtools"), by_npx("flow-nexus")]
    session = Session(stage, "one", servers, turns).ready()
    next_serves(stage, "one")
    playwright_runs(stage, "one")
    session.ready().killed()
    stage.wait(lambda: stage.daemon_facts().leftovers, 20, "the daemon tells of what is left")


@unseen("sessions in a terminal multiplexer, one closed, beside the user's own work", "claude", "servers")
def multiplexer_closed(stage: Stage) -> None:
    own_things(stage)
    mux = f"tmux -S {stage.folder}/users -f /dev/null"
    stage.say("users", "protected", "the user's own multiplexer")
    stage.say("users-shell", "unknown", "the user's own shell")
    started = []
    for name, how in (("one", "new-session -d -s one"), ("two", "new-session -d -s two")):
        servers = [by_npx("flow-nexus"), module("git"), script("memory")]
        session = Session(
            stage, name, servers, [plain_job(name), kept(name, "nohup", "nohup sleep 612")], launch=False
        )
        pane = f"{ROLE}=users-shell bash --norc"
        stage.start("users", "/bin/sh", "-c", f"{mux} {how} '{pane}'").wait(20)
        stage.start("users", *mux.split(), "send-keys", "-t", name, session.line(), "Enter").wait(20)
        started.append(session.ready())
    duplicates(started[1])
    who = started[0].process_id
    stage.start("users", *mux.split(), "kill-session", "-t", "one").wait(20)
    started[0].gone(who)
    stage.say("two:flow-nexus", "owned", OWNED)
    stage.say("two:git", "owned", OWNED)
    stage.say("two:memory", "owned", OWNED)
    stage.expect("one:keep-nohup")


@play("a session whose servers were started with nohup and setsid, killed, nobody remembering", "claude", "servers")
def detached_servers(stage: Stage) -> None:
    """Whoever writes such an entry wants the server to go on, or at least has said so."""
    inner = plain("flow-nexus")
    line = " ".join(inner.command)
    entries = [
        renamed(inner, "plain"),
        renamed(by_npx("flow-nexus"), "npx"),
    ]
    detached = [
        type(inner)(name=f"{KEEP}nohup", command=("nohup", *inner.command), env=inner.env, program=inner.program),
        type(inner)(name=f"{KEEP}setsid", command=("setsid", *inner.command), env=inner.env, program=inner.program),
        type(inner)(
            name=f"{KEEP}both", command=("/bin/sh", "-c", f"setsid nohup {line}; true"), env=inner.env,
            program=inner.program,
        ),
    ]  # fmt: skip
    settings.at_home(stage, *entries)
    other = Session(stage, "two", entries, project=settings.project(stage, "app")).ready()
    folder, turns = settings.project(stage, "site", *detached), [left_in_background("one:job", "sleep 613")]
    Session(stage, "one", [*entries, *detached], turns, project=folder).ready().killed()
    stage.expect(f"one:{KEEP}*", 3)
    other.ready()


@unseen(
    "two sessions in terminals, one terminal closed, the daemon remembering",
    "claude",
    "servers",
    "tools",
    machine=True,
)
def terminal_closed_remembered(stage: Stage) -> None:
    stage.daemon()
    repo = repository(stage)
    one, two = shell_in_terminal(stage, "terminal-one"), shell_in_terminal(stage, "terminal-two")
    servers = [by_uvx("git", "--repository", str(repo)), by_npx("flow-nexus"), by_npx("memory")]
    turns = [
        kept("first", "server", f"nohup {actor('server-of-mine')}"), plain_job("first"),
        *multiplexer(stage, "first"), build_daemon(stage, "first"), busy_turn(stage, repo, filesystem=False),
    ]  # fmt: skip
    first = Session(stage, "first", servers, turns, launch=False)
    one.type(first.line())
    who = first.ready(stuck=1).process_id
    second = Session(stage, "second", servers[1:], [plain_job("second")], launch=False)
    two.type(second.line())
    second.ready()
    one.hang_up()
    first.gone(who)
    stage.wait(lambda: stage.daemon_facts().leftovers, 20, "the daemon tells of what is left")


@unseen(
    "a session that ended by itself, beside one that goes on, the daemon remembering",
    "claude",
    "servers",
    machine=True,
)
def finished(stage: Stage) -> None:
    stage.daemon()
    servers = [by_npx("flow-nexus"), by_wrapper("claude-flow"), plain("chrome-devtools")]
    turns = [
        kept("one", "nohup", "nohup sleep 614"),
        kept("one", "setsid", f"setsid {actor('server-of-mine')}"),
        build_daemon(stage, "one"),
        *multiplexer(stage, "one"),
    ]
    session = Session(stage, "one", servers, turns).ready()
    other = Session(stage, "two", servers[:1], [plain_job("two")]).ready()
    session.finish()
    stage.expect("one:keep-*", 3)
    other.ready()
