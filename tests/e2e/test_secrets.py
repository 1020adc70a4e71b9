"""No raw command line of a process reaches a person or a file: names, commands, log lines, records, job logs. The
rules of masking are tested in ``test_census.py``."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers import run_oomless, wait_for, wait_gone
from oomless.contain import exit_record
from oomless.contain.sweep import Sweep
from oomless.daemon.sessions.leftovers import DetachedFromTrees
from oomless.daemon.status import ended_view
from oomless.daemon.trees.tree import Tree
from oomless.hosts.claude_code import prefix
from oomless.journal.trees import TreeIntent, TreeRow
from oomless.model import Identity, Survivor, Terms, TreeKind
from oomless.paths import Paths
from oomless.platform import proc
from oomless.processes.ids import ProcessId
from oomless.protocol.views import TreeView
from oomless.redact import MASK, command_line, mask_secrets, printable_words
from running import left_running, open_trees
from sessions import Session

SECRET = "hunter2hunter2"
#: Longer than a name is shown, so that a cut before the masking would show a part of it.
LONG = f"--token '{SECRET * 5}'"
SLEEPER = [sys.executable, "-I", "-S", "-c", "import time; time.sleep(60)"]


def test_arguments_one_by_one() -> None:
    assert printable_words(("x", "--token", SECRET, "a\nb")) == ("x", "--token", MASK, "a b")
    assert mask_secrets(("x", "--token", SECRET, "a\nb")) == ("x", "--token", MASK, "a\nb")


@pytest.mark.parametrize("quote", ["'", '"'])
@pytest.mark.parametrize("text", ["x --token {}", '{{"password": {}', "X_TOKEN={}"])
def test_a_value_whose_line_was_cut(quote: str, text: str) -> None:
    assert "hunter2" not in command_line((text.format(f"{quote}{SECRET} {SECRET}"),))


@pytest.mark.parametrize("quote", ["'\"'\"'", "'\\''"])
def test_a_quoted_value_within_quotes(quote: str) -> None:
    line = f"eval 'x --token {quote}{SECRET} {SECRET}{quote}; sleep 60' < /dev/null"
    assert command_line((line,)) == f"eval 'x --token {MASK}; sleep 60' < /dev/null"


def test_a_very_long_word_takes_no_time() -> None:
    """A prompt or a file in base64 may be an argument; without bounds this one takes half a minute."""
    began = time.process_time()
    command_line(("--token " + "a" * 100_000,))
    command_line(("a" * 100_000,))
    assert time.process_time() - began < 5


@pytest.fixture
def session() -> Iterator[Session]:
    program = prefix.write(Paths(), None)
    assert run_oomless("daemon", "start").returncode == 0  # else the prefix does without it on a busy machine
    with Session(program) as made:
        yield made
    assert wait_for(lambda: not open_trees(), 10)


def started() -> list[TreeView]:
    return [tree for tree in open_trees() if tree.pid is not None]


def texts() -> str:
    """Everything that the daemon and ``status`` say."""
    said = [run_oomless("status", *options).stdout for options in ((), ("--why",), ("--json",))]
    return "\n".join([*said, Path(Paths().log).read_text()])


def test_what_a_host_starts_is_shown_masked(session: Session, tmp_path: Path) -> None:
    """Tool shell and server, in the table, in JSON, and once they have ended."""
    session.server(["env", f"API_KEY={SECRET * 5}", *SLEEPER])
    session.shell(f"export X_TOKEN={SECRET}; : {LONG}; sleep 60", str(tmp_path))
    assert wait_for(lambda: len(started()) == 2, 10)
    said = texts()
    assert "hunter2" not in said
    assert MASK in said
    status = json.loads(run_oomless("status", "--json").stdout)
    assert all(MASK in tree["name"] and len(tree["name"]) <= 60 for tree in status["trees"])
    assert all(MASK in " ".join(tree["command"]) for tree in status["trees"])
    ids = [tree.tree for tree in started()]
    session.end("KILL")
    assert wait_for(lambda: not open_trees(), 10)
    ended = [run_oomless("status", id, "--json").stdout for id in ids]
    assert [MASK in text and "hunter2" not in text for text in ended] == [True, True]


def test_what_is_left_running_is_shown_masked(session: Session, tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    code = f"import time; open('{ready}', 'w'); time.sleep(60)"
    session.shell(f'nohup setsid {sys.executable} -c "{code}" --token {SECRET} & echo', str(tmp_path))
    assert wait_for(started, 10)
    assert wait_for(ready.exists, 10)  # it has left the shell's process session by then
    session.end("KILL")
    assert wait_for(left_running, 10)
    said = texts()
    for one in left_running().values():
        proc.kill(one.pid, one.start)
        assert wait_gone(one.pid, one.start, 5)
    assert f"--token {MASK}" in said
    assert "hunter2" not in said


# -- the parts -------------------------------------------------------------------------------------------------

ME = Identity(boot_id="b", pid=1, start=1)


def old_intent(kind: str) -> TreeIntent:
    """As a journal of an earlier version has it."""
    return TreeIntent(
        tree="t1",
        kind=TreeKind(kind),
        terms=Terms(name=f"x --token {SECRET}"),
        owner="claude-code:s",
        argv=("x", "--token", SECRET),
        boot_id="b",
        reserved=0,
        rung="subreaper",
        cgroups={},
        marker="i:t1",
        requester=ME,
        intended_at=0.0,
    )


@pytest.mark.parametrize("kind", ["shell", "server"])
def test_journals_of_earlier_versions_are_shown_masked(kind: str) -> None:
    intent = old_intent(kind)
    for view in (Tree(intent, "").view(), ended_view(TreeRow(intent=intent, rung="subreaper", ended_at=1.0))):
        assert view.name == f"x --token {MASK}"
        assert view.command == ("x", "--token", MASK)
    spared = DetachedFromTrees()
    here = proc.read_stat(os.getpid())
    assert here is not None
    row = Survivor(pid=here.pid, start=here.start, command=f"x --token {SECRET}", why="")
    spared.add(intent, (row,), 0.0)
    assert [one.command for one in spared.living()] == [f"x --token {MASK}"]


def test_the_name_that_somebody_gave_stays() -> None:
    assert Tree(old_intent("tree"), "").view().name == f"x --token {SECRET}"


@pytest.fixture
def sleeper() -> Iterator[int]:
    with subprocess.Popen([*SLEEPER, "--token", SECRET]) as process:
        yield process.pid
        process.kill()


def test_survivors_are_named_masked(sleeper: int) -> None:
    """In exit records (``run --report``) and in what the sweep writes to the log."""
    start = proc.start_of(sleeper) or 0
    assert wait_for(lambda: SECRET in proc.cmdline(sleeper), 5)
    survivors = exit_record.describe_survivors([ProcessId(sleeper, start)], os.getpid(), ())
    (told,) = [row for row in survivors if row["pid"] == sleeper]
    assert str(told["command"]).endswith(f"--token {MASK}")
    (left,) = Sweep("i:t1", {}, {ProcessId(sleeper, start)}, start).left()
    assert left.command.endswith(f"--token {MASK}")


def test_the_job_log_of_a_batch_is_masked(tmp_path: Path) -> None:
    jobs = tmp_path / "b.jsonl"
    jobs.write_text(json.dumps({"name": "a", "command": ["sh", "-c", f"true --token {SECRET}"]}) + "\n")
    assert run_oomless("batch", str(jobs), "--joblog", str(tmp_path / "log")).returncode == 0
    assert (tmp_path / "log").read_text().splitlines()[1].endswith(f"\tsh -c 'true --token {MASK}'")
