"""Damaged listings: whatever is cut, broken, shuffled or overwritten, nothing fails and no process is invented.

A few hundred examples by default, the same ones each time; ``OOMLESS_FUZZ=10000`` makes as many new ones.
"""

from __future__ import annotations

import os
import re

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import listings
from oomless import catalog
from oomless.listing import Listed, Listing, parse_listing
from oomless.listing.parse import clean_lines
from oomless.listing.table import read_broken_header, read_header

EXAMPLES = int(os.environ.get("OOMLESS_FUZZ", "300"))
SAME = "OOMLESS_FUZZ" not in os.environ
CATALOG = catalog.CachedCatalog(catalog.load().programs)
PROSE = (
    "",
    "   ",
    "And this is what I saw next:",
    "```",
    "PID 4711: 12 MB",
    "- PID 12: 400-600 MB",
    "$ ps aux | grep node",
    "sam@laptop ~ % top -l 1",
    "3 of 18 processes used 635 MB",
    "--",
)
#: What a table ends with, said again and more generously than the parser does.
END = re.compile(r"[ \t]*\Z|[ \t]*(```|~~~|--[ \t]*\Z)|.*[$%#❯➜][ \t]|top - |Processes: ")
#: The cells behind a command in the widest of the listings.
MOST_BEHIND = 100
SCALES = [1, 1024] + [base**power for base in (1000, 1024) for power in range(1, 5)]

lines_of = st.sampled_from(sorted(listings.ALL)).map(lambda name: listings.ALL[name].split("\n"))


@st.composite
def damaged(draw: st.DrawFn) -> str:
    """One to three listings, and up to six kinds of damage."""
    lines: list[str] = []
    for part in draw(st.lists(lines_of, min_size=1, max_size=3)):
        lines += [*part, *draw(st.lists(st.sampled_from(PROSE), max_size=2))]
    for kind in draw(st.lists(st.sampled_from(sorted(DAMAGE)), max_size=6)):
        lines = DAMAGE[kind](draw, lines)
    return "\n".join(lines)


def _some(draw: st.DrawFn, lines: list[str]) -> int:
    return draw(st.integers(0, max(0, len(lines) - 1)))


def _cut(draw: st.DrawFn, lines: list[str]) -> list[str]:
    width = draw(st.integers(1, 140))
    return [line[:width] for line in lines]


def _break(draw: st.DrawFn, lines: list[str]) -> list[str]:
    return listings.broken("\n".join(lines), draw(st.integers(20, 140))).split("\n")


def _shuffle(draw: st.DrawFn, lines: list[str]) -> list[str]:
    return draw(st.permutations(lines))


def _overwrite(draw: st.DrawFn, lines: list[str]) -> list[str]:
    at = _some(draw, lines)
    start = draw(st.integers(0, 100))
    text = draw(st.text(max_size=6) | st.sampled_from(["9" * 30, "-", "\t", " \\_ ", "\x1b[1m", "\x0b", "²", "٣"]))
    text = text.replace("\n", "")
    lines[at] = lines[at][:start] + text + lines[at][start + len(text) :]
    return lines


def _shorten(draw: st.DrawFn, lines: list[str]) -> list[str]:
    at = _some(draw, lines)
    start = draw(st.integers(0, 60))
    lines[at] = lines[at][:start] + lines[at][start + draw(st.integers(1, 12)) :]
    return lines


def _insert(draw: st.DrawFn, lines: list[str]) -> list[str]:
    lines.insert(_some(draw, lines), draw(st.sampled_from(PROSE) | st.text(max_size=40)).replace("\n", ""))
    return lines


def _repeat(draw: st.DrawFn, lines: list[str]) -> list[str]:
    at = _some(draw, lines)
    return lines[:at] + lines[at : at + 1] * draw(st.integers(2, 4)) + lines[at + 1 :]


def _glue(draw: st.DrawFn, lines: list[str]) -> list[str]:
    at = _some(draw, lines)
    return [*lines[:at], "".join(lines[at : at + 2]), *lines[at + 2 :]]


def _quote(draw: st.DrawFn, lines: list[str]) -> list[str]:
    return [f"> {line}" for line in lines]


DAMAGE = {
    "cut": _cut,
    "break": _break,
    "shuffle": _shuffle,
    "overwrite": _overwrite,
    "shorten": _shorten,
    "insert": _insert,
    "repeat": _repeat,
    "glue": _glue,
    "quote": _quote,
}


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=SAME,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(damaged())
def test_no_failure_and_nothing_invented(text: str) -> None:
    found = parse_listing(text)
    printed = clean_lines(text)
    taken = accounted(found)
    for row in found.rows:
        assert_printed(row, _text(row, printed, taken))
    assert_none_is_passed_over(found, printed)
    made = listings.scanned(found, CATALOG)
    assert {row.pid for row in made.processes} <= {row.pid for row in found.rows}
    assert msgspec.json.decode(msgspec.json.encode(made))["schema"] == "oomless.scan/1"


def accounted(found: Listing) -> set[int]:
    return {row.line for row in found.rows} | {one.line for one in found.unreadable}


def _text(row: Listed, printed: list[str], taken: set[int]) -> str:
    """The row's line, and those behind it that nobody else has: it may go on there."""
    end = row.line
    while (
        end < len(printed)
        and end + 1 not in taken
        and not END.match(printed[end])
        and read_header(printed[end]) is None
    ):
        end += 1
    return " ".join(printed[row.line - 1 : end]) + " " + "".join(printed[row.line - 1 : end])


def squeezed(text: str) -> str:
    return re.sub(r"[ \t]+", "", text)


def assert_printed(row: Listed, text: str) -> None:
    """Every number and every word of the row stands in the text."""
    numbers = {int(digits) for digits in re.findall(r"[0-9]{1,15}", text)}
    assert {row.pid, row.ppid, row.pgid, row.sid} - {None} <= numbers
    amounts = [float(one.replace(",", "")) for one in re.findall(r"[0-9]{1,15}(?:,[0-9]{3})*(?:\.[0-9]+)?", text)]
    amounts += [float(one.replace(",", ".")) for one in re.findall(r"[0-9]{1,15}[.,][0-9]+", text)]
    for size in (row.rss_bytes, row.vsz_bytes):
        assert size is None or any(size == round(amount * scale) for amount in amounts for scale in SCALES)
    assert row.memory_share is None or any(abs(row.memory_share * 100 - amount) < 1e-6 for amount in amounts)
    clocks = [seconds(one) for one in re.findall(r"[0-9][0-9:.,-]*[hdw]?", text)]
    for time in (row.elapsed_seconds, row.cpu_seconds):
        assert time is None or any(abs(time - clock) < 1e-6 for clock in clocks)
    for word in (row.user, row.tty, row.started, row.state, row.command):
        assert squeezed(word) in squeezed(text)


def seconds(text: str) -> float:
    """Any time as ps prints it, read in another way than the parser does."""
    unit = {"h": 3600, "d": 86400, "w": 604800}.get(text[-1], 1)
    days, _, rest = text.rstrip("hdw").replace(",", ".").rpartition("-")
    total = 0.0
    for part in rest.split(":"):
        total = total * 60 + (float(part) if re.fullmatch(r"[0-9]+(\.[0-9]+)?", part) else 0)
    return total * unit + (int(days) * 86400 if days.isdigit() else 0)


def assert_none_is_passed_over(found: Listing, printed: list[str]) -> None:
    """Between a header and the end of its table every line is a row, goes on with the row before it, or is named."""
    rows = {row.line: row for row in found.rows}
    named = {one.line: one.text for one in found.unreadable}
    inside, last = False, None
    goes_on: dict[int, str] = {}
    for number, line in enumerate(printed, start=1):
        if is_header(printed, number) or END.match(line):
            inside, last = is_header(printed, number), None
        elif number in rows:
            last = number
        elif number in named:
            assert named[number] == line
            last = None
        elif inside and not is_rest_of_header(printed, number):
            assert last is not None, f"line {number} is passed over"
            goes_on[last] = goes_on.get(last, printed[last - 1]) + line
    for number, text in goes_on.items():
        _, command, behind = squeezed(text).rpartition(squeezed(rows[number].command))
        assert command
        assert len(behind) < MOST_BEHIND


def is_header(printed: list[str], number: int) -> bool:
    """Whole, or with its last heading in the next line."""
    following = printed[number] if number < len(printed) else ""
    return (
        read_header(printed[number - 1]) is not None or read_broken_header(printed[number - 1], following) is not None
    )


def is_rest_of_header(printed: list[str], number: int) -> bool:
    return number > 1 and read_broken_header(printed[number - 2], printed[number - 1]) is not None


@settings(max_examples=EXAMPLES, deadline=None, derandomize=SAME)
@given(st.text(max_size=400) | st.binary(max_size=400).map(lambda raw: raw.decode("utf-8", "replace")))
def test_any_text_is_borne(text: str) -> None:
    found = parse_listing(text)
    for row in found.rows:
        assert str(row.pid) in text
    listings.scanned(found, CATALOG)
