"""Scenes of sessions that ended: by each signal, by the end of their input, with their terminal."""

from __future__ import annotations

import signal
import sys

from .stage import Stage, play
from .stage_host import Session, shell_in_terminal
from .stage_parts import by_npx, by_shell, by_uvx, by_wrapper, module, plain, script
from .stage_work import busy_turn, plain_job, repository

assert sys.platform == "linux"


@play("a session that was told to end (TERM), with servers below npx and below a shell", "claude", "servers")
def ended_by_term(stage: Stage) -> None:
    repo = repository(stage)
    servers = [by_npx("flow-nexus"), plain("everything"), module("git", "--repository", str(repo))]
    session = Session(stage, "one", servers, [plain_job("one"), busy_turn(stage, repo, filesystem=False)])
    session.ready(stuck=1).end(signal.SIGTERM)
    stage.expect("one:flow-nexus")


@play("a session whose input was closed, as an editor does when it closes", "claude", "servers")
def input_closed(stage: Stage) -> None:
    servers = [by_shell("flow-nexus"), by_npx("memory"), plain("ruv-swarm")]
    other = Session(stage, "two", [by_shell("flow-nexus")], talk=True).ready()
    Session(stage, "one", servers, talk=True).ready().close_input()
    stage.expect("one:flow-nexus")
    other.ready()


@play("a session whose terminal was closed", "claude", "servers")
def terminal_closed(stage: Stage) -> None:
    terminal, kept = shell_in_terminal(stage), shell_in_terminal(stage, "other-terminal")
    servers = [by_npx("flow-nexus"), by_wrapper("claude-flow"), script("memory")]
    session = Session(stage, "one", servers, [plain_job("one")], launch=False)
    terminal.type(session.line())
    other = Session(stage, "two", [script("memory")], launch=False)
    kept.type(other.line())
    other.ready()
    who = session.ready().process_id
    terminal.hang_up()
    session.gone(who)
    stage.expect("one:job")


@play("a killed session with servers under npx and uvx, some of them busy", "claude", "servers", "tools")
def launchers_left(stage: Stage) -> None:
    repo = repository(stage)
    servers = [
        by_npx("flow-nexus"), by_npx("memory"), by_npx("everything"), by_npx("filesystem", str(stage.work)),
        by_uvx("git", "--repository", str(repo)), by_uvx("time"),
    ]  # fmt: skip
    Session(stage, "one", servers, [busy_turn(stage, repo)]).ready(stuck=1).killed()
    for name in ("flow-nexus", "filesystem", "git"):
        stage.expect(f"one:{name}", 2)
