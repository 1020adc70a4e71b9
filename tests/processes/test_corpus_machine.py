"""Stages on the machine itself: a cgroup tells who is of one, only they are recorded, and only they are ended."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from corpus import machine, record
from corpus.machine import Group
from corpus.stage import Stage
from helpers import alive, wait_for
from oomless.census.daemon_facts import DaemonFacts
from oomless.model import Leftover, LiveSession
from oomless.platform import proc
from oomless.platform.cgroup import mount_points
from oomless.platform.fork_events import ProcEvents

assert sys.platform == "linux"

SLEEP = ("/bin/sleep", "300")


@pytest.fixture
def group() -> Iterator[Group]:
    """Skips where none can be made."""
    try:
        made = Group.make()
    except OSError as error:
        pytest.skip(str(error))
    yield made
    if made.path.exists():
        made.end()


def started(group: Group, folder: Path, *command: str) -> int:
    return group.start(command, os.environ, folder, folder / "errors")


def test_an_ordinary_user_is_told_why_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(OSError, match="needs root"):
        Group.make()
    assert "needs root" in record.impossible("hung-up-with-jobs")


@pytest.mark.root
def test_only_members_are_seen_and_ended(group: Group, tmp_path: Path) -> None:
    beside = subprocess.Popen(SLEEP)
    try:
        pid = started(group, tmp_path, "/bin/sh", "-c", "sleep 301 & wait")
        assert wait_for(lambda: len(group.members()) == 2, 10)
        stat = proc.read_stat(pid)
        assert stat is not None
        assert stat.ppid != os.getpid()
        seen, standings = record.read(machine.platform(group, {machine.INIT}))
        assert {one.pid for one in seen.processes} == standings.keys() == group.members() | {machine.INIT}
        assert next(one.command for one in seen.processes if one.pid == machine.INIT) == ("init",)
        assert not group.await_end(pid, 0.01)
        group.end()
        assert group.await_end(pid, 0)
        assert not alive(pid, stat.start)
        assert not group.path.exists()
        assert beside.poll() is None
    finally:
        beside.kill()
        beside.wait()


@pytest.mark.root
def test_without_cgroup_kill_each_is_killed_by_itself(
    group: Group, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pid = started(group, tmp_path, "/bin/sh", "-c", "sleep 302 & sleep 303 & wait")
    assert wait_for(lambda: len(group.members()) == 3, 10)
    monkeypatch.setattr("oomless.platform.files.try_write", lambda path, text: False)
    group.end()
    assert group.await_end(pid, 0)
    assert not group.path.exists()


@pytest.mark.root
def test_a_stage_knows_its_own_alone(group: Group, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HOME", "XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_RUNTIME_DIR", "TMPDIR"):
        monkeypatch.setenv(name, str(tmp_path))  # the stage sets them anew, and here they are set back
    stage = Stage(tmp_path, group)
    beside = stage.start("one:beside", *SLEEP)
    try:
        assert stage.those("one:*") == {}
        pid = group.start(SLEEP, stage.environment("one:inside"), tmp_path, tmp_path / "errors")
        assert wait_for(lambda: stage.those("one:*").keys() == {pid}, 10)
    finally:
        beside.kill()
        beside.wait()


def test_what_the_daemon_knows_of_others_is_left_out() -> None:
    sessions = [LiveSession(host="claude-code", sessions=(str(pid),), pid=pid, start=1) for pid in (5, 6)]
    left = [Leftover(pid=pid, start=1, host="claude-code", session="", root=5) for pid in (7, 8)]
    found = machine.of_these(DaemonFacts(sessions=tuple(sessions), leftovers=tuple(left)), {5, 8})
    assert found == DaemonFacts(sessions=(sessions[0],), leftovers=(left[1],))


@pytest.mark.root
def test_what_a_killed_shim_leaves_of_its_groups_is_removed(tmp_path: Path) -> None:
    mounted, own = mount_points(), proc.cgroups("self")
    folders = [
        Path(f"{mounted[name]}{own[name]}".rstrip("/"), f"oomless-{install}-1")
        for name in mounted.keys() & own.keys()
        for install in ("0c0ffee0", "0c0ffee1")
    ]
    try:
        for folder in folders:
            folder.mkdir()
        machine.remove_trees("0c0ffee0")
        assert {folder.name for folder in folders if folder.exists()} <= {"oomless-0c0ffee1-1"}
        assert any(folder.exists() for folder in folders) or not folders
    finally:
        for folder in folders:
            if folder.exists():
                folder.rmdir()


@pytest.mark.root
def test_it_is_known_who_listens_to_the_kernel() -> None:
    """Root of the machine; in a pid namespace the kernel speaks to nobody."""
    events = ProcEvents.open()
    if events is None:
        pytest.skip("the kernel tells of no process events here")
    with closing(events):
        assert os.getpid() in machine.listeners()
    assert os.getpid() not in machine.listeners()
