"""The budget of all trees together: who is ended for it, by tables, and then with real trees that grow."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import subprocess
import sys
import tempfile
import termios
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers import run_oomless, wait_for, wait_gone
from oomless.admission.events import Admit, Ask, Configure, End, Observe, Policy, Restore, Use
from oomless.admission.machine import initial, step
from oomless.admission.victims import (
    BACK_OFF,
    DIES_WITHIN,
    Budget,
    Kill,
    Pressure,
    TreeUse,
    Warn,
    allowed_bytes,
    bytes_in_use,
    choose_victim,
    select_victim,
    select_victims,
)
from oomless.cli.status_view import headline
from oomless.config import LiveSettings, MarkSettings, Settings
from oomless.daemon.trees.admission_gate import AdmissionGate
from oomless.daemon.trees.limits import policy_of
from oomless.daemon.trees.tree import Tree
from oomless.daemon.trees.victims import group_budgets, is_in_group
from oomless.journal.trees import TreeIntent
from oomless.model import Identity, Terms, TreeKind
from oomless.paths import Paths
from oomless.platform import current, proc
from oomless.protocol import spawn
from oomless.protocol.client import Client
from oomless.protocol.views import PressureView, StatusView

MB, GB = 10**6, 10**9
MARKS = MarkSettings()


def tree(id: str, used: int, **fields: object) -> TreeUse:
    fields = {"reserved": 100, "eligible": True, "since": 0.0, **fields}
    return TreeUse(id=id, name=id, used=used, **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("trees", "victim"),
    [
        ((tree("old", 500, since=1.0), tree("new", 500, since=2.0)), "new"),
        ((tree("old", 500, retriable=True, since=1.0), tree("new", 500, since=2.0)), "old"),
        ((tree("old", 500, idle=True, since=1.0), tree("new", 500, since=2.0)), "old"),
        ((tree("idle", 500, idle=True), tree("again", 500, retriable=True)), "again"),
        ((tree("small", 500), tree("large", 600)), "large"),
        # whoever keeps to what it was promised is not ended for one that does not
        ((tree("grows", 900, since=1.0), tree("keeps", 90, since=2.0, retriable=True, idle=True)), "grows"),
        ((tree("grows", 900, since=1.0), tree("a little", 120, since=2.0, retriable=True)), "grows"),
        # what is nested in it is not its own doing
        ((tree("outer", 900, since=1.0), tree("inner", 850, parent="outer", since=2.0)), "inner"),
        ((tree("outer", 900, since=1.0), tree("inner", 50, parent="outer", since=2.0)), "outer"),
        # a server, a tool shell, a session at a terminal
        ((tree("server", 900, eligible=False), tree("keeps", 90)), "keeps"),
        ((tree("server", 900, eligible=False),), None),
        ((), None),
    ],
)
def test_who_is_ended(trees: tuple[TreeUse, ...], victim: str | None) -> None:
    chosen = choose_victim(trees)
    assert (chosen.id if chosen else None) == victim


def test_nested_trees_are_counted_once() -> None:
    assert (
        bytes_in_use((tree("outer", 900), tree("inner", 850, parent="outer"), tree("other", 5, parent="gone"))) == 905
    )


@pytest.mark.parametrize(
    ("budget", "available", "used", "allowed"),
    [
        (GB, 0, 5 * GB, GB),  # the user's word
        (None, 10 * GB, 0, 9 * GB),  # a machine of 10 GB that keeps 1 free
        (None, 4 * GB, 2 * GB, 5 * GB),
        (None, 0, 2 * GB, 4 * GB + GB // 2),  # others took it: ours are not ended for that
        (None, 1 * GB, 8 * GB, 8 * GB),
    ],
)
def test_what_all_may_use(budget: int | None, available: int, used: int, allowed: int) -> None:
    assert allowed_bytes(budget, 10 * GB, GB, available, used) == allowed


class Looks:
    """One look after the other at trees of the given sizes, of 1000 that they may use."""

    def __init__(self) -> None:
        self.watch = Pressure()

    def __call__(self, now: float, **sizes: int) -> list[str]:
        trees = tuple(tree(id, used, since=len(sizes) - n) for n, (id, used) in enumerate(sizes.items()))
        self.watch, actions = select_victim(self.watch, MARKS, 1000, trees, now)
        return [action.id if isinstance(action, Kill) else "warn" for action in actions]


def test_nothing_happens_below_the_marks() -> None:
    look = Looks()
    assert look(0.0, a=400, b=490) == []
    assert look.watch == Pressure()


def test_it_is_told_once_until_it_is_well_below_again() -> None:
    look = Looks()
    assert look(0.0, a=901) == ["warn"]
    assert look(1.0, a=999) == []
    assert look(2.0, a=860) == []
    assert look(3.0, a=901) == []
    assert look(4.0, a=849) == []
    assert look(5.0, a=901) == ["warn"]


def test_one_at_a_time_and_none_before_the_last_is_dead_and_the_figures_followed() -> None:
    look = Looks()
    assert look(0.0, a=500, b=500, c=500) == ["warn", "a"]
    assert look(5.0, a=500, b=500, c=500) == []
    assert look(6.0, b=500, c=500) == []  # dead, and what it had may not be free yet
    assert look(6.0 + BACK_OFF - 0.1, b=500, c=500) == []
    assert look(6.0 + BACK_OFF, b=500, c=500) == ["b"]


def test_one_at_a_time_for_several_budgets() -> None:
    """The first is a group's victim; what it frees counts for all, so all wait for it, and for the figures."""
    trees = (tree("a", 600, since=1.0), tree("b", 500, since=2.0), tree("c", 500, since=3.0))

    def look(
        watches: dict[str | None, Pressure], now: float, *ids: str
    ) -> tuple[dict[str | None, Pressure], list[str]]:
        held = tuple(one for one in trees if one.id in ids)
        mine = frozenset({"a", "b"} & set(ids))
        shares = (
            Budget(ids=frozenset(ids), used=bytes_in_use(held), allowed=10_000 if now < 1 else 1000),
            Budget(group="g", ids=mine, used=sum(one.used for one in held if one.id in mine), allowed=1000),
        )
        found, actions = select_victims(watches, MARKS, shares, held, now)
        return found, [action.id for action in actions if isinstance(action, Kill)]

    watches, ended = look({}, 0.0, "a", "b", "c")
    assert ended == ["b"]
    watches, ended = look(watches, 1.0, "a", "b", "c")  # now all of them are too much as well
    assert ended == []
    watches, ended = look(watches, 2.0, "a", "c")
    assert ended == []
    watches, ended = look(watches, 2.0 + BACK_OFF, "a", "c")
    assert ended == ["c"]


def test_a_group_is_told_by_its_name() -> None:
    """``c`` is no tree of the group and not to blame."""
    trees = (tree("a", 800 * MB, since=2.0), tree("b", 150 * MB, since=1.0), tree("c", 900 * MB, since=3.0))
    share = Budget(group="project /x", ids=frozenset({"a", "b"}), used=950 * MB, allowed=GB)
    _, (warning,) = select_victims({}, MARKS, (share,), trees, 0.0)
    assert warning.reason == (
        "memory pressure: 950 MB of 1.00 GB budget of project /x in use; at 100% one tree is killed"
    )
    share = msgspec.structs.replace(share, allowed=900 * MB)
    _, (_, end) = select_victims({}, MARKS, (share,), trees, 0.0)
    assert isinstance(end, Kill)
    assert end.id == "a"
    assert end.reason.startswith(
        "killed under memory pressure: 950 MB of 900 MB budget of project /x in use; this tree used 800 MB, "
        "reserved 100 B"
    )


def test_one_that_is_too_much_alone_is_told_so() -> None:
    """It would be again: who started it is not to try for nothing. Without a fixed budget it may have room later."""
    trees = (tree("a", 950 * MB, reserved=50 * MB), tree("b", 20 * MB))
    why = "killed for exceeding the budget by itself: 950 MB of 900 MB budget of batch 1 in use, reserved 50 MB"
    _, actions = select_victim(Pressure(), MARKS, 900 * MB, trees, 0.0, "batch 1")
    assert actions[-1] == Kill(id="a", reason=why, alone=True)
    _, actions = select_victim(Pressure(), MARKS, 900 * MB, trees, 0.0, fixed=False)
    assert isinstance(actions[-1], Kill)
    assert (actions[-1].id, actions[-1].alone) == ("a", False)


def test_nobody_is_ended_for_one_that_may_not_be() -> None:
    """A server is too much for a fixed budget: the end of the small one would not help. What the machine has is
    another matter: whatever comes back helps."""
    trees = (tree("server", 1100, eligible=False), tree("small", 90))
    _, actions = select_victim(Pressure(), MARKS, 1000, trees, 0.0)
    assert [type(action) for action in actions] == [Warn]
    _, actions = select_victim(Pressure(), MARKS, 1000, trees, 0.0, fixed=False)
    assert [action.id for action in actions if isinstance(action, Kill)] == ["small"]


def test_a_group_whose_last_tree_was_the_victim_still_has_the_others_wait() -> None:
    trees = (tree("a", 600, since=2.0), tree("b", 600, since=1.0))
    everybody = Budget(ids=frozenset({"a", "b"}), used=1200, allowed=10_000)
    group = Budget(group="g", ids=frozenset({"a"}), used=600, allowed=500)
    watches, actions = select_victims({}, MARKS, (everybody, group), trees, 0.0)
    assert [action.id for action in actions if isinstance(action, Kill)] == ["a"]
    left = Budget(ids=frozenset({"b"}), used=600, allowed=500)
    for now, ended in ((1.0, []), (1.1, []), (1.0 + BACK_OFF - 0.1, []), (1.0 + BACK_OFF, ["b"])):
        watches, actions = select_victims(watches, MARKS, (left,), trees[1:], now)
        assert [action.id for action in actions if isinstance(action, Kill)] == ended
        assert ("g" in watches) == (ended == [])


def test_one_that_did_not_die_for_one_budget_is_not_chosen_for_another() -> None:
    trees = (tree("a", 600, since=2.0), tree("b", 600, since=1.0))
    group = Budget(group="g", ids=frozenset({"a"}), used=600, allowed=500)
    watches, _ = select_victims({}, MARKS, (group,), trees, 0.0)
    everybody = Budget(ids=frozenset({"a", "b"}), used=1200, allowed=1000)
    _, actions = select_victims(watches, MARKS, (everybody, group), trees, DIES_WITHIN)
    assert [action.id for action in actions if isinstance(action, Kill)] == ["b"]


def test_one_that_does_not_die_is_not_waited_for_for_ever() -> None:
    look = Looks()
    assert look(0.0, a=500, b=500) == ["warn", "a"]
    assert look(DIES_WITHIN - 0.1, a=500, b=500) == []
    assert look(DIES_WITHIN, a=500, b=500) == ["b"]
    assert look(2 * DIES_WITHIN, a=500, b=500) == []  # nobody is left to choose_victim


def test_the_reason_names_budget_sum_and_the_trees_own() -> None:
    _, actions = select_victim(
        Pressure(), MARKS, GB, (tree("a", 900 * MB, reserved=300 * MB), tree("b", 200 * MB)), 0.0
    )
    warning, end = actions
    assert isinstance(warning, Warn)
    assert warning.reason == "memory pressure: 1.10 GB of 1.00 GB budget in use; at 100% one tree is killed"
    assert end.reason == (
        "killed under memory pressure: 1.10 GB of 1.00 GB budget in use; this tree used 900 MB, reserved 300 MB"
    )


@given(
    st.lists(
        st.tuples(st.integers(0, 900), st.integers(0, 500), st.booleans(), st.booleans(), st.booleans()), max_size=8
    ),
    st.floats(0, 30),
)
def test_a_victim_may_be_ended_and_is_needed(rows: list[tuple[int, int, bool, bool, bool]], now: float) -> None:
    trees = tuple(
        tree(str(n), used, reserved=reserved, eligible=may, retriable=again, idle=idle, since=n)
        for n, (used, reserved, may, again, idle) in enumerate(rows)
    )
    _, actions = select_victim(Pressure(), MARKS, 1000, trees, now)
    ended = [action for action in actions if isinstance(action, Kill)]
    assert len(ended) <= 1
    for action in ended:
        assert bytes_in_use(trees) >= 1000
        assert next(one for one in trees if one.id == action.id).eligible
    hopeless = bytes_in_use(trees) - bytes_in_use(tuple(one for one in trees if one.eligible)) >= 1000
    assert ended or bytes_in_use(trees) < 1000 or hopeless or not any(one.eligible for one in trees)


# -- the mark of admission -------------------------------------------------------------------------------------


def ask(id: str, need: int, **terms: Any) -> Ask:
    return Ask(id=id, terms=Terms(name=id, need=need, **terms), at=0.0)


def test_nothing_starts_above_the_mark_until_it_is_left_well_behind() -> None:
    state = initial(Policy(budget=1000, admit_mark=0.8), 10**6)
    state, _ = step(state, ask("a", 100))
    state, _ = step(state, Use(id="a", used=800))
    state, _ = step(state, Observe(available=10**6, at=1.0))
    state, (told,) = step(state, ask("b", 50))
    assert told.reason == "800 B of 1 kB budget in use, nothing starts above 800 B, used by a (800 B)"
    state, actions = step(state, Use(id="a", used=760))
    assert actions == ()
    state, (admitted,) = step(state, Use(id="a", used=740))
    assert admitted.id == "b"
    state, _ = step(state, Use(id="a", used=800))
    state, _ = step(state, Observe(available=10**6, at=2.0))
    state, _ = step(state, ask("c", 50))
    for id in ("a", "b"):
        state, actions = step(state, End(id=id, at=3.0))
    assert "c" in state.reservations


def test_without_a_budget_there_is_no_mark() -> None:
    state = initial(Policy(admit_mark=0.8), 10**6)
    state, _ = step(state, Use(id="a", used=10**6))
    state, (admitted,) = step(state, ask("b", 50))
    state, _ = step(state, Configure(policy=Policy(budget=40)))
    assert admitted.id == "b"


def test_the_settings_marks_are_the_policys() -> None:
    found = policy_of(Settings(budget=1000, marks=MarkSettings(admit=0.7)), GB)
    assert found.admit_mark == 0.7
    assert policy_of(Settings(), GB).admit_mark == 0.8


# -- real trees ------------------------------------------------------------------------------------------------

#: Takes so many bytes when the file is there, and then stays until another is, or does not.
GROWS = """
import os, sys, time
size, when, end = int(sys.argv[1]), sys.argv[2], sys.argv[3]
while not os.path.exists(when):
    time.sleep(0.01)
held = bytearray(b"x") * size
while not os.path.exists(end):
    time.sleep(0.01)
"""


@pytest.fixture
def folder() -> Path:
    return Path(tempfile.mkdtemp(dir=os.environ["XDG_RUNTIME_DIR"]))


def settings(text: str) -> None:
    file = Path(os.environ["XDG_CONFIG_HOME"]) / "oomless" / "config.toml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def grows(size: int, when: Path, end: Path) -> list[str]:
    return [sys.executable, "-I", "-S", "-c", GROWS, str(size), str(when), str(end)]


def run(name: str, report: Path, command: list[str], *options: str) -> subprocess.Popen[str]:
    argv = [sys.executable, "-m", "oomless", "run", "--name", name, "--report", str(report), *options, "--", *command]
    return subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def running() -> set[str]:
    return {one.name for one in Client(Paths(), start=False).status().trees if one.state == "running" and one.pid}


@pytest.mark.parametrize("rung", ["auto", "subreaper"])
def test_of_two_that_are_too_much_together_the_one_that_outgrew_its_share_is_ended(rung: str, folder: Path) -> None:
    settings(f'budget = "300MB"\nrung = "{rung}"\n')
    go, end = folder / "go", folder / "end"
    keeps = run("keeps", folder / "keeps.json", grows(80 * MB, go, end), "--expect", "150MB")
    assert wait_for(lambda: Path(Paths().daemon_file).exists() and "keeps" in running(), 20)
    outgrows = run("outgrows", folder / "outgrows.json", grows(280 * MB, go, end), "--expect", "50MB")
    assert wait_for(lambda: running() == {"keeps", "outgrows"}, 20)
    go.touch()
    _, said = outgrows.communicate(timeout=30)
    end.touch()
    assert keeps.wait(20) == 0
    keeps.communicate()
    record = json.loads((folder / "outgrows.json").read_text())
    assert outgrows.returncode == 137
    assert (record["status"], record["exit_code"], record["survivors"], record["victim"]) == ("killed", 137, 0, True)
    assert "of 300 MB budget in use" in record["reason"]
    assert "reserved 50 MB; 2" in record["reason"]
    assert record["reason"].endswith(" MB freed")
    assert record["reason"] in said


def test_nothing_is_ended_while_all_together_keep_to_the_budget(folder: Path) -> None:
    settings('budget = "300MB"\n')
    go, end = folder / "go", folder / "end"
    command = grows(120 * MB, go, end)
    two = [run(name, folder / name, command, "--expect", "50MB") for name in ("a", "b")]
    assert wait_for(lambda: Path(Paths().daemon_file).exists() and running() == {"a", "b"}, 20)
    go.touch()
    client = Client(Paths(), start=False)
    assert wait_for(lambda: sum(one.used_bytes or 0 for one in client.status().trees) > 240 * MB, 20)
    (pressure,) = client.status().pressure
    assert (pressure.may_use_bytes, pressure.warned, pressure.ending) == (300 * MB, False, None)
    assert 240 * MB < pressure.used_bytes < 270 * MB
    assert "all together" not in run_oomless("status").stdout
    assert not wait_for(lambda: len(running()) < 2, 2.5)
    end.touch()
    for process in two:
        process.communicate(timeout=20)
        assert process.returncode == 0


@pytest.mark.parametrize("seated", [True, False])
def test_a_session_that_somebody_sits_at_is_not_ended_for_the_others(seated: bool, folder: Path) -> None:
    """Not even one that grows before the daemon has noticed it, which takes a second. One that runs by itself
    (``claude -p``) is a tree like others."""
    settings('budget = "200MB"\n')
    go, end = folder / "go", folder / "end"
    go.touch()
    ours, theirs = pty.openpty()
    try:
        command = ["bash", "-c", 'exec -a claude "$@"', "-", *grows(300 * MB, go, end)]
        argv = [sys.executable, "-m", "oomless", "run", "--name", "seat", "--expect", "20MB", "--", *command]
        stdin, then = (theirs, _sit_down) if seated else (subprocess.DEVNULL, None)
        process = subprocess.Popen(
            argv,
            stdin=stdin,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
            preexec_fn=then,
        )
        client = Client(Paths(), start=False)
        if seated:
            assert wait_for(lambda: Path(Paths().daemon_file).exists() and running() == {"seat"}, 20)
            assert wait_for(lambda: sum(one.used_bytes or 0 for one in client.status().trees) > 250 * MB, 20)
            shown = run_oomless("status").stdout.splitlines()[0]
            assert re.search(r"; all trees use (2[5-9]\d|3\d\d) MB of a 200 MB budget$", shown), shown
            assert not wait_for(lambda: process.poll() is not None, 3)
            end.touch()
        process.communicate(timeout=20)
        assert process.returncode == (0 if seated else 137)
    finally:
        os.close(ours)
        os.close(theirs)


def _sit_down() -> None:
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def test_a_job_that_is_ended_for_the_others_waits_and_runs_again(folder: Path) -> None:
    """It has one attempt more, and is ended without losing it: so that it may still fail once by itself."""
    settings('budget = "300MB"\n')
    go, end, file, first = folder / "go", folder / "end", folder / "jobs.jsonl", folder / "first"
    script = (
        f"import os, sys, time\nfirst = not os.path.exists({str(first)!r})\nopen({str(first)!r}, 'a').write('x')\n"
        f"held = bytearray(b'x') * (230_000_000 if first else 1000)\nwhile first: time.sleep(1)\n"
        f"sys.exit(os.path.getsize({str(first)!r}) == 2)"
    )
    file.write_text(
        json.dumps({"name": "job", "command": [sys.executable, "-I", "-c", script], "expect": 10**7, "retries": 1})
    )
    holder = run("holder", folder / "holder.json", grows(100 * MB, go, end), "--expect", "150MB")
    assert wait_for(lambda: Path(Paths().daemon_file).exists() and "holder" in running(), 20)
    go.touch()
    done = run_oomless("batch", str(file), "--json", timeout=60)
    (job,) = json.loads(done.stdout)["jobs"]
    assert (done.returncode, job["status"], job["attempts"], job["survivors"]) == (0, "done", 3, 0)
    assert first.read_text() == "xxx"
    end.touch()
    holder.communicate(timeout=20)
    assert holder.returncode == 0


def intent(id: str, at: float = 0.0, **fields: Any) -> TreeIntent:
    base: dict[str, Any] = {"tree": id, "owner": "cli", "boot_id": "b", "reserved": 0, "rung": "cgroup2"}
    terms = {name: fields.pop(name) for name in [*fields] if name in Terms.__struct_fields__}
    base |= {"cgroups": {}, "marker": id, "intended_at": at, "terms": Terms(name=id, **terms), **fields}
    return TreeIntent(requester=Identity(boot_id="b", pid=1, start=1), **base)


def test_the_last_word_on_a_groups_budget_holds_and_a_servers_is_none() -> None:
    trees = [
        intent("new", 2.0, group="g", group_budget=4 * GB),
        intent("old", 1.0, group="g", group_budget=GB),
        intent("later", 3.0, group="g"),
        intent("server", 4.0, group="g", group_budget=GB, kind=TreeKind.SERVER),
        intent("other", group="h", group_budget=2 * GB),
    ]
    assert group_budgets(trees) == {"g": 4 * GB, "h": 2 * GB}


def test_who_belongs_to_a_group() -> None:
    intents = {
        one.tree: one
        for one in (
            intent("job", group="g"),
            intent("inner", parent="job", group="h"),
            intent("shell", group="g", kind=TreeKind.SHELL),
            intent("batch", parent="shell", group="h"),
            intent("run", parent="shell", group="g"),
        )
    }
    assert [id for id in intents if is_in_group(id, "g", intents)] == ["job", "inner", "run"]


def restored(id: str, kind: str) -> Restore:
    bounded = intent(id, kind=TreeKind(kind), group="project", group_parallel=2, group_budget=GB)
    return Tree(bounded, "").restore_event()


@pytest.mark.parametrize("kind", ["shell", "server"])
def test_what_takes_no_place_puts_nobody_under_its_groups_bounds(kind: str) -> None:
    """Two subagents fill the places of their project, and one of them runs a batch in its shell."""
    state = initial(Policy(), 10 * GB)
    for id in ("one", "two"):
        state, _ = step(state, ask(id, MB, group="project", group_parallel=2))
    shell = restored("shell", kind)
    state, _ = step(state, shell)
    state, (answer,) = step(state, ask("job", MB, parent="shell", group="batch"))
    assert isinstance(answer, Admit)
    terms = restored("tree", "tree").terms
    assert (terms.group_parallel, terms.group_budget) == (2, GB)


@pytest.mark.parametrize("killed", [False, True])
def test_the_budget_of_a_batch_is_kept_when_its_jobs_grow(killed: bool, folder: Path) -> None:
    """They were promised less; the machine has room, and a tree of somebody else's is not touched. ``killed``: the
    daemon, meanwhile; the next one knows the budget though nobody asks for more."""
    go, end, file = folder / "go", folder / "end", folder / "jobs.jsonl"
    other = run("other", folder / "other.json", grows(200 * MB, go, end), "--expect", "10MB")
    assert wait_for(lambda: Path(Paths().daemon_file).exists() and "other" in running(), 20)
    jobs = [
        {"name": name, "command": grows(size * MB, go, end), "expect": 10**7}
        for name, size in (("keeps", 60), ("outgrows", 220))
    ]
    file.write_text("".join(json.dumps(job) + "\n" for job in jobs))
    argv = [sys.executable, "-m", "oomless", "batch", str(file), "--budget", "250MB", "--json"]
    batch = subprocess.Popen(
        argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert wait_for(lambda: running() == {"other", "keeps", "outgrows"}, 20)
    if killed:
        daemon = spawn.running(Paths())
        assert daemon
        assert proc.kill(daemon.pid, daemon.start) == proc.SENT
        assert wait_gone(daemon.pid, daemon.start, 10)
        run_oomless("daemon", "start")
        assert wait_for(lambda: running() == {"other", "keeps", "outgrows"}, 20)
    go.touch()
    client = Client(Paths(), start=False)
    assert wait_for(lambda: running() == {"other", "keeps"}, 30)
    assert [one.group is None for one in client.status().pressure] == [True, False]
    end.touch()
    out, _ = batch.communicate(timeout=30)
    found = {job["name"]: job for job in json.loads(out)["jobs"]}
    assert (batch.returncode, found["keeps"]["status"], found["outgrows"]["status"]) == (1, "done", "killed")
    assert re.search(r"2\d\d MB of 250 MB budget of batch .* in use", found["outgrows"]["reason"])
    other.communicate(timeout=20)
    assert other.returncode == 0


def test_a_job_that_is_too_much_alone_uses_up_its_attempts(folder: Path) -> None:
    go, end, file = folder / "go", folder / "end", folder / "jobs.jsonl"
    go.touch()
    file.write_text(json.dumps({"command": grows(180 * MB, go, end), "expect": 10**7, "retries": 1}))
    done = run_oomless("batch", str(file), "--budget", "120MB", "--json", timeout=60)
    (job,) = json.loads(done.stdout)["jobs"]
    assert (done.returncode, job["status"], job["attempts"], job["survivors"]) == (1, "killed", 2, 0)
    assert job["reason"].startswith("killed for exceeding the budget by itself: 1")
    assert "MB of 120 MB budget of batch " in job["reason"]


def test_status_tells_who_is_being_ended() -> None:
    pressure = PressureView(used_bytes=1100 * MB, may_use_bytes=GB, warned=True, ending="t3")
    shown = headline(StatusView(pid=1, memory=current().memory(), pressure=(pressure,)))
    assert shown.endswith("; all trees use 1.10 GB of a 1.00 GB budget, killing t3")


def test_a_daemon_that_closes_judges_nobody(folder: Path) -> None:
    """It has forgotten the sessions by then, and leases that end would have it take a sample."""
    looks: list[int] = []
    gate = AdmissionGate(current(), LiveSettings(str(folder / "config.toml")), list)

    def look() -> bool:
        looks.append(1)
        return False

    gate.sampled = look
    gate.close()
    gate.sample()
    assert looks == []
