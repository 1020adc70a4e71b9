"""Starting ``oomless run``, killing what takes part in it, and reading the journal's rows."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

from contained import read_roster
from helpers import wait_gone
from oomless.journal.journal import Journal
from oomless.model import DetachedProcess
from oomless.paths import Paths
from oomless.platform import proc
from oomless.protocol import spawn
from oomless.protocol.client import Client
from oomless.protocol.views import TreeView

RUN = [sys.executable, "-m", "oomless", "run"]


def start(*args: str, **options: object) -> subprocess.Popen[str]:
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    return subprocess.Popen([*RUN, *args], text=True, **pipes)  # type: ignore[call-overload, no-any-return]


def finish(process: subprocess.Popen[str], timeout: float = 30) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=timeout)
    return process.returncode, out, err


def open_trees() -> tuple[TreeView, ...]:
    return Client(Paths(), start=False).status().trees


def running(name: str) -> TreeView | None:
    return next((t for t in open_trees() if t.name == name and t.state == "running" and t.pid), None)


def on_a_terminal(keys: bytes, script: str) -> tuple[int, bytes]:
    """Runs the script governed in a pseudo-terminal, types ``keys`` once it says ready; exit code and output."""
    pid, fd = pty.fork()
    if pid == 0:
        os.execv(RUN[0], [*RUN, "--", "sh", "-c", script])
    out = b""
    try:
        while b"ready" not in out:
            out += os.read(fd, 4096)
        os.write(fd, keys)
        while part := read_terminal(fd):
            out += part
    finally:
        os.close(fd)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), out


def read_terminal(fd: int) -> bytes:
    try:
        return os.read(fd, 4096)
    except OSError:  # EIO: the other side is closed
        return b""


OOMLESS = " ".join(RUN[:-1])


def kill_daemon() -> None:
    found = spawn.running(Paths())
    assert found
    assert proc.kill(found.pid, found.start) == proc.SENT
    assert wait_gone(found.pid, found.start, 10)


def kill(shim: subprocess.Popen[str]) -> None:
    """Its members still hold the pipes: so wait for the process, not for their ends."""
    shim.kill()
    shim.wait(10)
    for pipe in (shim.stdout, shim.stderr):
        assert pipe
        pipe.close()


def gone(roster: Path, seconds: float) -> list[str]:
    """Kinds that live on after so long."""
    return [kind for kind, who in read_roster(roster).items() if not wait_gone(*who, seconds)]


def open_rows() -> list[str]:
    journal = Journal.open(Paths().journal)
    try:
        return [row.intent.terms.name for row in journal.trees.open()]
    finally:
        journal.close()


def use_rung(name: str) -> None:
    settings = Path(os.environ["XDG_CONFIG_HOME"]) / "oomless" / "config.toml"
    settings.parent.mkdir(parents=True, exist_ok=True)
    settings.write_text(f'rung = "{name}"\n')


def left_running() -> dict[tuple[int, int], DetachedProcess]:
    return {(one.pid, one.start): one for one in Client(Paths(), start=False).status().detached}
