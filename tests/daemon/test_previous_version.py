"""What the version before has written and sends is understood: its journal, and the messages of its running shims."""

from __future__ import annotations

import json
import os
import socket
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from helpers import run_oomless, wait_for
from oomless.journal.journal import Journal
from oomless.journal.schema import VERSION
from oomless.journal.trees import TreeSession
from oomless.model import Identity, Survivor, Terms, TreeKind
from oomless.paths import Paths
from oomless.platform import proc
from oomless.protocol import spawn
from oomless.protocol.client import Client

DATA = Path(__file__).parents[1] / "data"
BOOT = "11111111-2222-3333-4444-555555555555"


def identity(pid: int) -> Identity:
    return Identity(boot_id=BOOT, pid=pid, start=pid * 10)


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    """As that version's own code has filled it."""
    path = tmp_path / "journal.db"
    db = sqlite3.connect(path)
    db.executescript((DATA / "journal-of-schema-7.sql").read_text())
    db.close()
    opened = Journal.open(str(path))
    yield opened
    opened.close()


class TestJournal:
    def test_it_has_the_present_schema_now(self, journal: Journal) -> None:
        assert journal.database.version() == VERSION

    def test_open_trees(self, journal: Journal) -> None:
        tree, shell, slot = journal.trees.open()
        assert (tree.intent.kind, shell.intent.kind, slot.intent.kind) == (
            TreeKind.TREE,
            TreeKind.SHELL,
            TreeKind.SLOT,
        )
        assert tree.intent.terms == Terms(
            name="build",
            class_name="agent",
            parent="t0",
            group="batch b7",
            group_budget=4 * 10**9,
            group_parallel=3,
            limit=400_000_000,
            processes=64,
        )
        assert (tree.intent.argv, tree.intent.cgroups) == (
            ("make", "all"),
            {"": "/sys/fs/cgroup/oomless-abcd1234-t1"},
        )
        assert (tree.shim, tree.root, tree.rung) == (identity(200), identity(201), "subreaper")
        assert tree.intent.requester == identity(100)
        assert shell.intent.session == TreeSession(owner=identity(90), sid=300)

    def test_ended_trees(self, journal: Journal) -> None:
        ended, swept = journal.trees.get("t4"), journal.trees.get("t5")
        assert ended is not None
        assert ended.record is not None
        assert (ended.record.left[0].pid, ended.record.left_running[0].pid, ended.record.escaped[0].to) == (
            7,
            8,
            "/other",
        )
        assert swept is not None
        assert swept.sweep is not None
        assert swept.sweep.left == (Survivor(pid=7, start=70, command="sleep 9", why="another user's"),)
        assert (swept.sweep.ended, swept.sweep.bytes_freed) == (3, 5_000_000)

    def test_decisions_sessions_and_ancestry(self, journal: Journal) -> None:
        assert [(row.tree, row.verdict) for row in journal.decisions.recent()] == [("t1", "admitted")]
        assert [(row.session, row.process) for row in journal.sessions.open()] == [("5e55", identity(90))]
        assert [(row.session, row.bytes_freed) for row in journal.sessions.reaps()] == [("old", 7)]
        (row,) = journal.ancestry.of_boot(BOOT)
        (member,) = row.members
        assert (member.pid, member.above, member.shell_sid, member.spared) == (
            300,
            ((91, 910),),
            300,
            "it listens on a port",
        )


class Shim:
    """One connection of a shim's of that version: its messages as it wrote them, byte for byte."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(20)
        self._socket.connect(spawn.ensure(Paths()))
        self._file = self._socket.makefile("rb")

    def send(self, **message: Any) -> None:
        self._socket.sendall(json.dumps(message).encode() + b"\n")

    def receive(self) -> dict[str, Any]:
        message: dict[str, Any] = json.loads(self._file.readline())
        return message

    def close(self) -> None:
        self._file.close()
        self._socket.close()


def test_a_running_shim_is_adopted() -> None:
    here = proc.read_stat(os.getpid())
    assert here is not None
    own = {"shim_pid": here.pid, "shim_start": here.start, "root_pid": here.pid, "root_start": here.start}
    paths = Paths()
    shim = Shim()
    shim.send(
        op="lease", v=1, kind="tree", name="old", klass="agent", argv=["sleep", "9"], cwd="/", need=10**7,
        limit=2 * 10**7, owner="run", group="batch b7", group_budget=10**9, group_parallel=2, retriable=True,
    )  # fmt: skip
    granted = shim.receive()
    assert granted["op"] == "granted"
    assert granted.keys() >= {
        "tree",
        "reserved",
        "limit",
        "processes",
        "rung",
        "why_rung",
        "cgroups",
        "marker",
        "exits",
    }
    assert (granted["reserved"], granted["limit"]) == (10**7, 2 * 10**7)
    tree = granted["tree"]
    shim.send(op="started", **own, rung="subreaper", why_rung="")
    assert wait_for(lambda: (view := Client(paths, start=False).tree(tree)) is not None and view.pid == here.pid, 10)
    run_oomless("daemon", "stop")
    shim.close()

    shim = Shim()
    shim.send(op="adopt", v=1, tree=tree, **own)
    assert shim.receive() == {"op": "adopted"}
    moved = {"pid": here.pid, "start": here.start, "command": "sleep 9", "to": "/other", "back": False, "why": "w"}
    shim.send(op="usage", used=123, members=[[here.pid, here.start]], escaped=[moved])
    assert wait_for(lambda: (view := Client(paths, start=False).tree(tree)) is not None and bool(view.escaped), 10)
    view = Client(paths, start=False).tree(tree)
    assert view is not None
    assert (view.name, view.class_name, view.used_bytes, view.reserved_bytes) == ("old", "agent", 123, 10**7)
    shim.send(
        op="ended",
        record={
            "schema": "oomless.run/1", "tree": tree, "name": "old", "status": "done", "exit_code": 0, "signal": None,
            "reason": "", "rung": "subreaper", "why_rung": "", "peak_bytes": 123, "peak_source": "pss",
            "limit_bytes": 2 * 10**7, "reserved_bytes": 10**7, "seconds": 1.0, "survivors": 0, "left": [],
            "left_running": [], "ended": 0, "victim": False, "started_at": 0.0, "private_tmp": None,
            "escaped": [moved],
        },
    )  # fmt: skip

    def ended() -> bool:
        view = Client(paths, start=False).tree(tree)
        return view is not None and view.state == "ended"

    assert wait_for(ended, 10)
    shim.close()


def test_it_is_ended_by_the_message_that_it_knows() -> None:
    here = proc.read_stat(os.getpid())
    assert here is not None
    shim = Shim()
    shim.send(op="lease", v=1, kind="tree", name="old", argv=["sleep"], owner="run")
    tree = shim.receive()["tree"]
    assert wait_for(lambda: Client(Paths(), start=False).end(tree, "enough"), 10)
    end = shim.receive()
    assert (end["op"], end["reason"], end["victim"]) == ("end", "enough", False)
    shim.close()
