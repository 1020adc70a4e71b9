"""Saved listings, form by form: what each column says, what is cut or broken, what is named as unreadable."""

from __future__ import annotations

from typing import Any

import pytest

import listings
from oomless.listing import Listed, Listing, parse_listing
from oomless.model import MachineMemory

KIB, MIB, GIB = 2**10, 2**20, 2**30


def only(text: str) -> dict[int, Listed]:
    """The rows of a text that has one section and nothing that cannot be read."""
    found = parse_listing(text)
    assert found.unreadable == ()
    assert len(found.sections) == 1
    return {row.pid: row for row in found.rows}


def told(row: Listed) -> dict[str, Any]:
    """The fields that say something."""
    return {name: value for name in row.__struct_fields__ if (value := getattr(row, name)) not in (None, "", False)}


FORMS = [
    ("linux aux", "ps aux", "linux", 7),
    ("linux ef", "ps -ef", "linux", 4),
    ("linux eo", "ps -eo", "", 2),
    ("linux middle", "ps -eo", "linux", 4),
    ("linux two", "ps -eo", "", 2),
    ("linux top", "top -b", "linux", 4),
    ("mac aux", "ps aux", "macos", 4),
    ("mac ef", "ps -ef", "macos", 2),
    ("mac comm", "ps -eo", "macos", 1),
    ("mac top", "top -l", "macos", 2),
    ("evidence", "prose", "macos", 2),
]


@pytest.mark.parametrize(("name", "form", "system", "count"), FORMS, ids=[row[0] for row in FORMS])
def test_each_form_is_read_whole(name: str, form: str, system: str, count: int) -> None:
    rows = only(listings.ALL[name])
    section = parse_listing(listings.ALL[name]).sections[0]
    assert (section.form, section.system, len(rows)) == (form, system, count)


ROWS: list[tuple[str, int, dict[str, Any]]] = [
    (
        "linux aux",
        3100,
        {
            "line": 4, "user": "sam", "tty": "pts/1", "started": "10:01", "cpu_seconds": 86.0,
            "rss_bytes": 398120 * KIB, "vsz_bytes": 1203456 * KIB, "memory_share": 0.024, "state": "Sl+",
            "command": "claude",
        },
    ),
    (
        "linux aux",
        4100,
        {
            "line": 8, "user": "sam-admin+", "tty": "pts/2", "started": "2025", "cpu_seconds": 754.0,
            "rss_bytes": 6789 * KIB, "vsz_bytes": 12345 * KIB, "memory_share": 0.002, "state": "Ss",
            "command": "-bash",
        },
    ),
    (
        "linux ef",
        3190,
        {
            "line": 5, "user": "sam", "ppid": 3155, "tty": "pts/1", "started": "10:02", "cpu_seconds": 93784.0,
            "command": "node /home/sam/npx/.bin/chrome-devtools-mcp",
        },
    ),
    (
        "linux eo",
        3155,
        {
            "line": 3, "ppid": 3100, "pgid": 3100, "sid": 2900, "rss_bytes": 84120 * KIB,
            "started": "Tue Nov  3 10:01:10 2026", "elapsed_seconds": 26305.0,
            "command": "npm exec chrome-devtools-mcp@latest",
        },
    ),
    (
        "linux middle",
        3155,
        {"line": 3, "rss_bytes": 84120 * KIB, "tty": "pts/1", "command": "npm exec chrome-devtools-mc", "cut": True},
    ),
    ("linux middle", 3100, {"line": 2, "rss_bytes": 398120 * KIB, "tty": "pts/1", "command": "claude"}),
    ("linux two", 3000, {"line": 2, "command": "tmux new -s work"}),
    (
        "linux top",
        3100,
        {
            "line": 8, "user": "sam", "cpu_seconds": 86.67, "rss_bytes": round(1.2 * GIB), "vsz_bytes": 21 * GIB,
            "memory_share": 0.075, "state": "S", "command": "claude",
        },
    ),
    (
        "mac aux",
        41863,
        {
            "line": 3, "user": "sam", "tty": "s008", "started": "Mon09AM", "cpu_seconds": 0.31,
            "rss_bytes": 9216 * KIB, "vsz_bytes": 408123456 * KIB, "memory_share": 0.001, "state": "S+",
            "command": f"node {listings.NPX}/.bin/claude-flow mcp start",
        },
    ),
    (
        "mac ef",
        612,
        {
            "line": 3, "user": "501", "ppid": 1, "tty": "s008", "started": "9:03AM", "cpu_seconds": 0.1,
            "command": "-zsh",
        },
    ),
    (
        "mac comm",
        19284,
        {"line": 2, "ppid": 19159, "rss_bytes": 650240 * KIB, "command": listings.PLUGIN, "name_only": True},
    ),
    (
        "mac top",
        19284,
        {
            "line": 6, "user": "sam", "ppid": 19159, "pgid": 19159, "cpu_seconds": 754.56, "rss_bytes": 635 * MIB,
            "state": "sleeping", "command": "Code Helper (Plu", "cut": True, "name_only": True,
        },
    ),
]  # fmt: skip


@pytest.mark.parametrize(("name", "pid", "fields"), ROWS, ids=[f"{name} {pid}" for name, pid, _ in ROWS])
def test_a_row_says_what_is_printed(name: str, pid: int, fields: dict[str, Any]) -> None:
    found = told(only(listings.ALL[name])[pid])
    assert found == pytest.approx({"pid": pid, **fields})


def test_names_with_a_sign_for_more_are_cut() -> None:
    rows = only(listings.LINUX_TOP)
    assert [pid for pid, row in rows.items() if row.cut] == [3155, 4]


def test_the_machine_is_known_from_tops_header() -> None:
    expected = MachineMemory(total_bytes=round(15904.1 * MIB), available_bytes=round(2427.1 * MIB))
    assert parse_listing(listings.LINUX_TOP).memory == expected
    kib = "KiB Mem :  8010244 total,   300 free\nKiB Swap:  0 total,  0 free,  0 used.  2010244 avail Mem\n"
    assert parse_listing(kib).memory == MachineMemory(total_bytes=8010244 * KIB, available_bytes=2010244 * KIB)


@pytest.mark.parametrize(
    "text",
    [
        listings.MAC_TOP,
        "Mem:   8010244k total,  7000000k used,  1000000k free,   200000k buffers\nSwap: 0k total, 0k used\n",
        "MiB Mem :  100.0 total,  1 free\nMiB Swap:  0.0 total,  0.0 free,  0.0 used.  200.0 avail Mem\n",
    ],
    ids=["macos", "older", "more than all"],
)
def test_what_is_free_is_not_taken_for_available(text: str) -> None:
    assert parse_listing(text).memory is None


def test_lists_of_pids() -> None:
    found = parse_listing(listings.LISTS)
    rows = {row.pid: (row.line, row.rss_bytes, row.command) for row in found.rows}
    assert rows == {
        19284: (2, 635_000_000, ""),
        4433: (3, 425_000_000, ""),
        22932: (4, 1_522_000_000, ""),
        19287: (7, 555_000_000, "Code Helper - subagent 2"),
        21363: (8, 423_500_000, "Code Helper"),
        19285: (10, 635_000_000, "VSCode Plugin Helper"),
    }
    assert {section.form for section in found.sections} == {"pid list"}
    assert found.unreadable == ()


@pytest.mark.parametrize(
    "text",
    [
        "PID 12 - 5 MB",
        "PID 12, 5 MB",
        "PID 12 (a b) 5 MB",
        "PID 12 (a b): 5 MB",
        "PID: 12  5 MB",
        "* PID #12 = ~5 MB",
    ],
)
def test_ways_to_write_an_entry(text: str) -> None:
    assert [(row.pid, row.rss_bytes) for row in parse_listing(text).rows] == [(12, 5_000_000)]


def test_an_entry_of_a_list_that_cannot_be_read_is_named() -> None:
    found = parse_listing("- PID 12: 635 MB\n- PID 13: 400-600 MB\n- PID 14: 5 MB\n")
    assert [row.pid for row in found.rows] == [12, 14]
    assert [(one.line, one.text) for one in found.unreadable] == [(2, "- PID 13: 400-600 MB")]


@pytest.mark.parametrize(
    "text",
    [
        "I killed PID 4433 yesterday, and it came back.",
        "Of 500 MB and 600 MB the second (PID 12) was worse.",
        "in  2024  node was new",
        "in 2024 node /Users/sam/one/line.js",
        "The PID and the COMMAND columns are what you want.",
        "3 files changed, 12 insertions",
        "PID 0: 5 MB",
        "- PID: 1,522 MB",
        "- PID: 1 522 MB",
        "- PID: 400-600 MB",
        "- PID: 1.5 GB",
        "- PID: 635 MB",
        "300 and 500 MB (code - PID 1,522)",
        "",
        "\x00\x01\x02",
    ],
)
def test_words_are_no_processes(text: str) -> None:
    assert parse_listing(text) == Listing()


def test_pasted_rows_of_user_number_and_command() -> None:
    one, two = "sam   41909  node /Users/sam/a.js\n", "sam 41909 node /Users/sam/a.js\nsam 41910 /usr/bin/env b\n"
    assert [(row.pid, row.user, row.command) for row in parse_listing(one).rows] == [
        (41909, "sam", "node /Users/sam/a.js")
    ]
    assert [row.pid for row in parse_listing(two).rows] == [41909, 41910]
    assert parse_listing(two.split("\n")[0]).rows == ()


def test_rows_without_a_header() -> None:
    text = "\n".join(listings.LINUX_AUX.split("\n")[3:6])
    found = parse_listing(f"This is what grep found:\n{text}\n\nand that was all.\n")
    assert [(section.line, section.form) for section in found.sections] == [(2, "ps aux")]
    assert [row.pid for row in found.rows] == [3100, 3155, 3190]
    assert parse_listing(listings.MAC_AUX.partition("\n")[2]).sections[0].system == "macos"


def test_tables_with_text_between() -> None:
    text = f"Before:\n\n```\n{listings.LINUX_AUX}```\nAnd 5 minutes later:\n$ ps -ef\n{listings.LINUX_EF}\nThe end.\n"
    found = parse_listing(text)
    assert [(section.form, len(section.rows)) for section in found.sections] == [("ps aux", 7), ("ps -ef", 4)]
    assert found.unreadable == ()


def test_rows_go_on_behind_a_blank_line() -> None:
    first, _, rest = listings.LINUX_AUX.partition("sam         3155")
    found = parse_listing(f"{first}\nsome words\nsam         3155{rest}")
    assert [len(section.rows) for section in found.sections] == [7]
    assert found.unreadable == ()


def test_a_line_within_a_table_that_does_not_fit_is_named() -> None:
    lines = listings.LINUX_AUX.split("\n")
    lines.insert(3, "sam         31xx  1.5  2.4 1203456")
    found = parse_listing("\n".join(lines))
    assert [(one.line, one.text) for one in found.unreadable] == [(4, "sam         31xx  1.5  2.4 1203456")]
    assert len(found.rows) == 7


def test_quoted_and_coloured_lines() -> None:
    quoted = "\r\n".join(f"> {line}" for line in listings.LINUX_EF.split("\n")).replace(
        " sam", " \x1b[01;31msam\x1b[m"
    )
    coloured = parse_listing(quoted)
    assert [row.pid for row in coloured.rows] == [1, 3100, 3155, 3190]
    assert coloured.unreadable == ()
    assert (
        parse_listing("\ufeff" + listings.LINUX_EF.replace(" ", "\xa0")).sections
        == parse_listing(listings.LINUX_EF).sections
    )


@pytest.mark.parametrize("name", ["linux aux", "linux ef", "mac aux"])
@pytest.mark.parametrize("width", [80, 83, 90])
def test_broken_lines_are_put_together(name: str, width: int) -> None:
    text = listings.ALL[name].replace("claude\n", f"claude --resume {'0123456789abcdef-' * 8}\n")
    text += text.partition("\n")[2].replace("sam  ", "tom  ")
    found = parse_listing(listings.broken(text, width))
    assert found.unreadable == ()
    assert [row.command for row in found.rows] == [row.command for row in parse_listing(text).rows]


def test_one_long_row_does_not_take_the_words_behind_it() -> None:
    found = parse_listing(listings.LINUX_EF + "and this is what I think of it\n")
    assert [row.command for row in found.rows] == [row.command for row in parse_listing(listings.LINUX_EF).rows]
    assert [one.line for one in found.unreadable] == [6]


def test_rows_cut_at_the_terminals_edge() -> None:
    rows = only(listings.cut(listings.LINUX_AUX.replace("claude\n", f"claude {'x' * 90}\n"), 96))
    assert {pid for pid, row in rows.items() if row.cut} == {3100, 3155, 3190}


def test_copies_that_end_in_one_place_are_not_cut() -> None:
    row = "sam         {}    2900  1 10:01 pts/1    00:01:26 node /home/sam/project/server.js --port {}\n"
    rows = only(listings.LINUX_EF + "".join(row.format(5000 + at, 3000 + at) for at in range(5)))
    assert not any(one.cut for one in rows.values())


def test_words_of_a_command_are_not_taken_for_columns_behind_it() -> None:
    table = "    PID COMMAND                       RSS\n   3100 node a.js 12 34"
    found = parse_listing(table)
    assert found.rows == ()
    assert [one.line for one in found.unreadable] == [2]


def test_numbers_of_any_length_are_borne() -> None:
    huge = "9" * 6000
    text = f"    PID   RSS COMMAND\n{huge} 1 a\n1 {huge} b\nPID {huge}: 5 MB\n\nPID 5: {huge} MB\n"
    found = parse_listing(text)
    assert found.rows == ()
    assert len(found.unreadable) == 3


def test_ps_f_draws_branches() -> None:
    head = "    PID TTY      STAT   TIME COMMAND\n"
    text = head + "      1 ?        Ss     0:01 init\n     12 ?        S      0:00  |   \\_ sh -c x\n"
    assert [row.command for row in only(text).values()] == ["init", "sh -c x"]


# -- the real ps -------------------------------------------------------------------------------------------------
