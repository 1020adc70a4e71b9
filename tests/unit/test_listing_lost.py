"""What of a saved listing looks left over: servers and tool shells that lost who started them, and near misses."""

from __future__ import annotations

from typing import Any

import pytest

import listings
from oomless import catalog, listing
from oomless.processes.command import mcp_name, parse_command
from oomless.reports.listing import ListingReport
from oomless.reports.scan import ProcessRow

CATALOG = catalog.load()
SERVER = f"node {listings.NPX}/.bin/claude-flow mcp start"
HUB = "node /srv/hub-mcp/dist/index.js"
TOOL_SHELL = "/bin/bash -c source /home/u/.claude/shell-snapshots/snapshot-bash-1.sh && eval 'npm test' < /dev/null"


def told(text: str) -> ListingReport:
    return listings.scanned(listing.parse_listing(text), CATALOG)


def rows(text: str) -> dict[int, ProcessRow]:
    return {row.pid: row for row in told(text).processes}


# -- where parents are printed -----------------------------------------------------------------------------------

FULL = "    PID    PPID     SID TTY          ELAPSED COMMAND\n"


def lost(ppid: int = 1, command: str = SERVER, sid: int = 40, tty: str = "?", init: str = "/sbin/init") -> ProcessRow:
    """A server, a live session on pts/1, and who is above."""
    lines = [
        f"      1       0       1 ?        10-00:00:00 {init}",
        "    900       1     900 ?        05-00:00:00 /usr/lib/systemd/systemd --user",
        "    950       1     950 ?        05-00:00:00 /opt/agent",
        "    500     490     480 pts/1       01:00:00 claude",
        f"    700  {ppid:6}  {sid:6} {tty:8}    02:00:00 {command}",
        "    701     700     700 ?           02:00:00 node helper.js",
    ]
    found = rows(FULL + "\n".join(lines) + "\n")
    assert found[701].verdict == found[700].verdict
    return found[700]


@pytest.mark.parametrize("above", [1, 900])
def test_a_server_that_init_took_in_seems_to_be_left(above: int) -> None:
    found = lost(above)
    assert (found.verdict, found.confidence) == ("orphan", 0.6)
    assert found.evidence[0].startswith(f"its parent is {above}, which only takes in what has lost its own")
    assert "a listing cannot prove it" in found.evidence[0]


@pytest.mark.parametrize(
    "near",
    [
        {"ppid": 950}, {"sid": 700}, {"tty": "pts/1"}, {"init": "claude -p go"}, {"init": "/opt/agent"},
        {"command": f"{SERVER} --port 3000"}, {"command": f"{SERVER} --transport=sse"},
        {"command": f"{SERVER} serve"},
    ],
)  # fmt: skip
def test_a_parent_of_one_is_not_enough(near: dict[str, Any]) -> None:
    assert lost(**near).verdict == ("owned" if near.get("init") == "claude -p go" else "unknown")


def test_what_to_do_about_it_is_on_the_machine() -> None:
    text = FULL + "    700       1      40 ?           02:00:00 " + SERVER + "\n"
    (found,) = (one for one in told(text).findings if one.rule == "likely-orphans")
    assert "likely left over" in found.title
    assert "on the machine itself" in found.action


@pytest.mark.parametrize("above", [1, 900])
def test_one_that_says_itself_that_it_is_a_server_seems_to_be_left_too(above: int) -> None:
    assert lost(above, HUB).verdict == "orphan"


def test_of_what_a_program_of_the_users_started_that_is_not_said() -> None:
    text = FULL + "      1       0       1 ?        10-00:00:00 /sbin/init\n"
    text += "    950       1     950 ?        05-00:00:00 /opt/agent\n"
    assert 700 not in rows(f"{text}    700     950      40 ?           02:00:00 {HUB}\n")


@pytest.mark.parametrize(("state", "verdict"), [("Sl", "orphan"), ("Ssl", "unknown")])
def test_a_parent_may_be_drawn_and_a_process_session_told_by_a_letter(state: str, verdict: str) -> None:
    """Such a one came in from outside (``docker exec -i``)."""
    text = AUX + aux(1, "?", "Ss", "Nov20", "/sbin/init") + aux(10, "?", "Ss", "Nov20", "sshd")
    text += aux(20, "pts/1", "Ss", "Nov20", r" \_ bash") + aux(700, "?", state, "Nov24", SERVER)
    assert rows(text)[700].verdict == verdict


@pytest.mark.parametrize(
    ("command", "verdict"),
    [
        ("docker run -i --rm mcp/postgres postgresql://localhost/app", "orphan"),
        ("docker run -i --rm postgres:17", None),
        ("/home/u/go/bin/gopls", "orphan"),
        ("/home/u/go/bin/gopls serve -listen=unix;/tmp/gopls.sock", "unknown"),
    ],
)
def test_a_container_and_a_language_server_may_be_left_too(command: str, verdict: str | None) -> None:
    text = FULL + "      1       0       1 ?        10-00:00:00 /sbin/init\n"
    found = rows(f"{text}    700       1      40 ?           02:00:00 {command}\n")
    assert (found[700].verdict if 700 in found else None) == verdict


def test_language_servers_below_one_that_is_left_go_with_it() -> None:
    text = FULL + "      1       0       1 ?        10-00:00:00 /sbin/init\n"
    text += "    700       1      40 ?           02:00:00 rust-analyzer\n"
    text += "    701     700      40 ?           02:00:00 /opt/rust/libexec/rust-analyzer-proc-macro-srv\n"
    assert {row.verdict for row in rows(text).values()} == {"orphan"}


EF = "UID          PID    PPID  C STIME TTY          TIME CMD\n"


@pytest.mark.parametrize(
    ("tty", "beside", "verdict"),
    [("pts/0", "-bash", "orphan"), ("?", "-bash", "unknown"), ("pts/0", "python agent.py", "unknown")],
)
def test_below_a_relay_of_wsl_it_depends_on_the_terminal(tty: str, beside: str, verdict: str) -> None:
    """A relay starts what Windows asks for, too: ``wsl.exe npx ...`` of a host there, with pipes and no terminal."""
    lines = ("root 1 0 ? /init", "root 412 1 ? /init", "root 413 412 ? /init", f"kim 414 413 pts/0 {beside}")
    text = EF
    for line in (*lines, f"kim 700 413 {tty} {SERVER}", f"kim 800 413 ? {TOOL_SHELL}"):
        user, pid, ppid, terminal, command = line.split(" ", 4)
        text += f"{user:8} {pid:>7} {ppid:>7}  0 Nov23 {terminal:8} 00:00:00 {command}\n"
    found = rows(text)
    assert (found[700].verdict, found[800].verdict) == (verdict, "orphan")


@pytest.mark.parametrize(
    ("command", "name"),
    [
        ("node /home/u/.npm/_npx/a/node_modules/.bin/xcodebuildmcp", "xcodebuildmcp"),
        ("node /home/u/src/atlas/mcp/maps.js", "mcp/maps"),
        ("python3 /home/u/mcp-servers/notes.py", "mcp/notes"),
        ("python /home/u/.cache/uv/a/bin/awslabs.aws-docs-mcp-server", "awslabs.aws-docs-mcp-server"),
        ("node /home/u/mcp/maps/test.js", ""),
        ("node /home/u/src/mcpherson/run.js", ""),
    ],
)
def test_what_calls_itself_a_server(command: str, name: str) -> None:
    assert mcp_name(parse_command(tuple(command.split()))) == name


# -- where none are printed --------------------------------------------------------------------------------------

AUX = "USER         PID %CPU %MEM    VSZ   RSS TTY      STAT START   TIME COMMAND\n"
NPM, SHELL, BIN = "npm exec @a/b-mcp", "sh -c b-mcp", "node /home/u/.npm/_npx/1/node_modules/.bin/b-mcp"


def aux(pid: int, tty: str, state: str, start: str, command: str) -> str:
    return f"sam      {pid:7}  0.0  0.1  90000  9000 {tty:8} {state:4} {start:5}   0:01 {command}\n"


def left_behind(
    server: str = SERVER, state: str = "Sl", init: str = "/sbin/init", beside: str = "", tty: str = "pts/1"
) -> ProcessRow:
    """A server on a terminal with a shell, and a live session on another."""
    text = AUX + aux(1, "?", "Ss", "Nov20", init) + aux(400, "pts/1", "Ss", "Nov20", "-bash")
    text += aux(450, "pts/1", "Sl+", "09:00", beside) if beside else ""
    text += aux(500, "pts/2", "Sl+", "08:00", "claude") + aux(700, tty, state, "Nov24", server)
    return rows(text.replace(aux(1, "?", "Ss", "Nov20", ""), "") if not init else text)[700]


def test_a_server_beside_nothing_but_shells_seems_to_be_left() -> None:
    found = left_behind()
    assert (found.verdict, found.confidence) == ("orphan", 0.6)
    assert found.evidence[0].startswith("nobody on its terminal pts/1 can be its client")
    assert "a listing cannot prove it" in found.evidence[0]


@pytest.mark.parametrize("beside", ["login -pf sam", "ps aux", "grep -i mcp"])
def test_who_holds_the_terminal_or_looks_at_the_listing_is_no_client(beside: str) -> None:
    assert left_behind(beside=beside).verdict == "orphan"


@pytest.mark.parametrize(("pid", "verdict"), [(650, "unknown"), (750, "orphan")])
def test_whoever_came_later_is_no_client(pid: int, verdict: str) -> None:
    text = AUX + aux(1, "?", "Ss", "Nov20", "/sbin/init") + aux(400, "pts/1", "Ss", "Nov20", "-bash")
    text += aux(pid, "pts/1", "S", "Nov24", "python -m http.server")
    assert rows(text + aux(700, "pts/1", "Sl", "Nov24", SERVER))[700].verdict == verdict


@pytest.mark.parametrize(
    "near",
    [
        {"state": "Sl+"}, {"tty": "?"}, {"tty": "pts/2"}, {"init": ""}, {"beside": "python my_agent.py"},
        {"beside": "claude"}, {"beside": "tail -f log"}, {"server": f"{SERVER} --port 3000"},
    ],
)  # fmt: skip
def test_a_client_may_be_there(near: dict[str, Any]) -> None:
    assert left_behind(**near).verdict in ("unknown", "owned")


def test_a_launchers_shell_is_of_the_server_that_it_was_told_to_run() -> None:
    text = AUX + aux(1, "?", "Ss", "Nov20", "/sbin/init") + aux(500, "pts/2", "Sl+", "08:00", "claude")
    live = [aux(510 + at, "pts/2", "Sl+", "08:00", line) for at, line in enumerate(("sh -c other", SHELL, BIN))]
    dead = [aux(700 + at, "pts/1", "Sl", "Nov24", line) for at, line in enumerate((SHELL, BIN))]
    found = rows(text + aux(509, "pts/3", "S", "08:00", SHELL) + "".join([*live, *dead]))
    assert not {509, 510} & found.keys()
    assert [(found[pid].verdict, found[pid].kind) for pid in (511, 512)] == [
        ("owned", "launcher"),
        ("owned", "server"),
    ]
    assert {found[pid].server for pid in (511, 512)} == {"b-mcp"}
    assert [found[pid].verdict for pid in (700, 701)] == ["orphan", "orphan"]
    assert any("that runs it: taken for its launcher's" in line for line in found[700].evidence)


# -- tool shells ---------------------------------------------------------------------------------------------------


def test_a_tool_shell_that_init_took_in_is_left_with_what_it_runs() -> None:
    text = FULL + "      1       0       1 ?        10-00:00:00 /sbin/init\n"
    text += "    500     490     480 pts/1       01:00:00 claude\n"
    text += f"    600       1     600 ?           03:00:00 {TOOL_SHELL}\n"
    text += "    601     600     600 ?           03:00:00 npm test\n"
    text += "    602     600     602 ?           03:00:00 node devserver.js\n"
    text += f"    610     500     610 ?           00:10:00 {TOOL_SHELL}\n"
    found = rows(text)
    assert [(found[pid].verdict, found[pid].confidence) for pid in (600, 601)] == [("orphan", 0.6)] * 2
    assert found[600].evidence[0].startswith("its parent is 1, which only takes in what has lost its own")
    assert (found[600].kind, found[610].verdict) == ("tool-shell", "owned")
    assert 602 not in found


@pytest.mark.parametrize(
    ("start", "session", "init", "verdict"),
    [
        ("Nov25", "08:00", "/sbin/init", "orphan"),
        ("09:30", "08:00", "/sbin/init", None),
        ("Nov25", "Nov25", "/sbin/init", None),
        ("Nov25", "08:00", "", None),  # rows were left out: its session may be among them
    ],
)
def test_a_tool_shell_that_is_older_than_all_sessions_is_left(
    start: str, session: str, init: str, verdict: str | None
) -> None:
    text = AUX + (aux(1, "?", "Ss", "Nov20", init) if init else "")
    shell, host = (
        aux(600, "?", "Ss", start, TOOL_SHELL),
        aux(500 if start == "09:30" else 900, "pts/2", "Sl+", session, "claude"),
    )
    found = rows(text + (host + shell if start == "09:30" else shell + host))
    assert (found[600].verdict if 600 in found else None) == verdict
