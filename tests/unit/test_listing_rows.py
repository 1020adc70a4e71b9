"""Saved listings: what each form gives, and what is named as unreadable."""

from __future__ import annotations

import pytest

from oomless import listing

AUX = "USER  PID %CPU %MEM   VSZ   RSS   TT  STAT STARTED    TIME COMMAND\n"


def test_ps_aux_of_macos() -> None:
    found = listing.parse_listing(
        AUX + "sam    7  0.1  1.5 41100 62000 s008  S+   Mon10AM  1:02.03 node /a b/c.js --x\n"
    )
    (section,) = found.sections
    (row,) = section.rows
    assert (section.form, section.system, section.line, row.line) == ("ps aux", "macos", 1, 2)
    assert (row.pid, row.ppid, row.tty, row.user) == (7, None, "s008", "sam")
    assert (row.rss_bytes, row.vsz_bytes, row.cpu_seconds) == (62000 * 1024, 41100 * 1024, 62.03)
    assert row.memory_share == pytest.approx(0.015)
    assert row.command == "node /a b/c.js --x"


def test_ps_ef_and_top_and_lstart() -> None:
    ef = listing.parse_listing("UID PID PPID C STIME TTY TIME CMD\nsam 7 1 0 10:00 pts/3 00:00:01 claude\n").rows[0]
    assert (ef.ppid, ef.tty, ef.cpu_seconds) == (1, "pts/3", 1.0)
    top = listing.parse_listing(
        "  PID USER  PR NI VIRT RES SHR S %CPU %MEM TIME+ COMMAND\n  7 sam 20 0 1.2g 300m 10 S 0.0 1.0 0:01.00 node\n"
    )
    assert (top.rows[0].rss_bytes, top.sections[0].form) == (300 * 1024**2, "top -b")
    started = listing.parse_listing("PID STARTED RSS COMMAND\n7 Mon Nov  2 10:00:01 2026 900 claude\n").rows[0]
    assert (started.started.split(), started.rss_bytes) == (["Mon", "Nov", "2", "10:00:01", "2026"], 900 * 1024)


def test_rows_that_are_pasted_without_a_header() -> None:
    found = listing.parse_listing(
        "sam   41909  node /Users/sam/a.js\nsome words\n\n- PID 7: 5 MB\n\n"
        "sam 8 0.0 0.1 900 800 s001 S 10:00 0:01.00 claude\n"
    )
    assert [(section.form, section.rows[0].pid) for section in found.sections] == [
        ("prose", 41909),
        ("pid list", 7),
        ("ps aux", 8),
    ]
    assert found.unreadable == ()


def test_lines_that_do_not_fit_are_named() -> None:
    found = listing.parse_listing(AUX + "sam x 0 0 1 1 s1 S 1 0:01 a\n  wrapped --rest\n\nprose that is no row\n")
    assert [one.line for one in found.unreadable] == [2, 3]
    assert found.rows == ()
