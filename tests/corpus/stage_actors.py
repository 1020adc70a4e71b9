"""Small programs that appear in the scenes, for what no package brings. Standard library only.

build-daemon FILE        as Gradle's: a process session of its own, listens on loopback, its port in FILE
server-of-mine           a plain program that listens on loopback, in the foreground
client COMMAND...        an MCP client that is no host: starts a server, and keeps it
lsp FILE COMMAND...      a client of a language server that has FILE open
    wrapper COMMAND...       a launcher of a server: starts it on its own stdin, and waits for it
    mover GROUP...           moves to these control groups, and again whenever it has been moved elsewhere
    plugin FILE              an MCP server of a plugin, with a worker for all sessions: the first one starts it as
                             build-daemon, with FILE
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

LIFE = 600


def listening() -> socket.socket:
    here = socket.socket()
    here.bind(("127.0.0.1", 0))
    here.listen()
    return here


def build_daemon(file: str) -> None:
    if os.fork():
        return
    os.setsid()
    if os.fork():
        return
    here = listening()
    Path(file).write_text(str(here.getsockname()[1]))
    null = os.open(os.devnull, os.O_RDWR)
    for fd in range(3):
        os.dup2(null, fd)
    signal.alarm(LIFE)
    here.accept()


def server_of_mine() -> None:
    here = listening()
    signal.alarm(LIFE)
    here.accept()


def started(command: list[str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def client(*command: str) -> None:
    server = started(list(command))
    info = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "mine", "version": "1"}}
    assert server.stdin is not None
    assert server.stdout is not None
    server.stdin.write(
        json.dumps({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": info}).encode() + b"\n"
    )
    server.stdin.flush()
    server.stdout.readline()
    signal.alarm(LIFE)
    signal.pause()


def lsp(file: str, *command: str) -> None:
    server = started(list(command))
    uri, folder = f"file://{file}", f"file://{os.path.dirname(file)}"
    folders = [{"uri": folder, "name": "work"}]
    params = {"processId": os.getpid(), "rootUri": folder, "workspaceFolders": folders, "capabilities": {}}
    send(server, id=1, method="initialize", params=params)
    send(server, method="initialized", params={})
    language = "typescript" if file.endswith(".ts") else "javascript"
    document = {"uri": uri, "languageId": language, "version": 1, "text": Path(file).read_text()}
    send(server, method="textDocument/didOpen", params={"textDocument": document})
    signal.alarm(LIFE)
    assert server.stdout is not None
    while server.stdout.read1(4096):  # type: ignore[attr-defined]
        pass


def send(server: subprocess.Popen[bytes], **message: Any) -> None:
    body = json.dumps({"jsonrpc": "2.0", **message}).encode()
    assert server.stdin is not None
    server.stdin.write(b"Content-Length: %d\r\n\r\n%s" % (len(body), body))
    server.stdin.flush()


def wrapper(*command: str) -> None:
    """What it starts has the wrapper's own stdin and stdout, as under npx; a signal ends the wrapper alone."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    subprocess.Popen(command).wait()


def mover(*groups: str) -> None:
    signal.alarm(LIFE)
    while True:
        for group in groups:
            Path(group, "cgroup.procs").write_text(str(os.getpid()))
        time.sleep(0.05)


def plugin(file: str) -> None:
    """Ends with its input."""
    if not Path(file).exists():
        subprocess.run([sys.executable, "-I", "-S", __file__, "build-daemon", file], check=True)
    for line in sys.stdin:
        asked = json.loads(line)
        if "id" not in asked:
            continue
        info = {"name": "plugin", "version": "1"}
        version = asked.get("params", {}).get("protocolVersion", "2025-11-25")
        first = {"protocolVersion": version, "capabilities": {"tools": {}}, "serverInfo": info}
        answer = first if asked["method"] == "initialize" else {"tools": []}
        print(json.dumps({"jsonrpc": "2.0", "id": asked["id"], "result": answer}), flush=True)


ACTS: dict[str, Callable[..., None]] = {
    "build-daemon": build_daemon,
    "server-of-mine": server_of_mine,
    "client": client,
    "lsp": lsp,
    "wrapper": wrapper,
    "mover": mover,
    "plugin": plugin,
}

if __name__ == "__main__":
    ACTS[sys.argv[1]](*sys.argv[2:])
