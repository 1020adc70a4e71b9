"""``oomless run`` as a user meets it: real daemon, real trees, on the rung that the machine offers first."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import trees
from contained import PYTHON, TREE, read_roster
from helpers import alive, is_error_report, run_oomless, wait_for
from oomless.paths import Paths
from oomless.protocol.client import Client
from running import RUN, finish, on_a_terminal, open_trees, running, start

pytestmark = pytest.mark.as_user


@pytest.fixture
def roster(tmp_path: Path) -> Path:
    return tmp_path / "roster"


@pytest.fixture
def holder() -> Iterator[subprocess.Popen[str]]:
    """Holds 100 MB of a budget of 150 MB until its stdin is closed."""
    settings = Path(os.environ["XDG_CONFIG_HOME"]) / "oomless" / "config.toml"
    settings.parent.mkdir(parents=True)
    settings.write_text('budget = "150MB"\n')
    process = start("--name", "holder", "--expect", "100MB", "--", "cat", stdin=subprocess.PIPE)
    assert wait_for(lambda: running("holder"), 20)
    yield process
    finish(process)


def test_the_command_runs_as_without_us(tmp_path: Path) -> None:
    done = run_oomless("run", "--", "sh", "-c", 'printf "%s|" "$@" "$PWD"; echo err >&2; exit 3', "sh", "a b", "")
    assert (done.returncode, done.stdout, done.stderr) == (3, f"a b||{os.getcwd()}|", "err\n")


def test_stdin_is_the_commands(tmp_path: Path) -> None:
    process = start("--", "wc", "-c", stdin=subprocess.PIPE)
    out, _ = process.communicate("x" * 300_000, timeout=30)
    assert out.strip() == "300000"


def test_nothing_is_left_and_the_journal_says_so(roster: Path) -> None:
    done = run_oomless("run", "--name", "leaver", "--", *TREE, str(roster), "4")
    assert done.returncode == 4
    members = read_roster(roster)
    assert len(members) == len(trees.KINDS) + 1
    assert not any(alive(*who) for who in members.values())
    assert wait_for(lambda: not open_trees(), 5)
    ended = Client(Paths(), start=False).tree("leaver")
    assert ended is not None
    assert (ended.state, ended.exit_code, ended.survivors) == ("ended", 4, 0)


def test_the_limit_is_enforced_and_a_sibling_unharmed(tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    sibling = start("--memory", "300MB", "--", *PYTHON, "-c", "x = bytearray(10**8); input()", stdin=subprocess.PIPE)
    done = run_oomless("run", "--memory", "300MB", "--report", str(report), "--", *PYTHON, "-c", "bytearray(10**9)")
    assert done.returncode == 137
    assert done.stderr.count("\n") == 1
    assert "memory limit" in done.stderr
    record = json.loads(report.read_text())
    assert (record["schema"], record["status"], record["survivors"]) == ("oomless.run/1", "killed", 0)
    if record["peak_source"] == "cgroup":
        assert record["peak_bytes"] <= 1.02 * 300_000_000
    assert sibling.poll() is None
    sibling.communicate("go\n", timeout=20)
    assert sibling.returncode == 0


def test_no_wait_names_who_holds_what(holder: subprocess.Popen[str]) -> None:
    done = run_oomless("run", "--no-wait", "--expect", "80MB", "--", "true")
    assert done.returncode == 75
    assert is_error_report(done.stderr)
    assert "'holder' has reserved 100 MB" in done.stderr


def test_waiting_ends_when_the_holder_does(holder: subprocess.Popen[str]) -> None:
    waiting = start("--wait", "30s", "--expect", "80MB", "--", "echo", "ran")
    assert wait_for(lambda: any(t.state == "waiting" for t in open_trees()), 20)
    assert holder.stdin
    holder.stdin.close()
    holder.stdin = None
    code, out, err = finish(waiting)
    assert (code, out) == (0, "ran\n")
    assert "waits" in err


def test_waiting_runs_out(holder: subprocess.Popen[str]) -> None:
    done = run_oomless("run", "--wait", "0.2", "--expect", "80MB", "--", "true")
    assert done.returncode == 75
    assert "'holder' has reserved 100 MB" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_while_waiting_leaves_no_trace(holder: subprocess.Popen[str], number: int) -> None:
    waiting = start("--expect", "80MB", "--", "true")
    assert wait_for(lambda: any(t.state == "waiting" for t in open_trees()), 20)
    waiting.send_signal(number)
    assert finish(waiting)[0] == 128 + number
    assert wait_for(lambda: [t.name for t in open_trees()] == ["holder"], 5)


def test_an_interrupt_while_running_leaves_nothing(roster: Path) -> None:
    process = start("--", *TREE, str(roster), "stay")
    assert wait_for(lambda: "root" in read_roster(roster), 20)
    process.send_signal(signal.SIGINT)
    assert finish(process)[0] == 130
    assert not any(alive(*who) for who in read_roster(roster).values())


def test_an_interrupt_at_any_moment_is_130_or_too_late(tmp_path: Path) -> None:
    """From the first import to the fork: never a traceback, never a process left (the fixture looks)."""
    run_oomless("daemon", "start")
    for millisecond in range(0, 120, 8):
        process = start("--", "sleep", "5")
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(millisecond / 1000)
        process.send_signal(signal.SIGINT)
        code, _, err = finish(process)
        if code not in (130, -signal.SIGINT):  # then it was Python's own start that was interrupted
            assert "KeyboardInterrupt" in err
            assert ", in run\n" not in err
    assert wait_for(lambda: not open_trees(), 15)


def test_a_budget_that_can_never_fit_is_refused_at_once(holder: subprocess.Popen[str]) -> None:
    done = run_oomless("run", "--memory", "1GB", "--", "true")
    assert done.returncode == 75
    assert "150 MB" in done.stderr


def test_a_nested_run_is_charged_to_its_parent(holder: subprocess.Popen[str]) -> None:
    """Only 50 MB are left; the outer takes 40, and the nested one's 30 come out of those."""
    inner = f"{' '.join(RUN)} --no-wait --expect 30MB -- echo nested"
    done = run_oomless("run", "--no-wait", "--expect", "40MB", "--", "sh", "-c", inner)
    assert (done.returncode, done.stdout) == (0, "nested\n")
    foreign = run_oomless("run", "--no-wait", "--expect", "60MB", "--", "echo", "no")
    assert foreign.returncode == 75


def test_a_mark_alone_does_not_make_a_parent(holder: subprocess.Popen[str]) -> None:
    """A tmux server hands the mark to strangers: they are charged like everybody."""
    tree = running("holder")
    assert tree
    mark = {"OOMLESS_TREE": f"{Paths().install_id()}:{tree.tree}"}
    assert run_oomless("run", "--no-wait", "--expect", "60MB", "--", "true", env=mark).returncode == 75


def test_the_end_of_the_outer_tree_is_the_end_of_the_nested(roster: Path) -> None:
    inner = [*RUN, "--name", "inner", "--", *TREE, str(roster), "stay"]
    outer = start("--name", "outer", "--", *inner)
    assert wait_for(lambda: "root" in read_roster(roster), 30)
    outer.send_signal(signal.SIGTERM)
    finish(outer)
    assert not any(alive(*who) for who in read_roster(roster).values())
    assert wait_for(lambda: not open_trees(), 10)


def test_on_a_terminal_ctrl_c_is_the_commands_own(tmp_path: Path) -> None:
    """The command ignores it and lives on; an ordinary one dies of it: 130."""
    assert on_a_terminal(b"\x03", "trap 'echo caught; exit 7' INT; echo ready; while :; do sleep 0.1; done")[0] == 7
    code, out = on_a_terminal(b"\x03", "echo ready; exec sleep 30")
    assert code == 130
    assert b"oomless" not in out


def test_on_a_terminal_the_command_is_in_the_foreground(tmp_path: Path) -> None:
    """It can read from the terminal: a background group would be stopped by SIGTTIN."""
    code, out = on_a_terminal(b"typed\n", "echo ready; read line; echo got $line")
    assert code == 0
    assert b"got typed" in out


@pytest.mark.parametrize(
    ("args", "code", "says"),
    [
        (["--colour", "--", "true"], 2, "--colour"),
        (["--memory", "lots", "--", "true"], 2, "'lots'"),
        (["--memory", "-5", "--", "true"], 2, "'-5'"),
        (["--memory"], 2, "--memory needs a value"),
        (["--wait", "soon", "--", "true"], 2, "'soon'"),
        (["--processes", "0", "--", "true"], 2, "'0'"),
        ([], 2, "no command"),
        (["--", "no-such-command-anywhere"], 127, "no-such-command-anywhere"),
        (["--", "/etc/passwd"], 126, "/etc/passwd"),
        (["--report", "/no/such/folder/x", "--", "true"], 2, "/no/such/folder"),
        (["--report", "/", "--", "true"], 2, "it is no file"),
    ],
)
def test_bad_input_gets_one_line(args: list[str], code: int, says: str) -> None:
    done = run_oomless("run", *args)
    assert (done.returncode, done.stdout) == (code, "")
    assert is_error_report(done.stderr)
    assert done.stderr.startswith("oomless: error: ")
    assert says in done.stderr


def test_a_broken_config_is_named_by_line() -> None:
    settings = Path(os.environ["XDG_CONFIG_HOME"]) / "oomless" / "config.toml"
    settings.parent.mkdir(parents=True)
    settings.write_text('wait = "9m"\nbudjet = "1GB"\n')
    done = run_oomless("run", "--", "true")
    assert done.returncode == 2, done
    assert is_error_report(done.stderr)
    assert f"{settings}:2" in done.stderr
