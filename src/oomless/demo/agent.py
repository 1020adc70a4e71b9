"""The synthetic agent and the children that it starts; run by path, standard library only.

``python -I -S -E agent.py agent NAME FOLDER MEMORY CHILD_MEMORY SECONDS LIFE`` takes MEMORY bytes in a ramp, as a
session does that reads its way into a project, and behaves to its children as the hosts of the incident do: it
closes their stdin and waits a moment for the one that understands. Its children are

- ``helper``: ends at EOF, as a well-behaved MCP server;
- ``server``: ignores EOF, TERM, INT and HUP: the one that leaks;
- ``detached``: in a session of its own, so that no signal to its parent's group reaches it.

In FOLDER it leaves ``NAME.half`` half-way and ``NAME.json`` when its work is done (atomically; should it be done
twice, ``NAME.again``). Whatever happens to the rest, the kernel ends each of these processes LIFE seconds after
its start. Who starts and counts agents: ``acts.py`` and ``measure.py``.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

STEPS, RAMP_STEPS, HALF_STEP = 40, 24, 20
CHILDREN = ("helper", "server", "detached")
PAGE = 4096


def take(size: int) -> bytearray:
    """Memory that is really used: each byte is written."""
    return bytearray(b"\x01") * size


def start_child(role: str, memory: int, life: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-I", "-S", "-E", os.path.abspath(__file__), role, str(memory), str(life)]
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL if role == "detached" else subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=role == "detached",
    )


def child(role: str, memory: int, life: int) -> None:
    signal.alarm(life)
    if role == "server":
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
    ballast = take(memory)
    if role != "detached":
        sys.stdin.buffer.read()
    while role != "helper" and ballast:
        signal.pause()


def write(folder: str, name: str, facts: dict[str, object]) -> None:
    """The file is whole or absent; a second result is not taken for the first."""
    draft = os.path.join(folder, f".{name}.{os.getpid()}")
    with open(draft, "w", encoding="utf-8") as file:
        json.dump(facts, file)
    try:
        os.link(draft, os.path.join(folder, f"{name}.json"))
        os.unlink(draft)
    except FileExistsError:
        os.rename(draft, os.path.join(folder, f"{name}.again"))


def work(name: str, folder: str, memory: int, seconds: float) -> int:
    """Fills the memory over the first 60 % of the time and holds it for the rest; the pages that it touched. Paced
    by pauses and not by the clock: on a busy machine half-way must not come just before the end."""
    held = []
    for step in range(1, STEPS + 1):
        if step <= RAMP_STEPS:
            held.append(take(memory // RAMP_STEPS))
        if step == HALF_STEP:
            with open(os.path.join(folder, f"{name}.half"), "w", encoding="utf-8"):
                pass
        time.sleep(seconds / STEPS)
    return sum(sum(part[::PAGE]) for part in held)


def agent(name: str, folder: str, memory: int, child_memory: int, seconds: float, life: int) -> None:
    signal.alarm(life)
    children = {role: start_child(role, child_memory, life) for role in CHILDREN}
    pages = work(name, folder, memory, seconds)
    write(folder, name, {"name": name, "pid": os.getpid(), "pages": pages})
    for process in children.values():
        if process.stdin is not None:
            process.stdin.close()
    try:
        children["helper"].wait(timeout=0.5)
    except subprocess.TimeoutExpired:
        pass


def main(arguments: list[str]) -> None:
    role, rest = arguments[0], arguments[1:]
    if role == "agent":
        name, folder, memory, child_memory, seconds, life = rest
        agent(name, folder, int(memory), int(child_memory), float(seconds), int(life))
    else:
        child(role, int(rest[0]), int(rest[1]))
    # The interpreter's own farewell would wait for nobody here, but costs 10 ms and frees what the kernel frees.
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1:])
