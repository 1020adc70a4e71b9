"""The ways of killing a tree that ``contain.py`` compares. Each starts the tree itself and kills it on request.

The request to oomless is a signal to the shim (``_driven.py``), which then does what it does at a limit; killpg and
psutil are called in this process; circus and supervisord are asked over their control sockets, by a client that is
connected already (``_client.py``). All send KILL at once, and are configured to reach as much as they can.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any, Protocol

import psutil

from _contained import MeasuredTree
from oomless.contain.launch import BOOT, ShimSpec, shim_argv, write_spec
from oomless.contain.rungs.choose import Offer, RungChooser
from oomless.platform import cgroup, files, proc

HERE = os.path.dirname(os.path.abspath(__file__))
INSTALL = "bench" + os.urandom(3).hex()

#: However it is set, it signals the root first and looks up each child below it after that (0.19.0, Watcher.
#: send_signal_process): with KILL there is no root any more to look below.
CIRCUS = """
[circus]
endpoint = ipc://{folder}/control
pubsub_endpoint = ipc://{folder}/events
check_delay = 1
statsd = false
[watcher:tree]
cmd = {command}
stop_signal = KILL
stop_children = true
graceful_timeout = 1
respawn = false
"""
#: Its fastest that is not all the time; by default it looks each minute and waits until it has seen it four times.
RESOURCE_WATCHER = """
[plugin:watch]
use = circus.plugins.resource_watcher.ResourceWatcher
watcher = tree
loop_rate = 1
max_count = 0
max_cpu = 0
health_threshold = 0
max_mem = {mib}M
"""
SUPERVISORD = """
[supervisord]
nodaemon = true
logfile = /dev/null
logfile_maxbytes = 0
pidfile = {folder}/pid
[unix_http_server]
file = {folder}/control
[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface
[program:tree]
command = {command}
autorestart = false
startsecs = 0
stopsignal = KILL
stopasgroup = true
killasgroup = true
"""
#: Every 5 s is as often as supervisord ticks.
MEMMON = """
[eventlistener:memmon]
command = {memmon} -c -p tree={limit}
events = TICK_5
"""


class Way(Protocol):
    name: str

    def start(self, tree: MeasuredTree) -> None: ...

    def end(self) -> float:
        """Asks for the end of the tree. Returns when, on the monotonic clock."""
        ...

    def close(self) -> None:
        """Ends what it started for itself; nothing of the tree is left by then."""
        ...


class Oomless:
    """A shim on a rung. With ``limit`` it is the shim as users have it, which kills the tree by itself."""

    def __init__(self, offer: Offer, limit: int | None = None) -> None:
        self.name = f"oomless, {offer.name}"
        self.offer = offer
        self.limit = limit

    def start(self, tree: MeasuredTree) -> None:
        name = "t" + os.urandom(4).hex()
        granted: dict[str, object] = {
            "tree": name,
            "reserved": 1,
            "limit": self.limit,
            "processes": None,
            "rung": self.offer.name,
            "why_rung": "",
            "cgroups": self.offer.cgroups(f"oomless-{INSTALL}-{name}"),
            "marker": f"{INSTALL}:{name}",
            "exits": tree.folder,
        }
        fd = write_spec(ShimSpec(granted, name="bench", state=tree.folder, quiet=True))
        argv = shim_argv(fd, name, tree.command)
        if self.limit is None:
            argv[argv.index(BOOT)] = f"{HERE}/_driven.py"
        self.process = start_quietly(argv, pass_fds=[fd])
        tree.below = self.process.pid
        os.close(fd)

    def end(self) -> float:
        asked = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        return asked

    def close(self) -> None:
        self.process.wait(20)


class Bare:
    """``cgroup.kill`` with nothing around it: what dying takes by itself."""

    name = "bare cgroup.kill"

    def __init__(self, base: str) -> None:
        self.path = f"{base}/oomless-{INSTALL}-bare"

    def start(self, tree: MeasuredTree) -> None:
        os.mkdir(self.path)
        self.process = start_quietly(tree.command, preexec_fn=lambda: files.write(f"{self.path}/cgroup.procs", "0"))

    def end(self) -> float:
        asked = time.monotonic()
        files.write(f"{self.path}/cgroup.kill", "1")
        return asked

    def close(self) -> None:
        self.process.wait(20)
        while not cgroup.remove(self.path):  # busy for some milliseconds more
            time.sleep(0.005)


class Killpg:
    name = "killpg"

    def start(self, tree: MeasuredTree) -> None:
        self.process = start_quietly(tree.command, start_new_session=True)

    def end(self) -> float:
        """The root is not reaped yet, so the number is still its group's."""
        asked = time.monotonic()
        os.killpg(self.process.pid, signal.SIGKILL)
        return asked

    def close(self) -> None:
        self.process.wait(20)


class Psutil(Killpg):
    """The recipe of its documentation: the children first, then the process itself."""

    name = "psutil, recursive"

    def end(self) -> float:
        asked = time.monotonic()
        root = psutil.Process(self.process.pid)
        for process in [*root.children(recursive=True), root]:
            try:
                process.kill()
            except psutil.NoSuchProcess:
                pass
        return asked


class Supervisor:
    """circus or supervisord, with a client beside it."""

    def __init__(self, name: str, python: str, settings: Callable[[MeasuredTree], str]) -> None:
        self.name = name
        self.program = name.split(",")[0]
        self.python = python
        self.settings = settings

    def start(self, tree: MeasuredTree) -> None:
        path = f"{tree.folder}/settings.ini"
        with open(path, "w", encoding="utf-8") as file:
            file.write(self.settings(tree))
        module = {"circus": ["circus.circusd"], "supervisord": ["supervisor.supervisord", "-c"]}[self.program]
        guard = [sys.executable, "-I", "-S", f"{HERE}/_guard.py", self.python, "-m", *module, path]
        self.guard = subprocess.Popen(guard, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
        self.socket = f"{tree.folder}/control"
        self.client: subprocess.Popen[bytes] | None = None

    def connect(self) -> None:
        """To be called once the tree has started."""
        argv = [self.python, f"{HERE}/_client.py", self.program, self.socket]
        self.client = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
        self._read_line()

    def _read_line(self) -> bytes:
        assert self.client
        assert self.client.stdout
        line = self.client.stdout.readline()
        if not line:
            raise SystemExit(f"the client of {self.program} has failed")
        return line

    def end(self) -> float:
        assert self.client
        assert self.client.stdin
        self.client.stdin.write(b"\n")
        return int(self._read_line()) / 1e9

    def close(self) -> None:
        if self.client:
            self.client.kill()
            self.client.communicate()
        self.guard.communicate(timeout=20)


def start_quietly(argv: list[str], **options: Any) -> subprocess.Popen[bytes]:
    null = subprocess.DEVNULL
    return subprocess.Popen(argv, stdin=null, stdout=null, stderr=null, **options)


def list_offers() -> list[Offer]:
    return [offer for offer in RungChooser(INSTALL).offers(proc.cgroups("self")) if offer.usable]


def list_ways(python: str, installed: set[str]) -> list[Way]:
    """All, ours first; ``installed``: the other programs that there are."""
    ways: list[Way] = [Oomless(offer) for offer in list_offers()]
    unified = [base for offer in list_offers() if (base := offer.bases.get(""))]  # systemd's are not known before
    ways += [*(Bare(base) for base in unified[:1]), Killpg(), Psutil()]
    if "circus" in installed:
        ways.append(Supervisor("circus", python, lambda tree: fill_settings(CIRCUS, tree)))
    if "supervisor" in installed:
        ways.append(Supervisor("supervisord", python, lambda tree: fill_settings(SUPERVISORD, tree)))
    return ways


def list_limiters(python: str, installed: set[str], limit: int) -> list[Way]:
    """Those that kill a tree by themselves when it has exceeded a limit."""
    ways: list[Way] = [Oomless(offer, limit) for offer in list_offers()]
    if "circus" in installed:
        mib = str(limit >> 20)
        ways.append(
            Supervisor(
                "circus, resource_watcher", python, lambda t: fill_settings(CIRCUS + RESOURCE_WATCHER, t, mib=mib)
            )
        )
    if "superlance" in installed:
        memmon = {"memmon": f"{python} -m superlance.memmon", "limit": str(limit)}
        ways.append(
            Supervisor(
                "supervisord, memmon", python, lambda tree: fill_settings(SUPERVISORD + MEMMON, tree, **memmon)
            )
        )
    return ways


def fill_settings(settings: str, tree: MeasuredTree, **more: str) -> str:
    return settings.format(folder=tree.folder, command=" ".join(tree.command), **more)


def check_cgroups_gone() -> None:
    """Prints which of our cgroups are left; each is to be removed with its shim."""
    for offer in list_offers():
        for base in filter(None, offer.bases.values()):
            left = [name for name in os.listdir(base) if name.startswith(f"oomless-{INSTALL}-")]
            if left:
                print(f"left in {base}: {left}", file=sys.stderr)
