"""Scenes on the machine itself, the daemon remembering as it does there: what was at work when its session was
killed, what was started again, and what is the user's own beside it."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import msgspec

from oomless.demo.model import Call, Rule, Turn, WaitFile
from oomless.platform import proc

from .stage import LIFE, ROLE, Stage, play, unseen
from .stage_claude import OLDER, duplicates, kill_launcher
from .stage_ends_typed import tails
from .stage_host import KEEP, MINE, MUX, Session, bash
from .stage_parts import (
    BROWSER,
    Server,
    by_npx,
    by_shell,
    by_uvx,
    by_wrapper,
    module,
    plain,
    renamed,
    script,
    tool,
)
from .stage_settings import at_home, project
from .stage_tools import environment, language_servers
from .stage_typed import Screen
from .stage_work import PYTHON, actor, kept, plain_job, repository

assert sys.platform == "linux"


def build(stage: Stage, name: str) -> str:
    """A folder whose ``make`` never ends: its sources are named pipes, and the compiler waits for what is in them."""
    folder = stage.work / name
    folder.mkdir()
    parts = ("main", "lexer", "parser")
    for part in parts:
        os.mkfifo(folder / f"{part}.c")
    rules = "".join(f"{part}.o:\n\tcc -c -o {part}.o {part}.c\n" for part in parts)
    (folder / "Makefile").write_text(f"all: {' '.join(f'{part}.o' for part in parts)}\n{rules}")
    stage.uses("GNU make", "gcc")
    return f"make -C {folder} -j3"


def subagent(name: str, *turns: Turn) -> tuple[Turn, Rule]:
    """What its session says to have it, and what it does then."""
    call = Call(
        name="Agent",
        input={"description": name, "prompt": f"AGENT={name}", "subagent_type": "general-purpose"},
    )
    return Turn(calls=(call,)), Rule(kind="subagent", marker=f"AGENT={name}", turns=turns)


@unseen("a session that was killed while its subagents' commands ran", "claude", "servers", machine=True)
def subagents_at_work(stage: Stage) -> None:
    stage.daemon()
    servers = [by_npx("flow-nexus"), by_npx("memory"), plain("everything")]
    at_home(stage, *servers)
    shop = project(stage, "shop")
    first, builds = subagent("builder", bash(f"{ROLE}=one:build {build(stage, 'app')}"))
    follow = f"{ROLE}=one:follow tail -F {stage.work}/one.log | {ROLE}=one:follow cat"
    second, looks = subagent("looker", *tails(stage, "one"), bash(follow))
    server = kept("one", "nohup", f"nohup {actor('server-of-mine')}")
    third, keeps = subagent("keeper", server, plain_job("one"))
    session = Session(stage, "one", servers, [first, second, third], project=shop, rules=[builds, looks, keeps])
    for role, least in (("one:build", 7), ("one:tail", 1), ("one:follow", 2), ("one:keep-nohup", 1), ("one:job", 1)):
        stage.expect(role, least)
    other = Session(stage, "two", servers[:2], tails(stage, "two"), project=shop).ready()
    session.ready().killed()
    stage.wait(lambda: stage.daemon_facts().leftovers, 20, "the daemon tells of what is left")
    stage.expect("one:build", 7)
    other.ready()


@play("a session whose whole process group was killed during a build", "claude", "servers", machine=True)
def group_killed(stage: Stage) -> None:
    """As a shell's job control or a supervisor does it: the servers are in the session's group, tool shells not, nor
    is a server whose own entry says setsid."""
    stage.daemon()
    servers = [by_npx("memory"), plain("everything"), renamed(by_shell("flow-nexus"), "nexus")]
    nexus = plain("flow-nexus")
    detached = msgspec.structs.replace(nexus, name=f"{KEEP}apart", command=("setsid", *nexus.command))
    at_home(stage, *servers, detached)
    turns = [
        *tails(stage, "one"), kept("one", "setsid", "setsid sleep 631"),
        bash("sleep 632", run_in_background=True), bash(f"{ROLE}=one:build {build(stage, 'app')}"),
    ]  # fmt: skip
    shop = project(stage, "shop")
    session = Session(stage, "one", [*servers, detached], turns, project=shop).ready(stuck=1)
    stage.expect("one:build", 7)
    who = session.process_id
    assert session.process is not None
    assert os.getpgid(session.process.pid) == session.process.pid != os.getpgrp()  # its zombie holds the number
    os.killpg(session.process.pid, signal.SIGKILL)
    session.gone(who)
    stage.wait(lambda: stage.daemon_facts().leftovers, 20, "the daemon tells of what is left")
    stage.expect("one:build", 7)


def stuck_git(servers: list[Server], when: Path) -> Turn:
    """All are asked at once for the state of a repository where git never ends, once ``when`` exists."""
    asked = {"repo_path": servers[0].command[-1]}
    calls = tuple(Call(name=f"mcp__{one.name}__git_status", input=asked) for one in servers)
    return Turn(calls=calls, wait_file=WaitFile(path=str(when), seconds=LIFE))


@unseen("a killed session whose Python servers had git running", "claude", "servers", "tools", machine=True)
def servers_at_work(stage: Stage) -> None:
    stage.daemon()
    repo = str(repository(stage))
    inner = module("git", "--repository", repo)
    shell = ("/bin/bash", "-c", f'{" ".join(inner.command[:3])} "$@"; true', "git", "--repository", repo)
    servers = [
        by_uvx("git", "--repository", repo),
        renamed(inner, "git-module"),
        msgspec.structs.replace(inner, name="git-shell", command=shell, processes=2),
        msgspec.structs.replace(inner, name="git-wrapped", command=(*PYTHON, "wrapper", *inner.command), processes=2),
    ]
    at_home(stage, *servers, by_uvx("time"))
    shop = project(stage, "shop")
    other = Session(stage, "two", [*servers, by_uvx("time")], [plain_job("two")], project=shop).ready()
    serving = stage.folder / "serving"
    turns = [*tails(stage, "one"), stuck_git(servers, serving)]
    session = Session(stage, "one", [*servers, by_uvx("time")], turns, project=shop)
    stage.wait(lambda: all(map(session.serves, session.servers)), 60, "all serve")  # it starts three at a time
    stage.await_quiet()
    serving.touch()
    stage.wait(lambda: len(stage.those("one:git*", "git status")) == len(servers), 30, "git runs below each")
    session.ready(stuck=1).killed()
    stage.wait(lambda: stage.daemon_facts().leftovers, 20, "the daemon tells of what is left")
    for server in servers:
        stage.expect(f"one:{server.name}", 2)
    other.ready()


@unseen("a live session whose servers were started again and again", "claude", "servers", "tools", machine=True)
def started_again(stage: Stage) -> None:
    stage.daemon()
    nexus = renamed(by_shell("flow-nexus"), "nexus")
    named = [by_npx("flow-nexus"), renamed(by_wrapper("flow-nexus"), "wrapped"), nexus]
    rest = [by_uvx("time"), plain("everything")]
    at_home(stage, *named, *rest)
    shop = project(stage, "shop")
    other = Session(stage, "two", [*named, *rest], project=shop).ready()
    session = Session(stage, "one", [*named, *rest], tails(stage, "one"), talk=True, project=shop).ready()
    duplicates(session)
    for server in [*named, *rest, *named]:
        stage.say_of(session.reconnect(server, wait=False), "superseded", OLDER)
    for server in named[:2] * 2:
        kill_launcher(session, server)
        stage.say_of(session.reconnect(server, wait=False), "superseded", OLDER)
    stage.await_quiet()
    stage.expect("one:flow-nexus", 2 + 2 * 2 + 3)
    other.ready()


@unseen("language servers of a dead session, a live one, and the user's", "claude", "servers", "tools", machine=True)
def language_servers_of_three(stage: Stage) -> None:
    stage.daemon()
    at_home(stage, plain("everything"))
    shop = project(stage, "shop")
    stage.say("editor", "unknown", "the user's own, started by no session")
    for file, name in (("mine.ts", "typescript-language-server"), ("mine.js", "vscode-eslint-language-server")):
        (stage.work / file).write_text("export const one = 1\n")
        env = dict(pair.split("=", 1) for pair in environment().replace("'", "").split())
        stage.start("editor", *PYTHON, "lsp", str(stage.work / file), tool(name), "--stdio", env=env)
    first = Session(stage, "one", [plain("everything")], language_servers(stage, "one"), project=shop).ready()
    second = Session(stage, "two", [plain("everything")], language_servers(stage, "two"), project=shop).ready()
    stage.expect("editor", 5)
    for name in ("one", "two"):
        stage.expect(f"{name}:typescript-language-server", 4)
    first.killed()
    stage.wait(lambda: stage.daemon_facts().leftovers, 20, "the daemon tells of what is left")
    second.ready()


@unseen("a killed session that had started a multiplexer with servers in it", "claude", "servers", machine=True)
def multiplexer_with_servers(stage: Stage) -> None:
    """The user looks at it: agents are told to start servers so."""
    stage.daemon()
    servers = [by_npx("flow-nexus"), plain("chrome-devtools"), by_npx("filesystem", str(stage.home))]
    at_home(stage, *servers)
    mux = f"tmux -S {stage.folder}/agents -f /dev/null"
    inside = f"exec env {ROLE}=one:{MINE}server"
    first = f"new-session -d -s dev '{inside} python3 -m http.server --bind 127.0.0.1 0'"
    more = (f"{inside} bash --norc", f"{inside} {actor('server-of-mine')}")
    for_ever = f"bash -c 'until test -e {stage.folder}/never; do sleep 600; done'"
    turns = [
        bash(f"{ROLE}=one:{MUX}tmux {mux} {first}"),
        *(bash(f"{mux} new-window -d -t dev '{line}'") for line in more),
        *tails(stage, "one"),
        bash(f"{ROLE}=one:wait {for_ever}", run_in_background=True),
    ]
    session = Session(stage, "one", servers, turns, project=project(stage, "shop")).ready()
    client = Screen(stage, "client", "/usr/bin/tmux", "-S", f"{stage.folder}/agents", "attach")
    stage.say("client", "protected", "where the user looks at the multiplexer")
    session.ready().killed()
    stage.wait(lambda: stage.daemon_facts().leftovers, 20, "the daemon tells of what is left")
    stage.expect(f"one:{MINE}server", 3)
    assert "[dev]" in client.said()


@unseen("servers that the user started by hand, beside a killed session's", "claude", "servers", machine=True)
def servers_by_hand(stage: Stage) -> None:
    """Of the same programs: below a terminal, below nobody, and left by a client that was no host."""
    stage.daemon()
    servers = [by_npx("flow-nexus"), by_npx("everything"), renamed(by_wrapper("flow-nexus"), "wrapped")]
    at_home(stage, *servers)
    nexus, memory = plain("flow-nexus"), by_npx("memory")
    stage.start("mine", *PYTHON, "client", *memory.command, env=memory.env)
    client = stage.start("lost", *PYTHON, "client", *nexus.command, env=nexus.env)
    everything = " ".join(plain("everything").command[:2])
    screen, open_one = Screen(stage, "mine"), Screen(stage, "mine")
    stage.say("mine", "unknown", "the user's own, started by no session")
    stage.say("lost", "orphan", "its client, a program of the user's, was killed: nobody can speak to it again")
    screen.type(f"PORT=0 nohup {everything} streamableHttp > /dev/null 2>&1 & disown")
    open_one.type(f"PORT=0 {everything} streamableHttp")
    stage.expect("mine", 8)
    stage.expect("lost", 2)
    stage.wait(lambda: len(stage.those("mine", "streamableHttp")) == 2, 30, "the user's servers run")
    session = Session(stage, "one", servers, tails(stage, "one"), project=project(stage, "shop")).ready()
    screen.hang_up()
    client.kill()
    client.wait()
    session.ready().killed()
    stage.wait(lambda: stage.daemon_facts().leftovers, 20, "the daemon tells of what is left")
    stage.wait(lambda: len(stage.those("mine", "streamableHttp")) == 2, 5, "the user's servers run")
    stage.expect("one:flow-nexus", 3)


@unseen("a worker that a killed session's server started for all", "claude", "servers", machine=True)
def worker_for_all(stage: Stage) -> None:
    stage.daemon()
    port: Path = stage.folder / "worker"
    plugin = Server(name="plugin", command=(*PYTHON, "plugin", str(port)), program="a plugin's server with a worker")
    servers = [plugin, by_npx("flow-nexus"), renamed(plain("flow-nexus"), "nexus")]
    at_home(stage, *servers)
    shop = project(stage, "shop")
    first = Session(stage, "one", servers, tails(stage, "one"), project=shop).ready()
    worker = [stage.one("one:plugin", "build-daemon")]
    second = Session(stage, "two", servers, tails(stage, "two"), project=shop).ready()
    first.killed()
    stage.say_of(worker, "detached", "it works for all sessions, and the one that started it is gone")
    stage.wait(lambda: stage.daemon_facts().leftovers, 20, "the daemon tells of what is left")
    stage.expect("one:flow-nexus", 3)
    second.ready()
    assert set(worker) <= set(stage.those("*", "build-daemon").items())


@play("a killed session whose server hangs with a browser open", "claude", "servers", machine=True)
def browsers_of_servers(stage: Stage) -> None:
    stage.daemon()
    args = ("--headless", "--isolated", "--no-sandbox", "--executable-path", BROWSER)  # the sandbox is not for root
    servers = [script("playwright", *args), by_npx("flow-nexus")]
    stage.uses("Chromium")
    at_home(stage, *servers)
    shop = project(stage, "shop")
    opens = Turn(calls=(Call(name="mcp__playwright__browser_navigate", input={"url": "data:text/html,hello"}),))
    first = Session(stage, "one", servers, [opens, *tails(stage, "one")], project=shop).ready()
    stage.expect("one:playwright", 5)
    second = Session(stage, "two", servers, [opens], project=shop).ready()
    stage.expect("two:playwright", 5)
    table = proc.table()
    ((pid, start),) = (
        (p, s) for p, s in stage.those("one:playwright").items() if table[p].ppid == first.process_id.pid
    )
    proc.send(pid, start, signal.SIGSTOP)  # it hangs
    first.killed()
    stage.wait(lambda: stage.daemon_facts().leftovers, 20, "the daemon tells of what is left")
    second.ready()
