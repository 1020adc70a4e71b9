"""A stand-in for a session of Claude Code: starts servers, tool shells and hooks in its shapes, and ends on request.

The shapes are those measured with 2.1.330. A *server* is a direct child in the session's own process group, with
CLAUDE_CODE_LAUNCHED_BY_SESSION_IDS and without CLAUDE_PID. A *tool shell* leads a process session of its own, has
CLAUDE_PID, and gets one line that sources a snapshot and evaluates the command. A *command hook* runs below
``/bin/sh -c``. With a prefix each is ``prefix LINE``.

    python -I sessions.py session [PREFIX]     requests as JSON lines on stdin, answers on stdout
    python -I sessions.py KIND ROSTER          one process that writes ``KIND pid start`` to the file ROSTER

At its end of file, TERM or HUP the session stops its servers as the host does (stdin closed, INT, TERM, KILL) and
ends; it lets its shells be, which is the harder case.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from typing import IO, Any

#: Whatever the test does, nothing of it lives longer.
LIFE = 60.0
PYTHON = [sys.executable, "-I", "-S"]


def line(command: str, cwd_file: str) -> str:
    """What the host hands to a shell for a command of its agent."""
    return (
        "source /nowhere/shell-snapshots/snapshot-bash-1700000000000-abcdef.sh 2>/dev/null || true"
        f" && eval {shlex.quote(command)} < /dev/null && pwd -P >| {shlex.quote(cwd_file)}"
    )


def environment(kind: str, session_pid: int, base: dict[str, str] | None = None) -> dict[str, str]:
    """``kind``: server, shell or hook."""
    env = {k: v for k, v in (os.environ if base is None else base).items() if not k.startswith("CLAUDE")}
    env |= {"CLAUDECODE": "1", "CLAUDE_CODE_SESSION_ID": f"stand-in-{session_pid}"}
    if kind == "server":
        return env | {
            "CLAUDE_PROJECT_DIR": os.getcwd(),
            "CLAUDE_CODE_LAUNCHED_BY_SESSION_IDS": env["CLAUDE_CODE_SESSION_ID"],
        }
    env |= {"CLAUDE_CODE_CHILD_SESSION": "1", "CLAUDE_PID": str(session_pid)}
    return env | {"CLAUDE_CODE_EXECPATH": "/nowhere/claude"} if kind == "shell" else env


def shell_path() -> str:
    own = os.environ.get("SHELL", "")
    return own if os.path.basename(own) == "bash" else shutil.which("bash") or "bash"


def shell(prefix: str | None, command: str, cwd_file: str, **options: Any) -> subprocess.Popen[bytes]:
    """A tool shell of the calling process, which is taken for the session."""
    full = line(command, cwd_file)
    argv = [prefix, full] if prefix else [shell_path(), "-c", full]
    options.setdefault("env", environment("shell", os.getpid()))
    return subprocess.Popen(argv, start_new_session=True, **options)


def server(prefix: str | None, argv: list[str], over: str = "pipe", **options: Any) -> subprocess.Popen[bytes]:
    """``over``: what its stdin is, a pipe, a ``socket`` of a pair as a host in Node has it, or ``null``."""
    started = [prefix, shlex.join(argv)] if prefix else argv
    options.setdefault("env", environment("server", os.getpid()))
    if over != "socket":
        return subprocess.Popen(started, stdin=subprocess.PIPE if over == "pipe" else subprocess.DEVNULL, **options)
    ours, theirs = socket.socketpair()
    with theirs:
        process = subprocess.Popen(started, stdin=theirs.fileno(), **options)
    process.stdin = os.fdopen(ours.detach(), "wb", 0)
    return process


def hook(prefix: str | None, command: str, **options: Any) -> subprocess.Popen[bytes]:
    inner = f"{shlex.quote(prefix)} {shlex.quote(command)}" if prefix else command
    options.setdefault("env", environment("hook", os.getpid()))
    return subprocess.Popen(["/bin/sh", "-c", inner], start_new_session=True, **options)


def member(kind: str, roster: str) -> list[str]:
    """The command of one process of ours, see ``stay``."""
    return [*PYTHON, __file__, kind, roster]


class Session:
    """A session in a process of its own; use it as a context, and ``end`` it."""

    def __init__(
        self, prefix: str | None, wrapper: list[str] | None = None, python: str = sys.executable, **options: Any
    ) -> None:
        argv = [*(wrapper or []), python, "-I", __file__, "session", *([prefix] if prefix else [])]
        options.setdefault("start_new_session", True)
        self.process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, **options)
        self.pid = int(self._answer()["pid"])

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait(20)
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe:
                pipe.close()

    def _pipe(self, pipe: IO[str] | None) -> IO[str]:
        assert pipe is not None
        return pipe

    def _answer(self) -> dict[str, Any]:
        answer = json.loads(self._pipe(self.process.stdout).readline())
        assert isinstance(answer, dict)
        return answer

    def ask(self, **request: Any) -> dict[str, Any]:
        stdin = self._pipe(self.process.stdin)
        stdin.write(json.dumps(request) + "\n")
        stdin.flush()
        return self._answer()

    def server(self, argv: list[str], over: str = "pipe") -> int:
        """Its pid: the shim's, with a prefix."""
        return int(self.ask(do="server", argv=argv, over=over)["pid"])

    def shell(self, command: str, folder: str) -> int:
        """The pid of the front; its output goes to ``folder``/out and err."""
        return int(self.ask(do="shell", command=command, folder=folder)["pid"])

    def wait(self, pid: int) -> int:
        """The exit code, negative for a signal, of something it started."""
        return int(self.ask(do="wait", pid=pid)["code"])

    def end(self, how: str) -> None:
        """``normal``, ``TERM``, ``HUP`` or ``KILL``; returns when the process is gone."""
        if how == "normal":
            self._pipe(self.process.stdin).close()
        else:
            os.kill(self.pid, getattr(signal, f"SIG{how}"))
        self.process.wait(20)


# -- in the processes themselves -------------------------------------------------------------------------------


def report(roster: str, kind: str) -> None:
    with open("/proc/self/stat", encoding="utf-8") as file:
        start = file.read().rsplit(")", 1)[1].split()[19]
    with open(roster, "a", encoding="utf-8") as file:
        file.write(f"{kind} {os.getpid()} {start}\n")


def stay(kind: str, roster: str) -> None:
    """``polite``: ends at the end of its stdin. ``...stubborn``: ignores that, INT and TERM. ``launcher``: has such a
    child. Any other: a process that waits, with signals as they come."""
    if kind.endswith("stubborn"):
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
    if kind == "launcher":
        child = subprocess.Popen(member("launched-stubborn", roster))
        report(roster, kind)
        child.wait()
        return
    report(roster, kind)
    if kind == "polite":
        signal.alarm(int(LIFE))
        while os.read(0, 4096):
            pass
        return
    time.sleep(LIFE)


def stop(children: list[subprocess.Popen[bytes]]) -> None:
    """As the host stops its servers: by their own pids, not their children's."""
    for child in children:
        if child.stdin:
            child.stdin.close()
    for number, seconds in ((signal.SIGINT, 0.1), (signal.SIGTERM, 0.4), (signal.SIGKILL, 5.0)):
        until = time.monotonic() + seconds
        for child in children:
            if child.poll() is None:
                child.send_signal(number)
        for child in children:
            try:
                child.wait(max(0.0, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                pass


def answer(**fields: object) -> None:
    sys.stdout.write(json.dumps(fields) + "\n")
    sys.stdout.flush()


def ended(number: int, _: object) -> None:
    raise SystemExit(128 + number)


def session(prefix: str | None) -> None:
    signal.signal(signal.SIGTERM, ended)
    signal.signal(signal.SIGHUP, ended)
    servers: list[subprocess.Popen[bytes]] = []
    known: dict[int, subprocess.Popen[bytes]] = {}
    try:
        answer(pid=os.getpid())
        for text in sys.stdin:
            request = json.loads(text)
            if request["do"] == "server":
                process = server(prefix, request["argv"], request.get("over", "pipe"), stdout=subprocess.PIPE)
                servers.append(process)
            elif request["do"] == "shell":
                folder = request["folder"]
                with open(f"{folder}/out", "wb") as out, open(f"{folder}/err", "wb") as err:
                    process = shell(
                        prefix, request["command"], f"{folder}/cwd", stdin=subprocess.DEVNULL, stdout=out, stderr=err
                    )
            elif request["do"] == "let go":
                stdin = known[request["pid"]].stdin
                assert stdin is not None
                stdin.close()
                answer()
                continue
            else:
                answer(code=known[request["pid"]].wait(30))
                continue
            known[process.pid] = process
            answer(pid=process.pid)
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        stop(servers)
        os._exit(0)


if __name__ == "__main__":
    if sys.argv[1] == "session":
        session(sys.argv[2] if len(sys.argv) > 2 else None)
    else:
        stay(sys.argv[1], sys.argv[2])
