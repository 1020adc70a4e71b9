"""The user's own catalog, as the daemon and the commands read it."""

from __future__ import annotations

import json
from pathlib import Path

from config_files import BROKEN_CATALOG, CATALOG, write_catalog
from helpers import is_error_report, run_oomless
from oomless.paths import Paths
from oomless.protocol.client import Client


def test_the_daemon_says_so_in_its_log() -> None:
    write_catalog(BROKEN_CATALOG)
    Client(Paths(), start=True).status()
    log = Path(Paths().log).read_text()
    assert "program 3 (third)" in log


def test_scan_ends_with_one_line_and_exit_code_2() -> None:
    path = write_catalog(BROKEN_CATALOG)
    done = run_oomless("scan")
    assert (done.returncode, done.stdout) == (2, "")
    assert is_error_report(done.stderr)
    assert f"{path}:17, program 3 (third)" in done.stderr


def test_config_check_reads_it_too() -> None:
    path = write_catalog(BROKEN_CATALOG)
    done = run_oomless("config", "check", "--json")
    assert done.returncode == 2
    assert "program 3 (third)" in json.loads(done.stdout)["problem"]
    write_catalog(CATALOG)
    done = run_oomless("config", "check")
    assert done.returncode == 0
    assert path in done.stdout
    assert run_oomless("config", "check", path).returncode == 0
