"""Ending a tree by descent (``contain/descendants.DescentKiller``): whom it reaches, whom it must not, and what it
reads for that.

Each test runs a process of its own that hunts below itself, for the hunted are whoever descends from it.
"""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from pathlib import Path

SRC = Path(__file__).parents[2] / "src"
BEGIN = """
import json, os, select, signal, sys, time
sys.path.insert(0, {src!r})
from oomless.contain import ending
from oomless.processes import descendants
from oomless.platform import proc
from oomless.processes.ids import ProcessId

proc.become_subreaper()
OWN = os.getpid()
tables, table = [], proc.table
proc.table = lambda: tables.append(1) or table()

def child(work):
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        work(writer)
        os._exit(0)
    os.close(writer)
    os.read(reader, 1)
    os.close(reader)
    return pid

def stays(*before):
    def work(writer):
        for step in before:
            step()
        os.write(writer, b"x")
        time.sleep(30)
    return child(work)

def zombie(*before):
    def work(writer):
        for step in before:
            step()
        os.write(writer, b"x")
    pid = child(work)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    return pid

def who(pid):
    return ProcessId(pid, proc.start_of(pid))

def lives(pid):
    return bool((stat := proc.read_stat(pid)) and stat.alive)

def reap():
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass

def hunt(skip, rounds=500):
    it = descendants.DescentKiller(OWN, skip)
    for number in range(rounds):
        it.round()
        reap()
        if ending.is_empty(OWN, skip, "/no/such/state"):
            return number + 1
    return None
"""


def run(body: str) -> dict[str, object]:
    code = BEGIN.format(src=str(SRC)) + textwrap.dedent(body)
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert isinstance(told, dict)
    return told


def test_a_tree_is_ended_without_a_look_at_other_processes() -> None:
    told = run("""
        deep = lambda: [stays() for _ in range(2)]
        tree = [stays(deep), stays(os.setsid, deep), stays()]
        rounds = hunt(set())
        print(json.dumps({"rounds": rounds, "alive": [pid for pid in tree if lives(pid)], "tables": len(tables)}))
    """)
    assert told["rounds"] is not None
    assert (told["alive"], told["tables"]) == ([], 0)


def test_one_round_reaches_a_whole_group_and_what_is_below() -> None:
    told = run("""
        def crowd():
            global inside
            inside = [stays() for _ in range(20)] + [stays(os.setsid) for _ in range(3)]
            with open(f"/proc/{OWN}/fd/{listing}", "w") as file:
                file.write(json.dumps(inside))
        listing = os.memfd_create("inside")
        os.set_inheritable(listing, True)
        root = stays(os.setsid, crowd)
        with open(f"/proc/{OWN}/fd/{listing}") as file:
            inside = json.load(file)
        fds = [os.pidfd_open(pid) for pid in [root, *inside]]
        descendants.DescentKiller(OWN).round()
        poll = select.poll()
        for fd in fds:
            poll.register(fd, select.POLLIN)
        until, dead = time.monotonic() + 10, set()
        while len(dead) < len(fds) and time.monotonic() < until:
            for fd, _ in poll.poll(100):
                dead.add(fd)
                poll.unregister(fd)
        print(json.dumps({"dead": len(dead), "of": len(fds)}))
    """)
    assert told["dead"] == told["of"] == 24


def test_strangers_and_their_groups_are_left_alone() -> None:
    """A dead child pins the number of a group that somebody below a job from before leads, as on a terminal."""
    told = run("""
        reader, writer = os.pipe()
        job = stays(lambda: os.write(writer, str(stays(os.setpgrp)).encode()))
        below = int(os.read(reader, 16))
        skip = {who(job)}
        zombie(lambda: os.setpgid(0, below))
        other = stays(os.setpgrp)
        early = ending.is_empty(OWN, skip, "/no/such/state")
        rounds = hunt(skip)
        print(json.dumps({"early": early, "rounds": rounds, "alive": [lives(pid) for pid in (job, below, other)]}))
        os.kill(job, signal.SIGKILL)
        os.kill(below, signal.SIGKILL)
    """)
    assert told["rounds"] is not None
    assert (told["early"], told["alive"]) == (False, [True, True, False])


def test_whom_a_look_missed_is_reached_by_the_group_of_a_dead_parent() -> None:
    """A process that forks and exits is never seen alive by who reads too slowly: made certain here."""
    told = run("""
        reader, writer = os.pipe()
        def parent():
            os.setsid()
            if os.fork() == 0:
                os.write(writer, str(stays()).encode())
                os._exit(0)
        leader = zombie(parent)
        missed = int(os.read(reader, 16))
        os.waitpid(leader, 0)
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)  # its dead child is ours now
        fd = os.pidfd_open(missed)
        seen = descendants.children
        descendants.children = lambda pid: (stat for stat in seen(pid) if not stat.alive)
        descendants.walk = lambda *_: []
        descendants.DescentKiller(OWN).round()
        gone = select.select([fd], [], [], 2)[0]
        print(json.dumps({"gone": bool(gone)}))
        os.kill(missed, signal.SIGKILL)
    """)
    assert told["gone"]


def test_the_group_of_a_daemon_that_was_born_below_is_left_alone() -> None:
    """It is in the session, and the group, of its own dead parent."""
    told = run("""
        reader, writer = os.pipe()
        def daemonize():
            os.setsid()
            os.write(writer, str(stays()).encode())
        zombie(daemonize)
        daemon = int(os.read(reader, 16))
        plain = stays(os.setsid)
        skip = {who(daemon)}
        rounds = hunt(skip)
        print(json.dumps({"rounds": rounds, "daemon": lives(daemon), "plain": lives(plain)}))
        os.kill(daemon, signal.SIGKILL)
    """)
    assert told["rounds"] is not None
    assert (told["daemon"], told["plain"]) == (True, False)


def test_a_daemon_that_is_another_process_every_moment_is_ended() -> None:
    """Each hop leaves its dead parent as our zombie, which still names the group."""
    told = run("""
        def hops():
            os.setsid()
            if os.fork():
                return
            until = time.monotonic() + 25
            while time.monotonic() < until:
                time.sleep(0.001)
                if os.fork():
                    os._exit(0)
            os._exit(0)
        zombie(hops)
        rounds = hunt(set(), rounds=20_000)
        print(json.dumps({"rounds": rounds}))
    """)
    assert told["rounds"] is not None


def test_the_daemon_is_a_stranger_only_where_it_is_below() -> None:
    told = run("""
        import tempfile
        argv = [sys.executable, "-c", "import time; time.sleep(30)", "-m", "oomless.daemon"]
        pid, start = it = who(child(lambda writer: os.execv(argv[0], argv)))
        other = stays()
        with tempfile.TemporaryDirectory() as state:
            with open(f"{state}/daemon.json", "w") as file:
                json.dump({"pid": pid, "start": start}, file)
            found = [list(ending.daemon_below(state, own)) for own in (OWN, other)]
        hunt(set())
        print(json.dumps({"found": found, "it": it}))
    """)
    assert told["found"] == [[told["it"]], []]
