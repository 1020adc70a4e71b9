"""The scope that systemd's manager of the user hands over: how long it lasts, who may have it, what is seen of a tree
in it. These need such a manager and an ordinary user: ``make test-vm`` runs them in a machine that has both. What is
said where there is none is tested everywhere."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from contained import PYTHON, Run
from helpers import SLOWNESS, alive, wait_for, wait_gone
from oomless.contain.rungs import systemd_manager
from oomless.contain.rungs.choose import Offer, RungChooser
from oomless.contain.rungs.dbus import BusRefused
from oomless.contain.rungs.systemd_manager import SystemdManager
from oomless.contain.rungs.systemd_scope import DelegatedScope, explain_failure
from oomless.platform import cgroup, files, proc
from oomless.platform.cgroup import mount_points

pytestmark = pytest.mark.as_user

HAS_MANAGER = os.geteuid() != 0 and bool(systemd_manager.sockets())
needs_manager = pytest.mark.skipif(not HAS_MANAGER, reason="needs an ordinary user with a systemd user manager")

#: Holds a scope until its stdin ends; tells its folder first.
HOLDER = """
import sys
from oomless.contain.rungs.dbus import BusRefused
from oomless.contain.rungs.systemd_scope import DelegatedScope
from oomless.platform.cgroup import mount_points
print(*DelegatedScope(sys.argv[1], mount_points().get("")).folder(), sep=";", flush=True)
sys.stdin.read()
"""
#: Makes a group within its own, as a host does with its helpers, leaves a stubborn child in there, and ends.
SUBGROUP = """
import os, signal, time
reader, writer = os.pipe()
own = "/sys/fs/cgroup" + open("/proc/self/cgroup").read().split("::")[1].strip()
os.mkdir(own + "/inner")
if os.fork() == 0:
    open(own + "/inner/cgroup.procs", "w").write(str(os.getpid()))
    os.setsid()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    print(os.getpid(), open("/proc/self/stat").read().rsplit(")")[1].split()[19], flush=True)
    os.write(writer, b"x")
    time.sleep(60)
os.read(reader, 1)
"""


@pytest.fixture
def tag() -> str:
    return "test" + os.urandom(3).hex()


@pytest.fixture
def delegation(tag: str) -> Iterator[DelegatedScope]:
    found = DelegatedScope(tag, mount_points().get(""))
    yield found
    folder, _ = found.folder()
    found.close()
    assert wait_for(lambda: not os.path.exists(folder), 10)


def holder(tag: str) -> tuple[subprocess.Popen[str], str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, tag], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout
    folder, _, why = process.stdout.readline().strip().partition(";")
    assert folder, why
    return process, folder


def stop(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate(timeout=10 * SLOWNESS)


@needs_manager
def test_the_scope_is_ours_to_divide(delegation: DelegatedScope, tag: str) -> None:
    folder, why = delegation.folder()
    assert os.path.basename(folder) == f"oomless-{tag}.scope"
    assert "delegates memory, pids" in why
    assert cgroup.pids_in(f"{folder}/keeper") == cgroup.pids_in(folder)
    os.mkdir(f"{folder}/x")
    assert {"memory.max", "pids.max", "cgroup.kill"} <= set(os.listdir(f"{folder}/x"))
    assert files.read(f"{folder}/pids.max") == "max\n"
    assert delegation.folder() == (folder, why)


@needs_manager
def test_the_scope_ends_with_its_last_holder_whatever_that_dies_of(tag: str) -> None:
    first, folder = holder(tag)
    second, same = holder(tag)
    assert same == folder
    assert len(cgroup.pids_in(folder)) == 2
    stop(first)
    assert wait_for(lambda: len(cgroup.pids_in(folder)) == 1, 10)
    third, same = holder(tag)
    stop(second)
    stop(third)
    assert wait_for(lambda: not os.path.exists(folder), 10)


@needs_manager
def test_a_tree_keeps_the_scope_and_the_next_holder_finds_it(tag: str, tmp_path: Path) -> None:
    first, folder = holder(tag)
    reader, writer = os.pipe()
    run = Run(tmp_path, Offer("cgroup2+systemd", True, "", {"": folder}), ["sleep", "60"], lifeline_fd=reader)
    os.close(reader)
    tree = run.cgroups[""]
    assert wait_for(lambda: cgroup.pids_in(tree), 20)
    stop(first)
    assert wait_for(lambda: not cgroup.pids_in(f"{folder}/keeper"), 10)
    second, same = holder(tag)
    assert same == folder
    assert cgroup.pids_in(tree)
    os.close(writer)
    assert run.finish().survivors == 0
    stop(second)


@needs_manager
def test_a_keeper_that_was_killed_is_replaced(delegation: DelegatedScope) -> None:
    folder, _ = delegation.folder()
    (keeper,) = cgroup.pids_in(folder)
    start = proc.start_of(keeper)
    assert start
    proc.kill(keeper, start)
    assert wait_gone(keeper, start, 5)
    assert wait_for(lambda: not cgroup.pids_in(folder), 5)
    again, _ = delegation.folder()
    assert again == folder
    assert len(cgroup.pids_in(folder)) == 1


@needs_manager
def test_a_tree_is_not_made_in_a_scope_that_has_ended(tag: str, tmp_path: Path) -> None:
    process, folder = holder(tag)
    stop(process)
    assert wait_for(lambda: not os.path.exists(folder), 10)
    record = Run(tmp_path, Offer("cgroup2+systemd", True, "", {"": folder}), ["true"]).finish()
    assert (record.exit_code, record.rung) == (0, "subreaper")
    assert record.why_rung == f"fell through from cgroup2+systemd: oomless-{tag}.scope has ended"
    assert not os.path.exists(folder)


@needs_manager
def test_groups_that_a_tree_makes_in_itself_are_of_the_tree(delegation: DelegatedScope, tmp_path: Path) -> None:
    offer = Offer("cgroup2+systemd", True, "", {"": delegation.folder()[0]})
    run = Run(tmp_path, offer, [*PYTHON, "-c", SUBGROUP])
    record = run.finish()
    pid, start = map(int, run.out.split())
    assert (record.exit_code, record.ended, record.survivors) == (0, 1, 0)
    assert not alive(pid, start)


@needs_manager
def test_who_is_released_is_in_the_tree_no_more(delegation: DelegatedScope, tmp_path: Path) -> None:
    """In a login session neither the shim's own group nor the scope itself would take it."""
    reader, writer = os.pipe()
    offer = Offer("cgroup2+systemd", True, "", {"": delegation.folder()[0]})
    run = Run(tmp_path, offer, ["sleep", "60"], lifeline_fd=reader)
    os.close(reader)
    tree = run.cgroups[""]
    assert wait_for(lambda: [pid for pid in cgroup.pids_in(tree) if proc.cmdline(pid) == ["sleep", "60"]], 20)
    (pid,) = cgroup.pids_in(tree)
    cgroup.release(run.cgroups, [pid])
    assert cgroup.pids_in(tree) == []
    assert proc.cmdline(pid) == ["sleep", "60"]
    os.close(writer)
    assert run.finish().survivors == 0


@needs_manager
def test_the_message_bus_is_as_good_as_the_private_socket(
    delegation: DelegatedScope, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = [place for place in systemd_manager.sockets() if place[1]]
    assert places
    monkeypatch.setattr(systemd_manager, "sockets", lambda: places)
    folder, why = delegation.folder()
    assert folder, why


@needs_manager
def test_trees_survive_that_the_kernel_ends_one(delegation: DelegatedScope) -> None:
    """The manager is told of each kill in the scope; it must not act."""
    folder, why = delegation.folder()
    assert folder, why
    asked = ["systemctl", "--user", "show", "-P", "OOMPolicy", delegation.unit]
    shown = subprocess.run(
        asked,
        env={**os.environ, "XDG_RUNTIME_DIR": f"/run/user/{os.getuid()}"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert shown.stdout.strip() == "continue"


@needs_manager
def test_who_is_bounded_keeps_the_bound(tag: str) -> None:
    """A tree in the scope would be outside of the limit that its asker is under."""
    if not shutil.which("systemd-run"):
        pytest.skip("there is no systemd-run")
    code = f"""
from oomless.contain.rungs.choose import RungChooser
from oomless.platform import proc
offer = RungChooser({tag!r}).offers(proc.cgroups("self"))[0]
print(offer.name, offer.usable, offer.why)
"""
    environment = {**os.environ, "XDG_RUNTIME_DIR": f"/run/user/{os.getuid()}"}
    bounded = ["systemd-run", "--user", "--quiet", "--scope", "--unit", f"{tag}-bounded", "-p", "MemoryMax=200M"]
    for before, expected in (
        ([], "True the systemd user manager delegates"),
        (bounded, "False the tree would escape"),
    ):
        done = subprocess.run([*before, sys.executable, "-c", code], env=environment, capture_output=True, text=True)
        assert done.stdout.startswith(f"cgroup2+systemd {expected}"), done.stderr
    assert f"the memory limit of /user.slice/user-{os.getuid()}.slice" in done.stdout
    assert f"{tag}-bounded.scope" in done.stdout


@needs_manager
def test_the_manager_says_no_by_name_each_time() -> None:
    for _ in range(20):
        asked = SystemdManager.of_user()
        try:
            with pytest.raises(BusRefused) as refused:
                asked.attach("no-such.scope", "/x", os.getpid())
        finally:
            asked.close()
        assert refused.value.name == "org.freedesktop.systemd1.NoSuchUnit"


@pytest.mark.skipif(bool(systemd_manager.sockets()), reason="there is a systemd user manager")
def test_where_nobody_manages_the_reason_says_what_would() -> None:
    folder, why = DelegatedScope("nobody", "/sys/fs/cgroup").folder()
    assert not folder
    assert why == (
        "no systemd user manager is there; one starts with a login through PAM (or: loginctl enable-linger)"
    )
    offer = RungChooser("nobody").offers(proc.cgroups("self"))[0]
    assert (offer.name, offer.usable) == ("cgroup2+systemd", False)


def test_no_scope_is_made_for_who_wants_none(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, str]] = []

    def offer(self: DelegatedScope, cgroups: dict[str, str]) -> tuple[str, str]:
        asked.append(cgroups)
        return "", "asked"

    monkeypatch.setattr(DelegatedScope, "offer", offer)
    assert RungChooser("nobody").choose({}, "subreaper").name == "subreaper"
    assert asked == []
    RungChooser("nobody").choose({}, "auto")
    assert asked == [{}]


def test_without_a_v2_tree_nobody_is_asked() -> None:
    folder, why = DelegatedScope("nobody", None).folder()
    assert not folder
    assert why.startswith("no v2 tree is mounted")


def test_reasons_tell_what_would_raise_it() -> None:
    assert "Delegate=yes" in explain_failure(
        OSError(95, "the systemd user manager has no memory controller to hand over")
    )
    assert explain_failure(BusRefused("a.b", "Not today.")) == "the systemd user manager refuses: Not today."
