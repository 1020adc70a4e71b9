"""The scene that takes longest: servers that their session does not call for more than half an hour, which is when
the census may call them idle, and beside them two that another session calls three times a minute.

    python -m tests.corpus.idle [--minutes 36] [--out FOLDER]

Apart from the other stages (``record.py``), which are recorded within minutes, and so not redone by the tests.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

from . import record, scene

assert sys.platform == "linux"

NAME = "servers-idle"
EVERY, MINUTES = 20.0, 36.0
#: What starting everything may take, beside the waiting.
REST = 300.0


def enter(minutes: float) -> None:
    """Among the stages that ``record`` knows."""
    record.plays()
    from oomless.demo.model import Call, Turn, WaitFile

    from .stage import PLAYS, Play, Stage
    from .stage_host import Session
    from .stage_parts import by_npx, module, plain

    def run(stage: Stage) -> None:
        repo = stage.work / "repo"
        subprocess.run(["git", "init", "--quiet", str(repo)], check=True, capture_output=True)
        stage.daemon()
        servers = [
            by_npx("memory"), by_npx("filesystem", str(stage.work)), by_npx("sequential-thinking"),
            by_npx("everything"), by_npx("flow-nexus"), plain("ruv-swarm"), plain("chrome-devtools"),
        ]  # fmt: skip
        Session(stage, "one", servers, talk=True).ready()
        stage.say("one:*", "idle", f"its session has called nothing for {minutes:.0f} minutes")
        never = WaitFile(path=str(stage.folder / "never"), seconds=EVERY)
        calls = (
            Call(name="mcp__time__get_current_time", input={"timezone": "UTC"}),
            Call(name="mcp__git__git_log", input={"repo_path": str(repo)}),
        )
        turns = [Turn(calls=calls, wait_file=never)] * (4 + int(minutes * 60 / EVERY))
        busy = Session(stage, "two", [module("time"), module("git", "--repository", str(repo))], turns)
        stage.say("two:*", "owned", "its session calls it three times a minute")
        stage.wait(lambda: busy.asked() >= 2, 120, f"the session two calls its servers {busy.said()[-600:]}")
        time.sleep(minutes * 60)
        stage.expect("one:*", 15)
        stage.wait(lambda: busy.asked() >= minutes * 60 / EVERY * 0.8, 1, "the session two has called them all along")

    title = "a session that has called no server for half an hour, and one that calls its own three times a minute"
    PLAYS[NAME] = Play(name=NAME, title=title, needs=("claude", "servers"), tried=False, machine=True, run=run)


def recorded(minutes: float) -> scene.Scene:
    """Raises NotRecorded."""
    record.prepared(NAME)
    inner = [sys.executable, "-m", f"{__package__}.idle", "--minutes", str(minutes)]
    return record.record(NAME, inner, minutes * 60 + REST)


def main() -> int:
    parser = argparse.ArgumentParser(prog=f"python -m {__package__}.idle")
    parser.add_argument("--minutes", type=float, default=MINUTES)
    parser.add_argument("--out", type=Path, default=scene.SCENES)
    record.inside(parser)
    options = parser.parse_args()
    enter(options.minutes)
    if options.inside:
        return record.perform(options.inside, options.folder, options.group)
    try:
        found = recorded(options.minutes)
        scene.save(found, options.out / f"{NAME}.json")
    except (record.NotRecorded, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{NAME}: {len(found.processes)} processes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
