"""The scripted model as a process of its own: its command line, and how to start it and end it again.

``python -m oomless.demo.model --script FILE [--port 0] [--log FILE] [--ready-fd N]``. Once it listens, it writes its
port and a newline to the ready descriptor (a pipe or a socket), and it ends when whoever holds the other end is gone,
so that no end of its owner leaves it behind; else on SIGTERM or SIGINT.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import select
import signal
import socket
import subprocess
import sys
from types import TracebackType

from oomless.demo.model.script import Script, dump, load
from oomless.demo.model.server import serve
from oomless.errors import OomlessError

START_SECONDS, END_SECONDS = 30.0, 5.0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m oomless.demo.model")
    parser.add_argument("--script", required=True)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--log")
    parser.add_argument("--ready-fd", type=int)
    options = parser.parse_args()
    try:
        asyncio.run(_run(load(options.script), options.port, options.log, options.ready_fd))
    except OomlessError as error:
        sys.stderr.write(f"{error.report()}\n")
        return error.exit_code
    except OSError as error:
        failed = OomlessError("the scripted model cannot start", error.strerror or str(error), "")
        sys.stderr.write(f"{failed.report()}\n")
        return failed.exit_code
    return 0


async def _run(script: Script, port: int, log: str | None, ready: int | None) -> None:
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    serving = await serve(script, log, port)
    if ready is not None:
        os.write(ready, f"{serving.port}\n".encode())
        # The write end of a pipe that nobody reads any more is reported as readable (EPOLLERR), as is a socket's end.
        loop.add_reader(ready, ended.set)
    await ended.wait()
    if ready is not None:
        loop.remove_reader(ready)
    await serving.close()


class ModelProcess:
    """Starts the model as a child with its script and log in ``folder``; ``with`` ends it. Its environment is bare:
    it needs nothing, and a mark that it inherits would count it among somebody's processes."""

    def __init__(self, script: Script, folder: str) -> None:
        self.log = os.path.join(folder, "model.jsonl")
        self._script = os.path.join(folder, "model-script.json")
        with open(self._script, "wb") as file:
            file.write(dump(script))
        ours, theirs = socket.socketpair()
        with theirs:
            command = [sys.executable, "-I", "-m", "oomless.demo.model", "--script", self._script, "--log", self.log]
            self._process = subprocess.Popen(
                [*command, "--ready-fd", str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                env={"PATH": os.defpath},
            )
        self._line = ours
        self.pid = self._process.pid
        try:
            self.port = self._port()
        except BaseException:
            self.close()
            raise

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def _port(self) -> int:
        ready, _, _ = select.select([self._line], [], [], START_SECONDS)
        told = self._line.recv(16) if ready else b""
        if not told.endswith(b"\n"):
            raise OomlessError("the scripted model did not start", "", "its own line above says why")
        return int(told)

    def close(self) -> None:
        self._line.close()
        try:
            self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def __enter__(self) -> ModelProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self.close()
