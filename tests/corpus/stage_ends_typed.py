"""Scenes of sessions as people have them, in terminals and with settings of their own, and of how they end."""

from __future__ import annotations

import shlex
import sys

from helpers import run_oomless
from oomless.demo.model import Rule, Turn

from .stage import ROLE, Stage, StageFailed, play, unseen
from .stage_claude import OLDER, duplicates
from .stage_host import KEEP, Session, bash, left_in_background
from .stage_parts import by_npx, by_shell, by_uvx, by_wrapper, module, plain, renamed
from .stage_settings import at_home, project
from .stage_tools import next_dev, next_serves
from .stage_typed import Screen, Typed
from .stage_work import actor, build_daemon, kept, plain_job

assert sys.platform == "linux"


def tails(stage: Stage, session: str) -> list[Turn]:
    """Logs that are looked at, in the background of a tool shell and of a shell below it."""
    log = stage.work / f"{session}.log"
    log.write_text("started\n")
    return [
        left_in_background(f"{session}:tail", f"tail -F {log}"),
        bash(f"( {ROLE}={session}:watch tail -n 0 -F {log} > /dev/null 2>&1 & )"),
    ]


@unseen("a session whose terminal was closed, with jobs of every kind", "claude", "servers", "tools", machine=True)
def hung_up_with_jobs(stage: Stage) -> None:
    stage.daemon()
    servers = [by_npx("flow-nexus"), by_npx("memory"), plain("chrome-devtools")]
    at_home(stage, *servers)
    turns = [
        *tails(stage, "one"),
        kept("one", "nohup", "nohup sleep 621"),
        kept("one", "setsid", f"setsid {actor('server-of-mine')}"),
        bash(f"{ROLE}=one:{KEEP}disowned {actor('server-of-mine')} > /dev/null 2>&1 & disown"),
        next_dev(stage, "one"),
        build_daemon(stage, "one"),
    ]
    screen, other = Screen(stage, "terminal"), Screen(stage, "other-terminal")
    session = Typed(stage, "one", screen, project(stage, "shop"), servers, turns)
    second = Typed(stage, "two", other, project(stage, "blog"), servers, [plain_job("two")])
    next_serves(stage, "one")
    who = session.ready().process_id
    second.ready()
    screen.hang_up()
    session.gone(who)
    stage.wait(lambda: stage.daemon_facts().leftovers, 20, "the daemon tells of what is left")
    stage.expect("one:keep-*", 5)


@unseen("two sessions in one project, the younger left by /exit", "claude", "servers", "tools", machine=True)
def left_by_exit(stage: Stage) -> None:
    stage.daemon()
    at_home(stage, by_npx("memory"))
    servers = [by_npx("flow-nexus"), by_wrapper("claude-flow"), renamed(by_shell("flow-nexus"), "nexus")]
    shop = project(stage, "shop", *servers)
    first = Typed(stage, "one", Screen(stage, "terminal"), shop, [by_npx("memory"), *servers], [plain_job("one")])
    first.ready()
    turns = [
        *tails(stage, "two"),
        next_dev(stage, "two"),
        bash(f"( {ROLE}=two:{KEEP}server {actor('server-of-mine')} > /dev/null 2>&1 & )"),
        kept("two", "nohup", "nohup sleep 622"),
    ]
    second = Typed(stage, "two", Screen(stage, "other-terminal"), shop, [by_npx("memory"), *servers], turns)
    next_serves(stage, "two")
    second.ready().exit()
    stage.wait(lambda: stage.daemon_facts().leftovers, 20, "the daemon tells of what is left")
    stage.expect("two:keep-*", 3)
    first.ready()


@unseen("a session whose conversation was cleared, and that goes on", "claude", "servers", machine=True)
def conversation_cleared(stage: Stage) -> None:
    """Its servers and jobs have the id in their environment that it had before."""
    stage.daemon()
    servers = [by_npx("flow-nexus"), plain("everything"), module("time"), by_npx("sequential-thinking")]
    at_home(stage, *servers)
    after = Rule(kind="main", marker="AGENT=after", turns=(plain_job("one", "after"),))
    before = [
        *tails(stage, "one"),
        kept("one", "nohup", "nohup sleep 623"),
        bash("sleep 624", run_in_background=True),
    ]
    shop, screen = project(stage, "shop"), Screen(stage, "terminal")
    session = Typed(stage, "one", screen, shop, servers, before, rules=[after]).ready()
    session.enter("/clear")
    stage.await_quiet()
    session.enter("AGENT=after")
    stage.expect("one:after")
    session.ready()
    stage.expect("one:tail")


@unseen("a session that was killed and then continued in the same terminal", "claude", "servers", machine=True)
def continued_after_a_kill(stage: Stage) -> None:
    """The one that goes on has the conversation of the one that was killed, and servers of its own."""
    stage.daemon()
    servers = [by_npx("flow-nexus"), renamed(by_shell("flow-nexus"), "nexus"), by_npx("memory"), plain("ruv-swarm")]
    at_home(stage, *servers)
    screen, shop = Screen(stage, "terminal"), project(stage, "shop")
    turns = [*tails(stage, "one"), kept("one", "nohup", "nohup sleep 625")]
    Typed(stage, "one", screen, shop, servers, turns).ready().killed()
    stage.wait(lambda: stage.daemon_facts().leftovers, 20, "the daemon tells of what is left")
    Typed(stage, "again", screen, shop, servers, options=["--continue"]).ready()
    stage.expect("one:flow-nexus", 3)
    stage.expect("one:nexus", 2)


@unseen("sessions under script(1), which records a terminal, one killed", "claude", "servers")
def terminal_recorded(stage: Stage) -> None:
    servers = [by_npx("flow-nexus"), by_wrapper("flow-nexus"), module("git")]
    at_home(stage, *(named := [servers[0], renamed(servers[1], "wrapped"), servers[2]]))
    stage.uses("script(1)")
    shop = project(stage, "shop")
    sessions = []
    for name in ("one", "two"):
        record = (
            "/usr/bin/script",
            "-q",
            "-f",
            "-c",
            "/bin/bash --norc --noprofile -i",
            f"{stage.folder}/{name}.rec",
        )
        screen = Screen(stage, f"recorder-{name}", *record)
        stage.say(f"recorder-{name}", "unknown", "the user's shell, and what records it")
        sessions.append(Typed(stage, name, screen, shop, named, tails(stage, name)).ready())
    for server in named:
        stage.say(f"two:{server.name}", "duplicate", "another session that lives has run the same server for longer")
    sessions[0].killed()
    for server in named:
        stage.say(f"two:{server.name}", "owned", "the session that started it lives")
    stage.expect("one:flow-nexus", 3)
    sessions[1].ready()


@unseen(
    "a session that goes on when its terminal was closed, and one that does not", "claude", "servers", machine=True
)
def let_go_of(stage: Stage) -> None:
    """Nobody is above the one that goes on but the init."""
    stage.daemon()
    servers = [by_npx("flow-nexus"), by_npx("memory"), module("time")]
    at_home(stage, *servers)
    shop, screen = project(stage, "shop"), Screen(stage, "terminal")
    kept_on = Session(stage, "one", servers, tails(stage, "one"), launch=False, project=shop)
    screen.type(f"cd {shop}; " + shlex.join(["nohup", "setsid", "bash", "-c", kept_on.line()]) + " &")
    who = kept_on.ready().process_id
    other = Typed(stage, "two", screen, shop, servers, tails(stage, "two")).ready()
    with_it = other.process_id
    screen.hang_up()
    other.gone(with_it)
    assert kept_on.ready().process_id == who


@play("a session that was told by /mcp to start a server again, three times", "claude", "servers", machine=True)
def reconnected_by_hand(stage: Stage) -> None:
    stage.daemon()
    servers = [by_npx("flow-nexus"), renamed(by_wrapper("flow-nexus"), "wrapped"), by_npx("memory")]
    at_home(stage, *servers)
    shop = project(stage, "shop")
    session = Typed(stage, "one", Screen(stage, "terminal"), shop, servers, tails(stage, "one")).ready()
    other = Typed(stage, "two", Screen(stage, "other-terminal"), project(stage, "blog"), servers).ready()
    duplicates(other)
    for server in servers[:2] * 3:
        stage.say_of(session.reconnect(server, wait=False), "superseded", OLDER)
    stage.await_quiet()
    stage.expect("one:flow-nexus", 6)
    stage.expect("one:wrapped", 5)
    other.ready()


@unseen("three sessions in terminals: one left by /exit, one killed, one alive", "claude", "servers", "tools")
def three_terminals(stage: Stage) -> None:
    """Nobody remembers."""
    servers = [by_npx("flow-nexus"), by_uvx("time"), renamed(by_shell("flow-nexus"), "nexus"), by_npx("memory")]
    at_home(stage, *servers[:2])
    shop = project(stage, "shop", *servers[2:])
    jobs = {
        "one": [*tails(stage, "one"), kept("one", "nohup", f"nohup {actor('server-of-mine')}")],
        "two": [*tails(stage, "two"), next_dev(stage, "two"), kept("two", "setsid", "setsid sleep 627")],
        "three": [*tails(stage, "three"), kept("three", "nohup", "nohup sleep 628")],
    }
    one, two, three = (
        Typed(stage, name, Screen(stage, f"terminal-{name}"), shop, servers, turns).ready()
        for name, turns in jobs.items()
    )
    next_serves(stage, "two")
    one.exit()
    two.killed()
    stage.expect("two:flow-nexus", 3)
    stage.expect("two:nexus", 2)
    three.ready()


@unseen("a session with oomless' hooks and prefix whose terminal was closed", "claude", "servers", machine=True)
def hung_up_with_the_prefix(stage: Stage) -> None:
    servers = [by_npx("flow-nexus"), plain("everything"), by_npx("memory")]
    at_home(stage, *servers)
    done = run_oomless("install", "claude-code", "--yes")
    if done.returncode:
        raise StageFailed(done.stderr)
    stage.daemon()
    screen, shop = Screen(stage, "terminal"), project(stage, "shop")
    turns = [
        *tails(stage, "one"), kept("one", "nohup", f"nohup {actor('server-of-mine')}"),
        kept("one", "setsid", "setsid sleep 629"), build_daemon(stage, "one"),
        bash("sleep 630", run_in_background=True),
    ]  # fmt: skip
    session = Typed(stage, "one", screen, shop, servers, turns)
    who = session.ready().process_id
    other = Typed(stage, "two", Screen(stage, "other-terminal"), shop, servers, tails(stage, "two")).ready()
    screen.hang_up()
    session.gone(who)
    stage.wait(lambda: stage.daemon_facts().detached, 20, "the daemon tells what was left running")
    stage.expect("one:keep-*", 3)
    other.ready()
