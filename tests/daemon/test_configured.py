"""What a server's entry has go on is spared by the daemon."""

from __future__ import annotations

import functools
import json
import subprocess
from pathlib import Path

import pytest

from descents import NoTrees
from helpers import wait_for
from oomless.daemon.sessions.leftovers import LivingDescendants
from oomless.platform import proc
from oomless.processes.descent import Descendants, Descent
from oomless.processes.ids import ProcessId


def runs(pid: int, command: list[str]) -> bool:
    return proc.cmdline(pid) == command


def test_what_its_entry_has_go_on_is_not_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    servers = {"mine": {"command": "nohup", "args": ["sleep", "61"]}}
    (tmp_path / ".claude.json").write_text(json.dumps({"mcpServers": servers}))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("CLAUDE_CONFIG_DIR", raising=False)
    for command, spared in ((["sleep", "61"], True), (["tail", "-f", "/dev/null"], False)):
        with subprocess.Popen(command) as process:
            try:
                # In exec(2) descriptors are closed, which Popen waits for, before the arguments are there.
                assert wait_for(functools.partial(runs, process.pid, command), 10)
                found = proc.read_stat(process.pid)
                assert found is not None
                descendants = Descendants(ProcessId(2**22 + 1, 1))
                descendants.descents[ProcessId.of(found)] = Descent(above=(), shell_sid=None)
                remains = LivingDescendants(descendants, NoTrees())
                assert bool(remains.classify({found.pid: found})) is not spared
            finally:
                process.kill()
