"""The ends of sessions with the shell prefix: what is ended, what is left running, and who may die in between."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import sessions
from contained import OFFERS, read_roster
from helpers import alive, run_oomless, wait_for, wait_gone
from oomless.hosts.claude_code import prefix
from oomless.journal.journal import Journal
from oomless.journal.trees import TreeRow
from oomless.paths import Paths
from oomless.platform import proc
from running import RUN, finish, kill_daemon, left_running, open_trees, running, start, use_rung
from sessions import Session, member

pytestmark = pytest.mark.as_user

Who = tuple[int, int]
#: All that a session starts has to be gone so soon after its process.
WITHIN = 2.0
SERVERS = ("polite", "stubborn", "launcher")
ENDS = ("normal", "TERM", "HUP", "KILL")
RUNGS = ("auto", *[offer.name for offer in OFFERS[1:] if offer.name in ("cgroup1", "subreaper")])
DETACHED = {
    "setsid": "nohup setsid {member} > /dev/null 2>&1 &",
    "nohup": "nohup {member} > /dev/null 2>&1 &",
    "ignores": "trap '' HUP; {member} &",
    "tmux": "SHELL=/bin/sh tmux -S {folder}/tmux.sock -f /dev/null new-session -d '{member}'",
}


@pytest.fixture
def program() -> str:
    return prefix.write(Paths(), None)


class Scene:
    """Sessions in one folder; every process that they start writes itself to the roster, and is ended with us."""

    def __init__(self, program: str | None, folder: Path) -> None:
        self.program = program
        self.folder = folder
        self.roster = folder / "roster"
        self.sessions: list[Session] = []

    def session(self, **options: object) -> Session:
        made = Session(self.program, **options)  # type: ignore[arg-type]
        self.sessions.append(made)
        return made

    def member(self, kind: str) -> str:
        """A command: ``kind`` says what it does, and names it in the roster."""
        return " ".join(member(kind, str(self.roster)))

    def shell(self, session: Session, command: str) -> int:
        where = self.folder / f"shell{len(list(self.folder.iterdir()))}"
        where.mkdir()
        return session.shell(command, str(where))

    def server(self, session: Session, kind: str) -> int:
        return session.server(member(kind, str(self.roster)))

    def who(self, *kinds: str) -> dict[str, Who]:
        """Waits until each kind is there."""
        assert wait_for(lambda: set(kinds) <= set(read_roster(self.roster)), 20)
        return read_roster(self.roster)

    def clear(self) -> None:
        for one in self.sessions:
            one.__exit__()
        for who in read_roster(self.roster).values():
            proc.kill(*who)
            wait_gone(*who, 5)


@pytest.fixture
def scene(program: str, tmp_path: Path) -> Iterator[Scene]:
    made = Scene(program, tmp_path)
    try:
        yield made
    finally:
        made.clear()


def still_there(members: dict[str, Who], kinds: set[str], seconds: float) -> list[str]:
    """Who of the kinds lives on after so long."""
    until = time.monotonic() + seconds
    return [kind for kind in sorted(kinds) if not wait_gone(*members[kind], until - time.monotonic())]


def rows() -> list[TreeRow]:
    journal = Journal.open(Paths().journal)
    try:
        return journal.trees.recent(100)
    finally:
        journal.close()


def survivors(row: TreeRow) -> int:
    """By the record, or by the sweep of a server whose shim the host has killed."""
    return (row.record.survivors if row.record else 0) + (len(row.sweep.left) if row.sweep else 0)


def shim_of(pid: int) -> Who:
    """The shim that is above that process."""
    stat = proc.read_stat(pid)
    while stat is not None and not any(arg.endswith("boot_prefix.py") for arg in proc.cmdline(stat.pid)):
        stat = proc.read_stat(stat.ppid)
    assert stat is not None
    return stat.pid, stat.start


def fill(scene: Scene, session: Session) -> set[str]:
    """Every kind of server and background job."""
    for kind in SERVERS:
        scene.server(session, kind)
    for kind in ("background", "background-stubborn"):
        front = scene.shell(session, f"{scene.member(kind)} & echo started")
        assert session.wait(front) == 0
    return {*SERVERS, "launched-stubborn", "background", "background-stubborn"}


# -- every end of a session ------------------------------------------------------------------------------------


@pytest.mark.parametrize("rung", RUNGS)
@pytest.mark.parametrize("how", ENDS)
def test_nothing_is_left_of_a_session_and_nothing_of_another_is_touched(
    scene: Scene, tmp_path: Path, how: str, rung: str
) -> None:
    use_rung(rung)
    other_scene = Scene(scene.program, tmp_path / "other")
    other_scene.folder.mkdir()
    session, other = scene.session(), other_scene.session()
    try:
        kinds = fill(scene, session)
        fill(other_scene, other)
        scene.shell(session, scene.member("foreground"))
        members, others = scene.who(*kinds, "foreground"), other_scene.who(*kinds)
        assert {tree.rung for tree in open_trees()} == {rung} or rung == "auto"
        session.end(how)
        assert still_there(members, set(members), WITHIN) == []
        assert all(alive(*who) for who in others.values())
        assert wait_for(lambda: len(open_trees()) == len(SERVERS) + 2, 5)  # the other's
        assert left_running() == {}
        assert [survivors(row) for row in rows() if row.ended_at] == [0] * (len(SERVERS) + 3)
        other.end("KILL")
        assert still_there(others, set(others), WITHIN) == []
        assert wait_for(lambda: not open_trees(), 5)
    finally:
        other_scene.clear()


def test_without_the_prefix_they_are_left(tmp_path: Path) -> None:
    """What the test above ends is really left by a session that is killed."""
    scene = Scene(None, tmp_path)
    try:
        session = scene.session()
        kinds = fill(scene, session)
        members = scene.who(*kinds)
        session.end("KILL")
        assert wait_gone(*members["polite"], 5)
        assert {kind for kind in kinds if alive(*members[kind])} == kinds - {"polite"}
    finally:
        scene.clear()


@pytest.mark.parametrize("rung", RUNGS)
@pytest.mark.parametrize("how", ["normal", "KILL"])
def test_what_was_detached_on_purpose_goes_on_and_is_reported(scene: Scene, how: str, rung: str) -> None:
    use_rung(rung)
    session = scene.session()
    wanted = {kind for kind in DETACHED if kind != "tmux" or shutil.which("tmux")}
    for kind in wanted:
        command = DETACHED[kind].format(member=scene.member(kind), folder=scene.folder)
        assert session.wait(scene.shell(session, f"{scene.member('beside-' + kind)} & {command}")) == 0
    beside = {f"beside-{kind}" for kind in wanted}
    members = scene.who(*wanted, *beside)
    session.end(how)
    assert still_there(members, beside, WITHIN) == []
    assert wait_for(lambda: not open_trees(), 5)
    assert {kind for kind in wanted if alive(*members[kind])} == wanted
    told = left_running()
    assert {kind for kind in wanted if members[kind] in told} == wanted
    assert {(one.host, one.session) for one in told.values()} == {("claude-code", f"stand-in-{session.pid}")}
    assert "setsid" in told[members["setsid"]].why
    records = [row.record for row in rows() if row.record]
    assert {(one.pid, one.start) for record in records for one in record.left_running} == set(told)
    assert [record.survivors for record in records] == [0] * len(wanted)
    groups = [path for row in rows() for path in row.intent.cgroups.values()]
    assert not [path for path in groups if os.path.exists(path)]
    kill_daemon()
    run_oomless("daemon", "start")
    assert set(left_running()) == set(told)
    for kind in wanted:
        proc.kill(*members[kind])
        assert wait_gone(*members[kind], 5)
    assert wait_for(lambda: not left_running(), 5)


def test_a_detached_process_that_forks_all_the_time_keeps_its_children(scene: Scene) -> None:
    """None of them is taken for a leftover in the moment between its birth and the next look."""
    done = scene.folder / "done"
    loop = (
        f'trap \\"\\" HUP; i=0; while [ \\$i -lt 400 ]; do /bin/true || exit 1; i=\\$((i+1)); done; echo ok > {done}'
    )
    session = scene.session()
    command = f'nohup setsid bash -c "{loop}" > /dev/null 2>&1 & {scene.member("background")} &'
    assert session.wait(scene.shell(session, command)) == 0
    members = scene.who("background")
    session.end("KILL")
    assert still_there(members, {"background"}, WITHIN) == []
    assert wait_for(done.exists, 20)


# -- somebody is killed in between -----------------------------------------------------------------------------


@pytest.fixture
def kept(scene: Scene) -> Scene:
    """A session with a shell that has left one process in the background and a detached one."""
    session = scene.session()
    detached = DETACHED["setsid"].format(member=scene.member("detached"))
    assert session.wait(scene.shell(session, f"{scene.member('background')} & {detached}")) == 0
    scene.who("background", "detached")
    return scene


@pytest.mark.parametrize("rung", ["auto", "subreaper"])
def test_a_killed_background_shim_changes_nothing_until_the_session_dies(scene: Scene, rung: str) -> None:
    use_rung(rung)
    session = scene.session()
    detached = DETACHED["setsid"].format(member=scene.member("detached"))
    assert session.wait(scene.shell(session, f"{scene.member('background')} & {detached}")) == 0
    members = scene.who("background", "detached")
    shim = shim_of(members["background"][0])
    proc.kill(*shim)
    assert wait_gone(*shim, 5)
    assert run_oomless("run", "--", "true").returncode == 0  # the daemon has long seen it
    assert alive(*members["background"])
    session.end("KILL")
    assert still_there(members, {"background"}, WITHIN) == []
    assert wait_for(lambda: not open_trees(), 5)
    assert alive(*members["detached"])
    assert members["detached"] in left_running()


@pytest.mark.parametrize("rung", ["auto", "subreaper"])
def test_a_group_that_is_killed_with_its_shim_leaves_what_detached(scene: Scene, rung: str) -> None:
    """While the shell runs, its background shim is in the group too."""
    use_rung(rung)
    session = scene.session()
    detached = DETACHED["setsid"].format(member=scene.member("detached"))
    front = scene.shell(session, f"{detached} {scene.member('background')} & {scene.member('foreground')}")
    members = scene.who("background", "detached", "foreground")
    shim = shim_of(members["foreground"][0])
    assert os.getpgid(shim[0]) == front
    os.killpg(front, signal.SIGKILL)
    assert session.wait(front) == -signal.SIGKILL
    assert still_there(members, {"background", "foreground"}, WITHIN) == []
    assert wait_gone(*shim, 5)
    assert run_oomless("run", "--", "true").returncode == 0  # the daemon has long seen it
    assert alive(*members["detached"])
    session.end("KILL")
    assert wait_for(lambda: not open_trees(), 5)
    assert alive(*members["detached"])
    assert members["detached"] in left_running()


@pytest.mark.parametrize("rung", RUNGS)
def test_a_shell_without_its_shim_is_closed_when_the_last_of_it_ends(scene: Scene, rung: str) -> None:
    """Nothing of it is ended for that, and the session need not end first."""
    use_rung(rung)
    session = scene.session()
    assert session.wait(scene.shell(session, f"{scene.member('one')} & {scene.member('two')} &")) == 0
    members = scene.who("one", "two")
    shim = shim_of(members["one"][0])
    proc.kill(*shim)
    assert wait_gone(*shim, 5)
    proc.kill(*members["one"])
    assert wait_gone(*members["one"], 5)
    assert not wait_for(lambda: not open_trees(), 3)  # longer than the daemon waits between two looks
    assert alive(*members["two"])
    proc.kill(*members["two"])
    assert wait_for(lambda: not open_trees(), 10)
    (row,) = rows()
    assert row.sweep is not None
    assert (row.sweep.ended, row.sweep.left, row.sweep.left_running) == (0, (), ())
    assert [path for path in row.intent.cgroups.values() if os.path.exists(path)] == []
    assert alive(session.pid, proc.start_of(session.pid) or 0)


def test_a_shell_whose_shim_is_killed_ends_as_it_ends(scene: Scene) -> None:
    session = scene.session()
    go = scene.folder / "go"
    os.mkfifo(go)
    front = scene.shell(session, f"{scene.member('background')} & read -r x < {go}; echo $x; exit 5")
    shim = shim_of(scene.who("background")["background"][0])
    proc.kill(*shim)
    assert wait_gone(*shim, 5)
    go.write_text("said\n")
    assert session.wait(front) == 5
    assert next(scene.folder.glob("shell*/out")).read_text() == "said\n"


@pytest.mark.parametrize("daemon", ["runs", "is gone"])
def test_a_server_whose_shim_is_killed_goes_with_its_children(scene: Scene, daemon: str) -> None:
    """Hosts do that to a server that does not end in time. Without a daemon at least the server itself goes, as it
    would have without us."""
    session = scene.session()
    shim = scene.server(session, "launcher")
    members = scene.who("launcher", "launched-stubborn")
    assert shim_of(members["launcher"][0])[0] == shim
    if daemon == "is gone":
        kill_daemon()
    os.kill(shim, signal.SIGKILL)
    kinds = {"launcher"} if daemon == "is gone" else set(members)
    assert still_there(members, kinds, WITHIN) == []
    run_oomless("daemon", "start")
    assert still_there(members, set(members), WITHIN) == []
    assert wait_for(lambda: not open_trees(), 5)


@pytest.mark.parametrize("shim", ["lives", "is killed"])
def test_a_daemon_killed_and_started_again_in_between(kept: Scene, shim: str) -> None:
    members = read_roster(kept.roster)
    kill_daemon()
    if shim == "is killed":
        who = shim_of(members["background"][0])
        proc.kill(*who)
        assert wait_gone(*who, 5)
    run_oomless("daemon", "start")
    assert [tree.state for tree in open_trees()] == ["running"]
    assert alive(*members["background"])
    kept.sessions[0].end("KILL")
    assert still_there(members, {"background"}, WITHIN) == []
    assert wait_for(lambda: not open_trees(), 5)
    assert alive(*members["detached"])
    assert members["detached"] in left_running()


def test_a_session_that_dies_without_a_daemon_is_cleared_all_the_same(kept: Scene) -> None:
    members = read_roster(kept.roster)
    kill_daemon()
    kept.sessions[0].end("KILL")
    assert still_there(members, {"background"}, WITHIN) == []
    assert alive(*members["detached"])
    run_oomless("daemon", "start")
    assert open_trees() == ()
    assert members["detached"] in left_running()


def test_all_die_at_once_and_the_next_daemon_sweeps(kept: Scene) -> None:
    members = read_roster(kept.roster)
    shim = shim_of(members["background"][0])
    kill_daemon()
    proc.kill(*shim)
    kept.sessions[0].end("KILL")
    assert wait_gone(*shim, 5)
    assert alive(*members["background"])
    run_oomless("daemon", "start")
    assert still_there(members, {"background"}, WITHIN) == []
    assert wait_for(lambda: not open_trees(), 5)
    assert alive(*members["detached"])
    assert members["detached"] in left_running()


# -- limits ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rung", RUNGS)
def test_a_shell_over_its_limit_ends_alone_and_says_why(scene: Scene, rung: str) -> None:
    use_rung(rung)
    with (Path(os.environ["XDG_CONFIG_HOME"]) / "oomless" / "config.toml").open("a") as file:
        file.write('[classes.tool-shell]\nmemory = "300MB"\n')
    session = scene.session()
    scene.server(session, "stubborn")
    other = scene.shell(session, scene.member("foreground"))
    eater = " ".join(sessions.PYTHON)
    front = scene.shell(session, f"echo begins; {eater} -c 'x = bytearray(10**9); import time; time.sleep(30)'")
    assert session.wait(front) == 137
    folder = max(scene.folder.glob("shell*"), key=lambda path: path.stat().st_ctime)
    assert (folder / "out").read_text() == "begins\n"
    told = [line for line in (folder / "err").read_text().splitlines() if line.startswith("oomless: ")]
    assert len(told) == 1
    assert "tool-shell: used" in told[0]
    assert "300 MB memory limit" in told[0]
    members = scene.who("foreground", "stubborn")
    assert all(alive(*who) for who in members.values())
    assert session.wait(scene.shell(session, "exit 3")) == 3
    os.kill(other, signal.SIGTERM)
    assert session.wait(other) == -signal.SIGTERM


def test_shells_and_servers_need_no_place(scene: Scene) -> None:
    """One subagent may run and one does: shells and servers are neither kept waiting nor counted."""
    folder = Path(os.environ["XDG_CONFIG_HOME"]) / "oomless"
    folder.mkdir(parents=True)
    (folder / "config.toml").write_text("max_parallel_subagents = 1\nwait = '0'\n")
    holder = start("--name", "holder", "--", "cat", stdin=subprocess.PIPE)
    assert wait_for(lambda: running("holder"), 20)
    session = scene.session()
    for kind in SERVERS:
        scene.server(session, kind)
    for number in range(3):
        assert session.wait(scene.shell(session, f"exit {number}")) == number
    scene.who(*SERVERS)
    assert run_oomless("run", "--", "true").returncode == 75
    finish(holder)
    assert run_oomless("run", "--", "true").returncode == 0


# -- trees in trees --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rung", RUNGS)
def test_a_session_in_a_governed_tree_ends_with_it(scene: Scene, rung: str) -> None:
    """Detached or not: the tree owns everything that it forks."""
    use_rung(rung)
    session = scene.session(wrapper=[*RUN, "--name", "outer", "--"])
    scene.server(session, "launcher")
    detached = DETACHED["setsid"].format(member=scene.member("detached"))
    assert session.wait(scene.shell(session, f"{scene.member('background')} & {detached}")) == 0
    scene.shell(session, scene.member("foreground"))
    members = scene.who("launcher", "launched-stubborn", "background", "detached", "foreground")
    outer = running("outer")
    assert outer
    assert {tree.parent for tree in open_trees()} == {None, outer.tree}
    session.process.terminate()
    session.process.wait(20)
    assert still_there(members, set(members), 0.5) == []
    assert wait_for(lambda: not open_trees(), 5)
    assert left_running() == {}


@pytest.mark.parametrize("rung", RUNGS)
def test_a_governed_run_in_a_shell_ends_with_the_session(scene: Scene, rung: str) -> None:
    """Its command leads a process session of its own, but nobody detached it on purpose."""
    use_rung(rung)
    session = scene.session()
    inner = f"{' '.join(RUN)} --name inner -- {scene.member('stubborn')}"
    assert session.wait(scene.shell(session, f"{inner} & {scene.member('background')} &")) == 0
    members = scene.who("stubborn", "background")
    assert wait_for(lambda: running("inner"), 10)
    session.end("KILL")
    assert still_there(members, set(members), WITHIN) == []
    assert wait_for(lambda: not open_trees(), 5)
    assert left_running() == {}
    assert [row.record.left_running for row in rows() if row.record] == [()] * 2


@pytest.mark.parametrize("rung", RUNGS)
def test_a_session_in_a_shell_of_another_ends_with_that(scene: Scene, rung: str) -> None:
    """``claude -p`` from a Bash command: its shells and servers go when it goes, what they detached does not."""
    use_rung(rung)
    requests = scene.folder / "requests"
    os.mkfifo(requests)
    hold = os.open(requests, os.O_RDWR)
    session = scene.session()
    inner = f"{sys.executable} -I {sessions.__file__} session {scene.program} < {requests}"
    scene.shell(session, f"{inner} & wait")
    where = scene.folder / "inner"
    where.mkdir()
    detached = DETACHED["setsid"].format(member=scene.member("detached"))
    for request in (
        {"do": "server", "argv": member("stubborn", str(scene.roster))},
        {"do": "shell", "command": f"{scene.member('background')} & {detached}", "folder": str(where)},
    ):
        os.write(hold, json.dumps(request).encode() + b"\n")
    members = scene.who("stubborn", "background", "detached")
    assert len(open_trees()) == 3
    session.end("KILL")
    assert still_there(members, {"stubborn", "background"}, 2 * WITHIN) == []
    assert wait_for(lambda: not open_trees(), 10)
    assert alive(*members["detached"])
    assert set(left_running()) == {members["detached"]}
    os.close(hold)
