"""The fixture around every test finds what a test leaves behind, ends it, and says so."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from helpers import alive

TESTS = Path(__file__).parents[1]

PRELUDE = """
import json, os, subprocess, sys
from pathlib import Path
from oomless.platform import proc

LONG = [sys.executable, "-c", "import signal; print(1, flush=True); signal.pause()"]

def note(pid):
    Path(__file__).with_name("pids").write_text(f"{pid} {proc.start_of(pid)}")

def test(house):
"""


def run_inner(folder: Path, body: str) -> tuple[str, list[int]]:
    """The output of pytest on one test with this body, and the pid and start time that the test noted."""
    for name in ("conftest.py", "support/helpers.py", "support/turnstile.py"):
        shutil.copy(TESTS / name, folder)
    quick = (TESTS / "support" / "leaks.py").read_text().replace("PATIENCE = 2.0", "PATIENCE = 0.2")
    (folder / "leaks.py").write_text(quick)
    (folder / "test_inner.py").write_text(PRELUDE + "\n".join(f"    {line}" for line in body.splitlines()))
    (folder / "pytest.ini").write_text("[pytest]\n")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(folder)],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    noted = folder / "pids"
    return done.stdout, [int(word) for word in noted.read_text().split()] if noted.exists() else []


ORPHAN = """
r, w = os.pipe()
code = f"import subprocess; print(subprocess.Popen({LONG!r}, stdout=-3, ENV).pid)"
subprocess.run([sys.executable, "-c", code], stdout=w, check=True)
note(int(os.read(r, 99)))
os.close(r)
os.close(w)
"""

LEAVE = {
    "child": "note(subprocess.Popen(LONG, stdout=-3).pid)",
    "forked only": "pid = os.fork()\nif not pid:\n    import signal; signal.pause()\nnote(pid)",
    "orphan with the mark": ORPHAN.replace("ENV", "start_new_session=True"),
    "orphan with the home folder alone": ORPHAN.replace("ENV", "env={{'HOME': {os.environ['HOME']!r}}}"),
}


@pytest.mark.parametrize("body", LEAVE.values(), ids=LEAVE)
def test_a_survivor_fails_the_test_and_is_ended(tmp_path: Path, body: str) -> None:
    out, (pid, start) = run_inner(tmp_path, body)
    assert f"processes left alive: ['{pid} " in out
    assert not alive(pid, start)


def test_a_leaked_descriptor_fails_the_test(tmp_path: Path) -> None:
    out, _ = run_inner(tmp_path, "os.open('/dev/null', os.O_RDONLY)")
    assert "descriptors left open: {" in out
    assert "/dev/null" in out


DAEMON = """
p = subprocess.Popen(LONG, stdout=subprocess.DEVNULL)
note(p.pid)
state = house / "state" / "oomless"
state.mkdir()
start = proc.start_of(p.pid)
(state / "daemon.json").write_text(json.dumps({"pid": p.pid, "start": start + OFF}))
"""


def test_the_tests_daemon_is_stopped(tmp_path: Path) -> None:
    out, (pid, start) = run_inner(tmp_path, DAEMON.replace("OFF", "0"))
    assert "1 passed" in out
    assert not alive(pid, start)


def test_another_process_under_the_daemons_pid_is_not_taken_for_it(tmp_path: Path) -> None:
    out, (pid, _) = run_inner(tmp_path, DAEMON.replace("OFF", "1"))
    assert f"processes left alive: ['{pid} " in out


def test_each_test_has_folders_of_its_own(tmp_path: Path) -> None:
    body = "assert os.environ['HOME'].startswith(str(house)); assert len(str(house)) < 20\n"
    body += "Path(__file__).with_name('folder').write_text(str(house))"
    out, _ = run_inner(tmp_path, body)
    assert "1 passed" in out
    assert not Path((tmp_path / "folder").read_text()).exists()
