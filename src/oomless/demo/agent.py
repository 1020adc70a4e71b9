"""The synthetic agent and the children that it starts; run by path, standard library only.

``python -I -S -E agent.py agent NAME FOLDER MEMORY CHILD_MEMORY SECONDS LIFE`` takes MEMORY bytes in a ramp, as a
session does that reads its way into a project, and behaves to its children as the hosts of the incident do: it
closes their stdin and waits a moment for the one that understands. Its children are

- ``helper``: ends at EOF, as a well-behaved MCP server;
- ``server``: ignores EOF, TERM, INT and HUP: the one that leaks;
- ``detached``: in a session of its own, so that no signal to its parent's group reaches it.

Whatever happens to the rest, the kernel kills each of these processes LIFE seconds after its start.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

STEPS, RAMP_STEPS, HALF_STEP = 40, 24, 20
CHILDREN = ("helper", "server", "detached")


def run_agent(name: str, folder: str, memory: int, child_memory: int, seconds: float, life: int) -> None:
    children = [start_child(role, child_memory, life) for role in CHILDREN]
    held = []
    for step in range(1, STEPS + 1):
        if step <= RAMP_STEPS:
            held.append(b"\x01" * (memory // RAMP_STEPS))  # each byte is written, so that the memory is really used
        if step == HALF_STEP:
            open(os.path.join(folder, f"{name}.half"), "w").close()
        # Paced by pauses and not by the clock: on a busy machine half-way must not come just before the end.
        time.sleep(seconds / STEPS)
    write_result(folder, name)
    for child in children:
        if child.stdin is not None:
            child.stdin.close()
    try:
        children[0].wait(timeout=0.5)
    except subprocess.TimeoutExpired:
        pass


def start_child(role: str, memory: int, life: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-I", "-S", "-E", os.path.abspath(__file__), role, str(memory), str(life)],
        stdin=subprocess.DEVNULL if role == "detached" else subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=role == "detached",
    )


def run_child(role: str, memory: int) -> None:
    if role == "server":
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
    held = b"\x01" * memory
    if role != "detached":
        sys.stdin.buffer.read()
    while role != "helper" and held:
        signal.pause()


def write_result(folder: str, name: str) -> None:
    """The file is whole or absent; a second result does not take the place of the first."""
    draft = os.path.join(folder, f".{name}.{os.getpid()}")
    with open(draft, "w", encoding="utf-8") as file:
        file.write(f'{{"name": "{name}", "pid": {os.getpid()}}}')
    try:
        os.link(draft, os.path.join(folder, f"{name}.json"))
        os.unlink(draft)
    except FileExistsError:
        os.rename(draft, os.path.join(folder, f"{name}.again"))


def main(role: str, *rest: str) -> None:
    signal.alarm(int(rest[-1]))
    if role == "agent":
        name, folder, memory, child_memory, seconds, life = rest
        run_agent(name, folder, int(memory), int(child_memory), float(seconds), int(life))
    else:
        run_child(role, int(rest[0]))
    # Without the interpreter's own exit, which takes 10 ms to free what the kernel frees.
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
