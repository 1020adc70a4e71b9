"""``scan --from``, ``reap --from`` and ``diagnose --from`` say the same of one file."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import listings
from diagnosing import CATALOG, DATA, case
from oomless.catalog import programs
from oomless.census import snapshot
from oomless.cli.app import build
from oomless.listing import parse_listing
from oomless.listing.values import parse_clock
from oomless.processes import command, words

SERVER = "node /home/sam/npx/.bin/chrome-devtools-mcp"
#: ``top -b -c -n 2``: between its pictures the session grew, and a server was started.
PICTURE = "\n".join(listings.LINUX_TOP.splitlines()[:7])
ROW = "{pid:7} sam       20   0  705544 {rss}   3060 S   6.7   0.5   0:01.01 {command}"
TWO_PICTURES = "\n\n".join(
    "\n".join((PICTURE, *(ROW.format(pid=pid, rss=rss, command=command) for pid, rss, command in rows)))
    for rows in (
        [(3100, "300000", "claude"), (3190, " 94120", SERVER)],
        [(3100, "900000", "claude"), (3190, " 95000", SERVER)],
    )
)
LISTINGS = Path(__file__).parents[1] / "corpus" / "listings"
FILES = [DATA / "incident.md", DATA / "incident-ps.txt", *sorted(LISTINGS.glob("*.txt"))]


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_RUNTIME_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name))


def run(name: str, *arguments: str, text: str) -> Any:
    result = CliRunner().invoke(build(name), [name, "--from", "-", "--json", *arguments], input=text)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_two_pictures_of_top_have_one_figure() -> None:
    parents = "\n\n    PID    PPID     ELAPSED COMMAND\n" + "".join(
        f"{pid:7} {ppid:7} {elapsed:>11} {command}\n"
        for pid, ppid, elapsed, command in (
            (3100, 2900, "01:00", "claude"), (3190, 3100, "00:50", SERVER), (3195, 3100, "00:10", SERVER),
        )
    )  # fmt: skip
    text, newest = TWO_PICTURES + parents, ROW.format(pid=3100, rss="900000", command="claude")
    scanned = {row["pid"]: row for row in run("scan", text=text)["processes"]}
    diagnosed = {node["pid"]: node for node in run("diagnose", text=text)["tree"]}
    assert scanned[3100]["footprint_bytes"] == diagnosed[3100]["footprint_bytes"] == 900_000 * 1024
    assert scanned[3190]["footprint_bytes"] == diagnosed[3190]["footprint_bytes"] == 95_000 * 1024
    assert diagnosed[3100]["source"] == f"RSS, line {text.splitlines().index(newest) + 1}"
    held = run("reap", text=text)["held_back"]
    assert [row["pid"] for row in held] == [3190]  # order of start alone
    assert scanned[3190]["verdict"] == diagnosed[3190]["verdict"] == "superseded"


ZOMBIES = """USER PID PPID STAT RSS COMMAND
sam 500 1 S 309000 claude
sam 501 500 S 66000 node /x/.bin/claude-flow mcp start

USER PID PPID STAT RSS COMMAND
sam 500 1 S 310000 claude
sam 501 500 Z 0 [node] <defunct>
sam 502 500 Z 0 [sh] <defunct>
"""


def test_an_age_that_went_round_is_unknown() -> None:
    """procps 4.0.2 of a process that started after its look at the clock."""
    text = "USER PID ELAPSED RSS COMMAND\nsam 500 441077234-00:18:40 309000 claude\n"
    found = run("scan", text=text)
    assert [row["pid"] for row in found["processes"]] == [500]
    assert found["unreadable"] == []
    assert parse_clock("441077234-00:18:40") is None
    assert parse_clock("36500-00:00:00") == 36500 * 86400


def test_zombies_are_named_and_are_no_processes_any_more() -> None:
    assert {row["pid"] for row in run("scan", text=ZOMBIES)["processes"]} == {500}
    (note,) = (note for note in run("scan", text=ZOMBIES)["notes"] if "zombie" in note)
    assert note == "2 zombies are not listed (ended and not reaped by the parent; no memory): 501, 502"
    diagnosis = run("diagnose", text=ZOMBIES)
    assert {node["pid"] for node in diagnosis["tree"]} == {500}
    assert [line for line in diagnosis["unreadable"] if "zombie" in line] == [
        "line 7: zombie 501, ended and not reaped by its parent",
        "line 8: zombie 502, ended and not reaped by its parent",
    ]


def test_what_reap_proposes_has_the_figure_of_scan() -> None:
    head = "    PID    PPID TT         ELAPSED   RSS COMMAND\n"
    rows = (
        (500, 400, "20:00", 9, "claude"),
        (501, 500, "19:00", 7, SERVER),
        (600, 401, "10:00", 8, "claude"),
        (601, 600, "09:00", 6, SERVER),
    )
    text = "\n".join(
        head + "".join(f"{pid:7} {ppid:7} pts/1    {elapsed:>9} {rss * times}0000 {command}\n"
        for pid, ppid, elapsed, rss, command in rows)
        for times in (1, 10)
    )  # fmt: skip
    (proposed,) = run("reap", "--include", "duplicate", text=text)["proposed"]
    scanned = {row["pid"]: row for row in run("scan", text=text)["processes"]}
    diagnosed = {node["pid"]: node for node in run("diagnose", text=text)["tree"]}
    assert (proposed["pid"], proposed["footprint_bytes"]) == (601, 600_000 * 1024)
    assert proposed == scanned[601]
    assert diagnosed[601]["footprint_bytes"] == 600_000 * 1024
    assert diagnosed[601]["verdict"] == "duplicate"
    assert set(scanned[601]["evidence"]) <= set(diagnosed[601]["evidence"])


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_scan_and_diagnose_agree_on_every_process(file: Path) -> None:
    """Kinds that only prose gives are those of processes that the census does not know."""
    text = file.read_text(encoding="utf-8")
    report = listings.scanned(parse_listing(text), CATALOG)
    diagnosed = {process.pid: process for process in case(text).processes}
    for row in report.processes:
        process = diagnosed[row.pid]
        for name in (
            "footprint_bytes",
            "rss_bytes",
            "verdict",
            "confidence",
            "host",
            "session",
            "server",
            "evidence",
        ):
            assert getattr(process, name) == getattr(row, name), (row.pid, name)
        assert process.kind == row.kind or (row.kind == "other" and process.kind_evidence)
    rules = {finding.rule for finding in report.findings}
    assert rules <= {finding.rule for finding in case(text).findings}


def test_each_command_line_is_split_and_parsed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the walk of a pasted listing: parse, attribute, findings, report."""
    calls: dict[str, Counter[object]] = {"split": Counter(), "parse": Counter()}

    def counted(name: str, function: Callable[[Any], Any]) -> Callable[[Any], Any]:
        def count(value: Any) -> Any:
            # A path with blanks in it is one word, and looked at as a process title by the parser.
            calls[name][value] += sys._getframe(1).f_code.co_name != "split_title"
            return function(value)

        return count

    for module in (snapshot, programs):
        monkeypatch.setattr(module, "parse_command", counted("parse", command.parse_command))
    monkeypatch.setattr(words, "split_line", counted("split", words.split_line))
    text = (DATA / "incident-ps.txt").read_text(encoding="utf-8")
    rows = Counter(row.command for row in parse_listing(text).rows)
    assert case(text).findings
    assert +calls["split"] == rows
    assert sum(calls["parse"].values()) == rows.total()
