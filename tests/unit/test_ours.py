"""The recogniser of our own processes: by the argument lists of this version and of earlier ones."""

from __future__ import annotations

import pytest

from oomless.contain.launch import shim_argv
from oomless.processes import ours
from oomless.protocol import spawn

SHIM = ["/venv/bin/python", "-I", "-S", "-E", "/venv/lib/oomless/contain/boot.py", "5", "t1", "--", "sleep", "1"]
PREFIX = ["/venv/bin/python", "-I", "-S", "-E", "/venv/lib/oomless/cli/boot_prefix.py", "shell", "sleep 1"]


@pytest.mark.parametrize(
    ("argv", "role"),
    [
        (SHIM, "shim"),
        (PREFIX, "prefix"),
        (["/bin/sh", "/home/u/.local/state/oomless/prefix", "sleep 1"], "prefix"),
        (["python", "-I", "-S", "-E", "/x/oomless/cli/boot_hook.py", "claude-code", "session-start"], "hook"),
        (["python", "-I", "-m", "oomless.daemon", "--ready-fd", "3"], "daemon"),
        (["python", "-m", "oomless", "batch"], "command"),
        ([*SHIM[:8], "python", "-m", "oomless.daemon"], "shim"),
        (["python", "-m", "oomless.demo.model"], ""),
        (["python", "/x/contain/boot.py", "5", "t1", "--", "true"], ""),
        (["sh", "-c", "sleep 1"], ""),
        (["python", "-m"], ""),
        ([], ""),
    ],
)
def test_the_role_of_a_process(argv: list[str], role: str) -> None:
    assert ours.role(argv) == role
    assert ours.is_ours(argv) == bool(role)
    assert ours.is_daemon(argv) == (role == "daemon")


def test_what_we_start_is_recognised() -> None:
    assert ours.is_shim_of(shim_argv(5, "t1", ["true"]), "t1")
    assert ours.is_daemon(spawn.command(3))


def test_a_shim_is_that_of_one_tree() -> None:
    assert ours.is_shim_of(SHIM, "t1")
    assert ours.is_shim_of(tuple(SHIM), "t1")
    assert not ours.is_shim_of(SHIM, "t2")
    assert not ours.is_shim_of([*SHIM[:7]], "t1")  # cut short: not proven
    assert not ours.is_shim_of(PREFIX, "shell")


def test_what_the_prefix_was_started_for() -> None:
    assert ours.prefixed(PREFIX) == "shell"
    assert ours.prefixed([*PREFIX[:5], "server", "npx x"]) == "server"
    assert ours.prefixed([*PREFIX[:5], "other"]) == ours.prefixed(SHIM) == ""
    assert ours.keeps_tree(PREFIX)
    assert ours.keeps_tree(SHIM)
    assert not ours.keeps_tree(["python", "-I", "-m", "oomless.daemon"])
