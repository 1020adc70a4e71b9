"""The contract of containment, run on every rung that this machine offers to this user, without a daemon."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

import trees
from contained import OFFERS, PYTHON, TAG, THREE_CHILDREN, TREE, Run, read_roster
from helpers import SLOWNESS, alive, wait_for, wait_gone
from oomless.contain import ending
from oomless.contain.launch import ShimSpec, shim_argv, write_spec
from oomless.contain.limits.limits import TreeLimits
from oomless.contain.rungs.build import build_rung
from oomless.contain.rungs.choose import Offer
from oomless.contain.rungs.subreaper import Subreaper
from oomless.model import ExitRecord
from oomless.platform import proc, pss
from oomless.processes import descendants

pytestmark = pytest.mark.as_user

SURROUNDINGS = """
import json, os
descriptors = sorted(map(int, os.listdir("/proc/self/fd")))
print(json.dumps([descriptors, os.environ["OOMLESS_TREE"], os.getcwd()]))
"""


@pytest.fixture(params=OFFERS, ids=[offer.name for offer in OFFERS])
def offer(request: pytest.FixtureRequest) -> Offer:
    found = request.param
    assert isinstance(found, Offer)
    return found


@pytest.fixture
def roster(tmp_path: Path) -> Path:
    return tmp_path / "roster"


def test_the_exit_code_is_the_commands_own(offer: Offer, tmp_path: Path) -> None:
    record = Run(tmp_path, offer, ["sh", "-c", "echo out; echo err >&2; exit 7"]).finish()
    assert (record.exit_code, record.status, record.rung) == (7, "failed", offer.name)


def test_output_is_the_commands_own(offer: Offer, tmp_path: Path) -> None:
    run = Run(tmp_path, offer, ["sh", "-c", "echo out; echo err >&2"])
    assert run.finish().status == "done"
    assert (run.out, run.err) == ("out\n", "err\n")


def test_a_signal_becomes_128_and_its_number(offer: Offer, tmp_path: Path) -> None:
    record = Run(tmp_path, offer, ["sh", "-c", "kill -USR1 $$"]).finish()
    assert (record.exit_code, record.signal) == (128 + signal.SIGUSR1, signal.SIGUSR1)


def test_nothing_is_left_when_the_root_ends(offer: Offer, tmp_path: Path, roster: Path) -> None:
    record = Run(tmp_path, offer, [*TREE, str(roster), "5"], grace=None).finish()
    members = read_roster(roster)
    assert set(members) == {*trees.KINDS, "root"}
    assert [kind for kind, who in members.items() if alive(*who)] == []
    assert (record.exit_code, record.survivors, record.ended) == (5, 0, len(trees.KINDS))


def test_every_kind_survives_a_plain_killpg(roster: Path) -> None:
    """Without us: what the test above ends is really out of reach of the usual way."""
    root = subprocess.Popen([*TREE, str(roster), "stay"], start_new_session=True, stdin=subprocess.DEVNULL)
    try:
        assert wait_for(lambda: "root" in read_roster(roster), 20)
        os.killpg(root.pid, signal.SIGTERM)
        root.wait(20)
        members = read_roster(roster)
        assert sorted(k for k, who in members.items() if alive(*who)) == sorted(trees.KINDS)
        away = {"setsid", "own-group", "double-fork", "wiped-environment"}
        os.killpg(root.pid, signal.SIGKILL)  # the plain ones hold the group's number
        for kind in set(trees.KINDS) - away:
            assert wait_gone(*members[kind], 5)
        assert {k for k, who in members.items() if alive(*who)} == away
    finally:
        for who in read_roster(roster).values():
            proc.kill(*who)
            wait_gone(*who, 5)


def test_a_tree_over_its_limit_is_ended(offer: Offer, tmp_path: Path) -> None:
    eater = Run(tmp_path, offer, [*PYTHON, "-c", "x = bytearray(10**9)"], limit=300_000_000)
    sibling = Run(
        tmp_path, offer, [*PYTHON, "-c", "x = bytearray(10**8); import sys; sys.exit(9)"], limit=300_000_000
    )
    record = eater.finish()
    assert (record.exit_code, record.status, record.survivors) == (137, "killed", 0)
    assert "memory limit" in record.reason
    assert eater.err.count("\n") == 1
    assert record.reason in eater.err
    if offer.bases:
        assert record.peak_bytes <= 1.02 * 300_000_000
        assert record.peak_source == "cgroup"
    assert sibling.finish().exit_code == 9


@pytest.fixture
def mapper(tmp_path: Path) -> Iterator[proc.Stat]:
    """A process with 64 MB of a file resident, shared with nobody that is read, and little else."""
    big = tmp_path / "big"
    big.write_bytes(bytes(64_000_000))
    code = f"import mmap; f = open({str(big)!r}, 'rb'); m = mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ)"
    code += "; sum(m[i] for i in range(0, 64_000_000, 4096)); print(flush=True); input()"
    with subprocess.Popen([*PYTHON, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        stat = proc.read_stat(process.pid)
        assert stat is not None
        yield stat
        process.kill()


def test_pages_that_may_be_shared_are_not_counted_where_only_rss_is_told(
    mapper: proc.Stat, monkeypatch: pytest.MonkeyPatch
) -> None:
    used, source = pss.measure_pss([mapper])
    assert (used > 64_000_000, source) == (True, "pss")
    monkeypatch.setattr(pss, "read_pss", lambda pid: None)  # another user's
    used, source = pss.measure_pss([mapper])
    assert mapper.rss_bytes > 64_000_000
    assert (1_000_000 < used < 32_000_000, source) == (True, "pss+anon")
    rung = Subreaper()
    monkeypatch.setattr(descendants, "walk", lambda own, skip, enough: [mapper])
    assert rung.usage() == rung.peak() == used
    assert rung.source == "pss+anon"


def test_who_has_ended_meanwhile_counts_for_nothing(mapper: proc.Stat) -> None:
    proc.kill(mapper.pid, mapper.start)
    assert wait_gone(mapper.pid, mapper.start, 5)
    assert pss.measure_pss([mapper]) == (0, "pss")


def test_a_polled_limit_names_its_source() -> None:
    class Full:
        kernel_limit, source = False, "pss+anon"

        def breach(self) -> None:
            return None

        def resident(self) -> int:
            return 1000

        usage = resident

    cause = TreeLimits(500, None, None, 0.0).find_exceeded(Full(), 1.0)  # type: ignore[arg-type]
    assert cause is not None
    assert cause.reason == "used 1 kB of its 500 B memory limit (pss+anon, found by polling)"


def test_a_limit_counts_the_whole_tree(offer: Offer, tmp_path: Path) -> None:
    """Three children of 80 MB each, none of which is over 150 MB alone."""
    record = Run(tmp_path, offer, [*PYTHON, "-c", THREE_CHILDREN], limit=150_000_000).finish()
    assert (record.exit_code, record.survivors) == (137, 0)


def test_a_time_out_ends_the_tree(offer: Offer, tmp_path: Path, roster: Path) -> None:
    record = Run(tmp_path, offer, [*TREE, str(roster), "stay"], timeout=2.0).finish()
    assert (record.exit_code, record.status, record.survivors) == (124, "timeout", 0)
    assert not any(alive(*who) for who in read_roster(roster).values())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_to_the_shim_ends_the_tree(offer: Offer, tmp_path: Path, roster: Path, number: int) -> None:
    run = Run(tmp_path, offer, [*TREE, str(roster), "stay"], grace=None)
    assert wait_for(lambda: "root" in read_roster(roster), 20)
    run.process.send_signal(number)
    record = run.finish()
    assert (record.exit_code, record.survivors) == (128 + number, 0)
    assert not any(alive(*who) for who in read_roster(roster).values())


def test_the_grace_is_that_of_the_specification(offer: Offer, tmp_path: Path) -> None:
    run = Run(tmp_path, offer, ["sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.1; done"], grace=2.5)
    assert run.process.stdout is not None
    assert run.process.stdout.readline() == "ready\n"
    began = time.monotonic()
    run.process.terminate()
    assert run.finish().exit_code == 143
    assert time.monotonic() - began > 2.4


def test_a_command_that_ends_on_sigterm_keeps_its_exit_code(offer: Offer, tmp_path: Path, roster: Path) -> None:
    code = f"trap 'exit 5' TERM; echo root $$ 0 >> {roster}; while :; do sleep 0.05; done"
    run = Run(tmp_path, offer, ["sh", "-c", code], grace=None)
    assert wait_for(roster.exists, 20)
    run.process.terminate()
    assert run.finish().exit_code == 5


def test_the_end_of_the_lifeline_is_the_end_of_the_tree(offer: Offer, tmp_path: Path, roster: Path) -> None:
    reader, writer = os.pipe()
    run = Run(tmp_path, offer, [*TREE, str(roster), "stay"], lifeline_fd=reader)
    os.close(reader)
    assert wait_for(lambda: "root" in read_roster(roster), 20)
    os.close(writer)
    record = run.finish()
    assert (record.status, record.survivors, record.reason) == ("killed", 0, "its owner is gone")


@pytest.mark.parametrize(("command", "code"), [("/no/such/thing", 127), ("/etc/passwd", 126)])
def test_what_cannot_run_says_so(offer: Offer, tmp_path: Path, command: str, code: int) -> None:
    run = Run(tmp_path, offer, [command])
    assert run.finish().exit_code == code
    assert run.err.startswith(f"oomless: try: cannot run '{command}'; ")


def test_the_environment_and_descriptors_are_passed_on(offer: Offer, tmp_path: Path) -> None:
    run = Run(tmp_path, offer, [*PYTHON, "-c", SURROUNDINGS])
    run.finish()
    descriptors, marker, cwd = json.loads(run.out)
    assert descriptors == [0, 1, 2, 3]  # 3: the listing's own
    assert (marker, cwd) == (f"{TAG}:{run.tree}", os.getcwd())


def test_signals_arrive_as_without_us(offer: Offer, tmp_path: Path) -> None:
    """Blocked and ignored signals of the command: none, though Python ignores SIGPIPE and the shim blocks four."""
    run = Run(tmp_path, offer, ["grep", "-E", "^Sig(Blk|Ign)", "/proc/self/status"])
    run.finish()
    plain = subprocess.run(["grep", "-E", "^Sig(Blk|Ign)", "/proc/self/status"], capture_output=True, text=True)
    assert run.out == plain.stdout


def test_a_rung_that_cannot_be_made_falls_through_with_a_reason(tmp_path: Path) -> None:
    broken = Offer("cgroup2+cgroup1", True, "", {"": "/proc/no/such/place", "memory": "/proc/none"})
    record = Run(tmp_path, broken, ["true"]).finish()
    assert (record.exit_code, record.rung) == (0, "subreaper")
    assert record.why_rung.startswith("fell through from cgroup2+cgroup1: ")


def test_children_from_before_the_shim_are_not_of_the_tree(offer: Offer, tmp_path: Path) -> None:
    """``sleep & exec oomless run``: the shell's own job is our child then, and none of our business."""
    tree = "x" + os.urandom(4).hex()
    granted: dict[str, object] = {
        "tree": tree,
        "reserved": 1,
        "limit": None,
        "processes": None,
        "rung": offer.name,
        "why_rung": "",
        "cgroups": offer.cgroups(f"oomless-{TAG}-{tree}"),
        "marker": f"{TAG}:{tree}",
        "exits": str(tmp_path),
    }
    fd = write_spec(ShimSpec(granted, name="try", state=str(tmp_path)))
    script = 'sleep 60 >&- 2>&- & echo $!; exec "$@"'
    argv = ["sh", "-c", script, "sh", *shim_argv(fd, tree, ["sh", "-c", "setsid sleep 60 >&- 2>&- & exit 3"])]
    done = subprocess.run(argv, pass_fds=[fd], capture_output=True, text=True, timeout=20 * SLOWNESS)
    os.close(fd)
    before = int(done.stdout)
    start = proc.start_of(before)
    assert start is not None, "the job from before was ended"
    assert alive(before, start)
    proc.kill(before, start)
    assert wait_gone(before, start, 5)
    record = msgspec.json.decode((tmp_path / f"{tree}.json").read_bytes(), type=ExitRecord)
    assert (record.exit_code, record.survivors, record.ended) == (3, 0, 1)


@pytest.mark.root
def test_who_moves_out_of_its_group_is_ended_all_the_same(tmp_path: Path, roster: Path) -> None:
    """As root a member can write itself into another group; a host that leaves a scope does the same."""
    offer = next(offer for offer in OFFERS if offer.bases)
    groups = " ".join(f"{base}/cgroup.procs" for base in offer.bases.values())
    script = tmp_path / "leave"
    script.write_text(f"for file in {groups}; do echo $$ > $file; done; exec {' '.join(TREE)} {roster} stay")
    record = Run(tmp_path, offer, ["sh", "-c", f"sh {script} & sleep 1; exit 6"]).finish()
    members = read_roster(roster)
    assert len(members) == len(trees.KINDS) + 1
    assert not any(alive(*who) for who in members.values())
    assert (record.exit_code, record.survivors) == (6, 0)


@pytest.mark.parametrize("kernel_can", [True, False])
def test_the_root_is_born_in_the_group_of_the_v2_tree(
    offer: Offer, kernel_can: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the kernel cannot, it enters as it does on other trees."""
    paths = offer.cgroups(f"oomless-{TAG}-born{kernel_can}")
    if "" not in paths:
        pytest.skip("a rung without the v2 tree")
    if not kernel_can:
        monkeypatch.setattr(proc, "fork_into", _refuse)
    rung = build_rung(offer.name, paths, None, None)
    rung.make()
    reader, writer = os.pipe()
    pid = rung.fork()
    if pid == 0:
        try:
            born = proc.cgroups("self")
            rung.enter()
            os.write(writer, json.dumps([born, proc.cgroups("self")]).encode())
        finally:
            os._exit(0)
    os.close(writer)
    try:
        with open(reader, encoding="utf-8") as answer:
            born, entered = json.load(answer)
    finally:
        os.waitpid(pid, 0)
        rung.close()
        ending.remove_rung(rung)
    leaf = os.path.basename(paths[""])
    if offer.name != "cgroup2+systemd":  # in a login session only the manager may put a process there
        assert born[""].endswith(f"/{leaf}") == kernel_can
    assert all(entered[controller].endswith(f"/{leaf}") for controller in paths)


def _refuse(cgroup: str) -> int:
    raise OSError(95, "no clone3 here", cgroup)
