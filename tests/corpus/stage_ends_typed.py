"""Scenes of sessions as people have them, in terminals and on the machine itself, and of how they end."""

from __future__ import annotations

import sys

from .stage import ROLE, Stage, unseen
from .stage_host import KEEP, bash, left_in_background
from .stage_parts import by_npx, plain
from .stage_settings import at_home, project
from .stage_tools import next_dev, next_serves
from .stage_typed import Screen, Typed
from .stage_work import actor, build_daemon, kept, plain_job

assert sys.platform == "linux"


@unseen("a session whose terminal was closed, with jobs of every kind", "claude", "servers", "tools", machine=True)
def hung_up_with_jobs(stage: Stage) -> None:
    stage.daemon()
    servers = [by_npx("flow-nexus"), by_npx("memory"), plain("chrome-devtools")]
    at_home(stage, *servers)
    log = stage.work / "app.log"
    log.write_text("started\n")
    turns = [
        left_in_background("one:tail", f"tail -F {log}"),
        bash(f"( {ROLE}=one:watch tail -n 0 -F {log} > /dev/null 2>&1 & )"),
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
    who = session.ready().who
    second.ready()
    screen.hang_up()
    session.gone(who)
    stage.wait(lambda: stage.told().leftovers, 20, "the daemon tells of what is left")
    stage.expect("one:keep-*", 5)
