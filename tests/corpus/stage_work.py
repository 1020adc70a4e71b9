"""What sessions are given to do: jobs in every way to start one, and calls that keep a server busy for good."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from oomless.demo.model import Call, Turn

from .stage import ACTORS, ROLE, Stage
from .stage_host import KEEP, MINE, MUX, bash, left_in_background

assert sys.platform == "linux"

PYTHON = (sys.executable, "-I", "-S", ACTORS)


def actor(*words: str) -> str:
    return shlex.join([*PYTHON, *words])


# -- busy servers ----------------------------------------------------------------------------------------------------


def repository(stage: Stage) -> Path:
    """One in which ``git status`` never ends: it waits for somebody to write to a named pipe."""
    repo = stage.work / "repo"
    subprocess.run(["git", "init", "--quiet", str(repo)], check=True, capture_output=True)
    exclude = repo / ".git/info/exclude"
    exclude.unlink(missing_ok=True)
    exclude.parent.mkdir(exist_ok=True)
    os.mkfifo(exclude)
    return repo


def busy_turn(stage: Stage, repo: Path | None = None, filesystem: bool = True) -> Turn:
    """Calls at once that do not return: the servers read named pipes to which nobody writes."""
    calls = []
    if repo is not None:
        calls.append(Call(name="mcp__git__git_status", input={"repo_path": str(repo)}))
    if filesystem:
        fifo = stage.work / "fifo"
        os.mkfifo(fifo)
        calls.append(Call(name="mcp__filesystem__read_text_file", input={"path": str(fifo)}))
    return Turn(calls=tuple(calls))


# -- jobs ------------------------------------------------------------------------------------------------------------


#: As agents do it who want to know whether what they have started runs.
LOOK_AFTER_IT = "sleep 3; jobs"


def kept(session: str, name: str, command: str, then: str = "") -> Turn:
    """A job that is to outlive the session, as its command says."""
    return left_in_background(f"{session}:{KEEP}{name}", command, then)


def multiplexer(stage: Stage, session: str) -> list[Turn]:
    """A tmux server from a tool shell, with a shell in it, and an editor where there is one."""
    tmux = f"tmux -S {stage.folder}/tmux-{session} -f /dev/null"
    inside = shlex.quote(f"exec env {ROLE}={session}:{MINE}shell bash --norc")
    turns = [bash(f"{ROLE}={session}:{MUX}tmux {tmux} new-session -d -x 100 -y 40 {inside}")]
    if shutil.which("vim"):
        editor = shlex.quote(f"exec env {ROLE}={session}:{MUX}vim vim notes.md")
        turns.append(bash(f"{tmux} split-window -d {editor}"))
    return turns


def build_daemon(stage: Stage, session: str) -> Turn:
    """As Gradle's: the command ends, and the daemon stays for the next one."""
    port = stage.folder / f"port-{session}"
    return bash(f"{ROLE}={session}:{KEEP}build-daemon {actor('build-daemon', str(port))}")


def plain_job(session: str, name: str = "job", then: str = LOOK_AFTER_IT) -> Turn:
    """Nothing says that it is to outlive anything."""
    return left_in_background(f"{session}:{name}", "sleep 603", then)
