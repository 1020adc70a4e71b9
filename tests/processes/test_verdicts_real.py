"""Verdicts on real processes: sessions with servers over pipes and over pairs of sockets, killed, and looked at once
without a daemon. The rules one by one, on recorded facts: ``test_verdicts.py``.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from contained import read_roster
from helpers import run_oomless, wait_for, wait_gone
from oomless.paths import Paths
from oomless.platform import proc
from sessions import Session, member

pytestmark = pytest.mark.as_user

Who = tuple[int, int]
Rows = dict[int, dict[str, Any]]


class Stage:
    """Sessions of a host by that name, and who reported from below them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.python = folder / "claude"
        self.python.symlink_to(os.path.realpath(sys.executable))
        self.everybody: set[Who] = set()

    def session(self) -> Session:
        return Session(None, python=str(self.python))

    def roster(self, name: str, *kinds: str) -> dict[str, Who]:
        """Who reported in this roster, once all of these have."""
        path = self.folder / name
        assert wait_for(lambda: set(kinds) <= read_roster(path).keys(), 20), read_roster(path)
        found = read_roster(path)
        self.everybody |= set(found.values())
        return found

    def server(self, session: Session, kind: str, over: str = "pipe", roster: str = "roster") -> Who:
        """A server that ignores the end of its input."""
        session.server(member(kind, str(self.folder / roster)), over)
        return self.roster(roster, kind)[kind]

    def shell(self, session: Session, command: str, *kinds: str) -> dict[str, Who]:
        """Commands of the session's agent; ``{kind}`` in the command is such a process."""
        for kind in kinds:
            command = command.replace(f"{{{kind}}}", " ".join(member(kind, str(self.folder / "roster"))))
        session.shell(command, str(self.folder))
        return self.roster("roster", *kinds)

    def close(self) -> None:
        for who in self.everybody:
            proc.kill(*who)
        assert all(wait_gone(*who, 20) for who in self.everybody)


@pytest.fixture
def stage(house: Path) -> Iterator[Stage]:
    made = Stage(house)
    yield made
    made.close()


def scan() -> dict[str, Any]:
    done = run_oomless("scan", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert isinstance(found, dict)
    return found


def rows() -> Rows:
    return {row["pid"]: row for row in scan()["processes"]}


@pytest.mark.parametrize("over", ["pipe", "socket"])
def test_a_killed_sessions_servers_are_orphans_at_one_look_and_a_live_ones_are_not(stage: Stage, over: str) -> None:
    with stage.session() as dead, stage.session() as live:
        gone, kept = stage.server(dead, "stubborn", over, "one"), stage.server(live, "stubborn", over, "two")
        before = rows()
        assert {before[pid]["verdict"] for pid, _ in (gone, kept)} == {"owned"}
        dead.end("KILL")
        report = scan()
        found = {row["pid"]: row for row in report["processes"]}
        assert (found[gone[0]]["verdict"], found[kept[0]]["verdict"]) == ("orphan", "owned")
        assert (found[gone[0]]["kind"], found[gone[0]]["session"]) == ("server", f"stand-in-{dead.pid}")
        assert "nothing holds the other end" in found[gone[0]]["evidence"][0]
        assert found[gone[0]]["bytes_recoverable"] > 0
        (finding,) = (one for one in report["findings"] if one["rule"] == "orphans")
        assert gone[0] in finding["pids"]
        assert kept[0] not in finding["pids"]
        assert "oomless reap" in finding["action"]
    assert not os.path.exists(Paths().daemon_file), "no daemon was started for it"


def test_a_launcher_and_what_it_launched(stage: Stage) -> None:
    with stage.session() as session:
        stage.server(session, "launcher")
        below = stage.roster("roster", "launched-stubborn")
        session.end("KILL")
        found = rows()
        assert {kind: found[pid]["verdict"] for kind, (pid, _) in below.items()} == {
            "launcher": "orphan", "launched-stubborn": "orphan",
        }  # fmt: skip


def test_whose_input_somebody_still_holds_is_none(stage: Stage) -> None:
    """Who has the other end by inheritance may go on to talk to it."""
    with stage.session() as session:
        pid, _ = stage.server(session, "stubborn")
        held = next(fd for fd in os.listdir(f"/proc/{session.pid}/fd") if writes_to(session.pid, fd, pid))
        holder = os.open(f"/proc/{session.pid}/fd/{held}", os.O_WRONLY)
        session.end("KILL")
        assert rows()[pid]["verdict"] == "unknown"
        os.close(holder)
        assert rows()[pid]["verdict"] == "orphan"


def writes_to(pid: int, fd: str, server: int) -> bool:
    try:
        same = os.readlink(f"/proc/{pid}/fd/{fd}") == os.readlink(f"/proc/{server}/fd/0")
    except OSError:
        return False
    return same and fd != "0"


def test_whose_input_is_null_is_none(stage: Stage) -> None:
    with stage.session() as session:
        pid, _ = stage.server(session, "stubborn", "null")
        session.end("KILL")
        assert rows()[pid]["verdict"] == "unknown"


def test_what_was_meant_to_go_on_is_none(stage: Stage) -> None:
    """A job by nohup and setsid is; a plain one, and one whose pipe nobody writes to any more, are only left."""
    with stage.session() as session:
        found = stage.shell(
            session,
            "nohup setsid {detached} > /dev/null 2>&1 & (:) | {piped} & {plain} & wait",
            "detached", "piped", "plain",
        )  # fmt: skip
        session.end("KILL")
        seen = rows()
        assert {kind: seen[pid]["verdict"] for kind, (pid, _) in found.items()} == {
            "detached": "detached", "plain": "orphan", "piped": "orphan",
        }  # fmt: skip
        assert {"detached", "orphans"} <= {one["rule"] for one in scan()["findings"]}


def test_a_multiplexer_from_a_tool_shell_and_what_is_in_it_stay(stage: Stage) -> None:
    with stage.session() as session:
        server = stage.server(session, "stubborn")
        found = stage.shell(session, f"tmux -S {stage.folder}/t -f /dev/null new-session -d {{inside}}", "inside")
        multiplexer = proc.read_stat(found["inside"][0])
        assert multiplexer is not None
        top = multiplexer.ppid
        stage.everybody.add((top, proc.start_of(top) or 0))
        session.end("KILL")
        seen = rows()
        assert seen[server[0]]["verdict"] == "orphan"
        assert seen[top]["verdict"] == "protected"
        assert found["inside"][0] not in seen or seen[found["inside"][0]]["verdict"] == "unknown"


def test_an_older_generation_that_its_session_let_go(stage: Stage) -> None:
    """The same server twice under a session that lives; it has closed its end of the older one."""
    with stage.session() as session:
        older = stage.server(session, "stubborn", roster="one")
        second = session.server(member("stubborn", str(stage.folder / "one")))
        wanted = lambda: read_roster(stage.folder / "one")["stubborn"][0] == second  # noqa: E731
        assert wait_for(wanted, 20)
        stage.roster("one", "stubborn")
        found = rows()
        assert (found[older[0]]["verdict"], found[second]["verdict"]) == ("owned", "owned"), "two names, both in use"
        session.ask(do="let go", pid=older[0])
        found = rows()
        assert (found[older[0]]["verdict"], found[second]["verdict"]) == ("superseded", "owned")


def test_the_same_server_in_two_live_sessions(stage: Stage) -> None:
    with stage.session() as first, stage.session() as second:
        older = stage.server(first, "stubborn", roster="one")
        younger = second.server(member("stubborn", str(stage.folder / "one")))
        assert wait_for(lambda: read_roster(stage.folder / "one")["stubborn"][0] == younger, 20)
        stage.roster("one", "stubborn")
        found = rows()
        assert (found[older[0]]["verdict"], found[younger]["verdict"]) == ("owned", "duplicate")


def test_the_table_says_so_and_what_to_do(stage: Stage) -> None:
    with stage.session() as session:
        pid, _ = stage.server(session, "stubborn")
        session.end("KILL")
        shown = run_oomless("scan").stdout
    line = next(line for line in shown.splitlines() if line.split()[:1] == [str(pid)])
    assert line.split()[-1] == "orphan"
    assert any(line.startswith("warning: ") and "leftover process" in line for line in shown.splitlines())


def test_who_vanishes_while_it_is_looked_at_is_no_error(stage: Stage) -> None:
    with stage.session() as session:
        everybody = [stage.server(session, "stubborn", roster=f"r{number}") for number in range(6)]
        session.end("KILL")
        looks = subprocess.Popen(
            [sys.executable, "-m", "oomless", "scan", "--watch", "--json", "--interval", "0.1s", "--count", "8"],
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert looks.stdout is not None
        with looks.stdout as lines:
            for who in everybody:
                found = json.loads(lines.readline())["processes"]
                assert {row["verdict"] for row in found if row["pid"] == who[0]} == {"orphan"}
                assert proc.send(*who, signal.SIGKILL) == proc.SENT
            lines.read()
        assert looks.wait(20) == 0
