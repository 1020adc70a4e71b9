"""Who is left when daemon, shim or both are killed."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

import trees
from contained import TREE, read_roster
from helpers import SLOWNESS, alive, is_error_report, run_oomless, wait_for, wait_gone
from oomless.daemon.trees import leases
from oomless.journal.journal import Journal
from oomless.paths import Paths
from oomless.platform import proc
from oomless.protocol import spawn
from oomless.protocol.client import Client
from running import OOMLESS, finish, gone, kill, kill_daemon, open_rows, open_trees, running, start, use_rung

pytestmark = pytest.mark.as_user


@pytest.fixture
def roster(tmp_path: Path) -> Path:
    return tmp_path / "roster"


@pytest.fixture
def tree(roster: Path) -> subprocess.Popen[str]:
    """A stubborn governed tree; its shim is the process returned."""
    process = start("--name", "tree", "--expect", "50MB", "--", *TREE, str(roster), "stay")
    assert wait_for(lambda: "root" in read_roster(roster) and running("tree"), 30)
    return process


def test_a_tree_outlives_the_daemon_and_is_adopted(tree: subprocess.Popen[str], roster: Path) -> None:
    kill_daemon()
    assert all(alive(*who) for who in read_roster(roster).values())
    run_oomless("daemon", "start")
    found = running("tree")
    assert found
    assert found.reserved_bytes == 50_000_000
    assert wait_for(lambda: Client(Paths(), start=False).end("tree", "enough"), 10)  # adopted: it can be told
    code, _, err = finish(tree)
    assert code == 137
    assert "enough" in err
    assert gone(roster, 0) == []
    assert wait_for(lambda: not open_trees(), 5)


def test_an_end_without_a_daemon_is_known_to_the_next(tree: subprocess.Popen[str], roster: Path) -> None:
    kill_daemon()
    tree.send_signal(signal.SIGTERM)
    assert finish(tree)[0] == 143
    assert gone(roster, 0) == []
    assert open_rows() == ["tree"]
    run_oomless("daemon", "start")
    assert open_trees() == ()
    ended = Client(Paths(), start=False).tree("tree")
    assert ended
    assert (ended.exit_code, ended.survivors) == (143, 0)
    assert os.listdir(Paths().exits) == []


def test_a_killed_shim_is_swept_within_two_seconds(tree: subprocess.Popen[str], roster: Path) -> None:
    """On the best rung there is: for an ordinary user without a group of its own that is the subreaper, which reaches
    whom the shim has told of."""
    everyone = len(trees.KINDS) + 1
    assert wait_for(lambda: (found := running("tree")) and found.processes == everyone, 10)
    kill(tree)
    assert gone(roster, 2) == []
    assert wait_for(lambda: not open_trees(), 5)
    ended = Client(Paths(), start=False).tree("tree")
    assert ended
    assert "shim was killed" in ended.reason
    assert ended.survivors == 0


def test_a_killed_shim_without_cgroups_is_swept_by_lineage(roster: Path) -> None:
    """The wiped one was seen by the shim before it died, so it is reached too; what could not be is said."""
    use_rung("subreaper")
    process = start("--name", "tree", "--", *TREE, str(roster), "stay")
    assert wait_for(lambda: "root" in read_roster(roster) and running("tree"), 30)
    everyone = len(trees.KINDS) + 1
    assert wait_for(lambda: (found := running("tree")) and found.processes == everyone, 10)  # the shim has told
    kill(process)
    assert gone(roster, 2) == []
    assert wait_for(lambda: not open_trees(), 5)
    ended = Client(Paths(), start=False).tree("tree")
    assert ended
    assert "cannot be told from others" in ended.reason


@pytest.mark.parametrize("rung", ["auto", "subreaper"])
def test_both_killed_the_next_start_sweeps(roster: Path, rung: str) -> None:
    use_rung(rung)
    process = start("--name", "tree", "--", *TREE, str(roster), "stay")
    assert wait_for(lambda: "root" in read_roster(roster) and running("tree"), 30)
    found = running("tree")
    assert found
    kill_daemon()
    kill(process)
    members = read_roster(roster)
    assert any(alive(*who) for who in members.values())
    run_oomless("daemon", "start")
    left = gone(roster, 5)
    if found.rung == "subreaper":  # nobody remembers it, nothing marks it: the gap that doctor names
        assert left in ([], ["wiped-environment"])
        for kind in left:
            proc.kill(*members[kind])
            assert wait_gone(*members[kind], 5)
    else:
        assert left == []
    assert wait_for(lambda: not open_trees(), 10)
    run_oomless("daemon", "stop")
    assert open_rows() == []


def test_a_requester_that_dies_before_its_shim_leaves_no_row(tmp_path: Path) -> None:
    """Granted, and gone before anything was forked: the row is closed, the reservation free."""
    from oomless.protocol.lease import LeaseClient, request

    client = LeaseClient(spawn.connect(Paths()))
    client.send(request(name="ghost", argv=["x"], cwd="/", need=10**9))
    granted = client.wait_granted(lambda message: None, 10)
    assert [tree.name for tree in open_trees()] == ["ghost"]
    client.close()
    assert wait_for(lambda: not open_trees(), 5)
    assert not any(os.path.exists(path) for path in granted["cgroups"].values())  # type: ignore[attr-defined]


def test_a_sweep_touches_only_its_own_id(tree: subprocess.Popen[str], roster: Path, tmp_path: Path) -> None:
    """Another installation's daemon beside ours, started and swept, changes nothing here."""
    other = {"XDG_STATE_HOME": str(tmp_path / "s"), "XDG_RUNTIME_DIR": str(tmp_path)}
    (tmp_path / "s").mkdir()
    assert run_oomless("run", "--", "true", env=other).returncode == 0
    assert run_oomless("daemon", "stop", env=other).returncode == 0
    assert all(alive(*who) for who in read_roster(roster).values())
    tree.send_signal(signal.SIGTERM)
    finish(tree)
    assert gone(roster, 0) == []


def test_a_lease_of_another_version_is_told_so() -> None:
    with socket.socket(socket.AF_UNIX) as plain:
        plain.connect(spawn.ensure(Paths()))
        plain.sendall(b'{"op":"lease","v":99,"name":"future"}\n')
        answer = json.loads(plain.makefile().readline())
    assert (answer["op"], answer["code"]) == ("refused", 125)
    assert "version 99" in answer["error"]


def test_a_full_journal_refuses_before_anything_is_forked(tmp_path: Path) -> None:
    """The disk is full (as root: a real one of 512 KiB): one line, 125, nothing ran, and later it works again."""
    if os.geteuid() != 0:
        pytest.skip("needs root: a tmpfs is mounted")
    state = tmp_path / "disk"
    state.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k,mode=700", "none", str(state)], check=True)
    env = {"XDG_STATE_HOME": str(state)}
    try:
        assert run_oomless("run", "--", "true", env=env).returncode == 0
        filler = state / "filler"
        with pytest.raises(OSError, match="No space"):
            filler.write_bytes(b"x" * 600_000)
        ran = tmp_path / "ran"
        for _ in range(20):  # the write-ahead log has some room of its own
            done = run_oomless("run", "--", "touch", str(ran), env=env)
            if done.returncode:
                break
            ran.unlink()
        assert done.returncode == 125
        assert is_error_report(done.stderr)
        assert "full" in done.stderr
        assert not ran.exists()
        filler.unlink()
        assert run_oomless("run", "--", "true", env=env).returncode == 0
    finally:
        run_oomless("daemon", "stop", env=env)
        subprocess.run(["umount", str(state)], check=True)


#: Kills the daemon and starts another one.
REBORN = "kill -9 $({python} -c \"import json; print(json.load(open('{file}'))['pid'])\"); {oomless} daemon start"


def reborn() -> str:
    return REBORN.format(python=sys.executable, file=Paths().daemon_file, oomless=OOMLESS)


@pytest.mark.parametrize("rung", ["auto", "subreaper"])
def test_a_daemon_born_inside_a_tree_is_not_of_the_tree(tmp_path: Path, rung: str) -> None:
    """A command in the tree finds no daemon and starts one: it must not end with the tree, nor count as left."""
    use_rung(rung)
    report = tmp_path / "report.json"
    done = run_oomless("run", "--report", str(report), "--", "sh", "-c", reborn())
    assert done.returncode == 0
    record = json.loads(report.read_text())
    assert (record["survivors"], record["ended"]) == (0, 0)
    assert record["seconds"] < 5 * SLOWNESS
    assert spawn.running(Paths())
    assert run_oomless("run", "--", "true").returncode == 0


@pytest.mark.parametrize("rung", ["auto", "subreaper"])
@pytest.mark.parametrize("how", ["at a limit", "by request"])
def test_a_daemon_born_inside_a_tree_that_is_ended_lives_on(tmp_path: Path, rung: str, how: str) -> None:
    use_rung(rung)
    there = tmp_path / "there"
    last = f"{sys.executable} -c 'x = bytearray(10**9)'" if how == "at a limit" else "sleep 60"
    script = f"{reborn()} && touch {there}; {last}"
    process = start("--name", "tree", "--memory", "300MB", "--", "sh", "-c", script)
    if how == "by request":
        assert wait_for(there.exists, 30)
        assert wait_for(lambda: Client(Paths(), start=False).end("tree", "enough"), 10)  # once it is adopted
    code, _, err = finish(process)
    assert code == 137
    assert ("enough" in err) == (how == "by request")
    assert there.exists()
    assert spawn.running(Paths())
    assert run_oomless("run", "--", "true").returncode == 0


def test_who_waits_asks_the_next_daemon(tmp_path: Path) -> None:
    """The daemon is killed while one runs and one waits: the waiting one is admitted by the daemon that it starts."""
    settings = Path(os.environ["XDG_CONFIG_HOME"]) / "oomless" / "config.toml"
    settings.parent.mkdir(parents=True)
    settings.write_text('budget = "150MB"\n')
    holder = start("--name", "holder", "--expect", "100MB", "--", "cat", stdin=subprocess.PIPE)
    assert wait_for(lambda: running("holder"), 20)
    waiting = start("--name", "waiting", "--wait", "60s", "--expect", "100MB", "--", "echo", "ran")
    assert wait_for(lambda: any(t.state == "waiting" for t in open_trees()), 20)
    kill_daemon()
    assert wait_for(lambda: {t.state for t in open_trees()} == {"running", "waiting"}, 20)
    assert holder.stdin
    holder.stdin.close()
    holder.stdin = None
    assert finish(waiting)[:2] == (0, "ran\n")
    assert finish(holder)[0] == 0


def test_a_client_that_is_gone_while_it_waits_is_no_error_of_the_daemons() -> None:
    """One that was killed with unread words of ours: the kernel reports a reset to us then, and not an end."""
    reported: list[object] = []

    async def let_go() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context["message"]))
        ours, theirs = socket.socketpair()
        reader, writer = await asyncio.open_unix_connection(sock=ours)
        line = asyncio.ensure_future(reader.readline())
        writer.write(b"waiting")
        theirs.close()
        await asyncio.wait([line])
        assert isinstance(line.exception(), ConnectionResetError)
        line = asyncio.ensure_future(reader.readline())
        await asyncio.wait([line])
        leases._discard(line)
        del line
        await asyncio.sleep(0)
        writer.close()

    asyncio.run(let_go())
    gc.collect()
    assert reported == []


def test_empty_groups_of_a_tree_that_is_over_are_removed_at_the_start() -> None:
    run_oomless("run", "--name", "over", "--", "true")
    row = None
    run_oomless("daemon", "stop")
    journal = Journal.open(Paths().journal)
    try:
        row = journal.trees.find("over")
    finally:
        journal.close()
    assert row
    for path in row.intent.cgroups.values():
        if not os.path.isdir(os.path.dirname(path)):
            pytest.skip("the scope around them has ended with the daemon, and they with it")
        os.mkdir(path)
    run_oomless("daemon", "start")
    assert not [path for path in row.intent.cgroups.values() if os.path.exists(path)]
