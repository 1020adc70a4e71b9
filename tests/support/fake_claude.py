"""A host for tests, shaped like Claude Code 2.1.330 on Linux (headless): its servers are in its own process group,
its tool shells lead process sessions of their own, and its SessionStart hook is a command below ``/bin/sh -c``.

    python -I -S fake_claude.py ROSTER HOOK SESSION KIND...

Every process of interest writes ``kind pid start`` to the file ROSTER once it is what it says, and ends by itself
after 60 s. Each line on standard input is obeyed and answered: ``look`` runs the hook again (the daemon then looks
at who is there), ``orphan`` lets the shells end that have only background commands left, ``start KIND``
starts one more. The end of input is the
normal end, as of ``claude -p``. HOOK is a shell command.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import time

LIFE = 60.0
#: A session below the first one, with a server of its own.
INNER = "inner-session"
SERVERS = {
    "server": [],  # ignores end of input and SIGTERM
    "launcher": ["launcher"],  # waits for a grandchild that ignores both
    "listening-server": ["listen"],
    "own-session-helper": ["detaching"],  # a server's browser: in a session of its own
    "daemonizing": ["daemonizing"],  # starts what other sessions share with it, by two forks
}
#: What ends with ``cat`` lives until ``orphan``.
SHELLS = {
    "background": "{stay} background & cat",
    "double-fork": "({stay} double-fork &) ; cat",
    "foreground": "{stay} foreground; true",
    "ignores-term": "{stay} ignores-term stubborn & cat",
    "own-group": "{stay} own-group group & wait",
    "nohup": "nohup {stay} nohup >/dev/null 2>&1 & cat",
    "dev-server": "nohup setsid {stay} dev-server fork >/dev/null 2>&1 & cat",
    "listening": "{stay} listening listen & cat",
    "wrapper": "{stay} wrapper wraps & cat",
    "brief": "setsid {stay} brief >/dev/null 2>&1 &",  # over before anybody looks
    "tmux": "tmux -f /dev/null new-session -d {stay} tmux; cat",
}


def report(roster: str, kind: str) -> None:
    with open("/proc/self/stat", encoding="utf-8") as file:
        start = file.read().rsplit(")", 1)[1].split()[19]
    with open(roster, "a", encoding="utf-8") as file:
        file.write(f"{kind} {os.getpid()} {start}\n")


def stay(roster: str, kind: str, *how: str) -> None:
    """One process of a kind, and what is below it."""
    if "group" in how:
        os.setpgid(0, 0)
    if "stubborn" in how or "server" in how or "launcher" in how:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    listener = socket.socket()
    if "listen" in how:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
    for extra, child, its in (
        ("launcher", "launched", ("stubborn",)),
        ("wraps", "wrapped-listening", ("listen",)),
        ("fork", f"{kind}-below", ()),
        ("detaching", "own-session-helper-below", ("stubborn",)),
    ):
        if extra in how:
            command = [*PYTHON, "stay", roster, child, *its]
            subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=extra == "detaching")
    if "daemonizing" in how:
        daemonize(roster)
    report(roster, kind)
    time.sleep(LIFE)


def daemonize(roster: str) -> None:
    """The one in between stays until a file beside the roster says that it has been seen."""
    if os.fork():
        return
    os.setsid()
    if os.fork() == 0:
        os.execv(PYTHON[0], [*PYTHON, "stay", roster, "shared", "stubborn"])
    report(roster, "between")
    while not os.path.exists(f"{roster}.seen"):
        time.sleep(0.01)
    os._exit(0)


PYTHON = [sys.executable, "-I", "-S", os.path.realpath(__file__)]


shells: dict[str, subprocess.Popen[bytes]] = {}


def start(roster: str, kind: str) -> None:
    if kind == INNER:  # its own end of input never comes: it holds the other end itself
        ours, its = os.pipe()
        again = [*PYTHON[:-1], os.path.abspath(__file__), roster, "true", INNER, "server"]
        subprocess.Popen(again, stdin=ours, stdout=subprocess.DEVNULL, pass_fds=[its])
        os.close(ours)
        os.close(its)
        return
    if kind in SERVERS:
        subprocess.Popen([*PYTHON, "stay", roster, kind, "server", *SERVERS[kind]], stdin=subprocess.PIPE)
        return
    own = shlex.join([*PYTHON, "stay", roster])
    line = SHELLS[kind].format(stay=own)
    environ = {**os.environ, "CLAUDE_PID": str(os.getpid())}
    command = ["bash", "-c", line]
    shells[line] = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True, env=environ)


def hook(command: str, session: str) -> None:
    event = {"hook_event_name": "SessionStart", "session_id": session, "cwd": os.getcwd(), "source": "startup"}
    environ = {**os.environ, "CLAUDE_PID": str(os.getpid()), "CLAUDECODE": "1"}
    done = subprocess.run(
        ["/bin/sh", "-c", command], input=json.dumps(event).encode(), env=environ, capture_output=True, check=False
    )
    print("done" if (done.returncode, done.stdout, done.stderr) == (0, b"", b"") else done, flush=True)


def orphan() -> None:
    for line, shell in shells.items():
        assert shell.stdin is not None
        shell.stdin.close()
        if line.endswith("cat"):
            shell.wait()
    print("done", flush=True)


def late(roster: str, kind: str) -> None:
    start(roster, kind)
    if kind == "brief":
        shells[SHELLS[kind].format(stay=shlex.join([*PYTHON, "stay", roster]))].wait()
    print("done", flush=True)


def main() -> None:
    first, *rest = sys.argv[1:]
    if first == "stay":
        stay(*rest)
        return
    command, session, *kinds = rest
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    if session == INNER:
        report(first, INNER)
    hook(command, session)
    for kind in kinds:
        start(first, kind)
    for line in sys.stdin:
        if line == "orphan\n":
            orphan()
        elif line.startswith("start "):
            late(first, line.split()[1])
        else:
            hook(command, session)


if __name__ == "__main__":
    main()
