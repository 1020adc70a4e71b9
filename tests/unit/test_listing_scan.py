"""``oomless scan --from``: whose the processes of a listing are, what stays unknown, table, JSON and mistakes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

import listings
from helpers import is_error_report
from listings import AUX, EO, SERVER, TWO_TERMINALS, aux, eo
from oomless import catalog
from oomless.cli import scan
from oomless.listing import parse_listing
from oomless.reports.listing import ListingReport
from oomless.reports.scan import ProcessRow

CATALOG = catalog.load()


def told(text: str) -> ListingReport:
    return listings.scanned(parse_listing(text), CATALOG)


def rows(text: str) -> dict[int, ProcessRow]:
    return {row.pid: row for row in told(text).processes}


def test_a_server_belongs_to_the_one_host_on_its_terminal() -> None:
    found = rows(TWO_TERMINALS)
    assert (found[501].host, found[501].session, found[501].verdict) == ("claude-code", "500", "owned")
    assert found[501].confidence < found[500].confidence
    assert "terminal s008: that of claude-code 500" in found[501].evidence[0]
    assert (found[701].host, found[701].verdict) == (None, "unknown")
    assert any("terminal s030: the listing has no host on it" in line for line in found[701].evidence)


def test_two_hosts_on_a_terminal_leave_it_open() -> None:
    found = rows(AUX + aux(500, "s008", "claude") + aux(510, "s008", "claude -p x") + aux(501, "s008", SERVER))
    assert (found[501].host, found[501].verdict) == (None, "unknown")


def test_a_script_and_the_program_that_it_starts_are_one_host() -> None:
    both = aux(500, "s008", "node /opt/bin/codex") + aux(501, "s008", "/opt/lib/codex/vendor/x/codex/codex")
    found = rows(AUX + both + aux(502, "s008", SERVER))
    assert (found[502].host, found[502].session, found[502].verdict) == ("codex", "500", "owned")


THREE = tuple(
    f"node {listings.NPX}/{end}"
    for end in (
        ".bin/claude-flow mcp start",
        "claude-flow/src/cli/simple-cli.js mcp start",
        "claude-flow/src/mcp/mcp-server.js",
    )
)


def test_the_programs_of_one_server_are_one_instance() -> None:
    """The incident's server is three processes; the listing prints no parents."""
    text = AUX + aux(500, "s008", "claude") + aux(600, "s022", "claude")
    text += "".join(aux(501 + at, "s008", command) for at, command in enumerate(THREE))
    text += "".join(aux(601 + at, "s022", command) for at, command in enumerate(THREE))
    found = told(text)
    (group,) = (one for one in found.groups if one.kind == "server")
    assert (group.name, group.instances, group.processes, group.untold) == ("claude-flow", 2, 6, 0)
    assert any(
        "on the terminal of 501, and another program of the same server" in line for line in rows(text)[503].evidence
    )
    (finding,) = (one for one in found.findings if one.rule == "duplicate-servers")
    assert finding.pids == (501, 502, 503, 601, 602, 603)
    again = text + "".join(aux(701 + at, "s022", command) for at, command in enumerate(THREE))
    assert [one.instances for one in told(again).groups if one.kind == "server"] == [3]


def test_one_program_with_other_arguments_is_another_instance() -> None:
    text = AUX + aux(500, "s008", "claude") + aux(501, "s008", f"{SERVER} a") + aux(502, "s008", f"{SERVER} b")
    assert [one.instances for one in told(text).groups if one.kind == "server"] == [2]
    assert [one.instances for one in told(text.replace("s008", "??  ")).groups if one.kind == "server"] == [2]


def test_no_terminal_says_nothing() -> None:
    found = rows(AUX + aux(500, "??", "claude") + aux(501, "??", SERVER))
    assert (found[501].host, found[501].verdict) == (None, "unknown")


def test_helpers_are_extension_hosts_and_protected() -> None:
    found = rows(TWO_TERMINALS)[900]
    assert (found.kind, found.verdict, found.footprint_bytes) == ("extension-host", "protected", 650_240 * 1024)
    assert found.evidence[-1] == "listing: line 7"


def test_a_name_that_is_cut_is_completed_if_only_one_begins_so() -> None:
    found = rows(listings.MAC_TOP)[19284]
    assert (found.kind, found.command) == ("extension-host", "Code Helper (Plu")
    assert "the system cut its name to 'Code Helper (Plu': of the known ones only one begins so" in found.evidence
    assert 19284 not in rows(listings.MAC_TOP.replace("Code Helper (Plu", "Code Renderer (P"))


def test_copies_name_what_to_close() -> None:
    (finding,) = (one for one in told(TWO_TERMINALS).findings if one.rule == "duplicate-servers")
    assert finding.pids == (501, 601, 701)
    assert finding.bytes_recoverable is None
    assert "claude-code 500 on s008, claude-code 600 on s022, terminal s030" in finding.action
    assert {row.verdict for row in told(TWO_TERMINALS).processes} == {"owned", "unknown", "protected"}


def test_different_servers_are_no_copies() -> None:
    other = AUX + aux(501, "s008", f"{SERVER} --port 1") + aux(601, "s022", f"{SERVER} --port 2")
    assert not any(one.rule == "duplicate-servers" for one in told(other).findings)
    assert any(one.rule == "duplicate-servers" for one in told(TWO_TERMINALS).findings)


def test_the_chain_of_parents() -> None:
    found = rows(listings.LINUX_EF)
    assert {pid: (row.kind, row.session, row.verdict) for pid, row in found.items()} == {
        3100: ("session", "3100", "owned"),
        3155: ("launcher", "3100", "owned"),
        3190: ("server", "3100", "owned"),
    }
    assert "chain of parents in the listing: 3190 < 3155 < 3100 (claude-code)" in found[3190].evidence
    assert (found[3190].footprint_bytes, found[3190].rss_bytes, found[3190].start) == (None, None, None)
    assert found[3190].ppid == 3155


def test_a_parent_of_1_is_no_orphan_and_no_terminals() -> None:
    found = rows(EO + eo(500, 400, "10:00", "claude") + eo(501, 1, "09:00", SERVER))
    assert (found[501].verdict, found[501].host) == ("unknown", None)


def test_what_started_later_is_told_where_it_is_printed() -> None:
    text = EO + eo(500, 400, "20:00", "claude", "pts/1") + eo(900, 500, "19:00", SERVER, "pts/1")
    text += eo(600, 401, "10:00", "claude", "pts/2") + eo(601, 600, "09:00", SERVER, "pts/2")
    found = rows(text)
    assert (found[900].verdict, found[601].verdict) == ("owned", "duplicate")
    assert "the session 500 is older and runs the same command line, as 900" in found[601].evidence[0]
    without = rows(text.replace("ELAPSED", "CHANGED"))
    assert (without[900].verdict, without[601].verdict) == ("owned", "owned")


def test_that_cut_commands_are_the_same_is_not_told() -> None:
    text = EO + eo(500, 400, "20:00", "claude") + eo(501, 500, "19:00", f"{SERVER} {'a' * 60}")
    text += eo(600, 401, "10:00", "claude") + eo(601, 600, "09:00", f"{SERVER} {'a' * 60}")
    text += eo(700, 400, "20:00", f"vim {'b' * 200}") + eo(701, 400, "20:00", f"less {'c' * 200}")
    assert rows(text)[601].verdict == "duplicate"
    narrow = rows(listings.cut(text, 150))[601]
    assert (narrow.server, narrow.verdict) == ("claude-flow", "owned")


def test_an_older_generation_under_one_host() -> None:
    text = EO + eo(500, 400, "20:00", "claude") + eo(501, 500, "19:00", SERVER) + eo(502, 500, "01:00", SERVER)
    found = rows(text)
    assert (found[501].verdict, found[502].verdict) == ("superseded", "owned")
    assert "started it at least 1080 s later" in found[501].evidence[0]


def test_tables_of_one_moment_complete_each_other() -> None:
    both = rows(f"{listings.LINUX_AUX}\n{listings.LINUX_EF}")
    assert both[3190].ppid == 3155
    assert both[3190].rss_bytes == 94120 * 1024
    assert both[3190].evidence[-1] == "listing: lines 6, 14"


def test_zombies_are_left_out() -> None:
    text = AUX + aux(500, "s008", "claude")
    assert rows(text).keys() == {500}
    assert rows(text.replace(" S+ ", " Z+ ")).keys() == set()


def test_a_number_that_was_used_again() -> None:
    later = listings.LINUX_EF.replace("claude", "vim notes.txt").replace("    2900  1", "     999  1")
    found = rows(f"{listings.LINUX_AUX}\n{later}")[3100]
    assert (found.kind, found.ppid, found.rss_bytes) == ("editor", 999, None)
    assert found.evidence[-2:] == ("listing: line 12", "line 4 has another command under this number")


def test_a_list_of_pids_is_shown_as_it_is() -> None:
    text = listings.LISTS + "\n- PID 19287: 552 MB\n"
    found = rows(text)
    assert {row.verdict for row in found.values()} == {"unknown"}
    assert found[19287].command == "Code Helper - subagent 2"
    assert found[19287].kind == "other"  # what somebody calls it proves nothing
    assert found[19287].evidence == ("listing: lines 7, 12", "line 12 says 552 MB")  # the first counts


def test_a_table_counts_more_than_what_is_said() -> None:
    found = rows(f"{listings.MAC_COMM}\n- PID 19284: 635 MB (Code Helper - subagent 1)\n")[19284]
    assert (found.kind, found.rss_bytes, found.verdict) == ("extension-host", 650_240 * 1024, "protected")
    assert "line 4 says 635 MB" in found.evidence
    assert "line 4 calls it 'Code Helper - subagent 1'" in found.evidence


def test_evidence_without_a_header() -> None:
    found = rows(listings.EVIDENCE)
    assert {(row.server, row.user, row.footprint_bytes) for row in found.values()} == {("claude-flow", "sam", None)}
    (group,) = told(listings.EVIDENCE).groups
    assert (group.name, group.processes, group.footprint_bytes) == ("claude-flow", 2, None)


def test_many_servers_of_unknown_size() -> None:
    lines = "".join(f"sam   {pid}  node {listings.NPX}/claude-flow/src/cli/x.js\n" for pid in range(100, 120))
    (finding,) = (one for one in told(lines).findings if one.rule == "many-servers")
    assert finding.title == "20 processes of MCP servers run"
    assert "0 B" not in "".join(finding.evidence)


def test_of_tops_pictures_the_last_counts() -> None:
    later = listings.LINUX_TOP.replace("1.2g", "2.4g").replace("   3100 sam", "   3200 sam")
    both = told(listings.LINUX_TOP + "\n" + later)
    assert [(row.pid, row.rss_bytes) for row in both.processes] == [(3200, round(2.4 * 2**30))]
    assert any("only the last" in note for note in both.notes)
    assert not any("only the last" in note for note in told(listings.LINUX_TOP).notes)


def test_the_machine_and_its_warning() -> None:
    found = told(listings.LINUX_TOP)
    assert found.memory is not None
    assert [one.rule for one in found.findings] == ["memory-in-use"]
    assert told(listings.LINUX_AUX).memory is None
    assert any("how much memory the machine has" in note for note in told(listings.LINUX_AUX).notes)


def test_secrets_are_masked() -> None:
    found = rows(AUX + aux(500, "s008", "claude --api-key sk-ant-REDACTED"))
    assert found[500].command == "claude --api-key ***"
    (unread,) = told(AUX + aux(500, "s008", "claude") + "sam --api-key hunter2hunter2\n").unreadable
    assert unread.text == "sam --api-key ***"


# -- the command -----------------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("CONFIG", "STATE", "RUNTIME"):
        key = "XDG_RUNTIME_DIR" if name == "RUNTIME" else f"XDG_{name}_HOME"
        monkeypatch.setenv(key, str(tmp_path / name.lower()))
    return tmp_path


def run(*arguments: str, stdin: bytes = b"") -> Result:
    app = typer.Typer()
    app.command()(scan.command)
    return CliRunner().invoke(app, list(arguments), input=stdin)


def parsed(*arguments: str, stdin: bytes = b"") -> dict[str, Any]:
    result = run(*arguments, "--json", stdin=stdin)
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def test_json_has_the_fields_of_a_live_scan(tmp_path: Path) -> None:
    file = tmp_path / "saved.txt"
    file.write_text(TWO_TERMINALS + "sam  12\n")
    found = parsed("--from", str(file))
    assert found["schema"] == "oomless.scan/1"
    assert (found["memory"], found["form"]) == (None, "ps aux")
    assert found["unreadable"] == [{"line": 8, "text": "sam  12"}]
    live = {
        *("pid", "ppid", "start", "uid", "command", "kind", "verdict", "confidence", "host", "session", "server"),
        *("footprint_bytes", "footprint_source", "rss_bytes", "bytes_recoverable", "evidence"),
    }
    for row in found["processes"]:
        assert live <= row.keys()
        assert (row["start"], row["footprint_source"], row["bytes_recoverable"]) == (None, "listing", None)
    assert {"rule", "severity", "title", "pids", "bytes_recoverable", "evidence", "action"} <= found["findings"][
        0
    ].keys()


def test_it_needs_no_daemon_and_makes_nothing(own_folders: Path) -> None:
    assert parsed("--from", "-", stdin=listings.LINUX_EF.encode())["processes"]
    assert list(own_folders.iterdir()) == []


def test_the_table() -> None:
    result = run("--from", "-", stdin=(TWO_TERMINALS + "sam  1\x1b[2J2\x07\n").encode())
    assert result.exit_code == 0
    lines = result.stdout.split("\n")
    assert any(line.split()[:3] == ["501", "server", "claude-flow:"] for line in lines)
    assert "line 8: sam  12\\x07" in result.stdout
    assert "note: 1 line within tables could not be read" in result.stdout
    assert "warning: an MCP server runs more than once: claude-flow" in result.stdout
    assert "\x1b" not in result.stdout


def test_a_size_that_is_not_told_is_no_zero() -> None:
    result = run("--from", "-", stdin=listings.LINUX_EF.encode())
    assert [line.split()[-2:] for line in result.stdout.split("\n") if "3190" in line] == [["?", "owned"]]


@pytest.mark.parametrize(("text", "code"), [(TWO_TERMINALS, 1), (listings.LINUX_EF, 0)])
def test_fail_on(text: str, code: int) -> None:
    assert run("--from", "-", "--fail-on", "warning", stdin=text.encode()).exit_code == code
    assert run("--from", "-", "--fail-on", "critical", stdin=text.encode()).exit_code == 0


MISTAKES = {
    "missing": (["--from", "{folder}/nothing"], b"", "cannot read {folder}/nothing: No such file or directory"),
    "folder": (["--from", "{folder}"], b"", "cannot read {folder}: Is a directory"),
    "device": (["--from", "/dev/zero"], b"", "cannot read /dev/zero: it is a device"),
    "binary": (["--from", "-"], b"PID\x00COMMAND", "standard input holds no text: there are zero bytes in it"),
    "empty": (["--from", "-"], b" \n", "standard input is empty\nhint: give it the output of ps aux"),
    "words": (["--from", "-"], b"all is well\n", "standard input names no process: it holds no table"),
    "unreadable": (
        ["--from", "-"],
        b"  PID   RSS COMMAND\nx y z\n",
        "none of the 1 lines within tables could be read",
    ),
    "watch": (["--from", "-", "--watch"], b"", "--from is for one look at what was saved"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_one_line(mistake: str, tmp_path: Path) -> None:
    arguments, stdin, expected = MISTAKES[mistake]
    result = run(*(word.format(folder=tmp_path) for word in arguments), stdin=stdin)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert is_error_report(result.stderr)
    assert expected.format(folder=tmp_path) in result.stderr


def test_too_much_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("oomless.reports.listing.MOST_BYTES", 100)
    result = run("--from", "-", stdin=listings.LINUX_EF.encode())
    assert result.exit_code == 2
    assert "standard input is too large" in result.stderr


# -- start times as ps shortens them --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("older", "younger"),
    [("09:12", "09:15"), ("Nov27", "00:01"), ("Nov09", "Nov27"), ("2025", "Jan01"), ("9:03AM", "1:00PM")],
)
def test_which_generation_is_older_is_told_by_shortened_start_times(older: str, younger: str) -> None:
    text = "    PID    PPID STARTED COMMAND\n" + "".join(
        f"    {pid} {ppid:7} {at:>7} {what}\n"
        for pid, ppid, at, what in (
            (500, 400, older, "claude"),
            (501, 500, older, SERVER),
            (502, 500, younger, SERVER),
        )
    )
    found = rows(text)
    assert (found[501].verdict, found[502].verdict) == ("superseded", "owned")


@pytest.mark.parametrize(
    "times",
    [
        ("09:12", "09:12"),  # of the same minute
        ("09:12", "09:13"),  # a second apart, it may be
        ("Dec31", "Jan02"),
        ("9:03AM", "?"),
        ("Xyz27", "09:12"),
    ],
)
def test_what_they_leave_open_stays_open(times: tuple[str, str]) -> None:
    text = "    PID    PPID STARTED COMMAND\n" + "".join(
        f"    {pid} {ppid:7} {at:>7} {what}\n"
        for pid, ppid, at, what in (
            (500, 400, times[0], "claude"), (501, 500, times[0], SERVER), (502, 500, times[1], SERVER),
        )
    )  # fmt: skip
    assert {row.verdict for row in rows(text).values()} == {"owned"}


def test_hours_of_bsd_go_round_once_and_are_left_open_if_more_often() -> None:
    from oomless.listing.values import parse_rough_moments

    once = parse_rough_moments(["11:00PM", "11:59PM", "12:01AM", "9:00AM"])
    assert once is not None
    assert once == sorted(set(once))
    assert parse_rough_moments(["11:00PM", "1:00AM", "10:00PM", "2:00AM"]) == [once[0] - 23 * 60] * 4
    week = parse_rough_moments(["Fri09AM", "Sun11PM", "Tue01AM", "8:00AM"])
    assert week is not None
    assert week == sorted(set(week))


def test_a_server_that_says_so_itself_is_one_below_a_host() -> None:
    own, job = "node /srv/billing-mcp/dist/index.js --stdio", "node /srv/billing-mcp/dist/index.js --test"
    shell = "/bin/bash -c source /home/u/.claude/shell-snapshots/snapshot-bash-1.sh && eval x"
    text = EO + eo(500, 400, "20:00", "claude") + eo(501, 500, "19:00", own) + eo(502, 500, "18:00", shell)
    found = rows(text + eo(503, 502, "01:00", job) + eo(504, 500, "01:00", "node /srv/billing/dist/index.js"))
    assert (found[501].kind, found[501].server) == ("server", "billing-mcp")
    assert {found[pid].server for pid in (503, 504)} == {None}


def test_below_a_launcher_it_is_one_if_a_host_or_an_editor_started_the_launcher() -> None:
    run, own = "uv run --directory /srv/atlas atlas-mcp", "/srv/atlas/.venv/bin/python /srv/atlas/.venv/bin/atlas-mcp"
    shell = "/bin/bash -c source /home/u/.claude/shell-snapshots/snapshot-bash-1.sh && eval x"
    text = EO + eo(500, 400, "20:00", "claude") + eo(501, 500, "19:00", run) + eo(502, 501, "19:00", own)
    text += eo(510, 500, "18:00", shell) + eo(511, 510, "17:00", run) + eo(512, 511, "17:00", own)
    text += eo(600, 1, "20:00", "/usr/share/code/code --type=extensionHost") + eo(601, 600, "19:00", own)
    found = rows(text)
    assert [found[pid].kind for pid in (501, 502)] == ["launcher", "server"]
    assert {found[pid].server for pid in (501, 502, 601)} == {"atlas-mcp"}
    assert {found[pid].server for pid in (511, 512)} == {None}
