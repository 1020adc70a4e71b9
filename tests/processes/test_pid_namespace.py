"""The rung of a PID namespace: what its command sees, who cannot escape it, and where it is not to be had. What every
rung must do is in ``test_contain.py``."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import trees
from contained import OFFERS, PYTHON, TREE, Run, inner_pid, read_roster
from helpers import alive, is_error_report, run_oomless, wait_for, wait_gone
from oomless.contain.rungs.base import PID_NAMESPACE, SUBREAPER_GAP
from oomless.contain.rungs.choose import Offer, RungChooser
from oomless.paths import Paths
from oomless.platform import namespaces, proc
from oomless.protocol.client import Client
from oomless.reports.doctor import list_gaps
from running import RUN, gone, kill, kill_daemon, on_a_terminal, open_rows, open_trees, running, start, use_rung

OFFER = next((offer for offer in OFFERS if offer.name == PID_NAMESPACE), Offer(PID_NAMESPACE, False, ""))
pytestmark = [
    pytest.mark.skipif(not OFFER.usable, reason="this system allows this user no PID namespace"),
    pytest.mark.as_user,
]

#: A daemon that forks and ends every 2 ms, each time in a new session; who of it lives holds the standard output.
RABBIT = """
import os, signal, sys, time
if os.fork() == 0:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    until = time.monotonic() + 60
    while time.monotonic() < until:
        if os.fork():
            os._exit(0)
        os.setsid()
        os.write(1, b"h")
        time.sleep(0.002)
time.sleep(float(sys.argv[1]))
"""
VIEW = """
import glob, json, os
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(json.dumps({
    "ids": [os.getuid(), os.getgid()], "parent": os.getppid(), "me": int(os.readlink("/proc/self")) == os.getpid(),
    "all": sorted(int(name[6:]) for name in glob.glob("/proc/[1-9]*")), "capabilities": status["CapEff"].strip(),
    "score": int(open("/proc/self/oom_score_adj").read()), "leads": os.getsid(0) == os.getpgrp() == os.getpid()
}))
"""
ORPHANS = """
import os, time
for _ in range(20):
    if os.fork() == 0:
        if os.fork() == 0:
            time.sleep(0.01)
        os._exit(0)
    os.wait()
states = ""
until = time.monotonic() + 20
while states != "S" and time.monotonic() < until:  # of everybody but us, who runs
    time.sleep(0.01)
    try:
        pids = [name for name in os.listdir("/proc") if name.isdigit() and int(name) != os.getpid()]
        states = "".join(open(f"/proc/{pid}/stat").read().rsplit(") ")[1][0] for pid in pids)
    except OSError:
        pass  # one of them has gone meanwhile
print(states)
"""
SWITCH_OFF = """
import os, sys
from oomless.platform import namespaces
namespaces._call("unshare", "", 0x10000000)
for name, text in (("setgroups", "deny"), ("uid_map", f"{os.getuid()} {os.getuid()} 1")):
    open(f"/proc/self/{name}", "w").write(text)
for name in ("user", "pid"):
    open(f"/proc/sys/user/max_{name}_namespaces", "w").write("0")
os.execv(sys.argv[1], sys.argv[1:])
"""
SWITCHED_OFF = [sys.executable, "-c", SWITCH_OFF]


@pytest.fixture
def roster(tmp_path: Path) -> Path:
    return tmp_path / "roster"


def init_of(shim: int) -> proc.Stat:
    found = [proc.read_stat(pid) for pid in proc.children_of(shim) if inner_pid(pid) == 1]
    assert found[0] is not None
    return found[0]


def started(tmp_path: Path, *command: str) -> Run:
    """Once the command has written a byte."""
    run = Run(tmp_path, OFFER, [*command])
    assert run.process.stdout is not None
    assert os.read(run.process.stdout.fileno(), 1)
    return run


class TestWhatTheCommandSees:
    def test_its_own_tree_as_the_same_user(self, tmp_path: Path) -> None:
        run = Run(tmp_path, OFFER, [*PYTHON, "-c", VIEW])
        record = run.finish()
        assert record.rung == PID_NAMESPACE
        assert record.seconds < 1  # nobody was left, so there was no grace for anybody
        found = json.loads(run.out)
        assert found["all"] == [1, 2]
        assert found["ids"] == [os.getuid(), os.getgid()]
        assert (found["parent"], found["me"], found["leads"], found["score"]) == (0, True, True, 500)
        if os.getuid() != 0:
            assert int(found["capabilities"], 16) == 0

    def test_orphans_are_reaped(self, tmp_path: Path) -> None:
        run = Run(tmp_path, OFFER, [*PYTHON, "-c", ORPHANS])
        run.finish()
        assert run.out == "S\n"  # init

    def test_its_first_process_cannot_be_ended_from_inside(self, tmp_path: Path) -> None:
        signals = " ".join(str(number) for number in range(1, 65) if number not in (32, 33))
        code = f"for number in {signals}; do kill -$number 1; done; echo still; exit 3"
        run = Run(tmp_path, OFFER, ["sh", "-c", code])
        assert run.finish().exit_code == 3
        assert run.out == "still\n"

    @pytest.mark.root
    def test_what_is_mounted_inside_stays_inside(self, tmp_path: Path) -> None:
        there = tmp_path / "there"
        there.mkdir()
        run = Run(tmp_path, OFFER, ["sh", "-c", f"mount -t tmpfs none {there} && touch {there}/file && ls {there}"])
        run.finish()
        assert (run.out, list(there.iterdir())) == ("file\n", [])

    def test_its_first_process_is_small_and_holds_nothing(self, tmp_path: Path) -> None:
        run = started(tmp_path, "sh", "-c", "echo; read never; sleep 30")
        init = init_of(run.process.pid)
        held = [os.readlink(f"/proc/{init.pid}/fd/{fd}") for fd in os.listdir(f"/proc/{init.pid}/fd")]
        assert (len(held), held[0][:5]) == (1, "pipe:")
        rollup = (proc.read_file(f"/proc/{init.pid}/smaps_rollup") or b"").decode().splitlines()
        private = sum(int(line.split()[1]) for line in rollup if line.startswith("Private_"))
        assert private < 2000  # kB
        run.process.terminate()
        run.finish()


class TestNobodyEscapes:
    def test_a_hopping_daemon_when_the_root_ends(self, tmp_path: Path) -> None:
        run = Run(tmp_path, OFFER, [*PYTHON, "-c", RABBIT, "0.2"])
        record = run.finish()  # reads to the end of its output
        assert run.out.startswith("hh")
        assert (record.exit_code, record.survivors) == (0, 0)

    def test_a_hopping_daemon_when_the_shim_is_killed(self, tmp_path: Path) -> None:
        run = started(tmp_path, *PYTHON, "-c", RABBIT, "60")
        run.process.kill()
        assert run.process.communicate(timeout=10)[0].strip("h") == ""  # the end of its output: none of it lives

    def test_a_killed_shim_whose_init_is_stopped(self, tmp_path: Path) -> None:
        """It cannot see that the pipe ends; the kernel kills it all the same."""
        run = started(tmp_path, "sh", "-c", "echo ready; setsid sleep 60 & sleep 60")
        init = init_of(run.process.pid)
        assert wait_for(
            lambda: (stat := proc.read_stat(init.pid)) and stat.comm == "oomless-init", 10
        )  # now it is bound
        assert proc.send(init.pid, init.start, signal.SIGSTOP) == proc.SENT
        assert wait_for(lambda: (stat := proc.read_stat(init.pid)) and stat.state == "T", 10)
        run.process.kill()
        run.process.communicate(timeout=10)
        # As a number it stays until whoever inherits the root has reaped that: not every system's init does at once.
        assert wait_for(lambda: not proc.cmdline(init.pid), 10)

    def test_an_init_that_is_killed_takes_all_along(self, tmp_path: Path, roster: Path) -> None:
        run = Run(tmp_path, OFFER, [*TREE, str(roster), "stay"])
        assert wait_for(lambda: "root" in read_roster(roster), 20)
        members = read_roster(roster)
        assert len(members) == len(trees.KINDS) + 1
        assert all(alive(*who) for who in members.values())
        init = init_of(run.process.pid)
        proc.kill(init.pid, init.start)
        record = run.finish()
        assert (record.exit_code, record.signal, record.survivors) == (137, signal.SIGKILL, 0)
        assert not any(alive(*who) for who in members.values())

    def test_shim_and_daemon_killed_at_once(self, roster: Path) -> None:
        """No sweep is needed; the next daemon closes the row."""
        use_rung(PID_NAMESPACE)
        process = start("--name", "tree", "--", *TREE, str(roster), "stay")
        assert wait_for(lambda: "root" in read_roster(roster) and running("tree"), 30)
        tree = running("tree")
        assert tree
        assert tree.rung == PID_NAMESPACE
        everyone = read_roster(roster)
        assert all(alive(*who) for who in everyone.values())
        kill_daemon()
        kill(process)
        assert [kind for kind, who in everyone.items() if not wait_gone(*who, 5)] == []
        run_oomless("daemon", "start")
        assert wait_for(lambda: not open_trees(), 10)
        run_oomless("daemon", "stop")
        assert open_rows() == []

    def test_the_daemon_reaches_the_members_of_a_killed_shim(self, roster: Path) -> None:
        use_rung(PID_NAMESPACE)
        process = start("--name", "tree", "--", *TREE, str(roster), "stay")
        assert wait_for(lambda: "root" in read_roster(roster) and running("tree"), 30)
        everyone = len(trees.KINDS) + 1
        assert wait_for(lambda: (found := running("tree")) and found.processes == everyone, 10)
        kill(process)
        assert gone(roster, 2) == []
        assert wait_for(lambda: not open_trees(), 5)
        ended = Client(Paths(), start=False).tree("tree")
        assert ended
        assert "shim was killed" in ended.reason
        assert "cannot be told" not in ended.reason  # on this rung there is no such gap


class TestOnATerminal:
    def test_ctrl_c_is_the_commands_own(self) -> None:
        use_rung(PID_NAMESPACE)
        assert on_a_terminal(b"\x03", "trap 'exit 7' INT; echo ready; while :; do sleep 0.1; done")[0] == 7
        assert on_a_terminal(b"\x03", "echo ready; exec sleep 30")[0] == 130
        assert b"got typed" in on_a_terminal(b"typed\n", "echo ready; read line; echo got $line")[1]

    def test_a_suspended_command_is_a_suspended_job(self) -> None:
        """Our caller sees its job stop, and continues both. (Ctrl-Z would need a shell above: nobody else could
        continue us.)"""
        use_rung(PID_NAMESPACE)
        pid, fd = pty.fork()
        if pid == 0:
            os.execv(RUN[0], [*RUN, "--", "sh", "-c", "kill -STOP $$; echo goes on"])
        try:
            out = b""
            assert os.WIFSTOPPED(os.waitpid(pid, os.WUNTRACED)[1])
            os.kill(pid, signal.SIGCONT)  # our child, not reaped
            while b"goes on" not in out:
                out += os.read(fd, 4096)
        finally:
            os.close(fd)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


class TestTheOffer:
    def test_it_is_never_taken_unasked(self) -> None:
        ladder = RungChooser("test")
        assert ladder.choose({}).name == "subreaper"  # without a group of one's own it would be the next best
        assert ladder.choose({}, PID_NAMESPACE).name == PID_NAMESPACE
        assert PID_NAMESPACE not in [offer.name for offer in ladder.offers({}, "auto")]

    def test_where_it_is_switched_off_the_reason_names_the_switch(self) -> None:
        """In a user namespace whose own switches are off."""
        code = "from oomless.contain.rungs.choose import RungChooser; "
        code += "best = RungChooser('t').choose({}, 'pid-namespace');"
        code += "print(best.name, best.why, sep='|')"
        argv = [*SWITCHED_OFF, sys.executable, "-c", code]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        assert done.stderr == ""
        name, why = done.stdout.strip().split("|")
        assert name == "subreaper"
        assert why.startswith("pid-namespace is wanted by the settings and not to be had (the kernel refuses (")
        assert "; user.max_user_namespaces is 0); " in why

    def test_each_switch_is_known(self, tmp_path: Path) -> None:
        assert namespaces.forbidden_by(str(tmp_path)) == ""
        (tmp_path / "kernel").mkdir()
        (tmp_path / "kernel" / "apparmor_restrict_unprivileged_userns").write_text("1\n")
        expected = "kernel.apparmor_restrict_unprivileged_userns is 1"
        assert namespaces.forbidden_by(str(tmp_path)) == expected
        (tmp_path / "kernel" / "apparmor_restrict_unprivileged_userns").write_text("0\n")
        assert namespaces.forbidden_by(str(tmp_path)) == ""

    def test_a_shim_that_is_refused_falls_through(self, tmp_path: Path) -> None:
        """As where the asker is confined and the daemon is not."""
        run = Run(tmp_path, OFFER, ["true"], wrap=SWITCHED_OFF)
        record = run.finish()
        assert (record.exit_code, record.rung) == (0, "subreaper")
        assert record.why_rung.startswith("fell through from pid-namespace: ")


class TestWithTheDaemon:
    def test_a_nested_run_is_refused_in_one_line(self) -> None:
        use_rung(PID_NAMESPACE)
        done = run_oomless("run", "--", *RUN, "--", "true")
        assert (done.returncode, done.stdout) == (125, "")
        assert is_error_report(done.stderr)
        assert "not seen from inside a PID namespace" in done.stderr
        assert [tree.name for tree in open_trees()] == []

    def test_doctor_tries_it(self) -> None:
        found = json.loads(run_oomless("doctor", "--json").stdout)
        row = next(row for row in found["rungs"] if row["name"] == PID_NAMESPACE)
        assert (row["usable"], row["chosen"], row["ended"], row["survivors"]) == (True, False, 5, 0)
        assert "opt-in" in row["why"]

    def test_what_is_wanted_and_not_to_be_had_is_no_gap(self) -> None:
        offers = RungChooser("test").offers({}, PID_NAMESPACE)
        chosen = next(offer for offer in offers if offer.name == "subreaper")
        chosen.why = f"pid-namespace is wanted by the settings and not to be had (refused; off); {chosen.why}"
        assert SUBREAPER_GAP in list_gaps(chosen, offers)
