"""Scenes of developers' tools that an agent runs: language servers, a Next.js dev server, Playwright."""

from __future__ import annotations

import shlex
import sys

from oomless.demo.model import Turn

from .stage import ROLE, Stage, play, unseen
from .stage_host import KEEP, Session, bash, left_in_background
from .stage_parts import VERSIONS, next_app, npm, plain, playwright_tests, tool, tool_environment
from .stage_work import LOOK_AFTER_IT, actor

assert sys.platform == "linux"


def environment() -> str:
    return " ".join(f"{name}={shlex.quote(value)}" for name, value in tool_environment().items())


def language_servers(stage: Stage, session: str) -> list[Turn]:
    """Each below a client of its own, as an agent's tools keep them."""
    turns = []
    for name, script, file in (
        ("typescript-language-server", "typescript-language-server", "a.ts"),
        ("vscode-langservers-extracted", "vscode-eslint-language-server", "b.js"),
    ):
        path = stage.work / file
        path.write_text("export const one = 1\n")
        stage.uses(VERSIONS[name])
        command = f"{environment()} {actor('lsp', str(path), tool(script), '--stdio')}"
        turns.append(left_in_background(f"{session}:{script}", command, LOOK_AFTER_IT))
    stage.uses(VERSIONS["typescript"])
    return turns


def next_dev(stage: Stage, session: str, how: str = "", keep: bool = True) -> Turn:
    """``npm run dev``: it listens, and stays when its session ends."""
    app = next_app()
    stage.rubbish.append(app)
    stage.uses(VERSIONS["next"])
    role = f"{session}:{KEEP}next" if keep else f"{session}:next"
    out = stage.folder / f"next-{session}"
    return bash(f"cd {app}; {environment()} {ROLE}={role} {how} {npm()} run dev > {out} 2>&1 & {LOOK_AFTER_IT}")


def next_serves(stage: Stage, session: str) -> None:
    log = stage.folder / f"next-{session}"
    stage.wait(lambda: log.exists() and "Ready in" in log.read_text(), 90, "Next.js serves")


def playwright(stage: Stage, session: str) -> Turn:
    ready = stage.folder / f"playwright-{session}"
    folder = playwright_tests(ready)
    stage.rubbish.append(folder)
    stage.uses(VERSIONS["@playwright/test"], "Chromium")
    line = f"cd {folder} && {environment()} {ROLE}={session}:playwright {tool('playwright')} test"
    return bash(line, run_in_background=True)


def playwright_runs(stage: Stage, session: str) -> None:
    stage.wait((stage.folder / f"playwright-{session}").exists, 90, "Playwright's test runs")


@unseen(
    "a session with language servers, a Next.js dev server and Playwright, alive",
    "claude",
    "servers",
    "tools",
)
def tools_in_a_session(stage: Stage) -> None:
    turns = [*language_servers(stage, "one"), next_dev(stage, "one"), playwright(stage, "one")]
    session = Session(stage, "one", [plain("everything")], turns).ready()
    next_serves(stage, "one")
    playwright_runs(stage, "one")
    session.ready()


@play(
    "a session with language servers, Next.js and Playwright, killed, the daemon remembering",
    "claude",
    "servers",
    "tools",
    machine=True,
)
def tools_left(stage: Stage) -> None:
    stage.daemon()
    turns = [*language_servers(stage, "one"), next_dev(stage, "one", "nohup"), playwright(stage, "one")]
    session = Session(stage, "one", [plain("everything")], turns).ready()
    next_serves(stage, "one")
    playwright_runs(stage, "one")
    session.ready().killed()
    stage.wait(lambda: stage.daemon_facts().leftovers, 20, "the daemon tells of what is left")
