"""Scenes of what was at work when its session ended, with no daemon that remembers: only what can be read of the
processes themselves tells."""

from __future__ import annotations

import signal
import sys

from oomless.demo.model import Call, Turn
from oomless.platform import proc

from .stage import LIFE, ROLE, Stage, unseen
from .stage_ends_typed import tails
from .stage_host import Session, bash
from .stage_machine import build, stuck_git
from .stage_parts import BROWSER, by_npx, by_shell, by_uvx, module, plain, renamed, script
from .stage_settings import at_home, project
from .stage_typed import Screen, Typed
from .stage_work import PYTHON, actor, build_daemon, kept, repository

assert sys.platform == "linux"


@unseen("a session that was killed at work, with a browser, git and a build", "claude", "servers", "tools")
def killed_at_work(stage: Stage) -> None:
    """One like it goes on beside."""
    repo = str(repository(stage))
    args = ("--headless", "--isolated", "--no-sandbox", "--executable-path", BROWSER)
    servers = [by_uvx("git", "--repository", repo), by_npx("flow-nexus"), script("playwright", *args)]
    stage.uses("Chromium")
    at_home(stage, *servers)
    shop = project(stage, "shop")
    opens = Turn(calls=(Call(name="mcp__playwright__browser_navigate", input={"url": "data:text/html,hello"}),))
    serving = stage.folder / "serving"
    serving.touch()
    builds = bash(f"{ROLE}=one:build {build(stage, 'app')}", run_in_background=True)
    first = Session(stage, "one", servers, [builds, opens, stuck_git(servers[:1], serving)], project=shop)
    first.ready(stuck=1)
    stage.expect("one:build", 7)
    stage.expect("one:playwright", 5)
    stage.expect("one:git", 3)
    other = Session(stage, "two", servers, [*tails(stage, "two"), opens], project=shop).ready()
    table = proc.table()
    ((pid, start),) = (
        (p, s) for p, s in stage.those("one:playwright").items() if table[p].ppid == first.process_id.pid
    )
    proc.send(pid, start, signal.SIGSTOP)  # it hangs
    first.killed()
    stage.expect("one:playwright", 5)
    other.ready()


@unseen("a closed terminal's session, and servers that the user runs by hand", "claude", "servers", "tools")
def closed_beside_my_servers(stage: Stage) -> None:
    servers = [by_npx("flow-nexus"), renamed(by_shell("flow-nexus"), "nexus"), by_uvx("time"), by_npx("memory")]
    at_home(stage, *servers)
    nexus, memory = plain("flow-nexus"), by_npx("memory")
    stage.start("mine", *PYTHON, "client", *memory.command, env=memory.env)
    left = stage.start("lost", *PYTHON, "client", *nexus.command, env=nexus.env)
    screen, own = Screen(stage, "terminal"), Screen(stage, "mine")
    everything = " ".join(plain("everything").command[:2])
    own.type(f"PORT=0 nohup {everything} streamableHttp > /dev/null 2>&1 & disown")
    clock = module("time")
    own.type(f"sleep {LIFE:.0f} | PYTHONPATH={clock.env['PYTHONPATH']} {' '.join(clock.command)}")
    stage.say("mine", "unknown", "the user's own, started by no session")
    stage.say("lost", "orphan", "its client, a program of the user's, was killed: nobody can speak to it again")
    stage.wait(lambda: len(stage.those("mine")) >= 8, 60, "the user's servers run")
    turns = [
        *tails(stage, "one"), build_daemon(stage, "one"), kept("one", "nohup", f"nohup {actor('server-of-mine')}"),
    ]  # fmt: skip
    session = Typed(stage, "one", screen, project(stage, "shop"), servers, turns).ready()
    who = session.process_id
    left.kill()
    left.wait()
    screen.hang_up()
    session.gone(who)
    stage.expect("mine", 8)
    stage.expect("one:keep-*", 2)
