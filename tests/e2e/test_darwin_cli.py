"""The commands on macOS, as far as another system can show: which start and what they say, and which are not there.

Each runs in a process of its own in which every module for Linux refuses to load and this machine's processes are
told in a Mac's layouts (``darwin/as_mac.py``). Nothing of it was run on a Mac.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

SUPPORT = Path(__file__).parents[1] / "support"
DATA = SUPPORT.parent / "data"


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_RUNTIME_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name))
    return tmp_path


def on_mac(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "darwin.as_mac", *arguments],
        env={**os.environ, "PYTHONPATH": str(SUPPORT)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def told(*arguments: str) -> dict[str, Any]:
    done = on_mac(*arguments, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.fixture
def session(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that is called as a host is, and what is called as a server below it; both end with its stdin."""
    server = tmp_path / "node_modules" / ".bin" / "chrome-devtools-mcp"
    server.parent.mkdir(parents=True)
    server.write_text("echo ready\nread line\n")
    script = f"(exec -a node sh {server})"
    command = ["claude", "-c", f"{script}; exit"]
    with subprocess.Popen(command, executable="bash", stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        yield process
        assert process.stdin is not None
        process.stdin.close()


def test_scan_tells_whose_processes_are(session: subprocess.Popen[bytes]) -> None:
    found = told("scan")
    assert found["schema"] == "oomless.scan/1"
    host = next(row for row in found["processes"] if row["pid"] == session.pid)
    assert (host["kind"], host["host"], host["verdict"]) == ("session", "claude-code", "owned")
    assert (host["footprint_source"], host["bytes_recoverable"]) == ("phys_footprint", None)
    assert host["start"] > 10**15  # microseconds since the epoch
    (server,) = (row for row in found["processes"] if row["ppid"] == session.pid)
    assert (server["server"], server["verdict"]) == ("chrome-devtools-mcp", "owned")
    line = on_mac("scan", "--watch", "--count", "1", "--json").stdout
    assert session.pid in [row["pid"] for row in json.loads(line)["processes"]]


def test_reap_proves_nothing_and_says_why(session: subprocess.Popen[bytes]) -> None:
    found = told("reap")
    assert (found["dry_run"], found["proposed"]) == (True, [])
    assert found["notes"] == ["standard inputs are not read on this system, so no leftover is proven"]
    done = on_mac("reap", "--yes")
    assert (done.returncode, done.stdout) == (125, "")
    assert done.stderr.startswith("oomless: error: reap cannot kill anything here: killing is written for Linux only")


def test_status_and_diagnose_without_a_daemon(own_folders: Path) -> None:
    found = told("status")
    assert found["pid"] is None
    assert found["memory"]["total_bytes"] > found["memory"]["available_bytes"] > 0
    assert on_mac("status").stdout == "no daemon runs, so nothing is governed; there is none on macOS yet\n"
    assert told("diagnose")["origin"] == "live"
    assert list(own_folders.iterdir()) == []


def test_saved_listings() -> None:
    listing = str(DATA / "incident-ps.txt")
    found = told("scan", "--from", listing)
    assert sum(row["kind"] == "extension-host" for row in found["processes"]) == 6
    assert len(told("diagnose", "--from", str(DATA / "incident.md"))["contradictions"]) == 6
    assert told("reap", "--from", listing)["proposed"] == []
    assert on_mac("reap", "--from", listing, "--yes").returncode == 2


@pytest.mark.parametrize(
    "arguments",
    [
        ["hook", "claude-code", "session-start"],
        ["batch", "jobs.jsonl"],
        ["doctor"],
        ["demo"],
        ["install", "claude-code"],
        ["uninstall", "claude-code"],
        ["daemon", "status"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_what_needs_linux_says_so_in_one_line(arguments: list[str]) -> None:
    done = on_mac(*arguments)
    assert (done.returncode, done.stdout) == (125, "")
    assert done.stderr == (
        f"oomless: error: oomless {arguments[0]} does not run on darwin: it needs the daemon, which is written for"
        " Linux only so far\nhint: run it on Linux\n"
    )


def test_help_lists_what_there_is() -> None:
    done = on_mac("--help")
    assert (done.returncode, done.stderr) == (0, "")
    for name in ("run", "scan", "diagnose", "reap", "status", "config"):
        assert f" {name} " in done.stdout
    for name in (" batch ", " doctor ", " install ", " daemon "):
        assert name not in done.stdout
    assert on_mac("scan", "--nope").returncode == 2
    assert on_mac("config", "show").returncode == 0


def test_other_systems_have_nothing() -> None:
    code = "import sys; sys.platform = 'win32'; from oomless.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (125, "")
    assert done.stderr == "oomless: error: win32 is not supported\nhint: run it on Linux, or macOS in part\n"
