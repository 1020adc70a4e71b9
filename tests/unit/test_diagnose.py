"""``oomless diagnose``: what it prints in each form, what it says of bad input, and a journal only read."""

from __future__ import annotations

import io
import json
import sqlite3
import sys
import time
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

import listings
from diagnosing import CATALOG, DATA, case, line_of, reported
from helpers import is_error_report
from oomless.catalog import Kind
from oomless.cli.app import build
from oomless.journal.decisions import Decision
from oomless.journal.journal import Journal
from oomless.journal.sessions import ReapRow
from oomless.journal.trees import TreeIntent
from oomless.model import ExitRecord, Identity, MachineMemory, Survivor, Terms
from oomless.reports.diagnose import html, live, markdown, report
from oomless.reports.listing import MOST_BYTES
from oomless.reports.scan import ProcessRow, ScanReport

BOOT = "11111111-2222-3333-4444-555555555555"
NASTY = (
    "USER PID RSS TTY COMMAND\n"
    "sam 7 900 s001 claude <script>alert(1)</script> ![x](http://evil.example/a.png)"
    " `tick` | a_b --token hunter2hunter2\n"
    "sam 8 800 s002 claude \x1b[31mred</td></pre>\n"
)
VOID = {"meta", "!doctype"}


class Page(HTMLParser):
    """Which tags there are, whether they close, and what would be loaded."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()
        self.loads: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        self.loads += [name for name, _ in attrs if name in ("src", "href", "srcset", "action", "background")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return tmp_path


def run(*arguments: str, text: str | None = None) -> Any:
    return CliRunner().invoke(build("diagnose"), ["diagnose", *arguments], input=text)


def test_json_of_a_file() -> None:
    result = run("--from", str(DATA / "incident.md"), "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["schema"] == "oomless.diagnose/1"
    assert {one["verdict"] for one in found["claims"]} == {"supported", "refuted", "unknown"}
    assert all({"text", "verdict", "evidence"} <= one.keys() for one in found["claims"])
    assert len(found["contradictions"]) == 6
    assert all(one["values"] and one["lines"] for one in found["contradictions"])
    assert result.stdout == run("--from", str(DATA / "incident.md"), "--format", "json").stdout


def test_standard_input_is_read() -> None:
    result = run("--from", "-", text=NASTY)
    assert result.exit_code == 0
    assert "Source: standard input." in result.stdout


@pytest.mark.parametrize("form", ["md", "html"])
def test_every_part_is_shown(form: str) -> None:
    shown = run("--from", str(DATA / "incident.md"), "--format", form).stdout
    for title in ("Summary", "Timeline", "Process tree", "Groups", "Findings", "Claims", "Contradictions", "Metrics"):
        assert title in shown
    assert "What to do now" in shown
    assert "What to do for good" in shown
    assert "552 MB / 555 MB" in shown


def test_html_is_escaped_and_loads_nothing() -> None:
    page = Page()
    text = html.render_html(reported(NASTY))
    page.feed(text)
    assert page.loads == []
    assert "script" not in page.seen
    assert "img" not in page.seen
    assert page.open == []
    assert "&lt;script&gt;" in text
    assert "\x1b" not in text
    assert "default-src 'none'" in text


def test_markdown_is_escaped() -> None:
    text = markdown.render_markdown(reported(NASTY))
    assert "\\<script\\>" in text
    assert "!\\[x\\](" in text
    assert "\\`tick\\`" in text
    assert "\x1b" not in text
    assert "http://" not in text


@pytest.mark.parametrize(
    ("raw", "escaped"),
    [
        ("# head", "\\# head"),
        ("- item", "\\- item"),
        ("3. three", "3\\. three"),
        ("2.96 GB", "2.96 GB"),
        ("a|b", "a\\|b"),
        ("two\nlines", "two lines"),
        ("\\", "\\\\"),
        ("\u202e", "\\\\u202e"),
    ],
)
def test_markdown_escapes(raw: str, escaped: str) -> None:
    assert markdown.escape_markdown(raw) == escaped


@pytest.mark.parametrize("form", ["md", "html", "json"])
def test_secrets_are_masked(form: str) -> None:
    shown = run("--from", "-", "--format", form, text=NASTY).stdout
    assert "hunter2" not in shown


def test_bad_input_is_one_line(tmp_path: Path) -> None:
    empty, large = tmp_path / "empty", tmp_path / "large"
    empty.write_text(" \n")
    with large.open("wb") as file:
        file.truncate(MOST_BYTES + 1)
    for arguments, words in (
        (("--from", str(tmp_path / "none")), "cannot read"),
        (("--from", str(tmp_path)), "cannot read"),
        (("--from", str(empty)), "is empty"),
        (("--from", str(large)), "too large"),
        (("--from", str(empty), "--since", "1h"), "--since is for the journal"),
        (("--since", "soon"), "is not a duration"),
        (("--json", "--format", "md"), "exclude each other"),
    ):
        result = run(*arguments)
        assert result.exit_code == 2, arguments
        assert result.stdout == ""
        assert words in result.stderr
        assert is_error_report(result.stderr)


def test_bytes_that_are_no_text(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "bytes"
    file.write_bytes(bytes(range(1, 256)) * 20)
    assert run("--from", str(file), "--json").exit_code == 0
    file.write_bytes(bytes(range(256)) * 20)
    result = run("--from", str(file))
    assert (result.exit_code, result.stdout) == (2, "")
    assert f"{file} holds no text: there are zero bytes in it" in result.stderr


WIDE = "  said 'PID 77: 900 MB, 5 subagents, total: 3,500 MB'"
TABLE = (
    "The listing:\n\n    PID    PPID   RSS COMMAND\n"
    f"    500       1 90000 node /home/u/{'a' * 30}.js --note{WIDE}\n"
    f"    501       1 90000 node /home/u/{'b' * 30}.js --note{WIDE}\n"
    "    502       1 90000 claude\n"
    "PID 88: 900 MB\n"
)


@pytest.mark.parametrize("width", [60, 80, 1000])
def test_what_belongs_to_a_table_is_not_prose(width: int) -> None:
    """Neither the rest of a row that a terminal broke nor what could not be read in it."""
    text = listings.broken(TABLE, width) + "\nPID 99: 12 MB\n"
    found = case(text)
    assert [one.pid for one in found.mentions] == [99]
    assert [one.pid for one in found.processes] == [99, 500, 501, 502]
    assert (found.totals, found.figures) == ((), ())
    assert found.unreadable == (f"line {line_of(text, 'PID 88')}: PID 88: 900 MB",)


def test_unreadable_lines_are_named() -> None:
    found = reported("USER PID RSS COMMAND\nsam 7 900 claude\nwhat is this\n")
    assert found.unreadable == ("line 3: what is this",)
    assert [node.pid for node in found.tree] == [7]


def test_a_ring_of_parents_is_shown_once() -> None:
    found = reported("PID PPID RSS COMMAND\n7 8 900 claude\n8 7 900 claude\n9 9 900 claude\n")
    assert sorted(node.pid for node in found.tree) == [7, 8, 9]


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.text(max_size=120),
            st.sampled_from((DATA / "incident.md").read_text(encoding="utf-8").splitlines()),
            st.sampled_from((DATA / "incident-ps.txt").read_text(encoding="utf-8").splitlines()),
        ),
        max_size=40,
    )
)
def test_any_text_gives_a_report_with_no_invented_process(lines: list[str]) -> None:
    text = "\n".join(lines)
    found = reported(text)
    assert all(str(node.pid) in text for node in found.tree)
    markdown.render_markdown(found)
    page = Page()
    page.feed(html.render_html(found))
    assert page.open == []


@pytest.mark.parametrize(
    "line",
    [
        "1" * 60_000,
        "PID 1 " * 9000,
        "a " * 30_000,
        "- " * 9000,
        "5 × " * 9000,
        "(" * 50_000,
        "1,000" * 9000,
        "1:1" * 9000,
    ],
)
def test_long_lines_cost_little(line: str) -> None:
    began = time.process_time()
    reported("\n".join([line, f"PID 1: 5 MB {line}", f"Total: {line} 5 MB"]))
    assert time.process_time() - began < 2.0


def test_many_lines_cost_little() -> None:
    began = time.process_time()
    reported("".join(f"- PID 7: {n} MB (subagent {n})\n\nTotal: {n} MB\n" for n in range(5000)))
    assert time.process_time() - began < 10.0


def journal_at(path: Path) -> Journal:
    path.parent.mkdir(parents=True, exist_ok=True)
    return Journal.open(str(path))


def identity(pid: int) -> Identity:
    return Identity(boot_id=BOOT, pid=pid, start=pid * 10)


def note(journal: Journal, tree: str, argv: tuple[str, ...], at: float) -> None:
    journal.trees.intend(
        TreeIntent(
            tree=tree,
            terms=Terms(name=f"job {tree}"),
            owner="run",
            argv=argv,
            boot_id=BOOT,
            reserved=1,
            rung="subreaper",
            cgroups={},
            marker=f"abcd:{tree}",
            requester=identity(100),
            intended_at=at,
        )
    )
    journal.trees.mark_started(tree, identity(101), identity(102), "subreaper", at=at)
    record = ExitRecord(
        tree=tree,
        name=f"job {tree}",
        status="done",
        exit_code=0,
        rung="subreaper",
        peak_bytes=50_000_000,
        peak_source="pss",
        reserved_bytes=1,
        seconds=1.0,
        survivors=0,
        started_at=at,
    )
    journal.trees.mark_ended(tree, record, at + 1)


def filled(path: Path, now: float) -> None:
    journal = journal_at(path)
    note(journal, "agent1", ("claude", "-p", "x"), now - 60)
    note(journal, "other1", ("sleep", "1"), now - 50)
    note(journal, "agent0", ("claude", "-p", "x"), now - 9000)
    journal.decisions.add(Decision(at=now - 40, tree="q", name="big", verdict="refused", reason="no memory for it"))
    journal.decisions.add(Decision(at=now - 9000, tree="r", name="old", verdict="refused", reason="no memory"))
    reap = ReapRow(
        host="claude-code",
        session="abcdef0123",
        process=identity(9),
        at=now - 30,
        ended=(Survivor(pid=1, start=2, command="x", why="lineage"),),
    )
    journal.sessions.add_reap(reap)
    journal.close()


def test_a_live_report_has_the_journal_of_the_time_asked_for(own_folders: Path) -> None:
    filled(own_folders / "state" / "oomless" / "journal.db", time.time())
    found = json.loads(run("--since", "1h", "--json").stdout)
    texts = [event["text"] for event in found["timeline"]]
    assert any(text.startswith("job agent1 (agent1) ended: done, 0 survivors, peak 50 MB (pss)") for text in texts)
    assert "big refused: no memory for it" in texts
    assert any(text.startswith("session claude-code abcdef01 ended: 1 killed") for text in texts)
    assert not any("agent0" in text or "old" in text for text in texts)
    times = [event["when"] for event in found["timeline"]]
    assert times == sorted(times)
    judged = next(one for one in found["claims"] if one["text"] == "subagents never release memory")
    assert judged["verdict"] == "refuted"
    assert "1 governed agents ended" in judged["evidence"][0]  # sleep is no agent
    assert found["memory"]["total_bytes"] > 0


def test_without_a_journal_none_is_made(own_folders: Path) -> None:
    result = run("--json")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["timeline"] == []
    assert not (own_folders / "state" / "oomless" / "journal.db").exists()


def test_a_journal_of_another_version_is_left_alone_and_named(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    db = sqlite3.connect(path)
    db.execute("PRAGMA user_version = 2")
    db.commit()
    db.close()
    before = path.read_bytes()
    history = live.read_history(str(path), 0.0)
    assert "schema 2" in history.problem
    assert path.read_bytes() == before


def test_the_tree_list_reads_only_the_catalogs_hosts(tmp_path: Path) -> None:
    filled(tmp_path / "journal.db", 10_000.0)
    history = live.read_history(str(tmp_path / "journal.db"), 9_000.0)
    assert {row.intent.tree for row in history.trees} == {"agent1", "other1"}
    assert [one.tree for one in live._ended_agents(history.trees, CATALOG)] == ["agent1"]


def test_standard_input_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    from oomless.reports.listing import read_text

    stdin = io.TextIOWrapper(io.BytesIO(b"PID 7: 5 MB\xff\n"))
    monkeypatch.setattr(sys, "stdin", stdin)
    assert read_text("-").startswith("PID 7")


def row(pid: int, kind: Kind, server: str | None = None, session: str | None = None) -> ProcessRow:
    return ProcessRow(
        pid=pid,
        ppid=1,
        start=1,
        uid=1,
        command="c" * 300,
        kind=kind,
        verdict="owned",
        confidence=1.0,
        host="claude-code",
        session=session,
        server=server,
        footprint_bytes=1_000_000,
        footprint_source="pss",
        rss_bytes=1,
        bytes_recoverable=None,
        evidence=(),
    )


def lived(*rows: ProcessRow) -> report.DiagnosisReport:
    memory = MachineMemory(total_bytes=16_000_000_000, available_bytes=12_000_000_000)
    scanned = ScanReport(memory=memory, processes=rows, groups=(), findings=())
    return report.build_report(live.build_case(scanned, (), live.History(), CATALOG, 0.0), "this machine")


def test_a_live_report_speaks_of_the_machine_and_not_of_a_text() -> None:
    found = lived(row(7, "session", session="s1"), row(8, "server", "x", "s1"), row(9, "server", "x", "s2"))
    assert found.summary[:2] == (
        "4.00 GB of the machine's 16.00 GB of memory are in use.",
        "2 MB (67%) of the 3 MB that is held by what is listed here is in 2 processes of x (pss).",
    )
    assert found.summary[-1] == "Supported: servers are duplicated."  # unknown claims that nobody made are no news
    judged = next(one for one in found.claims if one.text == "servers are duplicated")
    assert judged.evidence == ("x: 2 instances in claude-code s1 and claude-code s2 (PIDs 8, 9)",)
    shown = markdown.render_markdown(found)
    assert "- 8 server of claude-code s1, 1 MB (pss): " in shown
    assert "c" * 119 + "…\n" in shown
    assert "named here" not in shown + markdown.render_markdown(lived())
    assert "No session, editor, server or governed tree runs here now." in lived().summary
