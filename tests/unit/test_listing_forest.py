"""Parents that ``ps f`` draws."""

from __future__ import annotations

import pytest

from oomless.listing import parse_listing

HEAD = "USER         PID %CPU %MEM    VSZ   RSS TTY      STAT START   TIME COMMAND\n"


def row(pid: int, command: str) -> str:
    return f"sam      {pid:7}  0.0  0.1  90000  9000 ?        S    Nov20   0:01 {command}\n"


WHOLE = (
    row(1, "/sbin/init"),
    row(10, "sshd"),
    row(20, " \\_ bash"),
    row(21, " |   \\_ claude"),
    row(30, " \\_ bash"),
    row(31, "     \\_ node"),
    row(40, "node"),
)
PARENTS = {1: None, 10: 1, 20: 10, 21: 20, 30: 10, 31: 30, 40: 1}


def parents(*lines: str, head: str = HEAD) -> dict[int, int | None]:
    return {one.pid: one.ppid for one in parse_listing(head + "".join(lines)).rows}


def test_whoever_stands_below_is_a_child() -> None:
    assert parents(*WHOLE) == PARENTS
    assert [one.command for one in parse_listing(HEAD + "".join(WHOLE)).rows][3] == "claude"


@pytest.mark.parametrize(
    "lines",
    [
        WHOLE[1:],  # without the first process rows were left out
        (*WHOLE[:2], *WHOLE[3:]),  # a branch that grows from nobody
        (*WHOLE[:3], "sam  x 0 0 1\n", *WHOLE[3:]),  # who cannot be read may be the parent
        tuple(line.replace("\\_ ", "") for line in WHOLE),
    ],
)
def test_nothing_is_told_where_rows_may_be_missing(lines: tuple[str, ...]) -> None:
    assert set(parents(*lines).values()) == {None}


def test_printed_parents_stay() -> None:
    text = "PID PPID COMMAND\n1 0 init\n10 1 sshd\n20 7  \\_ bash\n"
    assert {one.pid: one.ppid for one in parse_listing(text).rows} == {1: 0, 10: 1, 20: 7}
